"""The groups of one partition of `__consumer_offsets`: a state machine that the runtime runs.

Role: hold groups of all types by name, with their offsets; hand each record and timer to the type of group that it
belongs to; list, describe, delete and expire any group. Each type's folder (`classic/`) creates its groups and serves
their members; `group.py` is the contract between the two. `committing.py` decides who may commit offsets, `offsets.py`
keeps them.

Invariants: durable state (that of the types, offsets, records of unknown types) changes in `replay` only. The groups in
`groups` are soft state, unless their type says otherwise. For clients a group exists if it is in `groups` or has
offsets; one that only has offsets is a simple group.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, TypeVar

from odradek.clock import Clock
from odradek.coordination.groups.counters import GroupCounters
from odradek.coordination.groups.group import (
    EMPTY_STATE,
    Group,
    GroupMember,
    GroupsOfType,
    GroupType,
    ShardContext,
)
from odradek.coordination.groups.offsets import CommittedOffsets, Topics
from odradek.coordination.groups.pending_offsets import PendingOffsets
from odradek.coordination.groups.records import (
    NO_TIMESTAMP,
    OffsetKey,
    offset_record,
    prefix_of,
    read_committed,
    read_offset_key,
)
from odradek.coordination.groups.simple import SimpleGroup
from odradek.coordination.operation import STEP_LOOKS, STEP_RECORDS, InSteps, Outcome, Reply
from odradek.coordination.timers import Timers
from odradek.errors import ErrorCode, KafkaError
from odradek.protocol.messages.describe_groups import DescribedGroup
from odradek.protocol.messages.list_groups import ListedGroup

T = TypeVar("T", bound=GroupsOfType)


class GroupShard:
    """One shard's groups."""

    def __init__(
        self,
        types: Sequence[GroupType],
        offsets_retention_ms: int,
        clock: Clock,
        choose: random.Random,
        counters: GroupCounters | None = None,
    ) -> None:
        """All shards share `counters`."""
        self.offsets_retention_ms = offsets_retention_ms
        self.clock = clock
        self.timers = Timers()
        self.counters = counters if counters is not None else GroupCounters()
        self.groups: dict[str, Group] = {}
        self.offsets = CommittedOffsets()
        self.pending = PendingOffsets()
        self._others: dict[bytes, bytes] = {}
        context = ShardContext(self.groups, clock, choose, self.timers, self.counters)
        self._types = [one.in_shard(context) for one in types]
        self._states = [state for one in types for state in one.states]
        self._by_class: dict[type[GroupsOfType], Any] = {type(one): one for one in self._types}
        self._by_record_type = {kind: one for one in self._types for kind in one.record_types}
        self._by_timer_kind = {kind: one for one in self._types for kind in one.timer_kinds}
        assert len(self._by_record_type) == sum(len(one.record_types) for one in self._types)
        assert len(self._by_timer_kind) == sum(len(one.timer_kinds) for one in self._types)

    def of(self, kind: type[T]) -> T:
        """The shard's groups of one type, for operations that only this type has."""
        found: T = self._by_class[kind]
        return found

    # --- durable state -------------------------------------------------------------------------------------------

    def replay(self, key: bytes, value: bytes | None) -> None:
        whose = read_offset_key(key)
        if whose is not None:
            self.offsets.replay(whose, None if value is None else read_committed(key, value))
            self.pending.note_commit(whose)
            if value is None:
                self.pending.forget([whose])
        elif (groups := self._by_record_type.get(prefix_of(key))) is not None:
            groups.replay(key, value)
        elif value is None:
            self._others.pop(key, None)
        else:
            self._others[key] = value

    def replay_transactional(self, producer_id: int, key: bytes, value: bytes | None) -> None:
        whose = read_offset_key(key)
        if whose is not None:
            self.pending.take(producer_id, whose, None if value is None else read_committed(key, value))

    def end_transaction(self, producer_id: int, committed: bool) -> None:
        for key, offset in self.pending.end(producer_id, committed):
            self.offsets.replay(key, offset)

    def has_pending(self) -> bool:
        return len(self.pending) > 0

    def records(self) -> Callable[[], Iterable[tuple[bytes, bytes]]]:
        others, offsets = dict(self._others), self.offsets.copy()
        encode_types = [one.records() for one in self._types]

        def encode() -> Iterator[tuple[bytes, bytes]]:
            yield from others.items()
            for encode_type in encode_types:
                yield from encode_type()
            for whose, committed in offsets:
                record = offset_record(whose, committed, NO_TIMESTAMP)
                assert record.key is not None and record.value is not None
                yield record.key, record.value

        return encode

    def prepare(self) -> None:
        for one in self._types:
            one.prepare()

    def loaded(self) -> None:
        for group_id in self.pending.groups():
            self.begin_simple(group_id)

    def begin_simple(self, group_id: str) -> None:
        """Makes a simple group unless the group exists: as in Kafka, pending offsets alone make a group, which exists
        until it is deleted or expires."""
        if group_id not in self.groups and group_id not in self.offsets:
            self.groups[group_id] = SimpleGroup(group_id)

    def waiting(self) -> list[Reply]:
        return [reply for one in self._types for reply in one.waiting()]

    def due(self, key: object, outcome: Outcome) -> None:
        assert isinstance(key, tuple)
        self._by_timer_kind[key[0]].due(key, outcome)

    # --- groups --------------------------------------------------------------------------------------------------

    def find(self, group_id: str) -> Group | None:
        """The group of this name, of any type."""
        group = self.groups.get(group_id)
        if group is None and group_id in self.offsets:
            return SimpleGroup(group_id)
        return group

    def names(self) -> list[str]:
        """Every group there is."""
        return [*self.groups, *(group_id for group_id in self.offsets if group_id not in self.groups)]

    def delete(self, group_id: str) -> InSteps[ErrorCode]:
        """Forgets the offsets of a group without members, and in the last step the group. The caller keeps other
        operations away from the group until then: to clients it is deleted at once."""
        group = self.find(group_id)
        if group is None:
            return ErrorCode.GROUP_ID_NOT_FOUND
        if not group.is_empty:
            return ErrorCode.NON_EMPTY_GROUP
        is_done = False
        while not is_done:
            pending = self.pending.keys_of(group_id)
            committed = (key for key, _ in self.offsets.items_of(group_id) if key not in pending)
            keys = list(islice(chain(pending, committed), STEP_RECORDS))
            is_done = len(keys) < STEP_RECORDS
            outcome = Outcome(alters=is_done)
            self._forget(keys, outcome)
            if is_done:
                self._delete(group_id, outcome)
            yield outcome
        return ErrorCode.NONE

    def _delete(self, group_id: str, outcome: Outcome) -> None:
        for one in self._types:
            one.delete(group_id, outcome)
        self.groups.pop(group_id, None)

    def rebalance(self, group_id: str, outcome: Outcome) -> bool:
        """Makes a group's members join again; returns False if it has none."""
        return any(one.rebalance(group_id, outcome) for one in self._types)

    # --- offsets -------------------------------------------------------------------------------------------------

    def fetch_offsets(self, group_id: str, member_id: str | None, member_epoch: int) -> Topics:
        """A group's committed offsets, which the caller must not change. Raises `KafkaError`."""
        group = self.groups.get(group_id)
        if group is not None:
            group.check_fetch(member_id, member_epoch)
        return self.offsets.of(group_id)

    def delete_offsets(self, group_id: str, partitions: Sequence[tuple[str, int]]) -> InSteps[list[ErrorCode]]:
        """Forgets offsets of topics that no member reads; what became of each. Raises `KafkaError`."""
        codes: list[ErrorCode] = []
        group = self.find(group_id)
        if group is None:
            raise KafkaError(ErrorCode.GROUP_ID_NOT_FOUND)
        group.check_offset_delete()
        for first in range(0, len(partitions), STEP_RECORDS):
            outcome = Outcome(alters=False)
            # The steps before may have taken its last offset: then there is no group any more, and nothing to refuse.
            group = self.find(group_id)
            if group is not None:
                group.check_offset_delete()
            pending = self.pending.keys_of(group_id)
            for topic, partition in partitions[first : first + STEP_RECORDS]:
                if group is not None and group.is_subscribed_to(topic):
                    codes.append(ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC)
                    continue
                codes.append(ErrorCode.NONE)
                key = OffsetKey(group_id, topic, partition)
                if key in pending or self.offsets.get(group_id, topic, partition) is not None:
                    self._forget([key], outcome)
            yield outcome
        return codes

    def _forget(self, keys: Iterable[OffsetKey], outcome: Outcome) -> None:
        now_ms = self.clock.now_ms()
        outcome.records += [offset_record(key, None, now_ms) for key in keys]

    def forget_topics(self, is_gone: Callable[[str], bool]) -> InSteps[None]:
        """Forgets all offsets of deleted topics."""
        outcome, looks = Outcome(alters=False), 0
        for group_id in dict.fromkeys((*self.offsets, *self.pending.groups())):
            over = set(self.offsets.keys_of(group_id, is_gone))
            over.update(key for key in self.pending.keys_of(group_id) if is_gone(key.topic))
            looks += 1 + len(self.offsets.of(group_id))
            for key in over:
                if self.offsets.get(*key) is None and key not in self.pending.keys_of(group_id):
                    continue  # deleted since a step before
                self._forget([key], outcome)
                if len(outcome.records) >= STEP_RECORDS:
                    yield outcome
                    outcome, looks = Outcome(alters=False), 0
            if looks >= STEP_LOOKS:
                yield outcome
                outcome, looks = Outcome(alters=False), 0
        yield outcome

    def expire(self, now_ms: int) -> InSteps[None]:
        """Forgets offsets whose time is over, and groups that expire without any left (KIP-211). Where a transaction is
        about to commit a newer one, a tombstone would take that, too: the old one stays until the transaction has
        ended."""
        outcome, looks = Outcome(), 0
        for group_id in dict.fromkeys((*self.groups, *self.offsets)):
            while (group := self.find(group_id)) is not None:
                pending = self.pending.keys_of(group_id)
                count = self.offsets.count_of(group_id)
                expired = self.offsets.expired(group_id, now_ms, self.offsets_retention_ms, group.grows_old_since_ms)
                over = list(islice((key for key in expired if key not in pending), STEP_RECORDS))
                self._forget(over, outcome)
                if len(over) == count and not pending and group_id in self.groups and group.expires:
                    self._delete(group_id, outcome)
                looks += 1 + count
                is_done = len(over) < STEP_RECORDS
                if not is_done or len(outcome.records) >= STEP_RECORDS or looks >= STEP_LOOKS:
                    yield outcome
                    outcome, looks = Outcome(), 0
                if is_done:
                    break
        yield outcome

    # --- description ---------------------------------------------------------------------------------------------

    def describe(self, group_id: str) -> DescribedGroup | None:
        """The group in a DescribeGroups response; None if there is none, or none of a type that it describes."""
        group = self.find(group_id)
        return None if group is None else group.describe()

    def census(self) -> tuple[dict[str, int], int]:
        """The number of groups in each state, including those that only have offsets, and the number of members."""
        states = dict.fromkeys(self._states, 0)
        members = 0
        for group in self.groups.values():
            states[group.state_name] += 1
            members += group.member_count
        states[EMPTY_STATE] += sum(1 for group_id in self.offsets if group_id not in self.groups)
        return states, members

    def subscribed_topics(self) -> frozenset[str]:
        """The topics that the members of any group are known to read."""
        return frozenset().union(*(group.subscribed_topics() for group in self.groups.values()))

    def consumers(self, group_id: str) -> tuple[Sequence[GroupMember], frozenset[str]] | None:
        """A group's members with their assignments, and the topics that they read: see `Group.consumers`."""
        group = self.groups.get(group_id)
        return None if group is None else group.consumers()

    def listed(self, group_id: str) -> ListedGroup | None:
        """A group, as ListGroups tells of it; None where there is none of that name."""
        group = self.find(group_id)
        return None if group is None else group.listed()
