"""The groups of one partition of `__consumer_offsets`: the state machine behind the runtime.

Role: every operation of a classic group, from a request to an `Outcome`; replay, and what a snapshot holds. The rules
of membership are `membership.py`'s, the offsets are kept by `offsets.py`.

Invariants: durable state (`_saved` groups, offsets, records of types not known here) changes in `replay` only. The
groups in `_groups` are soft: made from what was saved when the shard is loaded, or by a first join. A group exists
for clients if it is in `_groups` or has offsets; one that has neither members, nor offsets, nor a record is dropped.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from odradek.clock import Clock
from odradek.coordination.groups.classic import CONSUMER_PROTOCOL, ClassicGroup, GroupState
from odradek.coordination.groups.counters import GroupCounters
from odradek.coordination.groups.membership import GroupSettings, Joining, Membership
from odradek.coordination.groups.offsets import Offsets
from odradek.coordination.groups.pending_offsets import PendingOffsets
from odradek.coordination.groups.records import (
    NO_TIMESTAMP,
    Committed,
    GroupKey,
    OffsetKey,
    assigned_partitions,
    group_record,
    offset_record,
    read_committed,
    read_group,
    read_key,
)
from odradek.coordination.operation import Outcome, Reply
from odradek.coordination.timers import Timers
from odradek.errors import ErrorCode, KafkaError
from odradek.logs import get_logger
from odradek.protocol.errors import DecodeError
from odradek.protocol.messages.describe_groups import DescribedGroup, DescribedGroupMember
from odradek.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from odradek.protocol.messages.join_group import JoinGroupRequest
from odradek.protocol.messages.leave_group import MemberIdentity, MemberResponse
from odradek.protocol.messages.list_groups import ListedGroup
from odradek.protocol.messages.sync_group import SyncGroupRequest

log = get_logger("odradek.groups")

CLASSIC_TYPE = "classic"


class GroupMember(NamedTuple):
    """A consumer, and which partitions of which topics it was assigned."""

    member_id: str
    client_id: str
    client_host: str
    partitions: Sequence[tuple[str, int]]


class GroupShard:
    """One shard's groups."""

    def __init__(
        self, settings: GroupSettings, clock: Clock, choose: random.Random, counters: GroupCounters | None = None
    ) -> None:
        """`counters` are shared by all shards."""
        self.settings = settings
        self.clock = clock
        self.timers = Timers()
        self.counters = counters if counters is not None else GroupCounters()
        self.membership = Membership(settings, clock, choose, self.timers, self.counters)
        self.offsets = Offsets()
        self.pending = PendingOffsets()
        self._saved: dict[str, bytes] = {}
        self._others: dict[bytes, bytes] = {}
        self._groups: dict[str, ClassicGroup] = {}

    # --- durable state -------------------------------------------------------------------------------------------

    def replay(self, key: bytes, value: bytes | None) -> None:
        whose = read_key(key)
        if isinstance(whose, OffsetKey):
            self.offsets.replay(whose, None if value is None else read_committed(key, value))
            self.pending.note_commit(whose)
            if value is None:
                self.pending.forget([whose])
        elif isinstance(whose, GroupKey):
            if value is None:
                self._saved.pop(whose.group_id, None)
            else:
                self._saved[whose.group_id] = value
        elif value is None:
            self._others.pop(key, None)
        else:
            self._others[key] = value

    def replay_transactional(self, producer_id: int, key: bytes, value: bytes | None) -> None:
        whose = read_key(key)
        if isinstance(whose, OffsetKey):
            self.pending.take(producer_id, whose, None if value is None else read_committed(key, value))

    def end_transaction(self, producer_id: int, committed: bool) -> None:
        for key, offset in self.pending.end(producer_id, committed):
            self.offsets.replay(key, offset)

    def has_pending(self) -> bool:
        return len(self.pending) > 0

    def records(self) -> Callable[[], Iterable[tuple[bytes, bytes]]]:
        saved, others, offsets = dict(self._saved), dict(self._others), self.offsets.copy()

        def encode() -> Iterator[tuple[bytes, bytes]]:
            yield from others.items()
            for group_id, value in saved.items():
                key = group_record(group_id, None, NO_TIMESTAMP).key
                assert key is not None
                yield key, value
            for whose, committed in offsets:
                record = offset_record(whose, committed, NO_TIMESTAMP)
                assert record.key is not None and record.value is not None
                yield record.key, record.value

        return encode

    def size(self) -> int:
        """Records in the durable state."""
        return len(self._saved) + len(self._others) + self.offsets.count

    def loaded(self) -> None:
        for group_id, value in self._saved.items():
            try:
                group = ClassicGroup.from_record(group_id, read_group(value))
            except DecodeError as error:
                log.error(
                    "a group's record cannot be read, its members have to join again", group=group_id, why=str(error)
                )
                continue
            self._groups[group_id] = group
            for member in group.members.values():
                self.membership.keep_session(group, member)
        for key in self.pending.everything():
            self._begin_group(key.group_id)

    def _begin_group(self, group_id: str) -> None:
        """A group that only has pending offsets is one, with no members, until it is deleted or expires (as in
        Kafka)."""
        if group_id not in self._groups and group_id not in self.offsets:
            self._groups[group_id] = ClassicGroup(group_id, self.clock.now_ms())

    def waiting(self) -> list[Reply]:
        return [
            reply
            for group in self._groups.values()
            for member in group.members.values()
            for reply in (member.join_reply, member.sync_reply)
            if reply is not None
        ]

    def due(self, key: object, outcome: Outcome) -> None:
        assert isinstance(key, tuple)
        kind, group_id = key[0], key[1]
        group = self._groups.get(group_id)
        if group is None:
            return
        rules = self.membership
        if kind == "session":
            rules.session_over(group, key[2], outcome)
        elif kind == "join":
            rules.join_time_over(group, outcome)
        elif kind == "initial":
            rules.initial_delay_over(group, outcome)
        else:
            assert kind == "sync", kind
            rules.sync_time_over(group, outcome)
        self._drop_if_nothing(group)

    def _drop_if_nothing(self, group: ClassicGroup) -> None:
        """Forgets a group that nobody joined after all."""
        if group.rests and group.generation == 0 and group.group_id not in self._saved:
            self._groups.pop(group.group_id, None)

    def group(self, group_id: str) -> ClassicGroup | None:
        """The group's soft state, to look at."""
        return self._groups.get(group_id)

    def _known(self, group_id: str) -> ClassicGroup:
        """A group by name. Raises `KafkaError` with UNKNOWN_MEMBER_ID: whoever asks is a member of none."""
        group = self._groups.get(group_id)
        if group is None:
            raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID)
        return group

    # --- membership ----------------------------------------------------------------------------------------------

    def join(
        self, reply: Reply, request: JoinGroupRequest, version: int, client: tuple[str | None, str], outcome: Outcome
    ) -> None:
        """`client` is its id and its host. Raises `KafkaError`."""
        settings = self.settings
        if not settings.min_session_timeout_ms <= request.session_timeout_ms <= settings.max_session_timeout_ms:
            raise KafkaError(ErrorCode.INVALID_SESSION_TIMEOUT)
        group = self._groups.get(request.group_id)
        if group is None:
            if request.member_id:
                raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID)
            group = self._groups[request.group_id] = ClassicGroup(request.group_id, self.clock.now_ms())
        try:
            self.membership.join(group, reply, Joining.of(request, version, *client), outcome)
        finally:
            self._drop_if_nothing(group)

    def sync(self, reply: Reply, request: SyncGroupRequest, outcome: Outcome) -> None:
        """Raises `KafkaError`."""
        self.membership.sync(self._known(request.group_id), reply, request, outcome)

    def heartbeat(self, request: HeartbeatRequest) -> HeartbeatResponse:
        """Says nothing of the durable state, and so waits for no disk: a slow one must not cost members their
        sessions. Raises `KafkaError`."""
        return HeartbeatResponse(error_code=self.membership.heartbeat(self._known(request.group_id), request))

    def leave(self, group_id: str, members: Sequence[MemberIdentity], outcome: Outcome) -> list[MemberResponse]:
        """What became of each member, in order."""
        group = self._groups.get(group_id)
        if group is None:
            codes = [ErrorCode.UNKNOWN_MEMBER_ID] * len(members)
        else:
            codes = self.membership.leave(group, members, outcome)
            self._drop_if_nothing(group)
        return [
            MemberResponse(member_id=one.member_id, group_instance_id=one.group_instance_id, error_code=code)
            for one, code in zip(members, codes, strict=True)
        ]

    def rebalance(self, group_id: str, outcome: Outcome) -> bool:
        """Makes a group's members join again; False where there are none."""
        group = self._groups.get(group_id)
        if group is None or not group.members:
            return False
        if group.state is not GroupState.PREPARING_REBALANCE:
            self.membership.rebalance(group, outcome)
        return True

    # --- offsets -------------------------------------------------------------------------------------------------

    def check_commit(self, group_id: str, member_id: str, instance_id: str | None, generation: int) -> None:
        """Whether somebody may commit for a group now. A member's commit is a sign of life. Raises `KafkaError`.

        Without a generation it comes from an administrator, or from a consumer that assigns partitions by itself:
        that is allowed while the group has no members."""
        group = self._groups.get(group_id)
        if group is None:
            if generation >= 0:
                is_known = group_id in self.offsets
                raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID if is_known else ErrorCode.GROUP_ID_NOT_FOUND)
            return
        is_empty = group.state is GroupState.EMPTY
        if generation < 0 and is_empty:
            return
        if generation < 0 and not member_id and instance_id is None:
            raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID)
        member = group.validate_member(member_id, instance_id)
        if generation != group.generation:
            raise KafkaError(ErrorCode.ILLEGAL_GENERATION)
        if group.state is GroupState.COMPLETING_REBALANCE:
            raise KafkaError(ErrorCode.REBALANCE_IN_PROGRESS)
        self.membership.keep_session(group, member)

    def commit(self, commits: Iterable[tuple[OffsetKey, Committed]], outcome: Outcome) -> None:
        """Records of commits that `check_commit` allowed."""
        outcome.alters = False
        now_ms = self.clock.now_ms()
        records = [offset_record(key, committed, now_ms) for key, committed in commits]
        outcome.records += records
        self.counters.offset_commits += len(records)

    def check_transactional_commit(
        self, group_id: str, member_id: str, instance_id: str | None, generation: int
    ) -> None:
        """Whether somebody may commit for a group in a transaction now (KIP-447). Raises `KafkaError`.

        Who says nothing of a member is believed, as ever before KIP-447; a member must be one, of this generation."""
        group = self._groups.get(group_id)
        if group is None:
            if generation >= 0:
                is_known = group_id in self.offsets
                raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID if is_known else ErrorCode.GROUP_ID_NOT_FOUND)
            self._begin_group(group_id)
            return
        if generation < 0 and (group.state is GroupState.EMPTY or (not member_id and instance_id is None)):
            return
        member = group.validate_member(member_id, instance_id)
        if generation != group.generation:
            raise KafkaError(ErrorCode.ILLEGAL_GENERATION)
        self.membership.keep_session(group, member)

    def delete_offsets(self, group_id: str, partitions: Sequence[tuple[str, int]], outcome: Outcome) -> list[ErrorCode]:
        """Forgets offsets of topics that no member reads; what became of each. Raises `KafkaError`."""
        outcome.alters = False
        group = self._groups.get(group_id)
        if group is None and group_id not in self.offsets:
            raise KafkaError(ErrorCode.GROUP_ID_NOT_FOUND)
        if group is not None and group.state is not GroupState.EMPTY and group.protocol_type != CONSUMER_PROTOCOL:
            raise KafkaError(ErrorCode.NON_EMPTY_GROUP)
        codes = []
        pending = self.pending.keys_of(group_id)
        for topic, partition in partitions:
            if group is not None and group.members and group.is_subscribed_to(topic):
                codes.append(ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC)
                continue
            codes.append(ErrorCode.NONE)
            key = OffsetKey(group_id, topic, partition)
            if key in pending or self.offsets.get(group_id, topic, partition) is not None:
                self._forget([key], outcome)
        return codes

    def _forget(self, keys: Iterable[OffsetKey], outcome: Outcome) -> None:
        now_ms = self.clock.now_ms()
        outcome.records += [offset_record(key, None, now_ms) for key in keys]

    def forget_topics(self, topics: frozenset[str], outcome: Outcome) -> None:
        """The topics are deleted: so are all offsets of them."""
        outcome.alters = False
        self._forget({*self.offsets.keys_of_topics(topics), *self.pending.keys_of_topics(topics)}, outcome)

    def expire(self, outcome: Outcome, now_ms: int) -> None:
        """Forgets offsets whose time is over, and empty groups without any left (KIP-211). Where a transaction is about
        to commit a newer one, a tombstone would take that, too: the old one stays until the transaction has ended."""
        pending = self.pending.everything()
        groups_pending = {key.group_id for key in pending}
        for group_id in dict.fromkeys((*self._groups, *self.offsets)):
            group = self._groups.get(group_id)
            over = self.offsets.expired(group_id, now_ms, self.settings.offsets_retention_ms, _since(group))
            over = [key for key in over if key not in pending]
            self._forget(over, outcome)
            left = len(self.offsets.keys_of(group_id)) - len(over)
            if left or group_id in groups_pending:
                continue
            if group is not None and group.state is GroupState.EMPTY and group.rests:
                self._delete(group_id, outcome)

    # --- groups --------------------------------------------------------------------------------------------------

    def _delete(self, group_id: str, outcome: Outcome) -> None:
        if group_id in self._saved:
            outcome.records.append(group_record(group_id, None, self.clock.now_ms()))
        group = self._groups.pop(group_id, None)
        if group is not None:
            self.membership.end_timers(group)

    def delete(self, group_id: str, outcome: Outcome) -> ErrorCode:
        """Forgets a group without members, and its offsets."""
        group = self._groups.get(group_id)
        if group is None and group_id not in self.offsets:
            return ErrorCode.GROUP_ID_NOT_FOUND
        if group is not None and group.state is not GroupState.EMPTY:
            return ErrorCode.NON_EMPTY_GROUP
        self._forget({*self.offsets.keys_of(group_id), *self.pending.keys_of(group_id)}, outcome)
        self._delete(group_id, outcome)
        return ErrorCode.NONE

    def describe(self, group_id: str) -> DescribedGroup | None:
        """None where there is no such group."""
        group = self._groups.get(group_id)
        if group is None:
            if group_id not in self.offsets:
                return None
            return DescribedGroup(group_id=group_id, group_state=GroupState.EMPTY.value)
        protocol = (group.protocol or "") if group.state is GroupState.STABLE else ""
        return DescribedGroup(
            group_id=group_id,
            group_state=group.state.value,
            protocol_type=group.protocol_type or "",
            protocol_data=protocol,
            members=[
                DescribedGroupMember(
                    member_id=member.member_id,
                    group_instance_id=member.instance_id,
                    client_id=member.client_id,
                    client_host=member.client_host,
                    member_metadata=member.protocols.get(protocol, b"") if protocol else b"",
                    member_assignment=member.assignment,
                )
                for member in group.members.values()
            ],
        )

    def census(self) -> tuple[dict[GroupState, int], int]:
        """How many groups are in each state, those that only have offsets included, and how many members there are."""
        states = dict.fromkeys(GroupState, 0)
        members = 0
        for group in self._groups.values():
            states[group.state] += 1
            members += len(group.members)
        states[GroupState.EMPTY] += sum(1 for group_id in self.offsets if group_id not in self._groups)
        return states, members

    def subscribed_topics(self) -> frozenset[str]:
        """The topics that members of any group read."""
        return frozenset().union(*(group.subscribed or () for group in self._groups.values() if group.members))

    def consumers(self, group_id: str) -> tuple[Sequence[GroupMember], frozenset[str]] | None:
        """A group's members with what each was assigned, and the topics that they read; None where there are none, or
        where they are no consumers, or where it cannot be read."""
        group = self._groups.get(group_id)
        if group is None or not group.members or group.protocol_type != CONSUMER_PROTOCOL or not group.subscribed:
            return None
        members: Sequence[GroupMember] = [
            GroupMember(
                member.member_id,
                member.client_id,
                member.client_host,
                [
                    (topic, partition)
                    for topic, partitions in (assigned_partitions(member.assignment) or {}).items()
                    for partition in partitions
                ],
            )
            for member in group.members.values()
        ]
        return members, group.subscribed

    def list(self) -> list[ListedGroup]:
        """Every group there is."""
        listed = [
            ListedGroup(
                group_id=group.group_id,
                protocol_type=group.protocol_type or "",
                group_state=group.state.value,
                group_type=CLASSIC_TYPE,
            )
            for group in self._groups.values()
        ]
        listed += [
            ListedGroup(group_id=group_id, group_state=GroupState.EMPTY.value, group_type=CLASSIC_TYPE)
            for group_id in self.offsets
            if group_id not in self._groups
        ]
        return listed


def _since(group: ClassicGroup | None) -> Callable[[str, Committed], int | None]:
    """From when on a group's offset grows old: in a group without members from when they went, or from its commit if
    that came after (Kafka forgets an offset that an administrator sets in a long empty group within minutes); in one
    with members only where nobody subscribes to its topic; and offsets without members ever, from their commit."""
    if group is None or group.protocol_type is None:
        return lambda topic, committed: committed.commit_ms
    if group.state is GroupState.EMPTY:
        state_ms = group.state_ms
        return lambda topic, committed: max(state_ms, committed.commit_ms)
    if group.state is GroupState.STABLE and group.subscribed is not None:
        subscribed = group.subscribed
        return lambda topic, committed: None if topic in subscribed else committed.commit_ms
    return lambda topic, committed: None
