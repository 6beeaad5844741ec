"""DescribeConfigs (API key 32), versions 1-4.

Card: 1 the sources of values and their synonyms (KIP-226), 3 types and documentation (KIP-569).
- Requested names that are unknown are left out; an empty list of names means all, as in Kafka.
- Sensitive values are never returned, nor are values of unknown settings, which may be sensitive.
- A topic's value that comes from a coarser unit (`log.retention.hours`) names that as its source; Kafka calls it the
  default.
- A resource of an unknown type refuses the whole request with INVALID_REQUEST, as in Kafka.
- Client metrics, groups and broker loggers have no settings here yet and get INVALID_REQUEST.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from odradek.config.broker import BROKER_SETTINGS
from odradek.config.layers import BrokerConfig, Source, broker_synonyms
from odradek.config.setting import Setting, Update, format_value
from odradek.config.topic import TOPIC_SETTINGS
from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import BrokerParts, RequestContext
from odradek.metadata.changes import check_name
from odradek.metadata.config_changes import ALL_BROKERS, KNOWN_RESOURCES, wrong_broker
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


def handle(request: DescribeConfigsRequest, context: RequestContext) -> DescribeConfigsResponse:
    """The settings of each resource."""
    unknown = [
        resource.resource_type for resource in request.resources if resource.resource_type not in KNOWN_RESOURCES
    ]
    if unknown:
        return DescribeConfigsResponse(
            results=[
                DescribeConfigsResult(
                    error_code=ErrorCode.INVALID_REQUEST,
                    error_message=f"Unknown resource type {unknown[0]}",
                    resource_type=resource.resource_type,
                    resource_name=resource.resource_name,
                )
                for resource in request.resources
            ]
        )
    return DescribeConfigsResponse(results=[_describe(resource, request, context) for resource in request.resources])


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


def _describe(
    resource: DescribeConfigsResource, request: DescribeConfigsRequest, context: RequestContext
) -> DescribeConfigsResult:
    result = DescribeConfigsResult(
        error_message="", resource_type=resource.resource_type, resource_name=resource.resource_name
    )
    try:
        configs = list(_configs(resource, context.broker))
    except KafkaError as error:
        result.error_code, result.error_message = error.code, error.message
        return result
    chosen = set(resource.configuration_keys or ())
    for config in configs:
        if chosen and config.name not in chosen:
            continue
        if not request.include_synonyms:
            config.synonyms = []
        if not request.include_documentation:
            config.documentation = None
        result.configs.append(config)
    return result


def _configs(resource: DescribeConfigsResource, broker: BrokerParts) -> Iterator[DescribeConfigsResourceResult]:
    name, image = resource.resource_name, broker.metadata.image
    if resource.resource_type == TOPIC_RESOURCE:
        check_name(name)
        if name not in image.topics:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        return _of_topic(broker.config, image.topic_config(name))
    if resource.resource_type == BROKER_RESOURCE:
        if name == ALL_BROKERS:
            return _of_all_brokers(image.configs.get((BROKER_RESOURCE, ALL_BROKERS), {}))
        if not name.isdecimal() or int(name) != broker.node_id:
            expected = f"{broker.node_id} or empty string"
            raise KafkaError(ErrorCode.INVALID_REQUEST, wrong_broker("Broker", name, expected))
        return _of_broker(broker.config)
    raise KafkaError(ErrorCode.INVALID_REQUEST, f"Resource type {resource.resource_type} has no settings here")


# --- one resource ----------------------------------------------------------------------------------------------------


def _of_topic(config: BrokerConfig, overrides: Mapping[str, str]) -> Iterator[DescribeConfigsResourceResult]:
    for name, setting in sorted(TOPIC_SETTINGS.items()):
        value = config.topic_value(name, overrides)
        synonyms = _synonyms_of_topic(config, setting)
        if name in overrides:
            synonyms.insert(0, _synonym(name, format_value(value), Source.TOPIC, setting))
        yield _result(setting, value, config.topic_source(name, overrides), synonyms)


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
