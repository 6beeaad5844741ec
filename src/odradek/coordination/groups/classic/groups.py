"""The classic groups of one shard: their durable records and the operations of their requests.

Role: find or make the `ClassicGroup` of a request and apply the rules to it (`membership.py`, `rebalance.py`); replay
the groups' records, and copy them for snapshots.

Invariants: durable state (`_saved`) changes in `replay` only. The groups themselves are soft state: they are made from
their records when the shard is loaded, or by the first join. A group with neither members nor a record is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import ClassVar

from odradek.coordination.groups.classic.deadlines import INITIAL, JOIN, SESSION, SYNC, Deadlines
from odradek.coordination.groups.classic.group import ClassicGroup, GroupState
from odradek.coordination.groups.classic.membership import Joining, Membership
from odradek.coordination.groups.classic.rebalance import Rebalancing
from odradek.coordination.groups.classic.records import (
    GROUP_TYPE,
    group_key,
    group_record,
    read_group,
    read_group_key,
)
from odradek.coordination.groups.classic.settings import ClassicSettings
from odradek.coordination.groups.group import CLASSIC_TYPE, GroupsOfType, GroupType, ShardContext
from odradek.coordination.groups.simple import SimpleGroup
from odradek.coordination.operation import Outcome, Reply
from odradek.errors import ErrorCode, KafkaError
from odradek.logs import get_logger
from odradek.protocol.errors import DecodeError
from odradek.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from odradek.protocol.messages.join_group import JoinGroupRequest
from odradek.protocol.messages.leave_group import MemberIdentity, MemberResponse
from odradek.protocol.messages.sync_group import SyncGroupRequest

log = get_logger("odradek.groups")


def classic_groups(settings: ClassicSettings) -> GroupType:
    """The classic type of groups, for the coordinator."""
    states = tuple(state.value for state in GroupState if state is not GroupState.DEAD)
    return GroupType(CLASSIC_TYPE, states, partial(ClassicGroups, settings))


class ClassicGroups(GroupsOfType):
    """One shard's classic groups."""

    record_types: ClassVar[frozenset[int]] = frozenset({GROUP_TYPE})
    timer_kinds: ClassVar[frozenset[str]] = frozenset({SESSION, JOIN, INITIAL, SYNC})

    def __init__(self, settings: ClassicSettings, context: ShardContext) -> None:
        self.settings = settings
        self.clock = context.clock
        self.deadlines = Deadlines(context.timers, context.clock)
        self.rebalancing = Rebalancing(
            settings.initial_rebalance_delay_ms, context.clock, self.deadlines, context.counters
        )
        self.membership = Membership(settings, context.choose, self.deadlines, self.rebalancing)
        self._groups = context.groups
        self._saved: dict[str, bytes] = {}

    # --- durable state -------------------------------------------------------------------------------------------

    def replay(self, key: bytes, value: bytes | None) -> None:
        group_id = read_group_key(key)
        assert group_id is not None
        if value is None:
            self._saved.pop(group_id, None)
        else:
            self._saved[group_id] = value

    def records(self) -> Callable[[], Iterable[tuple[bytes, bytes]]]:
        saved = dict(self._saved)

        def encode() -> Iterator[tuple[bytes, bytes]]:
            for group_id, value in saved.items():
                yield group_key(group_id), value

        return encode

    def prepare(self) -> None:
        for group_id, value in self._saved.items():
            try:
                group = ClassicGroup.from_record(group_id, read_group(value), self.deadlines)
            except DecodeError as error:
                log.error(
                    "a group's record cannot be read, its members have to join again", group=group_id, why=str(error)
                )
                continue
            self._groups[group_id] = group
            for member in group.members.values():
                self.deadlines.keep_session(group_id, member)

    def delete(self, group_id: str, outcome: Outcome) -> None:
        if group_id in self._saved:
            outcome.records.append(group_record(group_id, None, self.clock.now_ms()))
        group = self.group(group_id)
        if group is not None:
            for kind in (JOIN, INITIAL, SYNC):
                self.deadlines.end(kind, group_id)
            for member_id in (*group.members, *group.pending_joins):
                self.deadlines.end_session(group_id, member_id)

    # --- soft state ----------------------------------------------------------------------------------------------

    def group(self, group_id: str) -> ClassicGroup | None:
        """The classic group of this name; None if there is none, also if a group of another type has the name."""
        group = self._groups.get(group_id)
        return group if isinstance(group, ClassicGroup) else None

    def _known(self, group_id: str) -> ClassicGroup:
        """The classic group of this name. Raises `KafkaError` with UNKNOWN_MEMBER_ID if there is none."""
        group = self._groups.get(group_id)
        if not isinstance(group, ClassicGroup):
            raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID)
        return group

    def _drop_if_nothing(self, group: ClassicGroup) -> None:
        """Drops a group that has neither members nor pending joins, never had a generation and has no record."""
        if group.rests and group.generation == 0 and group.group_id not in self._saved:
            self._groups.pop(group.group_id, None)

    def waiting(self) -> list[Reply]:
        return [
            reply
            for group in self._groups.values()
            if isinstance(group, ClassicGroup)
            for member in group.members.values()
            for reply in (member.join_reply, member.sync_reply)
            if reply is not None
        ]

    def due(self, key: tuple[str, ...], outcome: Outcome) -> None:
        kind = key[0]
        group = self.group(key[1])
        if group is None:
            return
        if kind == SESSION:
            self.membership.session_over(group, key[2], outcome)
        elif kind == JOIN:
            self.rebalancing.join_time_over(group, outcome)
        elif kind == INITIAL:
            self.rebalancing.initial_delay_over(group, outcome)
        else:
            assert kind == SYNC, kind
            self.rebalancing.sync_time_over(group, outcome)
        self._drop_if_nothing(group)

    # --- operations ----------------------------------------------------------------------------------------------

    def join(
        self, reply: Reply, request: JoinGroupRequest, version: int, client: tuple[str | None, str], outcome: Outcome
    ) -> None:
        """JoinGroup: answers now or when the rebalance is done. `client` is (client id, host). Raises `KafkaError`."""
        settings = self.settings
        if not settings.min_session_timeout_ms <= request.session_timeout_ms <= settings.max_session_timeout_ms:
            raise KafkaError(ErrorCode.INVALID_SESSION_TIMEOUT)
        group_id = request.group_id
        group = self._groups.get(group_id)
        if group is None and request.member_id:
            raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID)
        if group is None or isinstance(group, SimpleGroup):
            group = self._groups[group_id] = ClassicGroup(group_id, self.clock.now_ms(), self.deadlines)
        elif not isinstance(group, ClassicGroup):
            raise KafkaError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
        try:
            self.membership.join(group, reply, Joining.of(request, version, *client), outcome)
        finally:
            self._drop_if_nothing(group)

    def sync(self, reply: Reply, request: SyncGroupRequest, outcome: Outcome) -> None:
        """SyncGroup: answers now or when the leader's assignment has come. Raises `KafkaError`."""
        self.rebalancing.sync(self._known(request.group_id), reply, request, outcome)

    def heartbeat(self, request: HeartbeatRequest) -> HeartbeatResponse:
        """Heartbeat: returns the response at once. It does not depend on the durable state and so does not wait for the
        disk: a slow disk must not cost members their sessions. Raises `KafkaError`."""
        return HeartbeatResponse(error_code=self.membership.heartbeat(self._known(request.group_id), request))

    def leave(self, group_id: str, members: Sequence[MemberIdentity], outcome: Outcome) -> list[MemberResponse]:
        """LeaveGroup: removes members; returns the result of each, in the order of the request."""
        group = self.group(group_id)
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
        group = self.group(group_id)
        if group is None or not group.members:
            return False
        if group.state is not GroupState.PREPARING_REBALANCE:
            self.rebalancing.begin(group, outcome)
        return True
