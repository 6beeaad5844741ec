"""The declarations of all metrics (name, kind, labels, meaning), and the writing of a scrape.

Role: declare the metrics of `/metrics` once, for the exposition and for the documentation generated from it, and write
a scrape in Prometheus' formats with its own client library. The values come from `gathering`.

Invariants: names begin with `odradek_` and end with their unit; a counter's samples end with `_total`, which the
library adds. `exposition` runs in a thread, so the series passed to it must not change any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from itertools import accumulate
from typing import NamedTuple

from prometheus_client import ProcessCollector
from prometheus_client.core import (
    CollectorRegistry,
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from odradek.durations import BOUNDS_S, Durations


class MetricType(Enum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Declared(NamedTuple):
    """The declaration of a metric. A counter's name lacks the `_total` that its samples have."""

    name: str
    kind: MetricType
    labels: tuple[str, ...]
    help: str

    @property
    def shown_name(self) -> str:
        return f"{self.name}_total" if self.kind is MetricType.COUNTER else self.name


METRICS: list[Declared] = []


def _declare(kind: MetricType, name: str, help_: str, *labels: str) -> Declared:
    metric = Declared(f"odradek_{name}", kind, labels, help_)
    METRICS.append(metric)
    return metric


def _counter(name: str, help_: str, *labels: str) -> Declared:
    return _declare(MetricType.COUNTER, name, help_, *labels)


def _gauge(name: str, help_: str, *labels: str) -> Declared:
    return _declare(MetricType.GAUGE, name, help_, *labels)


def _histogram(name: str, help_: str, *labels: str) -> Declared:
    return _declare(MetricType.HISTOGRAM, name, help_, *labels)


BUILD_INFO = _gauge("build_info", "Always 1; the labels say what runs.", "version", "python")

CONNECTIONS = _gauge("connections", "Connections that are open now.")
CONNECTIONS_OPENED = _counter("connections_opened", "Connections accepted, those refused afterwards included.")
CONNECTIONS_REFUSED = _counter(
    "connections_refused",
    "Connections closed at once because a bound was reached; `bound` is its setting, or `RLIMIT_NOFILE`: the "
    "descriptors that connections may have.",
    "bound",
)
CONNECTIONS_ENDED = _counter(
    "connections_ended",
    "Connections that the broker ended: `idle` for too long, `malformed` bytes came, a large request came too slowly "
    "(`late`), or responses were left `unread`.",
    "reason",
)
RECEIVED_BYTES = _counter("network_received_bytes", "Bytes received from clients.")
SENT_BYTES = _counter("network_sent_bytes", "Bytes handed to the network for clients.")
REQUEST_MEMORY_BYTES = _gauge(
    "request_memory_bytes", "Bytes of requests received and not answered; bounded by `queued.max.request.bytes`."
)

REQUESTS = _counter("requests", "Requests begun.", "api")
REQUEST_ERRORS = _counter(
    "request_errors", "Error codes in responses, each by itself; `error` is Kafka's name of it.", "api", "error"
)
REQUEST_SECONDS = _histogram(
    "request_duration_seconds",
    "From the beginning of a request to when its response was ready to leave. Fetch, JoinGroup and SyncGroup wait for "
    "something on purpose.",
    "api",
)

TOPICS = _gauge("topics", "Topics, internal ones included.")
PARTITIONS = _gauge("partitions", "Partitions, internal ones included.")
PARTITIONS_OFFLINE = _gauge("partitions_offline", "Partitions whose log failed and is to be opened again.")
TOPICS_WITHOUT_SERIES = _gauge(
    "topics_without_series", "Topics that have no series of their own: `odradek.metrics.topics.max` is reached."
)
APPENDED_RECORDS = _counter("appended_records", "Records appended, over all topics that are or were.")
APPENDED_BATCHES = _counter("appended_batches", "Record batches appended, over all topics that are or were.")
APPENDED_BYTES = _counter("appended_bytes", "Bytes of record batches appended, over all topics that are or were.")
FETCHED_BYTES = _counter("fetched_bytes", "Bytes of record batches handed out, over all topics that are or were.")
LOG_SIZE_BYTES = _gauge("log_size_bytes", "Bytes of record batches held, over all topics.")
TOPIC_PARTITIONS = _gauge("topic_partitions", "Partitions of a topic.", "topic")
TOPIC_APPENDED_RECORDS = _counter("topic_appended_records", "Records appended to a topic since the start.", "topic")
TOPIC_APPENDED_BATCHES = _counter("topic_appended_batches", "Batches appended to a topic since the start.", "topic")
TOPIC_APPENDED_BYTES = _counter("topic_appended_bytes", "Bytes appended to a topic since the start.", "topic")
TOPIC_FETCHED_BYTES = _counter("topic_fetched_bytes", "Bytes of a topic handed out since the start.", "topic")
TOPIC_SIZE_BYTES = _gauge("topic_size_bytes", "Bytes of record batches that a topic holds.", "topic")
FETCHES_PARKED = _gauge("fetches_parked", "Fetches that wait for data now.")
RETENTION_DELETED_BYTES = _counter("retention_deleted_bytes", "Bytes that retention deleted.")

FLUSH_SECONDS = _histogram(
    "flush_duration_seconds", "Group commits: from the beginning of a flush until its end was heard of."
)
FLUSH_FAILURES = _counter("flush_failures", "Group commits after which at least one log was not flushed.")
FLUSHED_BYTES = _counter("flushed_bytes", "Bytes whose durability waited for a group commit and that are durable now.")
UNFLUSHED_BYTES = _gauge(
    "unflushed_bytes", "Bytes appended and not durable yet; bounded by `odradek.unflushed.max.bytes`."
)
LOG_FAILURES = _counter("log_failures", "Openings of logs that a failure ended, or that failed.")
LOG_REOPENINGS = _counter("log_reopenings", "Logs that came back after a failure.")
LOG_DAMAGES = _counter(
    "log_damages", "Places where a log was found damaged, or to lack offsets that it had; the broker's log names them."
)
DAMAGED_BATCHES = _counter(
    "damaged_batches",
    "Damage met where state is made from logs: one bit that was turned back, or a batch that was passed over.",
    "outcome",
)
DISK_TOTAL_BYTES = _gauge("disk_total_bytes", "Size of the file system that the data directory is in.")
DISK_READONLY = _gauge(
    "disk_readonly", "Whether records are refused because too little of the disk is free: 1, else 0."
)
DISK_REFUSED_BATCHES = _counter("disk_refused_batches", "Batches of producers refused for want of room.")
DISK_FREE_BYTES = _gauge("disk_free_bytes", "Bytes of that file system that the broker could still use.")

GROUPS = _gauge("groups", "Consumer groups by state, those that only have offsets included.", "state")
GROUP_MEMBERS = _gauge("group_members", "Members of all consumer groups.")
GROUP_REBALANCES = _counter("group_rebalances", "Generations of consumer groups begun.")
GROUP_OFFSET_COMMITS = _counter("group_offset_commits", "Offsets committed, each partition's by itself.")
GROUP_SHARDS_LOADING = _gauge(
    "group_shards_loading", "Partitions of `__consumer_offsets` whose groups are still being loaded."
)

GROUP_LAG_RECORDS = _gauge(
    "group_lag_records", "Records that a group has not read, of all partitions with an offset of it.", "group"
)
GROUP_LAG_BYTES = _gauge("group_lag_bytes", "Bytes that a group has not read; estimated where not looked at.", "group")
GROUP_LAG_SECONDS = _gauge("group_lag_seconds", "Age of the oldest record that a group has not read.", "group")
GROUP_TIME_TO_LOSS_SECONDS = _gauge(
    "group_time_to_loss_seconds",
    "Until retention takes what a group has not read, at the present rates; no sample where it does not.",
    "group",
)
GROUP_LOST_RECORDS = _counter("group_lost_records", "Records deleted before a group had read them.", "group")
GROUP_VERDICT = _gauge(
    "group_verdict",
    "How a group stands where it is worst: 0 ok, 1 falling behind, 2 stalled, 3 will lose records, 4 has lost some.",
    "group",
)
GROUPS_WITHOUT_SERIES = _gauge(
    "groups_without_series", "Groups beyond `odradek.metrics.groups.max`, whose lag has no series here."
)
OFFSETS_UNWATCHED = _gauge(
    "offsets_unwatched", "Committed offsets beyond `odradek.insight.offsets.max`, whose lag is not looked at."
)

RETENTION_GUARDED_BYTES = _gauge(
    "retention_guarded_bytes", "What retention would have deleted, had it not to wait for groups (the retention guard)."
)
PARTITIONS_BLOCKED = _gauge(
    "partitions_blocked",
    "Partitions that refuse producers because the retention guard has reached its limits and is set to block.",
)
RETENTION_GUARD_REFUSED_BATCHES = _counter(
    "retention_guard_refused_batches", "Batches that such partitions refused; clients try them again."
)

LOOP_DELAY_SECONDS = _histogram(
    "event_loop_delay_seconds",
    "How much later than asked a timer of the event loop came, four times a second: what every request waits too.",
)

Sample = tuple[tuple[str, ...], float | Durations]
"""The values of the labels, then the value (`Durations` for histograms)."""


class Series(NamedTuple):
    """The samples of one metric in a scrape."""

    metric: Declared
    samples: Sequence[Sample]


def _family(series: Series) -> Metric:
    metric, samples = series
    if metric.kind is MetricType.HISTOGRAM:
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, durations in samples:
            assert isinstance(durations, Durations)
            bounds = [*map(str, BOUNDS_S), "+Inf"]
            counts = accumulate(durations.buckets)
            histogram.add_metric(labels, list(zip(bounds, counts, strict=True)), durations.sum_s)
        return histogram
    kind = CounterMetricFamily if metric.kind is MetricType.COUNTER else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels)
    for labels, value in samples:
        assert not isinstance(value, Durations)
        family.add_metric(labels, value)
    return family


class _Scrape(Collector):
    """One scrape, for the library's registry."""

    def __init__(self, series: Iterable[Series]) -> None:
        self._series = series

    def collect(self) -> Iterator[Metric]:
        return map(_family, self._series)


def exposition(series: Iterable[Series], accept: str) -> tuple[bytes, str]:
    """The body of a scrape and its content type: Prometheus' text format or OpenMetrics, as the Accept header asks. The
    metrics of the process (`process_*`: CPU, memory, file descriptors) are included, under their usual names."""
    registry = CollectorRegistry()
    registry.register(_Scrape(series))
    ProcessCollector(registry=registry)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type
