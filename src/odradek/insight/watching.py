"""Watches every group's lag: looks now and then, keeps what came of it, and says so when it gets better or worse.

Role: read the groups' committed offsets beside their partitions, in one step each, and hand them to `lag`'s watches;
keep the newest `Lag` of each for metrics and the HTTP port; turn changes of verdict into `Event`s, of which the newest
are kept and each is a line in the log. What a lag means is `lag`'s business, who shows it others'.

Invariants: the hot paths know nothing of this. A look gives way to others after every `AT_ONCE` offsets. Memory is
bounded: `odradek.insight.offsets.max` watches, a history for each partition that they are on, `EVENTS_KEPT` events; a
group that has gone, or a topic made again, is forgotten by the next look.
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

# Offsets looked at before others have their turn: a few ms.
AT_ONCE = 100
# Groups whose offsets are listed before others have their turn.
GROUPS_AT_ONCE = 500
# Headers read from disk side by side: not so many that they keep consumers waiting.
READS_AT_ONCE = 8
EVENTS_KEPT = 1000
# A key is told of that so many of a partition's records have, of at least so many that were sampled.
HOT_KEY_SHARE = 0.2
HOT_KEY_RECORDS = 100
# A group that loses more and more has an event this often.
LOSS_AGAIN_S = 60.0

# What may be lost comes first.
GRAVITY = {
    Verdict.OK: 0,
    Verdict.FALLING_BEHIND: 1,
    Verdict.STALLED: 2,
    Verdict.WILL_LOSE: 3,
    Verdict.HAS_LOST: 4,
}


class WatchedPartition(NamedTuple):
    """A partition by its topic's name, as groups know it."""

    topic: str
    partition: int


class Event(NamedTuple):
    """A change for a group on a partition. `number` counts from 1 and tells the order."""

    number: int
    at_ms: int
    group_id: str
    place: WatchedPartition
    verdict: Verdict
    before: Verdict
    how: str
    """How it stands, in a sentence without a full stop."""
    lost_records: int


class _Pair:
    """One group on one partition."""

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
    """What lies before a group, as far as it was read."""

    unread: Unread | None
    markers: int = 0
    """How many offsets, where they are nothing but ends of transactions: some clients never commit beyond them."""

    @staticmethod
    def of(unread: Unread | None, behind: int) -> _Ahead:
        return _Ahead(unread) if unread is not None else _Ahead(None, behind)


NOT_READ = _Ahead(None)
_Where = tuple[bytes, int]  # topic id, partition
_Key = tuple[str, bytes, int]  # group and these


class Watching:
    """The lags of one broker's groups. `look` now and then."""

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
        """The newest, by group; replaced as a whole by each look."""
        self.events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self.on_event: list[Callable[[Event], None]] = []
        """Whom to tell, at once, on the event loop."""
        self.passed_over = 0
        """Offsets that the last look had no room for."""
        self.lost_records: dict[str, int] = {}
        """By group, since the start; of groups that there are."""
        self.hot_keys = HotKeys(config, partitions)
        self._events = 0
        self._first_read = 0

    # --- looking -------------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Looks at every offset once."""
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
            # Both are read in one step, so that a lag is never of two moments.
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
        """Looks at once at all groups that had not read what retention has just deleted: by the next look they may have
        gone on."""
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
        """Notes how the partition's log stands now; once a look, whose `on` remembers it. False where it is closed."""
        where = partition.identity.topic_id, partition.identity.partition
        if where not in on:
            sample = _sample(partition)
            if sample is None:
                return False
            self._appends.setdefault(where, AppendHistory()).add(self._clock.ageing(), sample)
            on.add(where)
        return True

    async def _sample_read_topics(self, on: set[_Where], room: int) -> None:
        """Notes the partitions of topics that members read, which `balance` weighs, committed or not."""
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
        """Every offset there is."""
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
        """What lies before the groups that are behind, from the headers of their first unread batches."""
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
        # Where there are too many, each look goes on from where the last one ended.
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
        """Forgets those that have gone."""
        for key in self._pairs.keys() - seen:
            del self._pairs[key]
        for where in self._appends.keys() - on:
            del self._appends[where]
        groups = {group_id for group_id, _, _ in seen}
        self.lost_records = {group_id: lost for group_id, lost in self.lost_records.items() if group_id in groups}

    # --- balance -------------------------------------------------------------------------------------------------

    def balance(self, group_id: str) -> tuple[Sequence[GroupMember], Balance] | None:
        """A group's members, and how what they read lies on them; None where it has none, or shares out nothing that
        can be read here."""
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
        """A topic's counts of keys, by partition; empty where it does not ask for them."""
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

    # --- telling -------------------------------------------------------------------------------------------------

    def _tell(self, group_id: str, place: WatchedPartition, pair: _Pair, lag: Lag) -> None:
        before, now_s = pair.lag, self._clock.ageing()
        lost = lag.lost_records - (before.lost_records if before is not None else 0)
        if lost:
            self.lost_records[group_id] = self.lost_records.get(group_id, 0) + lost
            pair.untold_lost += lost
        was = before.verdict if before is not None else Verdict.OK
        # A loss that goes on, segment by segment, is told of now and then.
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
    """A key in a sentence."""
    return "no key" if key is None else f"the key {key.decode('utf-8', 'backslashreplace')}"


def time_to_loss_s(lags: dict[WatchedPartition, Lag]) -> float | None:
    """Until a group's first loss, on any partition."""
    return min((lag.time_to_loss_s for lag in lags.values() if lag.time_to_loss_s is not None), default=None)


def worst(lags: dict[WatchedPartition, Lag]) -> Lag:
    """The lag of a group that matters most: the gravest verdict, then the least time to a loss, then the oldest."""
    return max(
        lags.values(),
        key=lambda lag: (
            GRAVITY[lag.verdict],
            -lag.time_to_loss_s if lag.time_to_loss_s is not None else float("-inf"),
            lag.seconds_behind or 0.0,
        ),
    )
