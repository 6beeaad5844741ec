"""CreateTopics (API key 19), versions 2-7.

Card: 4 defaults for partitions and replication factor (KIP-464), 5 the topic's settings in the answer (KIP-525), 7 its
id. Answered when the topic is durable and its partitions are open, so that the next request can use it. A replication
factor above 1 is refused on an engine that stores one copy, unless `odradek.replication.factor.accept` is set.
"""

from __future__ import annotations

from odradek.config.layers import BrokerConfig
from odradek.config.setting import format_value
from odradek.config.topic import TOPIC_SETTINGS
from odradek.errors import ErrorCode
from odradek.handlers.context import RequestContext
from odradek.handlers.refusals import sentence
from odradek.handlers.topics import add_partitions
from odradek.metadata.changes import TopicOutcome, create_topics
from odradek.metadata.image import MetadataImage, MetadataRecord
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

    def create(image: MetadataImage) -> tuple[list[MetadataRecord], list[TopicOutcome]]:
        return create_topics(image, request.topics, broker.metadata.policy)

    outcomes = await add_partitions(broker, request.topics, create, request.validate_only)
    with_configs = context.api_version >= CONFIGS_SINCE
    return CreateTopicsResponse(topics=[_result(outcome, broker.config, with_configs) for outcome in outcomes])


def refused(request: CreateTopicsRequest, code: ErrorCode, version: int) -> CreateTopicsResponse:
    """The answer that refuses the whole request."""
    return CreateTopicsResponse(
        topics=[
            CreatableTopicResult(name=topic.name, error_code=code, error_message=sentence(code))
            for topic in request.topics
        ]
    )


def _result(outcome: TopicOutcome, config: BrokerConfig, with_configs: bool) -> CreatableTopicResult:
    result = CreatableTopicResult(
        name=outcome.name or "",
        topic_id=outcome.topic_id,
        error_code=outcome.error,
        error_message=outcome.message,
        num_partitions=outcome.partitions,
        replication_factor=outcome.replication_factor,
    )
    if with_configs and outcome.error == ErrorCode.NONE:
        result.configs = [
            CreatableTopicConfigs(
                name=name,
                value=format_value(config.topic_value(name, outcome.overrides)),
                config_source=config.topic_source(name, outcome.overrides),
                is_sensitive=setting.sensitive,
            )
            for name, setting in sorted(TOPIC_SETTINGS.items())
        ]
    return result
