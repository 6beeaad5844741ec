"""Each setting of a topic that has an effect here, declared once.

Role: `LogConfig` holds the parsed topic settings that a partition and its log need. Each of its attributes is a
declaration: Kafka's name, type, default, bounds, documentation, and the broker setting that gives the topic's default
(KIP-226). The rest follows from the declaration: the attribute, the entry of `TOPIC_SETTINGS` (used to parse and check
values, for DescribeConfigs, and for the page of all settings), and the broker setting.

To add a setting, add an attribute. Kafka's topic settings that do nothing here are in `without_effect.py`; to give one
an effect, move it here. `check_topic_settings` checks settings that depend on each other; `layers.py` computes the
effective value.

Invariants: an attribute's default is the setting's. `LogConfig` has plain attributes in slots, because it is read for
every batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, TypeVar

from odradek.config import without_effect
from odradek.config.bounds import DAY_MS, HOUR_MS, LONG_MAX, MINUTE_MS
from odradek.config.setting import InvalidSetting, Kind, Setting, table

T = TypeVar("T")

GZIP_LEVELS = ("-1", *(str(level) for level in range(1, 10)))
COMPRESSION_TYPES = ("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer")


class Values(Protocol):
    """The source of effective values: the broker's settings and a topic's overrides (`BrokerConfig` implements it)."""

    def __getitem__(self, name: str) -> Any: ...

    def topic_value(self, name: str, overrides: Mapping[str, str]) -> Any: ...


def _topic(
    name: str,
    kind: Kind,
    default: T,
    doc: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] | None = None,
    broker: str | Mapping[str, int],
) -> T:
    """Declares a topic's setting. `broker` names the broker setting that gives its default; it is made from this
    declaration, too. If there are several, in different units, `broker` maps their names to factors
    (`log.retention.hours`: 3,600,000 ms), in order of precedence, and `broker.py` declares them."""
    synonyms = ((broker, 1),) if isinstance(broker, str) else tuple(broker.items())
    setting = Setting(name, kind, _of_table(default), doc, minimum, maximum, choices, synonyms=synonyms)
    made = setting.at_the_broker(broker) if isinstance(broker, str) else None
    return _declared(default, setting, made)


def _broker(name: str, kind: Kind, default: T, doc: str, *, minimum: float | None = None) -> T:
    """Declares a setting of the broker that logs need and topics cannot override."""
    return _declared(default, None, Setting(name, kind, _of_table(default), doc, minimum))


def _declared(default: T, topic: Setting | None, broker: Setting | None) -> T:
    """An attribute of `LogConfig` with this default, which carries the settings it declares as metadata."""
    attribute: T = field(default=default, metadata={"topic": topic, "broker": broker})
    return attribute


def _of_table(default: Any) -> Any:
    """The default as `parse_value` returns it: a list, where the attribute holds an immutable tuple."""
    return list(default) if isinstance(default, tuple) else default


@dataclass(frozen=True, slots=True)
class LogConfig:
    """The parsed topic settings that a partition and its log need. Times in ms, sizes in bytes."""

    cleanup_policy: tuple[str, ...] = _topic(
        "cleanup.policy",
        Kind.LIST,
        ("delete",),
        "What happens to old segments; `compact` is kept and does nothing yet.",
        choices=("compact", "delete"),
        broker="log.cleanup.policy",
    )
    compression_type: str = _topic(
        "compression.type",
        Kind.STRING,
        "producer",
        "How batches are compressed.",
        choices=COMPRESSION_TYPES,
        broker="compression.type",
    )
    compression_gzip_level: int = _topic(
        "compression.gzip.level",
        Kind.INT,
        -1,
        "Level of compression.type gzip.",
        choices=GZIP_LEVELS,
        broker="compression.gzip.level",
    )
    compression_lz4_level: int = _topic(
        "compression.lz4.level",
        Kind.INT,
        9,
        "Level of compression.type lz4.",
        minimum=1,
        maximum=17,
        broker="compression.lz4.level",
    )
    compression_zstd_level: int = _topic(
        "compression.zstd.level",
        Kind.INT,
        3,
        "Level of compression.type zstd.",
        minimum=-131_072,
        maximum=22,
        broker="compression.zstd.level",
    )
    decompressed_max_bytes: int = _broker(
        "odradek.batch.decompressed.max.bytes",
        Kind.INT,
        134_217_728,
        "Bytes that one batch may hold when decompressed, where the broker must look into it.",
        minimum=1_048_576,
    )
    file_delete_delay_ms: int = _topic(
        "file.delete.delay.ms",
        Kind.LONG,
        60_000,
        "How long deleted files stay, renamed.",
        minimum=0,
        broker="log.segment.delete.delay.ms",
    )
    flush_messages: int = _topic(
        "flush.messages",
        Kind.LONG,
        LONG_MAX,
        "Records between flushes with odradek.flush=os.",
        minimum=1,
        broker="log.flush.interval.messages",
    )
    flush_ms: int = _topic(
        "flush.ms",
        Kind.LONG,
        LONG_MAX,
        "Time between flushes with odradek.flush=os.",
        minimum=0,
        broker={"log.flush.interval.ms": 1, "log.flush.scheduler.interval.ms": 1},
    )
    index_interval_bytes: int = _topic(
        "index.interval.bytes",
        Kind.INT,
        4096,
        "Bytes of log between two index entries.",
        minimum=0,
        broker="log.index.interval.bytes",
    )
    max_message_bytes: int = _topic(
        "max.message.bytes",
        Kind.INT,
        1_048_588,
        "Bytes of the largest record batch.",
        minimum=0,
        broker="message.max.bytes",
    )
    timestamp_type: str = _topic(
        "message.timestamp.type",
        Kind.STRING,
        "CreateTime",
        "Whether a record has the producer's timestamp (CreateTime) or the time of its append (LogAppendTime).",
        choices=("CreateTime", "LogAppendTime"),
        broker="log.message.timestamp.type",
    )
    timestamp_before_max_ms: int = _topic(
        "message.timestamp.before.max.ms",
        Kind.LONG,
        LONG_MAX,
        "How far before the broker's time a record's timestamp may be.",
        minimum=0,
        broker="log.message.timestamp.before.max.ms",
    )
    timestamp_after_max_ms: int = _topic(
        "message.timestamp.after.max.ms",
        Kind.LONG,
        HOUR_MS,
        "How far ahead of the broker's time a record's timestamp may be.",
        minimum=0,
        broker="log.message.timestamp.after.max.ms",
    )
    retention_bytes: int = _topic(
        "retention.bytes",
        Kind.LONG,
        -1,
        "Bytes of a partition above which old segments are deleted.",
        broker="log.retention.bytes",
    )
    retention_ms: int = _topic(
        "retention.ms",
        Kind.LONG,
        7 * DAY_MS,
        "Age at which a segment is deleted; -1 for never.",
        minimum=-1,
        broker={"log.retention.ms": 1, "log.retention.minutes": MINUTE_MS, "log.retention.hours": HOUR_MS},
    )
    segment_bytes: int = _topic(
        "segment.bytes",
        Kind.INT,
        1_073_741_824,
        "Bytes of a segment.",
        minimum=1_048_576,
        broker="log.segment.bytes",
    )
    segment_index_bytes: int = _topic(
        "segment.index.bytes",
        Kind.INT,
        10_485_760,
        "Bytes of an index.",
        minimum=4,
        broker="log.index.size.max.bytes",
    )
    segment_jitter_ms: int = _topic(
        "segment.jitter.ms",
        Kind.LONG,
        0,
        "Random part of segment.ms.",
        minimum=0,
        broker={"log.roll.jitter.ms": 1, "log.roll.jitter.hours": HOUR_MS},
    )
    segment_ms: int = _topic(
        "segment.ms",
        Kind.LONG,
        7 * DAY_MS,
        "Age at which a segment is rolled.",
        minimum=1,
        broker={"log.roll.ms": 1, "log.roll.hours": HOUR_MS},
    )
    flush: str = _topic(
        "odradek.flush",
        Kind.STRING,
        "disk",
        "`disk`: records are acknowledged to acks=all, and readable, once they are on disk. `os`: once they are in the "
        "page cache, as in Kafka.",
        choices=("disk", "os"),
        broker="odradek.flush",
    )
    guard_groups: tuple[str, ...] = _topic(
        "odradek.retention.guard.groups",
        Kind.LIST,
        (),
        "Groups for which retention waits until they have committed what it would delete: names, or patterns with * "
        "and ?. A group without a committed offset in a partition does not hold back retention there.",
        broker="odradek.retention.guard.groups",
    )
    guard_max_bytes: int = _topic(
        "odradek.retention.guard.max.bytes",
        Kind.LONG,
        10_737_418_240,
        "Bytes of a partition that retention keeps for these groups, at most; -1 for no limit.",
        minimum=-1,
        broker="odradek.retention.guard.max.bytes",
    )
    guard_max_ms: int = _topic(
        "odradek.retention.guard.max.ms",
        Kind.LONG,
        7 * DAY_MS,
        "How long retention keeps a segment for these groups, at most: since retention.ms was over for its newest "
        "record, or since that record's time where only retention.bytes is over; -1 for no limit.",
        minimum=-1,
        broker="odradek.retention.guard.max.ms",
    )
    guard_on_limit: str = _topic(
        "odradek.retention.guard.on.limit",
        Kind.STRING,
        "delete",
        "What happens at these limits: delete (the loss is reported), or block: producers get NOT_ENOUGH_REPLICAS, "
        "which they retry, until the group has caught up.",
        choices=("delete", "block"),
        broker="odradek.retention.guard.on.limit",
    )
    hot_keys: bool = _topic(
        "odradek.hot.keys.enable",
        Kind.BOOLEAN,
        False,
        "Count, from samples, which keys are the most frequent. Advice about hot partitions and the HTTP port show "
        "them.",
        broker="odradek.hot.keys.enable",
    )

    @classmethod
    def of(cls, broker: Values, overrides: Mapping[str, str]) -> LogConfig:
        """The effective settings of a topic with these overrides."""
        values: list[Any] = []
        for name in _ATTRIBUTES:
            value = broker.topic_value(name, overrides) if name in TOPIC_SETTINGS else broker[name]
            values.append(tuple(value) if isinstance(value, list) else value)
        return cls(*values)


_DECLARED: list[tuple[Setting | None, Setting | None]] = [
    (attribute.metadata["topic"], attribute.metadata["broker"]) for attribute in fields(LogConfig)
]
TOPIC_SETTINGS: dict[str, Setting] = table(topic for topic, _ in _DECLARED if topic) | without_effect.OF_TOPICS
"""All settings of topics, those without effect last."""
DEFAULTS_OF_TOPICS: dict[str, Setting] = table(broker for _, broker in _DECLARED if broker)
"""The broker settings that are declared here."""
# The name of each attribute's setting, in the order of the attributes.
_ATTRIBUTES = [setting.name for setting in (topic or broker for topic, broker in _DECLARED) if setting]


def check_topic_settings(overrides: Mapping[str, str]) -> None:
    """Checks a topic's settings that depend on each other or on this broker; each has been parsed by itself before.
    Raises `InvalidSetting`."""
    if overrides.get("remote.storage.enable", "").strip().lower() == "true":
        raise InvalidSetting("remote.storage.enable", "true", "There is no tiered storage on this broker")
    least, most = overrides.get("min.compaction.lag.ms"), overrides.get("max.compaction.lag.ms")
    if least is not None and most is not None and int(least) > int(most):
        raise InvalidSetting("min.compaction.lag.ms", least, f"It is more than max.compaction.lag.ms ({most})")
    for name in ("leader.replication.throttled.replicas", "follower.replication.throttled.replicas"):
        text = overrides.get(name, "").strip()
        pairs = [pair.strip().split(":") for pair in text.split(",")]
        if text not in ("", "*") and not all(len(pair) == 2 and "".join(pair).isdecimal() for pair in pairs):
            raise InvalidSetting(name, text, "Expected * or a list of PARTITION:BROKER")
