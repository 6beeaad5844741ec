"""Every knob: Kafka's property name, type, default, bounds, and what it does here.

Role: declare broker and topic settings, parse and check their text, and give the parts of the broker typed values.
Names, defaults and meanings are Kafka's, deviations are said in the setting's own sentence; settings that only
Odradek has begin with `odradek.`. Every bound of a queue, buffer or cache has its name here.

A topic's setting takes its default from the broker setting named in `synonyms` (KIP-226): the first of them that is
set wins, multiplied by its unit (`log.retention.hours` counts 3,600,000 ms). Values stay text in the metadata log, as
Kafka keeps them; `LogConfig` holds what a log needs, parsed once.

Settings of Kafka that do nothing here stand in `config_inert.py`, as data, and are read into the same tables.
Imports nothing else of the project.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

from odradek import config_inert

INT_MAX = 2**31 - 1
LONG_MAX = 2**63 - 1
DOUBLE_MAX = 1.7976931348623157e308
UNLIMITED = -1
# Containers allocated and not freed before Python searches for reference cycles: at most some MB of garbage wait.
COLLECTOR_THRESHOLDS = 50_000, 20, 10


class Kind(IntEnum):
    """The types of settings, in the numbers of DescribeConfigs."""

    BOOLEAN = 1
    STRING = 2
    INT = 3
    SHORT = 4
    LONG = 5
    DOUBLE = 6
    LIST = 7
    CLASS = 8
    PASSWORD = 9


class Update(IntEnum):
    """When a broker setting may change (KIP-226)."""

    READ_ONLY = 0
    PER_BROKER = 1
    CLUSTER_WIDE = 2


class Setting(NamedTuple):
    """A setting of the broker, or (with `synonyms`) of a topic."""

    name: str
    kind: Kind
    default: Any
    doc: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] | None = None
    update: Update = Update.READ_ONLY
    effect: bool = True
    """False where the setting is accepted for Kafka's sake and does nothing here."""
    synonyms: tuple[tuple[str, int], ...] = ()
    """Topic settings: broker settings that give the default, each with its factor, the one that wins first."""

    @property
    def sensitive(self) -> bool:
        return self.kind is Kind.PASSWORD


class InvalidSetting(ValueError):
    """A setting's value (or name) that cannot be used; the message names both and says why."""

    def __init__(self, name: str, value: object, why: str) -> None:
        super().__init__(f"Invalid value {value} for configuration {name}: {why}")
        self.name = name


def parse_value(setting: Setting, text: str) -> Any:
    """Parses and checks a value's text. Raises `InvalidSetting`."""
    text = text.strip()
    value: Any = text
    if setting.kind in (Kind.INT, Kind.SHORT, Kind.LONG):
        bits = {Kind.INT: 31, Kind.SHORT: 15, Kind.LONG: 63}[setting.kind]
        value = _parse_number(setting, text, int)
        if not -(2**bits) <= value < 2**bits:
            raise InvalidSetting(setting.name, text, f"Not a number of type {setting.kind.name}")
    elif setting.kind is Kind.DOUBLE:
        value = _parse_number(setting, text, float)
        if not -DOUBLE_MAX <= value <= DOUBLE_MAX:  # NaN would pass every bound, infinity most.
            raise InvalidSetting(setting.name, text, f"Not a number of type {setting.kind.name}")
    elif setting.kind is Kind.BOOLEAN:
        if text.lower() not in ("true", "false"):
            raise InvalidSetting(setting.name, text, "Expected value to be either true or false")
        value = text.lower() == "true"
    elif setting.kind is Kind.LIST:
        value = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
        if setting.choices is not None and text and not all(part.strip() for part in text.split(",")):
            raise InvalidSetting(setting.name, text, "Values must not be empty")
    if setting.minimum is not None and value < setting.minimum:
        raise InvalidSetting(setting.name, text, f"Value must be at least {setting.minimum}")
    if setting.maximum is not None and value > setting.maximum:
        raise InvalidSetting(setting.name, text, f"Value must be no more than {setting.maximum}")
    if setting.choices is not None:
        for part in value if isinstance(value, list) else [value]:
            if str(part) not in setting.choices:
                raise InvalidSetting(setting.name, text, f"String must be one of: {', '.join(setting.choices)}")
    return value


def _parse_number(setting: Setting, text: str, kind: Callable[[str], int | float]) -> Any:
    try:
        if "_" in text:  # Python's own way to group digits.
            raise ValueError
        return kind(text)
    except ValueError:
        raise InvalidSetting(setting.name, text, f"Not a number of type {setting.kind.name}") from None


def check_topic_settings(overrides: Mapping[str, str]) -> None:
    """Checks what a topic's settings must be together; each by itself has been parsed. Raises `InvalidSetting`."""
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


def format_value(value: Any) -> str:
    """A parsed value or default as Kafka writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ",".join(value)
    if isinstance(value, float):
        return repr(value).replace("e+", "E").replace("e", "E")
    return str(value)


def _table(*settings: Setting) -> dict[str, Setting]:
    return {setting.name: setting for setting in settings}


_DAY_MS = 86_400_000
GZIP_LEVELS = ("-1", *(str(level) for level in range(1, 10)))
COMPRESSION_TYPES = ("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer")

_GUARD = (
    Setting(
        "odradek.retention.guard.groups",
        Kind.LIST,
        [],
        "Groups for which retention waits until they have committed what it would delete: names, or patterns with * "
        "and ?. A group without an offset of a partition does not hold it: it has gone, or never came.",
        synonyms=(("odradek.retention.guard.groups", 1),),
    ),
    Setting(
        "odradek.retention.guard.max.bytes",
        Kind.LONG,
        10_737_418_240,
        "Bytes of a partition that retention keeps for these groups, at most; -1 for no limit.",
        minimum=-1,
        synonyms=(("odradek.retention.guard.max.bytes", 1),),
    ),
    Setting(
        "odradek.retention.guard.max.ms",
        Kind.LONG,
        7 * _DAY_MS,
        "How long retention keeps a segment for these groups, at most: since retention.ms was over for its newest "
        "record, or since that record's time where only retention.bytes is over; -1 for no limit.",
        minimum=-1,
        synonyms=(("odradek.retention.guard.max.ms", 1),),
    ),
    Setting(
        "odradek.retention.guard.on.limit",
        Kind.STRING,
        "delete",
        "What happens at these limits: delete (the loss is reported), or block: producers get NOT_ENOUGH_REPLICAS, "
        "which they retry, until the group has caught up.",
        choices=("delete", "block"),
        synonyms=(("odradek.retention.guard.on.limit", 1),),
    ),
)
"""The retention guard, for all topics and for one."""

_HOT_KEYS = Setting(
    "odradek.hot.keys.enable",
    Kind.BOOLEAN,
    False,
    "Count which keys come most often, from samples: advice about hot partitions names them, the HTTP port shows them.",
    synonyms=(("odradek.hot.keys.enable", 1),),
)

BROKER_SETTINGS: dict[str, Setting] = _table(
    Setting("node.id", Kind.INT, 1, "This broker's id.", minimum=0),
    Setting("listeners", Kind.LIST, ["PLAINTEXT://127.0.0.1:9092"], "Where the broker listens."),
    Setting("advertised.listeners", Kind.LIST, [], "Where clients are told to connect; `listeners` if empty."),
    Setting("log.dirs", Kind.LIST, ["odradek-data"], "The data directory; exactly one."),
    Setting(
        "odradek.http.listen",
        Kind.STRING,
        "",
        "HOST:PORT of the HTTP port with /metrics, /live and /ready; none if empty.",
    ),
    Setting("odradek.http.max.connections", Kind.INT, 64, "Connections to the HTTP port at one time.", minimum=1),
    Setting(
        "odradek.metrics.topics.max",
        Kind.INT,
        1000,
        "Topics with metrics of their own; those beyond are in the totals only.",
        minimum=0,
    ),
    Setting(
        "odradek.metrics.groups.max",
        Kind.INT,
        1000,
        "Groups with metrics of their own; those beyond are in the totals only.",
        minimum=0,
    ),
    Setting(
        "odradek.insight.interval.ms",
        Kind.LONG,
        10_000,
        "How often the lag of groups is looked at, in time and in what is left until a loss.",
        minimum=100,
    ),
    Setting(
        "odradek.insight.offsets.max",
        Kind.INT,
        20_000,
        "Committed offsets whose lag is watched; those beyond are passed over.",
        minimum=0,
    ),
    Setting(
        "odradek.insight.reads.max",
        Kind.INT,
        500,
        "Batch headers that one look may read to say how old what is unread is; of the others the bytes are estimated.",
        minimum=0,
    ),
    Setting(
        "odradek.events.topic.enable",
        Kind.BOOLEAN,
        True,
        "Events, such as that a group has lost records, are also written to the topic __odradek_events, made then.",
    ),
    Setting("auto.create.topics.enable", Kind.BOOLEAN, True, "Make a topic on its first use."),
    Setting("num.partitions", Kind.INT, 1, "Partitions of a topic made without a number.", minimum=1),
    Setting("default.replication.factor", Kind.INT, 1, "Replication factor of a topic made without one.", minimum=1),
    Setting("delete.topic.enable", Kind.BOOLEAN, True, "Whether topics may be deleted."),
    Setting(
        "odradek.replication.factor.accept",
        Kind.BOOLEAN,
        False,
        "Take any replication factor as 1 on an engine that keeps one copy, for programs that hard-code 3.",
    ),
    # network
    Setting("socket.request.max.bytes", Kind.INT, 104_857_600, "Bytes of the largest request read.", minimum=1),
    Setting("max.connections", Kind.INT, INT_MAX, "Connections at one time.", minimum=0, update=Update.CLUSTER_WIDE),
    Setting(
        "max.connections.per.ip",
        Kind.INT,
        INT_MAX,
        "Connections at one time from one address.",
        minimum=0,
        update=Update.CLUSTER_WIDE,
    ),
    Setting("connections.max.idle.ms", Kind.LONG, 600_000, "Close a connection that was silent this long."),
    Setting(
        "queued.max.request.bytes",
        Kind.LONG,
        536_870_912,
        "Bytes of requests received and not yet answered, over all connections; beyond, reading stops. "
        "(Kafka's default, -1, has no bound.)",
        minimum=-1,
    ),
    Setting(
        "odradek.connection.max.requests",
        Kind.INT,
        128,
        "Requests of one connection received and not yet answered; beyond, its reading stops.",
        minimum=1,
    ),
    Setting(
        "odradek.connection.max.request.bytes",
        Kind.INT,
        67_108_864,
        "Bytes of one connection's requests received and not yet answered; beyond, its reading stops. One request "
        "is always taken.",
        minimum=1,
    ),
    Setting(
        "odradek.connection.max.response.bytes",
        Kind.INT,
        1_048_576,
        "Bytes of responses that one connection's peer has not taken; beyond, its requests wait.",
        minimum=1,
    ),
    Setting(
        "odradek.queued.max.response.bytes",
        Kind.LONG,
        268_435_456,
        "Bytes of responses that peers have not taken, over all connections; beyond, a Fetch reads one batch only.",
        minimum=0,
    ),
    Setting(
        "odradek.log.refusals.per.second",
        Kind.INT,
        10,
        "Log lines a second about refused connections and malformed requests; the others are counted.",
        minimum=0,
    ),
    Setting(
        "odradek.request.max.elements",
        Kind.INT,
        200_000,
        "Array elements in one request; more are refused as malformed.",
        minimum=1000,
    ),
    # log
    Setting(
        "message.max.bytes",
        Kind.INT,
        1_048_588,
        "Bytes of the largest record batch.",
        minimum=0,
        update=Update.CLUSTER_WIDE,
    ),
    Setting(
        "compression.type",
        Kind.STRING,
        "producer",
        "How batches are compressed.",
        choices=COMPRESSION_TYPES,
        update=Update.CLUSTER_WIDE,
    ),
    Setting(
        "compression.gzip.level",
        Kind.INT,
        -1,
        "Level of compression.type gzip.",
        choices=GZIP_LEVELS,
        update=Update.CLUSTER_WIDE,
    ),
    Setting(
        "compression.lz4.level",
        Kind.INT,
        9,
        "Level of compression.type lz4.",
        minimum=1,
        maximum=17,
        update=Update.CLUSTER_WIDE,
    ),
    Setting(
        "compression.zstd.level",
        Kind.INT,
        3,
        "Level of compression.type zstd.",
        minimum=-131_072,
        maximum=22,
        update=Update.CLUSTER_WIDE,
    ),
    Setting(
        "odradek.batch.decompressed.max.bytes",
        Kind.INT,
        134_217_728,
        "Bytes that one batch may hold when decompressed, where the broker must look into it.",
        minimum=1_048_576,
    ),
    Setting(
        "log.cleanup.policy",
        Kind.LIST,
        ["delete"],
        "What happens to old segments.",
        choices=("compact", "delete"),
        update=Update.CLUSTER_WIDE,
    ),
    Setting(
        "log.segment.bytes",
        Kind.INT,
        1_073_741_824,
        "Bytes of a segment.",
        minimum=1_048_576,
        update=Update.CLUSTER_WIDE,
    ),
    Setting("log.roll.ms", Kind.LONG, None, "Age at which a segment is rolled.", minimum=1, update=Update.CLUSTER_WIDE),
    Setting("log.roll.hours", Kind.INT, 168, "Age at which a segment is rolled, without log.roll.ms.", minimum=1),
    Setting(
        "log.roll.jitter.ms", Kind.LONG, None, "Random part of log.roll.ms.", minimum=0, update=Update.CLUSTER_WIDE
    ),
    Setting("log.roll.jitter.hours", Kind.INT, 0, "Random part of log.roll.hours.", minimum=0),
    Setting(
        "log.retention.ms",
        Kind.LONG,
        None,
        "Age at which a segment is deleted; -1 for never.",
        update=Update.CLUSTER_WIDE,
    ),
    Setting("log.retention.minutes", Kind.INT, None, "The same in minutes, without log.retention.ms."),
    Setting("log.retention.hours", Kind.INT, 168, "The same in hours, without log.retention.minutes."),
    Setting(
        "log.retention.bytes",
        Kind.LONG,
        -1,
        "Bytes of a partition above which old segments are deleted.",
        update=Update.CLUSTER_WIDE,
    ),
    Setting("log.retention.check.interval.ms", Kind.LONG, 300_000, "How often retention is looked at.", minimum=1),
    *(setting._replace(update=Update.CLUSTER_WIDE, synonyms=()) for setting in (*_GUARD, _HOT_KEYS)),
    Setting(
        "odradek.retention.guard.interval.ms",
        Kind.LONG,
        1000,
        "How often it is looked whether a guard with odradek.retention.guard.on.limit=block has reached its limits.",
        minimum=10,
    ),
    Setting(
        "log.segment.delete.delay.ms",
        Kind.LONG,
        60_000,
        "How long deleted files stay, renamed.",
        minimum=0,
        update=Update.CLUSTER_WIDE,
    ),
    Setting(
        "log.index.interval.bytes",
        Kind.INT,
        4096,
        "Bytes of log between two index entries.",
        minimum=0,
        update=Update.CLUSTER_WIDE,
    ),
    Setting(
        "log.index.size.max.bytes", Kind.INT, 10_485_760, "Bytes of an index.", minimum=4, update=Update.CLUSTER_WIDE
    ),
    Setting(
        "log.flush.interval.messages",
        Kind.LONG,
        LONG_MAX,
        "Records between flushes with odradek.flush=os.",
        minimum=1,
        update=Update.CLUSTER_WIDE,
    ),
    Setting(
        "log.flush.interval.ms",
        Kind.LONG,
        None,
        "Time between flushes with odradek.flush=os.",
        minimum=0,
        update=Update.CLUSTER_WIDE,
    ),
    Setting("log.flush.scheduler.interval.ms", Kind.LONG, LONG_MAX, "How often log.flush.interval.ms is looked at."),
    Setting(
        "log.flush.offset.checkpoint.interval.ms", Kind.INT, 60_000, "How often recovery points are written.", minimum=0
    ),
    Setting(
        "log.message.timestamp.type",
        Kind.STRING,
        "CreateTime",
        "Whose time a record carries.",
        choices=("CreateTime", "LogAppendTime"),
        update=Update.CLUSTER_WIDE,
    ),
    Setting(
        "log.message.timestamp.before.max.ms",
        Kind.LONG,
        LONG_MAX,
        "How old a record's time may be.",
        minimum=0,
        update=Update.CLUSTER_WIDE,
    ),
    Setting(
        "log.message.timestamp.after.max.ms",
        Kind.LONG,
        3_600_000,
        "How far ahead a record's time may be.",
        minimum=0,
        update=Update.CLUSTER_WIDE,
    ),
    Setting(
        "odradek.flush",
        Kind.STRING,
        "disk",
        "`disk`: what acks=all acknowledges is on disk, and only that is readable. `os`: it is in the page cache, "
        "Kafka's own bargain.",
        choices=("disk", "os"),
        update=Update.CLUSTER_WIDE,
    ),
    Setting(
        "odradek.unflushed.max.bytes",
        Kind.LONG,
        134_217_728,
        "Bytes appended and not yet flushed, over all partitions; beyond, producers wait.",
        minimum=1,
    ),
    Setting(
        "odradek.flush.syncfs.files",
        Kind.INT,
        8,
        "Dirty files above which one syncfs replaces their fdatasyncs.",
        minimum=1,
    ),
    Setting(
        "odradek.disk.readonly.free.bytes",
        Kind.LONG,
        -1,
        "Free bytes of the file system below which the broker takes no more data: producers get a storage error that "
        "they try again after, topics are not made; reads, deletions and commits go on. -1: 64 MiB, but no more than a "
        "twentieth of the file system; 0: never.",
        minimum=-1,
        update=Update.CLUSTER_WIDE,
    ),
    Setting(
        "odradek.disk.resume.free.bytes",
        Kind.LONG,
        -1,
        "Free bytes at which it takes data again, never less than odradek.disk.readonly.free.bytes. -1: twice that.",
        minimum=-1,
        update=Update.CLUSTER_WIDE,
    ),
    Setting(
        "odradek.disk.check.interval.ms",
        Kind.INT,
        1000,
        "How often the free bytes are looked at; what is appended in between is counted.",
        minimum=10,
    ),
    Setting(
        "odradek.clock.leap.grace.ms",
        Kind.LONG,
        3_600_000,
        "When the machine's clock leaps ahead by more than a minute: how long retention, committed offsets and silent "
        "producers still go by the time before, so that a clock set wrong can be set right. 0 for not at all.",
        minimum=0,
    ),
    Setting(
        "odradek.open.files.max",
        Kind.INT,
        4096,
        "Segment files kept open; fewer where the process may not open so many.",
        minimum=16,
    ),
    Setting(
        "odradek.index.cache.bytes",
        Kind.LONG,
        67_108_864,
        "Bytes of offset index entries held in memory; others are read again from their files.",
        minimum=0,
    ),
    Setting("odradek.read.threads", Kind.INT, 8, "Threads for reads that must wait for the disk.", minimum=1),
    Setting(
        "num.recovery.threads.per.data.dir",
        Kind.INT,
        2,
        "Threads that recover logs after an unclean stop.",
        minimum=1,
        update=Update.CLUSTER_WIDE,
    ),
    # producers and fetches
    Setting(
        "producer.id.expiration.ms",
        Kind.INT,
        _DAY_MS,
        "When a silent producer's state is forgotten.",
        minimum=1,
        update=Update.CLUSTER_WIDE,
    ),
    Setting("producer.id.expiration.check.interval.ms", Kind.INT, 600_000, "How often that is looked at.", minimum=1),
    Setting("fetch.max.bytes", Kind.INT, 57_671_680, "Bytes of the largest Fetch response.", minimum=1024),
    Setting("max.incremental.fetch.session.cache.slots", Kind.INT, 1000, "Fetch sessions kept.", minimum=0),
    Setting(
        "odradek.fetch.session.eviction.ms",
        Kind.INT,
        120_000,
        "A fetch session idle this long gives its place to a new one when all are taken.",
        minimum=0,
    ),
    Setting(
        "max.request.partition.size.limit",
        Kind.INT,
        2000,
        "Partitions in one answer of DescribeTopicPartitions.",
        minimum=1,
    ),
    # groups
    Setting(
        "group.min.session.timeout.ms", Kind.INT, 6000, "Shortest session a member of a classic group may ask for."
    ),
    Setting("group.max.session.timeout.ms", Kind.INT, 1_800_000, "Longest session a classic member may ask for."),
    Setting("group.max.size", Kind.INT, INT_MAX, "Members of a classic group.", minimum=1),
    Setting(
        "group.initial.rebalance.delay.ms",
        Kind.INT,
        0,
        "How long the first rebalance of a group waits for more members. (Kafka waits 3000.)",
    ),
    Setting(
        "odradek.group.new.member.join.timeout.ms",
        Kind.INT,
        300_000,
        "How long a new member's JoinGroup may wait: after it, its client is taken to have given up.",
        minimum=1,
    ),
    Setting("offset.metadata.max.bytes", Kind.INT, 4096, "Characters of the text committed with an offset."),
    Setting(
        "offsets.retention.minutes", Kind.INT, 10_080, "How long offsets nobody reads on from are kept.", minimum=1
    ),
    Setting(
        "offsets.retention.check.interval.ms", Kind.LONG, 600_000, "How often old offsets are looked for.", minimum=1
    ),
    Setting("offsets.load.buffer.size", Kind.INT, 5_242_880, "Bytes read at once when groups are loaded.", minimum=1),
    Setting("offsets.topic.num.partitions", Kind.INT, 50, "Partitions of the offsets topic.", minimum=1),
    Setting(
        "offsets.topic.segment.bytes", Kind.INT, 104_857_600, "Bytes of a segment of the offsets topic.", minimum=1
    ),
    Setting(
        "transaction.abort.timed.out.transaction.cleanup.interval.ms",
        Kind.INT,
        10_000,
        "How often transactions out of time are looked for, and aborted.",
        minimum=1,
    ),
    Setting("transaction.max.timeout.ms", Kind.INT, 900_000, "Longest time a transaction may ask for.", minimum=1),
    Setting(
        "transaction.partition.verification.enable",
        Kind.BOOLEAN,
        True,
        "Whether producers of the first transactions' version are only believed to have added a partition to their "
        "transaction when they have.",
        update=Update.CLUSTER_WIDE,
    ),
    Setting(
        "transaction.remove.expired.transaction.cleanup.interval.ms",
        Kind.INT,
        3_600_000,
        "How often silent transactional ids are forgotten.",
        minimum=1,
    ),
    Setting(
        "transaction.state.log.load.buffer.size",
        Kind.INT,
        5_242_880,
        "Bytes read at once when transactions are loaded.",
        minimum=1,
    ),
    Setting("transaction.state.log.num.partitions", Kind.INT, 50, "Partitions of the transactions' topic.", minimum=1),
    Setting(
        "transaction.state.log.segment.bytes",
        Kind.INT,
        104_857_600,
        "Bytes of a segment of the transactions' topic.",
        minimum=1,
    ),
    Setting(
        "transactional.id.expiration.ms",
        Kind.INT,
        604_800_000,
        "When a transactional id that nobody uses is forgotten.",
        minimum=1,
    ),
    Setting(
        "odradek.coordinator.snapshot.min.records",
        Kind.INT,
        2000,
        "A coordinator's partition gets a snapshot after this many records, and as many more as its last one held: "
        "what a start must replay stays about as much as there is to know.",
        minimum=1,
    ),
    # metadata
    Setting(
        "odradek.metadata.maintenance.interval.ms",
        Kind.INT,
        60_000,
        "How often a snapshot of the metadata is considered.",
        minimum=1000,
    ),
    Setting(
        "metadata.log.max.record.bytes.between.snapshots",
        Kind.LONG,
        20_971_520,
        "Bytes of the metadata log between snapshots.",
        minimum=1,
    ),
    Setting(
        "metadata.log.max.snapshot.interval.ms",
        Kind.LONG,
        3_600_000,
        "Time between snapshots of the metadata.",
        minimum=0,
    ),
)

TOPIC_SETTINGS: dict[str, Setting] = _table(
    Setting(
        "cleanup.policy",
        Kind.LIST,
        ["delete"],
        "What happens to old segments; `compact` is kept and does nothing yet.",
        choices=("compact", "delete"),
        synonyms=(("log.cleanup.policy", 1),),
    ),
    Setting(
        "compression.type",
        Kind.STRING,
        "producer",
        "How batches are compressed.",
        choices=COMPRESSION_TYPES,
        synonyms=(("compression.type", 1),),
    ),
    Setting(
        "compression.gzip.level",
        Kind.INT,
        -1,
        "Level of compression.type gzip.",
        choices=GZIP_LEVELS,
        synonyms=(("compression.gzip.level", 1),),
    ),
    Setting(
        "compression.lz4.level",
        Kind.INT,
        9,
        "Level of compression.type lz4.",
        minimum=1,
        maximum=17,
        synonyms=(("compression.lz4.level", 1),),
    ),
    Setting(
        "compression.zstd.level",
        Kind.INT,
        3,
        "Level of compression.type zstd.",
        minimum=-131_072,
        maximum=22,
        synonyms=(("compression.zstd.level", 1),),
    ),
    Setting(
        "file.delete.delay.ms",
        Kind.LONG,
        60_000,
        "How long deleted files stay, renamed.",
        minimum=0,
        synonyms=(("log.segment.delete.delay.ms", 1),),
    ),
    Setting(
        "flush.messages",
        Kind.LONG,
        LONG_MAX,
        "Records between flushes with odradek.flush=os.",
        minimum=1,
        synonyms=(("log.flush.interval.messages", 1),),
    ),
    Setting(
        "flush.ms",
        Kind.LONG,
        LONG_MAX,
        "Time between flushes with odradek.flush=os.",
        minimum=0,
        synonyms=(("log.flush.interval.ms", 1), ("log.flush.scheduler.interval.ms", 1)),
    ),
    Setting(
        "index.interval.bytes",
        Kind.INT,
        4096,
        "Bytes of log between two index entries.",
        minimum=0,
        synonyms=(("log.index.interval.bytes", 1),),
    ),
    Setting(
        "max.message.bytes",
        Kind.INT,
        1_048_588,
        "Bytes of the largest record batch.",
        minimum=0,
        synonyms=(("message.max.bytes", 1),),
    ),
    Setting(
        "message.timestamp.type",
        Kind.STRING,
        "CreateTime",
        "Whose time a record carries.",
        choices=("CreateTime", "LogAppendTime"),
        synonyms=(("log.message.timestamp.type", 1),),
    ),
    Setting(
        "message.timestamp.before.max.ms",
        Kind.LONG,
        LONG_MAX,
        "How old a record's time may be.",
        minimum=0,
        synonyms=(("log.message.timestamp.before.max.ms", 1),),
    ),
    Setting(
        "message.timestamp.after.max.ms",
        Kind.LONG,
        3_600_000,
        "How far ahead a record's time may be.",
        minimum=0,
        synonyms=(("log.message.timestamp.after.max.ms", 1),),
    ),
    Setting(
        "retention.bytes",
        Kind.LONG,
        -1,
        "Bytes above which old segments are deleted.",
        synonyms=(("log.retention.bytes", 1),),
    ),
    Setting(
        "retention.ms",
        Kind.LONG,
        7 * _DAY_MS,
        "Age at which a segment is deleted; -1 for never.",
        minimum=-1,
        synonyms=(("log.retention.ms", 1), ("log.retention.minutes", 60_000), ("log.retention.hours", 3_600_000)),
    ),
    Setting(
        "segment.bytes",
        Kind.INT,
        1_073_741_824,
        "Bytes of a segment.",
        minimum=1_048_576,
        synonyms=(("log.segment.bytes", 1),),
    ),
    Setting(
        "segment.index.bytes",
        Kind.INT,
        10_485_760,
        "Bytes of an index.",
        minimum=4,
        synonyms=(("log.index.size.max.bytes", 1),),
    ),
    Setting(
        "segment.jitter.ms",
        Kind.LONG,
        0,
        "Random part of segment.ms.",
        minimum=0,
        synonyms=(("log.roll.jitter.ms", 1), ("log.roll.jitter.hours", 3_600_000)),
    ),
    Setting(
        "segment.ms",
        Kind.LONG,
        7 * _DAY_MS,
        "Age at which a segment is rolled.",
        minimum=1,
        synonyms=(("log.roll.ms", 1), ("log.roll.hours", 3_600_000)),
    ),
    Setting(
        "odradek.flush",
        Kind.STRING,
        "disk",
        "Whether acks=all means on disk, or in the page cache.",
        choices=("disk", "os"),
        synonyms=(("odradek.flush", 1),),
    ),
    *_GUARD,
    _HOT_KEYS,
)


_UPDATES = {"per-broker": Update.PER_BROKER, "cluster-wide": Update.CLUSTER_WIDE}


def _read_inert(text: str) -> Iterator[Setting]:
    """The settings of one table of `config_inert`; its docstring says how a line is read."""
    for line in text.replace("\n    ", " ").splitlines():
        if not line or line.startswith("#"):
            continue
        head, _, doc = line.partition(" : ")
        name, kind, default, *rest = head.split()
        minimum = maximum = choices = None
        update = Update.READ_ONLY
        synonyms: tuple[tuple[str, int], ...] = ()
        for word in rest:
            if word in _UPDATES:
                update = _UPDATES[word]
            elif word.startswith("="):
                synonyms = ((word[1:], 1),)
            elif ".." in word:
                low, _, high = word.partition("..")
                minimum, maximum = int(low), int(high) if high else None
            else:
                choices = tuple(word.split("|"))
        setting = Setting(name, Kind[kind], None, doc, minimum, maximum, choices, update, False, synonyms)
        if default != "-":
            setting = setting._replace(default=parse_value(setting, default.removeprefix('""')))
        yield setting


CONTROLLER_AND_REPLICA_SETTINGS = _table(*_read_inert(config_inert.FOR_CONTROLLERS_AND_REPLICAS))
"""Those without effect because there are no controllers and no replicas here."""
BROKER_SETTINGS |= CONTROLLER_AND_REPLICA_SETTINGS
BROKER_SETTINGS |= _table(*_read_inert(config_inert.WITHOUT_EFFECT))
TOPIC_SETTINGS |= _table(*_read_inert(config_inert.OF_TOPICS))


# Broker settings that say the same in different units: any of them is explained with all of them.
_UNITS = (
    ["log.retention.ms", "log.retention.minutes", "log.retention.hours"],
    ["log.roll.ms", "log.roll.hours"],
    ["log.roll.jitter.ms", "log.roll.jitter.hours"],
)


def broker_synonyms(name: str) -> list[str]:
    """A broker setting's names, the one that wins first."""
    if name == "log.flush.interval.ms":
        return [name, "log.flush.scheduler.interval.ms"]
    return next((names for names in _UNITS if name in names), [name])


class Source(IntEnum):
    """Where a setting's value comes from, in the numbers of DescribeConfigs."""

    TOPIC = 1
    DYNAMIC_BROKER = 2
    DYNAMIC_DEFAULT_BROKER = 3
    STATIC_BROKER = 4
    DEFAULT = 5


class BrokerConfig:
    """The broker's settings, checked: those given at the start, over them what was changed for all brokers, over them
    what was changed for this one (KIP-226). Unknown names are kept apart."""

    def __init__(self, given: Mapping[str, str] | None = None) -> None:
        self.given: dict[str, str] = dict(given or {})
        self.unknown = [name for name in self.given if name not in BROKER_SETTINGS]
        self.dynamic_default: dict[str, str] = {}
        self.dynamic: dict[str, str] = {}
        self._values: dict[str, Any] = {}
        self._compute()

    def set_dynamic(self, default: Mapping[str, str], broker: Mapping[str, str]) -> list[InvalidSetting]:
        """Puts the settings changed at run time into force: for all brokers, and for this one. Leaves out, and
        returns, those that cannot be (they are checked when they are changed, but another broker may have written
        them)."""
        left_out: list[InvalidSetting] = []
        self.dynamic_default = self._usable(default, left_out)
        self.dynamic = self._usable(broker, left_out)
        self._compute()
        return left_out

    def _usable(self, layer: Mapping[str, str], left_out: list[InvalidSetting]) -> dict[str, str]:
        out: dict[str, str] = {}
        for name, text in layer.items():
            setting = BROKER_SETTINGS.get(name)
            try:
                if setting is not None:
                    if setting.update is Update.READ_ONLY:
                        raise InvalidSetting(name, text, "It cannot change while the broker runs")
                    parse_value(setting, text)
            except InvalidSetting as error:
                left_out.append(error)
            else:
                out[name] = text
        return out

    def _compute(self) -> None:
        values = {name: setting.default for name, setting in BROKER_SETTINGS.items()}
        for layer in (self.given, self.dynamic_default, self.dynamic):
            for name, text in layer.items():
                if name in BROKER_SETTINGS:
                    values[name] = parse_value(BROKER_SETTINGS[name], text)
        self._values = values

    def layers(self, name: str) -> list[tuple[Source, str]]:
        """Where a broker setting is set and to what text, the one in force first; empty where it is nowhere."""
        layers = (
            (Source.DYNAMIC_BROKER, self.dynamic),
            (Source.DYNAMIC_DEFAULT_BROKER, self.dynamic_default),
            (Source.STATIC_BROKER, self.given),
        )
        return [(source, layer[name]) for source, layer in layers if name in layer]

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def integer(self, name: str) -> int:
        value = self._values[name]
        assert isinstance(value, int), name
        return value

    def text(self, name: str) -> str:
        value = self._values[name]
        assert isinstance(value, str), name
        return value

    def flag(self, name: str) -> bool:
        value = self._values[name]
        assert isinstance(value, bool), name
        return value

    def names(self, name: str) -> list[str]:
        value = self._values[name]
        assert isinstance(value, list), name
        return value

    def topic_value(self, name: str, overrides: Mapping[str, str]) -> Any:
        """The effective value of a topic's setting: its override, else the broker's, else the default."""
        setting = TOPIC_SETTINGS[name]
        if name in overrides:
            return parse_value(setting, overrides[name])
        for broker_name, factor in setting.synonyms:
            value = self._values.get(broker_name)
            if value is not None and self.layers(broker_name):
                return value if factor == 1 or value < 0 else value * factor
        return setting.default

    def topic_source(self, name: str, overrides: Mapping[str, str]) -> Source:
        """Where a topic's effective value comes from."""
        if name in overrides:
            return Source.TOPIC
        for broker_name, _ in TOPIC_SETTINGS[name].synonyms:
            layers = self.layers(broker_name)
            if layers:
                return layers[0][0]
        return Source.DEFAULT


@dataclass(frozen=True, slots=True)
class LogConfig:
    """What a partition and its log need of the topic's settings, parsed. Times in ms, sizes in bytes."""

    cleanup_policy: tuple[str, ...] = ("delete",)
    compression_type: str = "producer"
    compression_gzip_level: int = -1
    compression_lz4_level: int = 9
    compression_zstd_level: int = 3
    file_delete_delay_ms: int = 60_000
    flush: str = "disk"
    flush_messages: int = LONG_MAX
    flush_ms: int = LONG_MAX
    index_interval_bytes: int = 4096
    max_message_bytes: int = 1_048_588
    timestamp_type: str = "CreateTime"
    timestamp_before_max_ms: int = LONG_MAX
    timestamp_after_max_ms: int = 3_600_000
    retention_bytes: int = -1
    retention_ms: int = 7 * _DAY_MS
    segment_bytes: int = 1_073_741_824
    segment_index_bytes: int = 10_485_760
    segment_jitter_ms: int = 0
    segment_ms: int = 7 * _DAY_MS
    guard_groups: tuple[str, ...] = ()
    guard_max_bytes: int = 10_737_418_240
    guard_max_ms: int = 7 * _DAY_MS
    guard_on_limit: str = "delete"
    hot_keys: bool = False
    decompressed_max_bytes: int = 134_217_728

    @classmethod
    def of(cls, broker: BrokerConfig, overrides: Mapping[str, str]) -> LogConfig:
        """The effective settings of a topic with these overrides."""

        def value(name: str) -> Any:
            return broker.topic_value(name, overrides)

        return cls(
            cleanup_policy=tuple(value("cleanup.policy")),
            compression_type=value("compression.type"),
            compression_gzip_level=value("compression.gzip.level"),
            compression_lz4_level=value("compression.lz4.level"),
            compression_zstd_level=value("compression.zstd.level"),
            file_delete_delay_ms=value("file.delete.delay.ms"),
            flush=value("odradek.flush"),
            flush_messages=value("flush.messages"),
            flush_ms=value("flush.ms"),
            index_interval_bytes=value("index.interval.bytes"),
            max_message_bytes=value("max.message.bytes"),
            timestamp_type=value("message.timestamp.type"),
            timestamp_before_max_ms=value("message.timestamp.before.max.ms"),
            timestamp_after_max_ms=value("message.timestamp.after.max.ms"),
            retention_bytes=value("retention.bytes"),
            retention_ms=value("retention.ms"),
            segment_bytes=value("segment.bytes"),
            segment_index_bytes=value("segment.index.bytes"),
            segment_jitter_ms=value("segment.jitter.ms"),
            segment_ms=value("segment.ms"),
            guard_groups=tuple(value("odradek.retention.guard.groups")),
            guard_max_bytes=value("odradek.retention.guard.max.bytes"),
            guard_max_ms=value("odradek.retention.guard.max.ms"),
            guard_on_limit=value("odradek.retention.guard.on.limit"),
            hot_keys=value("odradek.hot.keys.enable"),
            decompressed_max_bytes=broker.integer("odradek.batch.decompressed.max.bytes"),
        )
