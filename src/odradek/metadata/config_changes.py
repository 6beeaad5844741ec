"""Changes of settings: checks a request against the image and turns it into records, or an error for each resource.

Pure functions: (image, request's resources, policy) -> (records, outcomes in the order of the request). They are
generators that yield after each resource, as those of `changes.py`. A change replaces all of a resource's own settings
(AlterConfigs) or some of them (IncrementalAlterConfigs, KIP-339). Either way the wanted settings are computed, then
checked, then the difference is written. All settings of a resource change, or none.

Checks are those of Apache Kafka 4.4, as seen by clients, except: an unknown operation on a topic's setting is
INVALID_REQUEST (Kafka: UNKNOWN_SERVER_ERROR); a resource named twice in AlterConfigs is refused as in
IncrementalAlterConfigs (Kafka does not answer); settings already stored are not checked again, so that a stored setting
that is unknown here does not block changes of others. Client metrics, groups and broker loggers have no settings yet.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

from odradek.config.bounds import INT_MAX
from odradek.config.broker import BROKER_SETTINGS
from odradek.config.layers import BrokerConfig, Source
from odradek.config.setting import InvalidSetting, Kind, Setting, Update, format_value, parse_value
from odradek.config.topic import TOPIC_SETTINGS, check_topic_settings
from odradek.errors import ErrorCode, KafkaError
from odradek.metadata.changes import Policy, check_name
from odradek.metadata.image import BROKER_RESOURCE, TOPIC_RESOURCE, MetadataImage, MetadataRecord, record_of
from odradek.protocol.messages import alter_configs, incremental_alter_configs
from odradek.protocol.records.metadata import ConfigRecord

SET = 0
DELETE = 1
APPEND = 2
SUBTRACT = 3
# Config resource types other than topics and brokers (Kafka's ConfigResource).
BROKER_LOGGER_RESOURCE = 8
CLIENT_METRICS_RESOURCE = 16
GROUP_RESOURCE = 32
KNOWN_RESOURCES = frozenset(
    {TOPIC_RESOURCE, BROKER_RESOURCE, BROKER_LOGGER_RESOURCE, CLIENT_METRICS_RESOURCE, GROUP_RESOURCE}
)
ALL_BROKERS = ""
"""The name of the broker resource whose settings apply to all brokers."""
BROKER_ID = re.compile(r"([+-]?)(?=\d)0*(\d{0,10})")
LISTENER_PREFIX = "listener.name."
# Kafka changes TLS keys and stores only per listener, under the listener's prefix.
ONLY_WITH_LISTENER_PREFIX = frozenset(
    ["ssl.key.password"]
    + [f"ssl.keystore.{part}" for part in ("certificate.chain", "key", "location", "password", "type")]
    + [f"ssl.truststore.{part}" for part in ("certificates", "location", "password", "type")]
)


class ResourceOutcome(NamedTuple):
    """The result for one resource."""

    resource_type: int
    resource_name: str
    error: ErrorCode = ErrorCode.NONE
    message: str | None = None


class Resource(Protocol):
    """The fields that a resource has in both requests."""

    resource_type: int
    resource_name: str


R = TypeVar("R", bound=Resource)
Wanted = dict[str, str]
Change = Generator[None, None, tuple[list[MetadataRecord], list[ResourceOutcome]]]
"""What a change returns, when it has been worked out."""


def alter(image: MetadataImage, asked: Sequence[alter_configs.AlterConfigsResource], policy: Policy) -> Change:
    """AlterConfigs: the records after which each resource has exactly the requested settings."""

    def want(resource: alter_configs.AlterConfigsResource) -> Wanted:
        _check_names_and_nulls([(config.name, config.value) for config in resource.configs])
        return {config.name: config.value for config in resource.configs if config.value is not None}

    return _change(image, asked, policy, want)


def incremental_alter(
    image: MetadataImage, asked: Sequence[incremental_alter_configs.AlterConfigsResource], policy: Policy
) -> Change:
    """IncrementalAlterConfigs: the records that set or delete settings, or add elements to or remove them from
    lists."""

    def want(resource: incremental_alter_configs.AlterConfigsResource) -> Wanted:
        _check_names_and_nulls(
            # A deletion needs no value.
            [(config.name, "" if config.config_operation == DELETE else config.value) for config in resource.configs]
        )
        own = dict(image.configs.get((resource.resource_type, resource.resource_name), {}))
        wanted = dict(own)
        for config in resource.configs:
            if config.config_operation == DELETE:
                wanted.pop(config.name, None)
            elif config.config_operation == SET:
                wanted[config.name] = config.value or ""
            elif config.config_operation in (APPEND, SUBTRACT):
                wanted[config.name] = _change_list(resource, config, own, policy.config)
            else:
                raise KafkaError(ErrorCode.INVALID_REQUEST, f"Unknown operations type {config.config_operation}")
        return wanted

    return _change(image, asked, policy, want)


def _change(image: MetadataImage, asked: Sequence[R], policy: Policy, want: Callable[[R], Wanted]) -> Change:
    counts: Counter[tuple[int, str]] = Counter()
    for resource in asked:
        yield
        counts[resource.resource_type, resource.resource_name] += 1
    records: list[MetadataRecord] = []
    outcomes: list[ResourceOutcome] = []
    for resource in asked:
        yield
        key = (resource.resource_type, resource.resource_name)
        try:
            if counts[key] > 1:
                raise KafkaError(ErrorCode.INVALID_REQUEST, "Each resource must appear at most once.")
            _check_resource(image, resource, policy)
            wanted = want(resource)
            own = image.configs.get(key, {})
            given = {name: text for name, text in wanted.items() if own.get(name) != text}
            if resource.resource_type == TOPIC_RESOURCE:
                _check_topic(given, wanted)
            else:
                _check_broker(given, resource.resource_name)
        except KafkaError as error:
            outcomes.append(ResourceOutcome(*key, error.code, error.message))
            continue
        gone = {name: None for name in own if name not in wanted}
        records += [
            record_of(ConfigRecord(resource_type=key[0], resource_name=key[1], name=name, value=value))
            for name, value in {**given, **gone}.items()
        ]
        outcomes.append(ResourceOutcome(*key))
    return records, outcomes


# --- the request -----------------------------------------------------------------------------------------------------


def _check_names_and_nulls(configs: list[tuple[str, str | None]]) -> None:
    if len({name for name, _ in configs}) < len(configs):
        raise KafkaError(ErrorCode.INVALID_REQUEST, "Error due to duplicate config keys")
    nulls = [name for name, value in configs if value is None]
    if nulls:
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"Null value not supported for : {','.join(nulls)}")


def _check_resource(image: MetadataImage, resource: Resource, policy: Policy) -> None:
    kind, name = resource.resource_type, resource.resource_name
    if kind == TOPIC_RESOURCE:
        if not name:
            raise KafkaError(ErrorCode.INVALID_REQUEST, "Default topic resources are not allowed.")
        check_name(name)
        if name not in image.topics:
            raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"The topic '{name}' does not exist.")
    elif kind == BROKER_RESOURCE:
        if name != ALL_BROKERS and name != str(policy.node_id):
            raise KafkaError(ErrorCode.INVALID_REQUEST, wrong_broker("Node", name, f"{policy.node_id}"))
    else:
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"Unknown resource type {kind}")


def parse_broker_id(name: str) -> int | None:
    """The id that is a broker resource's name. Numbers are as Java reads them: with a sign, perhaps, of 32 bits."""
    digits = BROKER_ID.fullmatch(name)
    if digits is None:
        return None
    broker_id = int(f"{digits[1]}{digits[2] or 0}")
    return broker_id if abs(broker_id) <= INT_MAX or broker_id == -INT_MAX - 1 else None


def wrong_broker(word: str, name: str, expected: str) -> str:
    """The error message for a broker resource that is not this broker."""
    received = parse_broker_id(name)
    if received is None:
        return f"{word} id must be an integer, but it is: {name}"
    return f"Unexpected broker id, expected {expected}, but received {received}"


def _change_list(
    resource: Resource, config: incremental_alter_configs.AlterableConfig, own: Mapping[str, str], broker: BrokerConfig
) -> str:
    """The text of a list setting after APPEND or SUBTRACT."""
    of_topic = resource.resource_type == TOPIC_RESOURCE
    setting = (TOPIC_SETTINGS if of_topic else BROKER_SETTINGS).get(config.name)
    if setting is None:
        raise KafkaError(ErrorCode.INVALID_CONFIG, f"Unknown {'topic ' if of_topic else ''}config name: {config.name}")
    if setting.kind is not Kind.LIST:
        verb = "APPEND" if config.config_operation == APPEND else "SUBTRACT"
        raise KafkaError(ErrorCode.INVALID_CONFIG, f"Can't {verb} to key {config.name} because its type is not LIST.")
    if config.name in own:
        text = own[config.name]
    elif of_topic:
        text = format_value(broker.topic_value(config.name, own))
    else:
        text = _default_of_broker(setting, broker, resource.resource_name)
    have = [part.strip() for part in text.split(",")] if text else []
    parts = [part.strip() for part in (config.value or "").split(",")]
    if config.config_operation == SUBTRACT:
        return ",".join(part for part in have if part not in parts)
    return ",".join([*have, *(part for part in dict.fromkeys(parts) if part not in have)])


def _default_of_broker(setting: Setting, broker: BrokerConfig, resource_name: str) -> str:
    for source, text in broker.layers(setting.name):
        if source != Source.DYNAMIC_BROKER or resource_name != ALL_BROKERS:
            return text
    return format_value(setting.default) if setting.default is not None else ""


# --- checks ----------------------------------------------------------------------------------------------------------


def _check_topic(given: Wanted, wanted: Wanted) -> None:
    """Checks a topic's settings: `given` are those that change, `wanted` all that the topic will have. Raises
    `KafkaError`."""
    for name in given:
        if name not in TOPIC_SETTINGS:
            raise KafkaError(ErrorCode.INVALID_CONFIG, f"Unknown topic config name: {name}")
    try:
        for name, text in given.items():
            parse_value(TOPIC_SETTINGS[name], text)
        check_topic_settings(wanted)
    except InvalidSetting as error:
        raise KafkaError(ErrorCode.INVALID_CONFIG, str(error)) from None


def _check_broker(given: Wanted, resource_name: str) -> None:
    """Checks the broker settings that change. Unknown names are accepted, as in Kafka: plug-ins have settings, too.
    Raises `KafkaError`."""
    fixed = [name for name in given if name in BROKER_SETTINGS and BROKER_SETTINGS[name].update is Update.READ_ONLY]
    if fixed:
        raise KafkaError(ErrorCode.INVALID_REQUEST, f"Cannot update these configs dynamically: {_names(fixed)}")
    bare = [name for name in given if name in ONLY_WITH_LISTENER_PREFIX]
    if bare:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST,
            "These security configs can be dynamically updated only per-listener using the listener prefix: "
            f"{_names(bare)}",
        )
    for name, text in given.items():
        _check_broker_value(name, text)
    single = [name for name in given if _is_one_brokers(name)]
    if single and resource_name == ALL_BROKERS:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST,
            f"Cannot update these configs at default cluster level, broker id must be specified: {_names(single)}",
        )


def _names(names: list[str]) -> str:
    return f"[{', '.join(sorted(names))}]"


def _base_name(name: str) -> str:
    """The name of a setting without its listener prefix: "ssl.protocol" for "listener.name.internal.ssl.protocol"."""
    return name.removeprefix(LISTENER_PREFIX).partition(".")[2] if name.startswith(LISTENER_PREFIX) else name


def _is_one_brokers(name: str) -> bool:
    setting = BROKER_SETTINGS.get(name)
    return name.startswith(LISTENER_PREFIX) or (setting is not None and setting.update is Update.PER_BROKER)


def _check_broker_value(name: str, text: str) -> None:
    setting = BROKER_SETTINGS.get(_base_name(name))
    if setting is None:
        return
    try:
        value = parse_value(setting, text)
        if setting.name == "log.retention.ms" and value == 0:
            raise InvalidSetting(name, text, "Value must be -1 for unlimited, or at least 1")
    except InvalidSetting as error:
        raise KafkaError(ErrorCode.INVALID_REQUEST, str(error)) from None
