"""The settings of the broker.

Role: declare the broker settings that do not follow from a topic's setting, and collect all in `BROKER_SETTINGS`. A
broker setting that gives the default of a topic's setting and is otherwise the same (`log.segment.bytes` for
`segment.bytes`) is declared with it in `topic.py`. Kafka's settings that do nothing here are in `without_effect.py`.
`layers.py` computes the effective value.
"""

from __future__ import annotations

from odradek.config import without_effect
from odradek.config.bounds import DAY_MS, INT_MAX, LONG_MAX
from odradek.config.setting import Kind, Setting, Update, table
from odradek.config.topic import DEFAULTS_OF_TOPICS

_DECLARED_HERE = (
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
        "How often the lag of groups is computed, in time and as the time left until they lose records.",
        minimum=100,
    ),
    Setting(
        "odradek.insight.offsets.max",
        Kind.INT,
        20_000,
        "Committed offsets whose lag is computed; further ones are skipped.",
        minimum=0,
    ),
    Setting(
        "odradek.insight.reads.max",
        Kind.INT,
        500,
        "Batch headers that one computation of the lag may read for the age and bytes of unread records; without its "
        "header the bytes are estimated.",
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
        "Bytes of requests received and not yet answered, over all connections. From half of it on connections that "
        "hold much are not read. (Kafka's default, -1, has no bound.)",
        minimum=-1,
    ),
    Setting(
        "odradek.request.receive.timeout.ms",
        Kind.INT,
        60_000,
        "Close a connection whose request of more than 64 kB is not here whole after this long; -1: never.",
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
        65_536,
        "Bytes of responses that one connection's peer has not taken; beyond, its requests wait.",
        minimum=1,
    ),
    Setting(
        "odradek.queued.max.response.bytes",
        Kind.LONG,
        268_435_456,
        "Bytes of responses that peers have not taken, over all connections; beyond, a Fetch reads one batch only, and "
        "connections that take least are closed.",
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
    Setting(
        "odradek.response.max.bytes",
        Kind.INT,
        104_857_600,
        "Bytes of a response that describes what was asked for; what would be beyond is refused with INVALID_REQUEST. "
        "(Of a Fetch, fetch.max.bytes.)",
        minimum=1_048_576,
    ),
    # logs: defaults of topic settings that exist in several units
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
        "log.flush.interval.ms",
        Kind.LONG,
        None,
        "Time between flushes with odradek.flush=os.",
        minimum=0,
        update=Update.CLUSTER_WIDE,
    ),
    Setting("log.flush.scheduler.interval.ms", Kind.LONG, LONG_MAX, "How often log.flush.interval.ms is looked at."),
    # logs
    Setting("log.retention.check.interval.ms", Kind.LONG, 300_000, "How often retention is looked at.", minimum=1),
    Setting(
        "odradek.retention.guard.interval.ms",
        Kind.LONG,
        1000,
        "How often guards with odradek.retention.guard.on.limit=block are checked against their limits.",
        minimum=10,
    ),
    Setting(
        "log.flush.offset.checkpoint.interval.ms", Kind.INT, 60_000, "How often recovery points are written.", minimum=0
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
        "producers still expire by the time before the leap, so that a clock set wrong can be set right. 0: not at "
        "all.",
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
        DAY_MS,
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
        "offsets.retention.minutes",
        Kind.INT,
        10_080,
        "How long offsets are kept once their group has no members, or no member subscribes to the topic.",
        minimum=1,
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
        "Whether the broker verifies, before it appends a transactional batch, that the partition was added to the "
        "transaction.",
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
        "How long a transactional id may be unused before it is removed.",
        minimum=1,
    ),
    Setting(
        "odradek.coordinator.snapshot.min.records",
        Kind.INT,
        2000,
        "A coordinator's partition gets a snapshot after this many records plus as many as its last one held, so that "
        "the records a start must replay stay in proportion to the state.",
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

BROKER_SETTINGS: dict[str, Setting] = (
    table(_DECLARED_HERE)
    | DEFAULTS_OF_TOPICS
    | without_effect.CONTROLLER_AND_REPLICA_SETTINGS
    | without_effect.OTHERS_OF_THE_BROKER
)
"""All settings of the broker, those without effect last."""
