"""CreateTopics (API key 19), versions 2-7.

Card: 4 defaults for partitions and replication factor (KIP-464), 5 the topic's settings in the answer (KIP-525), 7 its
id. Answered when the topic is durable and its partitions are open, so that the next request can use it. A replication
factor above 1 is refused on an engine that stores one copy, unless `odradek.replication.factor.accept` is set.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence

from odradek.config.layers import BrokerConfig
from odradek.config.setting import format_value
from odradek.config.topic import TOPIC_SETTINGS
from odradek.errors import ErrorCode
from odradek.handlers.context import RequestContext
from odradek.handlers.refusals import sentence
from odradek.handlers.topics import add_partitions
from odradek.metadata.changes import Change, TopicOutcome, create_topics
from odradek.metadata.image import MetadataImage
from odradek.protocol.messages.create_topics import (
    CreatableTopicConfigs,
    CreatableTopicResult,
    CreateTopicsRequest,
    CreateTopicsResponse,
)

CONFIGS_SINCE = 5


async def handle(request: CreateTopicsRequest, context: RequestContext) -> CreateTopicsResponse:
    """Creates the topics, or with `validate_only` checks whether they could be created."""
    broker = context.broker

    def create(image: MetadataImage) -> Change:
        return create_topics(image, request.topics, broker.metadata.policy)

    outcomes = await add_partitions(broker, request.topics, create, request.validate_only)
    with_configs = context.api_version >= CONFIGS_SINCE
    return await broker.turns.run(_answer(outcomes, _Settings(broker.config) if with_configs else None))


def refused(request: CreateTopicsRequest, code: ErrorCode, version: int) -> CreateTopicsResponse:
    """The answer that refuses the whole request."""
    return CreateTopicsResponse(
        topics=[
            CreatableTopicResult(name=topic.name, error_code=code, error_message=sentence(code))
            for topic in request.topics
        ]
    )


class _Settings:
    """The settings of new topics, for one request. What several have alike is looked up once, and is one object in the
    response."""

    def __init__(self, config: BrokerConfig) -> None:
        self._config = config
        self._names = sorted(TOPIC_SETTINGS)
        self._places = {name: place for place, name in enumerate(self._names)}
        self._of_all = [self._one(name, {}) for name in self._names]
        self._own: dict[tuple[str, str], CreatableTopicConfigs] = {}

    def of(self, overrides: Mapping[str, str]) -> list[CreatableTopicConfigs]:
        """Those of a topic with these of its own."""
        if not overrides:
            return self._of_all
        configs = list(self._of_all)
        for own in overrides.items():
            if own not in self._own:
                self._own[own] = self._one(own[0], overrides)
            configs[self._places[own[0]]] = self._own[own]
        return configs

    def _one(self, name: str, overrides: Mapping[str, str]) -> CreatableTopicConfigs:
        return CreatableTopicConfigs(
            name=name,
            value=format_value(self._config.topic_value(name, overrides)),
            config_source=self._config.topic_source(name, overrides),
            is_sensitive=TOPIC_SETTINGS[name].sensitive,
        )


def _answer(
    outcomes: Sequence[TopicOutcome], settings: _Settings | None
) -> Generator[None, None, CreateTopicsResponse]:
    response = CreateTopicsResponse()
    for outcome in outcomes:
        yield
        result = CreatableTopicResult(
            name=outcome.name or "",
            topic_id=outcome.topic_id,
            error_code=outcome.error,
            error_message=outcome.message,
            num_partitions=outcome.partitions,
            replication_factor=outcome.replication_factor,
        )
        if settings is not None and outcome.error == ErrorCode.NONE:
            result.configs = settings.of(outcome.overrides)
        response.topics.append(result)
    return response
