"""Watches the lag of every group: computes it at each look, and reports changes of its verdict as events.

Role: read each committed offset together with its partition's offsets and pass both to its `LagWatch`; keep the newest
`Lag` of each for metrics and the HTTP port; turn changes of verdict into `Event`s, of which the newest are kept and
each is logged. How a lag is judged is in `lag`.

Invariants: hot paths are not involved. A look yields to the event loop after every `AT_ONCE` offsets. Memory is
bounded: `odradek.insight.offsets.max` watches, one history for each of their partitions, and `EVENTS_KEPT` events. A
deleted group, or a topic that was created again, is forgotten at the next look.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from odradek.ages import Ages
from odradek.clock import Clock
from odradek.config.layers import BrokerConfig
from odradek.config.topic import LogConfig
from odradek.coordination.groups.coordinator import GroupCoordinator
from odradek.coordination.groups.group import GroupMember
from odradek.coordination.groups.shard import GroupShard
from odradek.coordination.retention_guard import is_guarding
from odradek.coordination.runtime import Shard, ShardState
from odradek.engines.interface import LogFailure, Unread
from odradek.insight.append_history import TEN_MINUTES_S, AppendHistory, PartitionSample
from odradek.insight.balance import Balance, HotKey, Load, balance_of
from odradek.insight.hot_keys import HotKeys
from odradek.insight.lag import Lag, LagWatch, Verdict, sentence
from odradek.insight.lag_forecast import GuardLimits
from odradek.insight.top_keys import TopKeys
from odradek.logs import get_logger
from odradek.partitions.partition import Partition
from odradek.partitions.registry import Partitions

log = get_logger("odradek.insight")

# Offsets looked at before yielding to the event loop: a few ms.
AT_ONCE = 100
# Groups whose offsets are listed before yielding to the event loop.
GROUPS_AT_ONCE = 500
# Batch headers read from disk concurrently; few, so that consumers do not wait for the disk.
READS_AT_ONCE = 8
EVENTS_KEPT = 1000
# A hot key is named if at least this share of a partition's sampled records have it, and this many were sampled.
HOT_KEY_SHARE = 0.2
HOT_KEY_RECORDS = 100
# While a group goes on losing records, an event is sent at most this often.
LOSS_AGAIN_S = 60.0

# How grave a verdict is; losses are the gravest.
GRAVITY = {
    Verdict.OK: 0,
    Verdict.FALLING_BEHIND: 1,
    Verdict.STALLED: 2,
    Verdict.WILL_LOSE: 3,
    Verdict.HAS_LOST: 4,
}


class WatchedPartition(NamedTuple):
    """A partition named by its topic's name, as committed offsets name it."""

    topic: str
    partition: int


class Event(NamedTuple):
    """A change of a group's verdict on a partition. `number` counts events from 1."""

    number: int
    at_ms: int
    group_id: str
    place: WatchedPartition
    verdict: Verdict
    before: Verdict
    how: str
    """The lag as a sentence without a full stop."""
    lost_records: int


class _Pair:
    """The state kept for one group on one partition."""

    __slots__ = ("lag", "told_s", "untold_lost", "watch")

    def __init__(self) -> None:
        self.watch = LagWatch()
        self.lag: Lag | None = None
        self.told_s = 0.0
        self.untold_lost = 0


class _Wanted(NamedTuple):
    machine: GroupShard
    group_id: str
    place: WatchedPartition


class _Ahead(NamedTuple):
    """What a group has not read yet on a partition, as far as the log was read."""

    unread: Unread | None
    markers: int = 0
    """The number of unread offsets if all are transaction markers, which some clients never commit beyond; else 0."""

    @staticmethod
    def of(unread: Unread | None, behind: int) -> _Ahead:
        return _Ahead(unread) if unread is not None else _Ahead(None, behind)


NOT_READ = _Ahead(None)
_Where = tuple[bytes, int]  # topic id, partition
_Key = tuple[str, bytes, int]  # group, topic id, partition


class Watching:
    """The lags of one broker's groups. Call `look` periodically."""

    def __init__(
        self, config: BrokerConfig, clock: Clock, ages: Ages, partitions: Partitions, groups: GroupCoordinator
    ) -> None:
        self._config = config
        self._clock = clock
        self._ages = ages
        self._partitions = partitions
        self._groups = groups
        self._appends: dict[_Where, AppendHistory] = {}
        self._pairs: dict[_Key, _Pair] = {}
        self.lags: dict[str, dict[WatchedPartition, Lag]] = {}
        """The newest lags, by group; each look replaces the whole dictionary."""
        self.events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self.on_event: list[Callable[[Event], None]] = []
        """Callbacks that get each event at once, on the event loop."""
        self.passed_over = 0
        """Committed offsets that the last look skipped because of `odradek.insight.offsets.max`."""
        self.lost_records: dict[str, int] = {}
        """Records lost since the start, by group, for groups that still exist."""
        self.hot_keys = HotKeys(config, partitions)
        self._events = 0
        self._first_read = 0

    # --- looking -------------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Computes the lag of every committed offset once, and samples hot keys."""
        wanted = await self._offsets()
        room = self._config.integer("odradek.insight.offsets.max")
        self.passed_over = max(0, len(wanted) - room)
        del wanted[room:]
        unread = await self._read_unread(wanted)
        lags: dict[str, dict[WatchedPartition, Lag]] = {}
        seen: set[_Key] = set()
        on: set[_Where] = set()
        for number, (machine, group_id, place) in enumerate(wanted):
            if number % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0)
            # Both are read without yielding in between, so that a lag never mixes two moments.
            partition, committed = self._partitions.get(*place), machine.offsets.get(group_id, *place)
            if partition is None or committed is None or not self._sampled(partition, on):
                continue
            found = unread.get((group_id, place), NOT_READ)
            seen.add((group_id, partition.identity.topic_id, place.partition))
            lags.setdefault(group_id, {})[place] = self._look_at(partition, group_id, place, committed.offset, found)
        await asyncio.sleep(0)
        await self._sample_read_topics(on, room)
        self._forget(seen, on)
        await asyncio.sleep(0)
        self.lags = lags
        await asyncio.sleep(0)
        await self.hot_keys.look()

    def _look_at(
        self, partition: Partition, group_id: str, place: WatchedPartition, committed: int, ahead: _Ahead
    ) -> Lag:
        where = partition.identity.topic_id, place.partition
        pair = self._pairs.setdefault((group_id, *where), _Pair())
        lag = pair.watch.look(
            self._appends[where],
            committed,
            self._ages.now_ms(),
            ahead.unread.timestamp_ms if ahead.unread is not None else -1,
            ahead.unread.size_bytes if ahead.unread is not None else -1,
            markers_at_end=ahead.markers,
            guard=_guard(partition.config, group_id),
        )
        self._tell(group_id, place, pair, lag)
        pair.lag = lag
        return lag

    async def look_at_deleted(self, partition: Partition) -> None:
        """Computes at once the lag of all groups that had not read what retention has just deleted: by the next look
        they may have committed a later offset."""
        if not self._sampled(partition, set()):
            return
        place = WatchedPartition(partition.identity.topic, partition.identity.partition)
        for number, (machine, group_id) in enumerate(list(self._all_groups())):
            if number % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0)
            committed = machine.offsets.get(group_id, *place)
            if (
                committed is None
                or partition.opening is None
                or committed.offset >= partition.offsets().log_start_offset
            ):
                continue
            lag = self._look_at(partition, group_id, place, committed.offset, NOT_READ)
            self.lags.setdefault(group_id, {})[place] = lag

    def _sampled(self, partition: Partition, on: set[_Where]) -> bool:
        """Adds a sample of the partition to its history, unless `on` says that this look has one already. Returns
        False if its log is closed."""
        where = partition.identity.topic_id, partition.identity.partition
        if where not in on:
            sample = _sample(partition)
            if sample is None:
                return False
            self._appends.setdefault(where, AppendHistory()).add(self._clock.ageing(), sample)
            on.add(where)
        return True

    async def _sample_read_topics(self, on: set[_Where], room: int) -> None:
        """Samples all partitions of topics that group members read: `balance` needs their rates even where no offset is
        committed."""
        topics = {topic for shard in self._active() for topic in shard.machine.subscribed_topics()}
        looked_at = 0
        for name in sorted(topics):
            topic = self._partitions.topics.get(name)
            for partition in list(topic.partitions) if topic is not None else ():
                if len(on) >= room:
                    return
                self._sampled(partition, on)
                looked_at += 1
                if looked_at % AT_ONCE == 0:
                    await asyncio.sleep(0)

    def _active(self) -> Iterator[Shard[GroupShard]]:
        return (shard for shard in self._groups.shards() if shard.state is ShardState.ACTIVE)

    def _all_groups(self) -> Iterator[tuple[GroupShard, str]]:
        return ((shard.machine, group_id) for shard in self._active() for group_id in shard.machine.offsets)

    async def _offsets(self) -> list[_Wanted]:
        """Every committed offset of every group."""
        wanted: list[_Wanted] = []
        for number, (machine, group_id) in enumerate(list(self._all_groups())):
            if number % GROUPS_AT_ONCE == GROUPS_AT_ONCE - 1:
                await asyncio.sleep(0)
            wanted += [
                _Wanted(machine, group_id, WatchedPartition(topic, partition))
                for topic, of_topic in machine.offsets.of(group_id).items()
                for partition in of_topic
            ]
        return wanted

    async def _read_unread(self, wanted: list[_Wanted]) -> dict[tuple[str, WatchedPartition], _Ahead]:
        """For the groups that are behind, what the headers of their first unread batches say."""
        found: dict[tuple[str, WatchedPartition], _Ahead] = {}
        waiting: list[Coroutine[Any, Any, None]] = []

        async def note(which: tuple[str, WatchedPartition], behind: int, reading: Awaitable[Unread | None]) -> None:
            try:
                found[which] = _Ahead.of(await reading, behind)
            except (LogFailure, OSError) as error:
                log.info(
                    "what is unread cannot be told", partition=f"{which[1].topic}-{which[1].partition}", why=str(error)
                )

        reads, limit = 0, self._config.integer("odradek.insight.reads.max")
        # If there are more than one look may read, each look goes on from where the last one ended.
        first = self._first_read = self._first_read % max(1, len(wanted))
        for number in range(len(wanted)):
            if reads >= limit:
                break
            if number % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0)
            self._first_read = first + number + 1
            machine, group_id, place = wanted[(first + number) % len(wanted)]
            partition, committed = self._partitions.get(*place), machine.offsets.get(group_id, *place)
            if partition is None or partition.opening is None or committed is None:
                continue
            behind = partition.offsets().high_watermark - committed.offset
            if behind <= 0:
                continue
            reads += 1
            unread = partition.unread_from(committed.offset)
            if isinstance(unread, Awaitable):
                waiting.append(note((group_id, place), behind, unread))
            else:
                found[group_id, place] = _Ahead.of(unread, behind)
            if len(waiting) >= READS_AT_ONCE:
                await asyncio.gather(*waiting)
                waiting = []
        await asyncio.gather(*waiting)
        return found

    def _forget(self, seen: set[_Key], on: set[tuple[bytes, int]]) -> None:
        """Drops the state of groups and partitions that this look has not seen."""
        for key in self._pairs.keys() - seen:
            del self._pairs[key]
        for where in self._appends.keys() - on:
            del self._appends[where]
        groups = {group_id for group_id, _, _ in seen}
        self.lost_records = {group_id: lost for group_id, lost in self.lost_records.items() if group_id in groups}

    # --- balance -------------------------------------------------------------------------------------------------

    def balance(self, group_id: str) -> tuple[Sequence[GroupMember], Balance] | None:
        """A group's members, and how its partitions are spread over them; None if it has no members, or their
        assignment cannot be read (a protocol type other than `consumer`)."""
        for shard in self._active():
            found = shard.machine.consumers(group_id)
            if found is None:
                continue
            members, topics = found
            loads = {}
            for name in sorted(topics):
                topic = self._partitions.topics.get(name)
                for partition in topic.partitions if topic is not None else ():
                    where = partition.identity.topic_id, partition.identity.partition
                    appends = self._appends.get(where)
                    rates = appends.rates(TEN_MINUTES_S) if appends is not None else None
                    loads[name, partition.identity.partition] = Load(*rates) if rates is not None else Load()
            assignment = {member.member_id: member.partitions for member in members}
            return members, balance_of(assignment, loads, self._hot_key)
        return None

    def top_keys(self, topic: str) -> dict[int, TopKeys]:
        """A topic's key counts, by partition; empty if it has not enabled them."""
        found = self._partitions.topics.get(topic)
        counts = [(one.identity.partition, self.hot_keys.of(one)) for one in found.partitions] if found else []
        return {partition: keys for partition, keys in counts if keys is not None}

    def _hot_key(self, place: tuple[str, int]) -> HotKey | None:
        partition = self._partitions.get(*place)
        keys = self.hot_keys.of(partition) if partition is not None else None
        if keys is None or keys.total < HOT_KEY_RECORDS:
            return None
        (first,) = keys.top(1)
        return HotKey(key_name(first.key), first.share_at_least) if first.share_at_least >= HOT_KEY_SHARE else None

    # --- events --------------------------------------------------------------------------------------------------

    def _tell(self, group_id: str, place: WatchedPartition, pair: _Pair, lag: Lag) -> None:
        before, now_s = pair.lag, self._clock.ageing()
        lost = lag.lost_records - (before.lost_records if before is not None else 0)
        if lost:
            self.lost_records[group_id] = self.lost_records.get(group_id, 0) + lost
            pair.untold_lost += lost
        was = before.verdict if before is not None else Verdict.OK
        # A loss that goes on, segment by segment, has an event every `LOSS_AGAIN_S`.
        goes_on = lag.verdict is was and now_s - pair.told_s < LOSS_AGAIN_S
        if lag.verdict is was and (goes_on or not pair.untold_lost):
            return
        lost, pair.untold_lost, pair.told_s = pair.untold_lost, 0, now_s
        self._events += 1
        how = sentence(lag, datetime.fromtimestamp(lag.looked_ms / 1000, UTC).astimezone())
        event = Event(self._events, lag.looked_ms, group_id, place, lag.verdict, was, how, lost)
        self.events.append(event)
        say = log.warning if GRAVITY[lag.verdict] >= GRAVITY[Verdict.STALLED] else log.info
        say(
            f"a group {_WORDS[lag.verdict]}",
            group=group_id,
            partition=f"{place.topic}-{place.partition}",
            how=how,
        )
        for tell in self.on_event:
            tell(event)


_WORDS = {
    Verdict.OK: "is well again",
    Verdict.FALLING_BEHIND: "falls behind",
    Verdict.STALLED: "is stalled",
    Verdict.WILL_LOSE: "will lose records that it has not read",
    Verdict.HAS_LOST: "has lost records that it had not read",
}


def _guard(config: LogConfig, group_id: str) -> GuardLimits | None:
    if not config.guard_groups or not is_guarding(config.guard_groups, group_id):
        return None
    return GuardLimits(config.guard_max_ms, config.guard_max_bytes, config.guard_on_limit == "block")


def _sample(partition: Partition) -> PartitionSample | None:
    if partition.opening is None:
        return None
    offsets, config = partition.offsets(), partition.config
    return PartitionSample(
        offsets.log_start_offset,
        offsets.high_watermark,
        partition.size_bytes(),
        config.retention_ms,
        config.retention_bytes,
        "compact" in config.cleanup_policy,
        "delete" in config.cleanup_policy,
    )


def key_name(key: bytes | None) -> str:
    """The words for a key in a sentence."""
    return "no key" if key is None else f"the key {key.decode('utf-8', 'backslashreplace')}"


def time_to_loss_s(lags: dict[WatchedPartition, Lag]) -> float | None:
    """Seconds until a group's first forecast loss on any partition; None if there is none."""
    return min((lag.time_to_loss_s for lag in lags.values() if lag.time_to_loss_s is not None), default=None)


def worst(lags: dict[WatchedPartition, Lag]) -> Lag:
    """A group's worst lag: by the gravest verdict, then the least time to a loss, then the greatest age."""
    return max(
        lags.values(),
        key=lambda lag: (
            GRAVITY[lag.verdict],
            -lag.time_to_loss_s if lag.time_to_loss_s is not None else float("-inf"),
            lag.seconds_behind or 0.0,
        ),
    )
