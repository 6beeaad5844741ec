"""DescribeConfigs (API key 32), versions 1-4.

Card: 1 the sources of values and their synonyms (KIP-226), 3 types and documentation (KIP-569).
- Requested names that are unknown are left out; an empty list of names means all, as in Kafka.
- Sensitive values are never returned, nor are values of unknown settings, which may be sensitive.
- A topic's value that comes from a coarser unit (`log.retention.hours`) names that as its source; Kafka calls it the
  default.
- A resource of an unknown type refuses the whole request with INVALID_REQUEST, as in Kafka.
- Client metrics, groups and broker loggers have no settings here yet and get INVALID_REQUEST.
- A resource that is named several times is answered as often, as in Kafka. Its settings are looked up once for a
  request, and so are those of all topics that have none of their own; a response that gets too long for
  `odradek.response.max.bytes` refuses the rest with INVALID_REQUEST.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Mapping
from typing import NamedTuple

from odradek.config.broker import BROKER_SETTINGS
from odradek.config.layers import BrokerConfig, Source, broker_synonyms
from odradek.config.setting import Setting, Update, format_value
from odradek.config.topic import TOPIC_SETTINGS
from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import BrokerParts, RequestContext, Steps
from odradek.handlers.response_budget import ResponseBudget, estimated_bytes
from odradek.handlers.turns import LATER, LONG_ANSWER_BYTES
from odradek.metadata.changes import check_name
from odradek.metadata.config_changes import ALL_BROKERS, KNOWN_RESOURCES, parse_broker_id, wrong_broker
from odradek.metadata.image import BROKER_RESOURCE, TOPIC_RESOURCE
from odradek.protocol.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
    DescribeConfigsResult,
    DescribeConfigsSynonym,
)

UNKNOWN_TYPE = 0
Synonyms = list[DescribeConfigsSynonym]


def handle(request: DescribeConfigsRequest, context: RequestContext) -> Steps:
    """The settings of each resource."""
    unknown = next((one.resource_type for one in request.resources if one.resource_type not in KNOWN_RESOURCES), None)
    settings = _Settings(request, context.broker)
    budget = ResponseBudget(context.broker.config)
    results: list[DescribeConfigsResult] = []
    for resource in request.resources:
        yield
        result = DescribeConfigsResult(
            error_message="", resource_type=resource.resource_type, resource_name=resource.resource_name
        )
        results.append(result)
        try:
            if unknown is not None:
                raise KafkaError(ErrorCode.INVALID_REQUEST, f"Unknown resource type {unknown}")
            described = yield from settings.of(resource)
            if not budget.take(described.bytes):
                raise budget.refusal()
        except KafkaError as error:
            result.error_code, result.error_message = error.code, error.message
        else:
            result.configs = described.configs
    if budget.used_bytes > LONG_ANSWER_BYTES:
        yield LATER
    return DescribeConfigsResponse(results=results)


def refused(request: DescribeConfigsRequest, code: ErrorCode, version: int) -> DescribeConfigsResponse:
    """The answer that refuses the whole request."""
    return DescribeConfigsResponse(
        results=[
            DescribeConfigsResult(
                error_code=code,
                error_message=code.meaning,
                resource_type=resource.resource_type,
                resource_name=resource.resource_name,
            )
            for resource in request.resources
        ]
    )


class _Described(NamedTuple):
    """Settings as they stand in a response, and about how many bytes they have there."""

    configs: list[DescribeConfigsResourceResult]
    bytes: int


class _Settings:
    """The settings of resources, for one request. What is the same for several is looked up once, and is one object in
    the response."""

    def __init__(self, request: DescribeConfigsRequest, broker: BrokerParts) -> None:
        self._request = request
        self._broker = broker
        self._whole: dict[tuple[int, str], dict[str, DescribeConfigsResourceResult]] = {}
        """By resource; of topics what they have without settings of their own, under an empty name."""
        self._chosen: dict[tuple[int, str, frozenset[str]], _Described] = {}
        self._own: dict[tuple[str, str], DescribeConfigsResourceResult] = {}
        """Topics' own, by name and text."""
        self._bytes: dict[int, int] = {}
        """Of a setting, by its object's id."""

    def of(self, resource: DescribeConfigsResource) -> Generator[None, None, _Described]:
        """A resource's settings, of those that were chosen. Raises `KafkaError`."""
        kind, name = resource.resource_type, resource.resource_name
        broker = self._broker
        image = broker.metadata.image
        own: Mapping[str, str] = {}
        if kind == TOPIC_RESOURCE:
            check_name(name)
            if name not in image.topics:
                raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
            own, name = image.topic_config(name), ""
        elif kind == BROKER_RESOURCE:
            name = _broker_name(name, broker.node_id)
        else:
            raise KafkaError(ErrorCode.INVALID_REQUEST, f"Resource type {kind} has no settings here")
        chosen = frozenset(resource.configuration_keys or ())
        described = self._chosen.get((kind, name, chosen))
        if described is None:
            whole = self._whole.get((kind, name))
            if whole is None:
                whole = self._whole[kind, name] = yield from self._look_up(kind, name)
            configs = [config for config in whole.values() if not chosen or config.name in chosen]
            size = sum([self._bytes[id(config)] for config in configs])
            described = self._chosen[kind, name, chosen] = _Described(configs, size)
        return self._with_own(described, own) if own else described

    def _look_up(self, kind: int, name: str) -> Generator[None, None, dict[str, DescribeConfigsResourceResult]]:
        config = self._broker.config
        found: Iterator[DescribeConfigsResourceResult]
        if kind == TOPIC_RESOURCE:
            found = (_of_topic(config, setting, {}) for _, setting in sorted(TOPIC_SETTINGS.items()))
        elif name == ALL_BROKERS:
            found = _of_all_brokers(self._broker.metadata.image.configs.get((BROKER_RESOURCE, ALL_BROKERS), {}))
        else:
            found = _of_broker(config)
        whole = {}
        for one in found:
            whole[one.name] = self._finish(one)
            yield
        return whole

    def _with_own(self, described: _Described, own: Mapping[str, str]) -> _Described:
        """The settings of a topic that has some of its own."""
        size = described.bytes
        configs = list(described.configs)
        for place, config in enumerate(configs):
            text = own.get(config.name)
            if text is None:
                continue
            key = (config.name, text)
            found = self._own.get(key)
            if found is None:
                found = _of_topic(self._broker.config, TOPIC_SETTINGS[config.name], {config.name: text})
                self._own[key] = self._finish(found)
            configs[place] = found
            size += self._bytes[id(found)] - self._bytes[id(config)]
        return _Described(configs, size)

    def _finish(self, config: DescribeConfigsResourceResult) -> DescribeConfigsResourceResult:
        """Leaves out what was not asked for."""
        if not self._request.include_synonyms:
            config.synonyms = []
        if not self._request.include_documentation:
            config.documentation = None
        self._bytes[id(config)] = estimated_bytes(config)
        return config


def _broker_name(name: str, node_id: int) -> str:
    """The name under which the broker's settings are kept, or all brokers'. Raises `KafkaError`: it is another
    broker's."""
    if name == ALL_BROKERS or parse_broker_id(name) == node_id:
        return name and str(node_id)
    raise KafkaError(ErrorCode.INVALID_REQUEST, wrong_broker("Broker", name, f"{node_id} or empty string"))


# --- one resource ----------------------------------------------------------------------------------------------------


def _of_topic(config: BrokerConfig, setting: Setting, own: Mapping[str, str]) -> DescribeConfigsResourceResult:
    """One setting of a topic that has these of its own."""
    name = setting.name
    value = config.topic_value(name, own)
    synonyms = _synonyms_of_topic(config, setting)
    if name in own:
        synonyms.insert(0, _synonym(name, format_value(value), Source.TOPIC, setting))
    return _result(setting, value, config.topic_source(name, own), synonyms)


def _of_broker(config: BrokerConfig) -> Iterator[DescribeConfigsResourceResult]:
    for name, setting in sorted(BROKER_SETTINGS.items()):
        synonyms = _synonyms_of_broker(config, name)
        source = Source(synonyms[0].source) if synonyms else Source.DEFAULT
        yield _result(setting, config[name], source, synonyms)
    for name in sorted(_unknown({**config.dynamic_default, **config.dynamic})):
        synonyms = [DescribeConfigsSynonym(name=name, value=None, source=source) for source, _ in config.layers(name)]
        yield _unknown_result(name, Source(synonyms[0].source), synonyms)


def _of_all_brokers(settings: Mapping[str, str]) -> Iterator[DescribeConfigsResourceResult]:
    """Only the settings that were set for all brokers."""
    source = Source.DYNAMIC_DEFAULT_BROKER
    for name, text in sorted(settings.items()):
        setting = BROKER_SETTINGS.get(name)
        if setting is None:
            yield _unknown_result(name, source, [DescribeConfigsSynonym(name=name, value=None, source=source)])
        else:
            yield _result(setting, text, source, [_synonym(name, text, source, setting)])


# --- one setting -----------------------------------------------------------------------------------------------------


def _result(setting: Setting, value: object, source: Source, synonyms: Synonyms) -> DescribeConfigsResourceResult:
    of_broker = BROKER_SETTINGS.get(setting.name) is setting
    return DescribeConfigsResourceResult(
        name=setting.name,
        value=None if value is None or setting.sensitive else format_value(value),
        read_only=of_broker and setting.update is Update.READ_ONLY,
        config_source=source,
        is_sensitive=setting.sensitive,
        synonyms=synonyms,
        config_type=setting.kind,
        documentation=setting.doc,
    )


def _unknown_result(name: str, source: Source, synonyms: Synonyms) -> DescribeConfigsResourceResult:
    return DescribeConfigsResourceResult(
        name=name,
        value=None,
        read_only=True,
        config_source=source,
        is_sensitive=True,
        synonyms=synonyms,
        config_type=UNKNOWN_TYPE,
        documentation=None,
    )


def _unknown(names: Collection[str]) -> list[str]:
    return [name for name in names if name not in BROKER_SETTINGS]


def _synonym(name: str, text: str | None, source: Source, setting: Setting) -> DescribeConfigsSynonym:
    return DescribeConfigsSynonym(name=name, value=None if setting.sensitive else text, source=source)


def _layered(config: BrokerConfig, names: list[str]) -> Synonyms:
    """The layers in which these broker settings have values, the value in force first: by layer, then by name."""
    set_at = [(source, name, text) for name in names for source, text in config.layers(name)]
    set_at += [
        (Source.DEFAULT, name, format_value(BROKER_SETTINGS[name].default))
        for name in names
        if BROKER_SETTINGS[name].default is not None
    ]
    set_at.sort(key=lambda item: item[0])
    return [_synonym(name, text, source, BROKER_SETTINGS[name]) for source, name, text in set_at]


def _synonyms_of_broker(config: BrokerConfig, name: str) -> Synonyms:
    """The synonyms of a broker's setting, without those before the setting's own name, as in Kafka."""
    found = _layered(config, broker_synonyms(name))
    while found and found[0].name != name:
        found.pop(0)
    return found


def _synonyms_of_topic(config: BrokerConfig, setting: Setting) -> Synonyms:
    """The synonyms of a topic's setting. Settings in coarser units (`log.retention.hours`) that only have their default
    are left out, unless something was set."""
    names = [name for name, _ in setting.synonyms]
    found = _layered(config, names)
    return [] if found and found[0].source == Source.DEFAULT and found[0].name != names[0] else found
