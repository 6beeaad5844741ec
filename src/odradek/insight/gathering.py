"""Reads the broker's counters for one scrape of `/metrics`.

Role: turn counters and states into series of the declared metrics. This runs on the event loop, because the counters
change there; it yields to the loop after every `AT_ONCE` partitions. The text of a scrape is written in a thread.

Invariants: the number of series is bounded, whatever the broker holds: there are none by partition, and only
`odradek.metrics.topics.max` topics have series of their own. A topic that has series keeps them until it is deleted, so
that no series begins in the middle. Totals include deleted topics, and never go down.
"""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable, Iterator
from importlib.metadata import version

from odradek.coordination.groups.coordinator import GroupCoordinator
from odradek.coordination.runtime import ShardState
from odradek.durations import Durations
from odradek.engines.interface import Engine
from odradek.errors import ErrorCode
from odradek.insight import metrics
from odradek.insight.metrics import Declared, Sample, Series
from odradek.insight.watching import GRAVITY, Watching, time_to_loss_s, worst
from odradek.network.shared import SharedByConnections
from odradek.partitions.counters import Traffic
from odradek.partitions.registry import Partitions, Topic
from odradek.protocol.registry import BY_KEY

# Partitions that are read before yielding to the event loop: some 2 ms.
AT_ONCE = 500
# Lags of groups that are read before yielding to the event loop.
LAGS_AT_ONCE = 200


def _copy(durations: Durations) -> Durations:
    copy = Durations()
    copy.buckets = list(durations.buckets)
    copy.sum_s = durations.sum_s
    return copy


def _one(metric: Declared, value: float | Durations) -> Series:
    return Series(metric, [((), value)])


def error_name(code: int) -> str:
    """Kafka's name of an error code; the number as text if it is unknown."""
    try:
        return ErrorCode(code).name
    except ValueError:
        return str(code)


class Gathering:
    """The sources that every scrape reads."""

    def __init__(
        self,
        engine: Engine,
        partitions: Partitions,
        loop_delay: Durations,
        topics_max: int,
        groups_max: int = 0,
        *,
        network: SharedByConnections | None = None,
        groups: GroupCoordinator | None = None,
        watching: Callable[[], Watching | None] = lambda: None,
    ) -> None:
        """Without `network` or `groups`, their series are left out; so are the lag series while `watching` returns
        None."""
        self.engine = engine
        self.partitions = partitions
        self.loop_delay = loop_delay
        self.topics_max = topics_max
        self.groups_max = groups_max
        self.network = network
        self.groups = groups
        self._watching = watching
        self._shown: set[bytes] = set()

    async def gather(self) -> list[Series]:
        """All series, as they are now. They do not change afterwards, so a thread may read them."""
        series = [
            Series(metrics.BUILD_INFO, [((version("odradek"), platform.python_version()), 1)]),
            *self._network(),
            *self._storage(),
            _one(metrics.LOOP_DELAY_SECONDS, _copy(self.loop_delay)),
        ]
        series += await self._topics()
        series += await self._groups()
        series += await self._lags()
        return series

    # --- network -------------------------------------------------------------------------------------------------

    def _network(self) -> Iterator[Series]:
        shared = self.network
        if shared is None:
            return
        counters = shared.counters
        yield _one(metrics.CONNECTIONS, len(shared.connections))
        yield _one(metrics.CONNECTIONS_OPENED, counters.opened)
        yield Series(
            metrics.CONNECTIONS_REFUSED,
            [
                (("max.connections",), counters.refused_above_maximum),
                (("max.connections.per.ip",), counters.refused_above_maximum_per_ip),
                (("RLIMIT_NOFILE",), counters.refused_for_descriptors),
            ],
        )
        yield Series(
            metrics.CONNECTIONS_ENDED,
            [
                (("idle",), counters.idle_closed),
                (("malformed",), counters.malformed),
                (("late",), counters.late_closed),
                (("unread",), counters.unread_closed),
            ],
        )
        yield _one(metrics.RECEIVED_BYTES, shared.bytes_in)
        yield _one(metrics.SENT_BYTES, shared.bytes_out)
        yield _one(metrics.REQUEST_MEMORY_BYTES, shared.memory.used_bytes)
        apis = [(BY_KEY[api_key].name, api) for api_key, api in sorted(shared.dispatch.counters.items())]
        yield Series(metrics.REQUESTS, [((name,), api.requests) for name, api in apis])
        errors = [((name, error_name(code)), count) for name, api in apis for code, count in sorted(api.errors.items())]
        yield Series(metrics.REQUEST_ERRORS, errors)
        yield Series(metrics.REQUEST_SECONDS, [((name,), _copy(api.durations)) for name, api in apis])

    # --- storage -------------------------------------------------------------------------------------------------

    def _storage(self) -> Iterator[Series]:
        flushes = self.engine.counters
        yield _one(metrics.FLUSH_SECONDS, _copy(flushes.flush_durations))
        yield _one(metrics.FLUSH_FAILURES, flushes.flush_failures)
        yield _one(metrics.FLUSHED_BYTES, flushes.flushed_bytes)
        yield _one(metrics.LOG_DAMAGES, flushes.damages)
        yield _one(metrics.UNFLUSHED_BYTES, self.engine.unflushed_bytes())
        counters = self.partitions.counters
        yield _one(metrics.LOG_FAILURES, counters.log_failures)
        yield _one(metrics.LOG_REOPENINGS, counters.log_reopenings)
        yield Series(
            metrics.DAMAGED_BATCHES,
            [(("mended",), counters.batches_mended), (("passed_over",), counters.batches_passed_over)],
        )
        yield _one(metrics.PARTITIONS_OFFLINE, len(counters.offline))
        yield _one(metrics.FETCHES_PARKED, counters.parked_fetches)
        yield _one(metrics.RETENTION_DELETED_BYTES, counters.retention_bytes)
        yield _one(metrics.RETENTION_GUARDED_BYTES, sum(counters.guarded_bytes.values()))
        yield _one(metrics.PARTITIONS_BLOCKED, len(counters.blocked))
        yield _one(metrics.RETENTION_GUARD_REFUSED_BATCHES, counters.guard_refusals)

    def disk(self) -> list[Series]:
        """The series of disk space. It asks the operating system, so it must not be called on the event loop."""
        _, total, usable = self.engine.usage()
        if total < 0:
            return []
        space = self.partitions.space
        return [
            _one(metrics.DISK_TOTAL_BYTES, total),
            _one(metrics.DISK_FREE_BYTES, usable),
            _one(metrics.DISK_READONLY, int(space.read_only)),
            _one(metrics.DISK_REFUSED_BATCHES, space.refused_batches),
        ]

    # --- topics --------------------------------------------------------------------------------------------------

    def _choose_topics(self, topics: list[Topic]) -> set[bytes]:
        """The ids of the topics with series of their own: those that have them already, then others up to the limit."""
        shown = self._shown & {topic.topic_id for topic in topics}
        others = [topic.topic_id for topic in topics if topic.topic_id not in shown]
        shown.update(others[: max(0, self.topics_max - len(shown))])
        self._shown = shown
        return shown

    async def _topics(self) -> list[Series]:
        topics = list(self.partitions.topics.values())
        shown = self._choose_topics(topics)
        total = Traffic()
        total.add(self.partitions.counters.deleted_traffic)
        partitions = size = looked_at = 0
        rows: dict[Declared, list[Sample]] = {
            metric: []
            for metric in (
                metrics.TOPIC_PARTITIONS,
                metrics.TOPIC_APPENDED_RECORDS,
                metrics.TOPIC_APPENDED_BATCHES,
                metrics.TOPIC_APPENDED_BYTES,
                metrics.TOPIC_FETCHED_BYTES,
                metrics.TOPIC_SIZE_BYTES,
            )
        }
        for topic in topics:
            topic_size = 0
            for partition in list(topic.partitions):
                topic_size += partition.size_bytes()
                looked_at += 1
                if looked_at % AT_ONCE == 0:
                    await asyncio.sleep(0)
            traffic = topic.traffic
            total.add(traffic)
            partitions += len(topic.partitions)
            size += topic_size
            if topic.topic_id in shown:
                labels = (topic.name,)
                rows[metrics.TOPIC_PARTITIONS].append((labels, len(topic.partitions)))
                rows[metrics.TOPIC_APPENDED_RECORDS].append((labels, traffic.appended_records))
                rows[metrics.TOPIC_APPENDED_BATCHES].append((labels, traffic.appended_batches))
                rows[metrics.TOPIC_APPENDED_BYTES].append((labels, traffic.appended_bytes))
                rows[metrics.TOPIC_FETCHED_BYTES].append((labels, traffic.fetched_bytes))
                rows[metrics.TOPIC_SIZE_BYTES].append((labels, topic_size))
        return [
            _one(metrics.TOPICS, len(topics)),
            _one(metrics.PARTITIONS, partitions),
            _one(metrics.TOPICS_WITHOUT_SERIES, len(topics) - len(shown)),
            _one(metrics.APPENDED_RECORDS, total.appended_records),
            _one(metrics.APPENDED_BATCHES, total.appended_batches),
            _one(metrics.APPENDED_BYTES, total.appended_bytes),
            _one(metrics.FETCHED_BYTES, total.fetched_bytes),
            _one(metrics.LOG_SIZE_BYTES, size),
            *(Series(metric, samples) for metric, samples in rows.items()),
        ]

    # --- groups --------------------------------------------------------------------------------------------------

    async def _lags(self) -> list[Series]:
        watching = self._watching()
        if watching is None:
            return []
        lags = watching.lags
        shown = sorted(lags)[: self.groups_max]
        values: dict[Declared, Callable[[str], float | None]] = {
            metrics.GROUP_LAG_RECORDS: lambda one: sum(lag.records_behind or 0 for lag in lags[one].values()),
            metrics.GROUP_LAG_BYTES: lambda one: sum(lag.bytes_behind or 0 for lag in lags[one].values()),
            metrics.GROUP_LAG_SECONDS: lambda one: max(lag.seconds_behind or 0.0 for lag in lags[one].values()),
            metrics.GROUP_TIME_TO_LOSS_SECONDS: lambda one: time_to_loss_s(lags[one]),
            metrics.GROUP_LOST_RECORDS: lambda one: watching.lost_records.get(one, 0),
            metrics.GROUP_VERDICT: lambda one: GRAVITY[worst(lags[one]).verdict],
        }
        rows: dict[Declared, list[Sample]] = {metric: [] for metric in values}
        looked_at = 0
        for group_id in shown:
            for metric, value in values.items():
                number = value(group_id)
                if number is not None:
                    rows[metric].append(((group_id,), number))
            looked_at += len(lags[group_id])
            if looked_at >= LAGS_AT_ONCE:
                looked_at = 0
                await asyncio.sleep(0)
        return [
            *(Series(metric, samples) for metric, samples in rows.items()),
            _one(metrics.GROUPS_WITHOUT_SERIES, len(lags) - len(shown)),
            _one(metrics.OFFSETS_UNWATCHED, watching.passed_over),
        ]

    async def _groups(self) -> list[Series]:
        if self.groups is None or not self.groups.has_begun:
            return []
        states = dict.fromkeys(self.groups.states, 0)
        members = loading = 0
        for shard in self.groups.shards():
            if shard.state is not ShardState.ACTIVE:
                loading += shard.state is ShardState.LOADING
                continue
            of_shard, members_of_shard = shard.machine.census()
            for state in states:
                states[state] += of_shard[state]
            members += members_of_shard
            await asyncio.sleep(0)
        counters = self.groups.counters
        return [
            Series(metrics.GROUPS, [((state,), count) for state, count in states.items()]),
            _one(metrics.GROUP_MEMBERS, members),
            _one(metrics.GROUP_REBALANCES, counters.rebalances),
            _one(metrics.GROUP_OFFSET_COMMITS, counters.offset_commits),
            _one(metrics.GROUP_SHARDS_LOADING, loading),
        ]
