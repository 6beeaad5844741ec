"""Joining, syncing, staying in and leaving a classic group: Kafka's rules, as operations on one shard's groups.

Role: the transitions of `ClassicGroup` with the answers and deadlines that go with them. An operation is given the
group's soft state and an `Outcome` to fill; what must survive goes into the outcome as a record of the group.

A rebalance: somebody joins, leaves or dies -> PREPARING_REBALANCE, joins wait -> all have joined, or the longest
rebalance timeout is over (who is missing goes, static members stay) -> a new generation, COMPLETING_REBALANCE, joins
are answered, syncs wait -> the leader syncs with everybody's assignment -> STABLE, syncs are answered.

Invariants: whoever is answered with a generation is a member of it; a member that waits (for a join or a sync) is not
lost by its session, one that neither waits nor is heard of is; a reply is answered once. The group's record is written
when the leader's assignment has come, when the last member has gone, and when a static member got a new id. (KIP-62,
KIP-345, KIP-394, KIP-559, KIP-800, KIP-814 say which field means what in which version.)
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from typing import NamedTuple

from odradek.clock import Clock
from odradek.coordination.groups.classic import ClassicGroup, GroupState, Member, protocols_of
from odradek.coordination.groups.counters import GroupCounters
from odradek.coordination.groups.records import group_record
from odradek.coordination.operation import Outcome, Reply
from odradek.coordination.timers import Timers
from odradek.errors import ErrorCode, KafkaError
from odradek.protocol.messages.heartbeat import HeartbeatRequest
from odradek.protocol.messages.join_group import JoinGroupRequest, JoinGroupResponse
from odradek.protocol.messages.leave_group import MemberIdentity
from odradek.protocol.messages.sync_group import SyncGroupRequest, SyncGroupResponse
from odradek.records.builder import NewRecord

MEMBER_ID_REQUIRED_SINCE = 4
SKIP_ASSIGNMENT_SINCE = 9
REBALANCE_TIMEOUT_SINCE = 1
NO_MEMBER_ID = ""


class GroupSettings(NamedTuple):
    """What the rules depend on; see the settings of groups in `odradek/config/broker.py`."""

    min_session_timeout_ms: int
    max_session_timeout_ms: int
    initial_rebalance_delay_ms: int
    new_member_join_timeout_ms: int
    max_size: int
    offset_metadata_max_bytes: int
    offsets_retention_ms: int


class Joining(NamedTuple):
    """A JoinGroup and its circumstances."""

    request: JoinGroupRequest
    version: int
    client_id: str
    client_host: str
    protocols: dict[str, bytes]

    @classmethod
    def of(cls, request: JoinGroupRequest, version: int, client_id: str | None, client_host: str) -> Joining:
        return cls(request, version, client_id or "", client_host, protocols_of(request.protocols))

    @property
    def rebalance_timeout_ms(self) -> int:
        if self.version < REBALANCE_TIMEOUT_SINCE:
            return self.request.session_timeout_ms
        return self.request.rebalance_timeout_ms


def join_refused(code: ErrorCode, member_id: str = NO_MEMBER_ID, version: int = 0) -> JoinGroupResponse:
    """A JoinGroup's answer with an error. Where no protocol was chosen, versions before 7 say so by an empty name."""
    return JoinGroupResponse(
        error_code=code, member_id=member_id, protocol_name=None if version >= 7 else "", leader=NO_MEMBER_ID
    )


class Membership:
    """The rules, for the groups of one shard."""

    def __init__(
        self, settings: GroupSettings, clock: Clock, choose: random.Random, timers: Timers, counters: GroupCounters
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.choose = choose
        self.timers = timers
        self.counters = counters

    # --- deadlines -----------------------------------------------------------------------------------------------

    def _after(self, key: tuple[str, ...], delay_ms: int) -> None:
        self.timers.set(key, self.clock.monotonic() + delay_ms / 1000)

    def keep_session(self, group: ClassicGroup, member: Member) -> None:
        """The member was heard of."""
        self._after(("session", group.group_id, member.member_id), member.session_timeout_ms)

    def _end_session(self, group: ClassicGroup, member_id: str) -> None:
        self.timers.cancel(("session", group.group_id, member_id))

    def end_timers(self, group: ClassicGroup) -> None:
        """The group goes."""
        for kind in ("join", "initial", "sync"):
            self.timers.cancel((kind, group.group_id))
        for member_id in (*group.members, *group.pending_joins):
            self._end_session(group, member_id)

    def session_over(self, group: ClassicGroup, member_id: str, outcome: Outcome) -> None:
        """A member, or somebody who was given an id, was not heard of in time."""
        if member_id in group.pending_joins:
            group.pending_joins.discard(member_id)
            self._complete_if_all_joined(group, outcome)
            return
        member = group.members.get(member_id)
        if member is None:
            return
        if not member.is_new and (member.join_reply is not None or member.sync_reply is not None):
            # It waits for the others; its session goes on with the answer.
            return
        self._remove(group, member_id, outcome)
        self._rebalance_after_departure(group, outcome)

    # --- join ----------------------------------------------------------------------------------------------------

    def join(self, group: ClassicGroup, reply: Reply, joining: Joining, outcome: Outcome) -> None:
        """Answers at once, or keeps the reply until the rebalance is done. Raises `KafkaError` (with the member id of
        the request in the answer)."""
        member_id = joining.request.member_id
        if not self._has_room(group, member_id):
            group.pending_joins.discard(member_id)
            raise KafkaError(ErrorCode.GROUP_MAX_SIZE_REACHED)
        if not group.supports(joining.request.protocol_type, joining.protocols):
            raise KafkaError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
        if member_id == NO_MEMBER_ID:
            self._join_new(group, reply, joining, outcome)
        else:
            self._join_known(group, reply, joining, outcome)

    def _has_room(self, group: ClassicGroup, member_id: str) -> bool:
        maximum = self.settings.max_size
        if group.state is GroupState.PREPARING_REBALANCE:
            member = group.members.get(member_id)
            return (member is not None and member.join_reply is not None) or group.waiting_to_join() < maximum
        return member_id in group.members or len(group.members) < maximum

    def _join_new(self, group: ClassicGroup, reply: Reply, joining: Joining, outcome: Outcome) -> None:
        instance_id = joining.request.group_instance_id
        unique = uuid.UUID(int=self.choose.getrandbits(128), version=4)
        member_id = f"{joining.client_id if instance_id is None else instance_id}-{unique}"
        if instance_id is not None:
            if instance_id in group.static_members:
                self._replace_static(group, reply, joining, member_id, outcome)
            else:
                self._add(group, reply, joining, member_id, outcome)
        elif joining.version >= MEMBER_ID_REQUIRED_SINCE:
            group.pending_joins.add(member_id)
            self._after(("session", group.group_id, member_id), joining.request.session_timeout_ms)
            outcome.answer(reply, join_refused(ErrorCode.MEMBER_ID_REQUIRED, member_id, joining.version))
        else:
            self._add(group, reply, joining, member_id, outcome)

    def _join_known(self, group: ClassicGroup, reply: Reply, joining: Joining, outcome: Outcome) -> None:
        member_id = joining.request.member_id
        if member_id in group.pending_joins:
            self._add(group, reply, joining, member_id, outcome)
            return
        member = group.validate_member(member_id, joining.request.group_instance_id)
        state = group.state
        same = member.has_protocols(joining.protocols)
        if state is GroupState.COMPLETING_REBALANCE and same:
            # It has not had the answer of this generation's join.
            members = group.joined_members() if group.leader_id == member_id else []
            outcome.answer(reply, self._joined(group, member_id, JoinGroupResponse(members=members)))
        elif state is GroupState.STABLE and same and group.leader_id != member_id:
            outcome.answer(reply, self._joined(group, member_id, JoinGroupResponse()))
        else:
            self._update(group, member, reply, joining, outcome)
            self._rebalance_or_complete(group, outcome)

    def _joined(self, group: ClassicGroup, member_id: str, response: JoinGroupResponse) -> JoinGroupResponse:
        """Fills in the present generation."""
        response.generation_id = group.generation
        response.protocol_type = group.protocol_type
        response.protocol_name = group.protocol
        response.leader = group.leader_id or NO_MEMBER_ID
        response.member_id = member_id
        return response

    def _add(self, group: ClassicGroup, reply: Reply, joining: Joining, member_id: str, outcome: Outcome) -> None:
        request = joining.request
        member = Member(
            member_id,
            request.group_instance_id,
            joining.client_id,
            joining.client_host,
            joining.rebalance_timeout_ms,
            request.session_timeout_ms,
            joining.protocols,
        )
        member.is_new = True
        member.join_reply = reply
        if not group.members:
            group.protocol_type = request.protocol_type
        group.add(member)
        if group.state is GroupState.PREPARING_REBALANCE and group.generation == 0:
            group.new_member_added = True
        # It does not know its id yet, or cannot be heard while its join waits: a rebalance that takes long could fill
        # with the joins of clients that have given up. So it has this long to be answered.
        self._after(("session", group.group_id, member_id), self.settings.new_member_join_timeout_ms)
        self._rebalance_or_complete(group, outcome)

    def _update(self, group: ClassicGroup, member: Member, reply: Reply, joining: Joining, outcome: Outcome) -> None:
        group.update_protocols(member, joining.protocols)
        member.rebalance_timeout_ms = joining.rebalance_timeout_ms
        member.session_timeout_ms = joining.request.session_timeout_ms
        if member.join_reply is not None:
            # Its earlier join was given up by the client; nobody reads this answer.
            self._refuse_join(member, ErrorCode.REBALANCE_IN_PROGRESS, outcome)
        member.join_reply = reply

    def _replace_static(
        self, group: ClassicGroup, reply: Reply, joining: Joining, member_id: str, outcome: Outcome
    ) -> None:
        """A static member comes back without its id: it gets a new one, and its old self is fenced (KIP-345)."""
        instance_id = joining.request.group_instance_id
        assert instance_id is not None
        leader_before = group.leader_id
        member = group.members[group.static_members[instance_id]]
        self._refuse_join(member, ErrorCode.FENCED_INSTANCE_ID, outcome)
        self._refuse_sync(member, ErrorCode.FENCED_INSTANCE_ID, outcome)
        old_id, member = group.replace_static(instance_id, member_id)
        self._end_session(group, old_id)
        self.keep_session(group, member)
        if group.state is not GroupState.STABLE:
            self._update(group, member, reply, joining, outcome)
            self._rebalance_or_complete(group, outcome)
            return
        self._update(group, member, reply, joining, outcome)
        if group.select_protocol() != group.protocol:
            self._rebalance_or_complete(group, outcome)
            return
        # Nothing changes for the others: no rebalance (KIP-345), the assignment stays (KIP-814 tells the leader so).
        member.join_reply = None
        leads = group.leader_id == member_id
        response = self._joined(group, member_id, JoinGroupResponse())
        if joining.version >= SKIP_ASSIGNMENT_SINCE:
            response.skip_assignment = leads
            response.members = group.joined_members() if leads else []
        else:
            # The name of the old leader, so that a new one that leads does not assign without knowing the members.
            response.leader = leader_before or NO_MEMBER_ID
        outcome.records.append(self.record(group))
        outcome.answer(reply, response)

    # --- rebalance -----------------------------------------------------------------------------------------------

    def _rebalance_or_complete(self, group: ClassicGroup, outcome: Outcome) -> None:
        if group.state is GroupState.PREPARING_REBALANCE:
            self._complete_if_all_joined(group, outcome)
        else:
            self.rebalance(group, outcome)

    def _rebalance_after_departure(self, group: ClassicGroup, outcome: Outcome) -> None:
        if group.state in (GroupState.STABLE, GroupState.COMPLETING_REBALANCE):
            self.rebalance(group, outcome)
        else:
            self._complete_if_all_joined(group, outcome)

    def rebalance(self, group: ClassicGroup, outcome: Outcome) -> None:
        """Asks everybody to join again."""
        if group.state is GroupState.COMPLETING_REBALANCE:
            for member in group.members.values():
                member.assignment = b""
                if member.sync_reply is not None:
                    self._refuse_sync(member, ErrorCode.REBALANCE_IN_PROGRESS, outcome)
                    self.keep_session(group, member)
        self.timers.cancel(("sync", group.group_id))
        first = group.state is GroupState.EMPTY
        group.move_to(GroupState.PREPARING_REBALANCE, self.clock.now_ms())
        if first and (delay_ms := self.settings.initial_rebalance_delay_ms) > 0:
            group.new_member_added = False
            self._wait_for_more(group, delay_ms, max(group.rebalance_timeout_ms() - delay_ms, 0))
        elif group.has_all_joined():
            self._complete_join(group, outcome)
        else:
            self._after(("join", group.group_id), group.rebalance_timeout_ms())

    def _wait_for_more(self, group: ClassicGroup, delay_ms: int, remaining_ms: int) -> None:
        self._after(("initial", group.group_id), delay_ms)
        group.initial_delay_ms, group.initial_remaining_ms = delay_ms, remaining_ms

    def initial_delay_over(self, group: ClassicGroup, outcome: Outcome) -> None:
        """A first rebalance waits on for as long as others keep coming, up to the rebalance timeout (KIP-134)."""
        if group.new_member_added and group.initial_remaining_ms > 0:
            group.new_member_added = False
            delay_ms = min(self.settings.initial_rebalance_delay_ms, group.initial_remaining_ms)
            self._wait_for_more(group, delay_ms, max(group.initial_remaining_ms - group.initial_delay_ms, 0))
        else:
            self._complete_join(group, outcome)

    def _complete_if_all_joined(self, group: ClassicGroup, outcome: Outcome) -> None:
        if group.state is not GroupState.PREPARING_REBALANCE or not group.has_all_joined():
            return
        if self.timers.deadline(("initial", group.group_id)) is None:
            self._complete_join(group, outcome)

    def join_time_over(self, group: ClassicGroup, outcome: Outcome) -> None:
        """Who has not joined by now is out."""
        if group.state is GroupState.PREPARING_REBALANCE:
            self._complete_join(group, outcome)

    def _complete_join(self, group: ClassicGroup, outcome: Outcome) -> None:
        self.timers.cancel(("join", group.group_id))
        self.timers.cancel(("initial", group.group_id))
        for member in list(group.members.values()):
            if member.join_reply is None and member.instance_id is None:
                self._remove(group, member.member_id, outcome)
        if group.members and not group.elect_joined_leader():
            # Only static members, none of them back: their sessions decide.
            self._after(("join", group.group_id), group.rebalance_timeout_ms())
            return
        group.next_generation(self.clock.now_ms())
        self.counters.rebalances += 1
        if not group.members:
            outcome.records.append(self.record(group))
            return
        for member in group.members.values():
            reply, member.join_reply = member.join_reply, None
            member.is_new = False
            group.pending_syncs.add(member.member_id)
            self.keep_session(group, member)
            if reply is not None:
                leads = group.leader_id == member.member_id
                members = group.joined_members() if leads else []
                outcome.answer(reply, self._joined(group, member.member_id, JoinGroupResponse(members=members)))
        self._after(("sync", group.group_id), group.rebalance_timeout_ms())

    def sync_time_over(self, group: ClassicGroup, outcome: Outcome) -> None:
        """Who has joined and not synced by now is out."""
        if group.state not in (GroupState.COMPLETING_REBALANCE, GroupState.STABLE) or not group.pending_syncs:
            return
        for member_id in list(group.pending_syncs):
            self._remove(group, member_id, outcome)
        self.rebalance(group, outcome)

    # --- sync ----------------------------------------------------------------------------------------------------

    def sync(self, group: ClassicGroup, reply: Reply, request: SyncGroupRequest, outcome: Outcome) -> None:
        """Answers at once, or keeps the reply until the leader's assignment has come. Raises `KafkaError`."""
        member = group.validate_member(request.member_id, request.group_instance_id)
        if request.generation_id != group.generation:
            raise KafkaError(ErrorCode.ILLEGAL_GENERATION)
        for told, known in ((request.protocol_type, group.protocol_type), (request.protocol_name, group.protocol)):
            if told is not None and known is not None and told != known:
                raise KafkaError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
        if group.state is GroupState.PREPARING_REBALANCE:
            raise KafkaError(ErrorCode.REBALANCE_IN_PROGRESS)
        group.pending_syncs.discard(member.member_id)
        if group.state is GroupState.STABLE:
            self._end_sync_wait_if_all(group)
            outcome.answer(reply, self._synced(group, member))
            return
        assert group.state is GroupState.COMPLETING_REBALANCE
        # An earlier sync of the same member was given up by its client.
        self._refuse_sync(member, ErrorCode.REBALANCE_IN_PROGRESS, outcome)
        member.sync_reply = reply
        if group.leader_id == member.member_id:
            given = {one.member_id: bytes(one.assignment) for one in request.assignments}
            for one in group.members.values():
                one.assignment = given.get(one.member_id, b"")
            group.move_to(GroupState.STABLE, self.clock.now_ms())
            outcome.records.append(self.record(group))
            for one in group.members.values():
                waiting, one.sync_reply = one.sync_reply, None
                if waiting is not None:
                    outcome.answer(waiting, self._synced(group, one))
                    self.keep_session(group, one)
        self._end_sync_wait_if_all(group)

    def _end_sync_wait_if_all(self, group: ClassicGroup) -> None:
        if not group.pending_syncs:
            self.timers.cancel(("sync", group.group_id))

    def _synced(self, group: ClassicGroup, member: Member) -> SyncGroupResponse:
        return SyncGroupResponse(
            protocol_type=group.protocol_type, protocol_name=group.protocol, assignment=member.assignment
        )

    # --- stay and leave ------------------------------------------------------------------------------------------

    def heartbeat(self, group: ClassicGroup, request: HeartbeatRequest) -> ErrorCode:
        """NONE, or REBALANCE_IN_PROGRESS when the member is to join again. Raises `KafkaError`."""
        member = group.validate_member(request.member_id, request.group_instance_id)
        if request.generation_id != group.generation:
            raise KafkaError(ErrorCode.ILLEGAL_GENERATION)
        self.keep_session(group, member)
        return ErrorCode.REBALANCE_IN_PROGRESS if group.state is GroupState.PREPARING_REBALANCE else ErrorCode.NONE

    def leave(self, group: ClassicGroup, members: Sequence[MemberIdentity], outcome: Outcome) -> list[ErrorCode]:
        """Takes members out; what became of each."""
        count = len(group.members)
        results = [self._leave_one(group, leaving, outcome) for leaving in members]
        if len(group.members) < count:
            self._rebalance_after_departure(group, outcome)
        else:
            self._complete_if_all_joined(group, outcome)
        return results

    def _leave_one(self, group: ClassicGroup, leaving: MemberIdentity, outcome: Outcome) -> ErrorCode:
        member_id = leaving.member_id
        if member_id == NO_MEMBER_ID:
            # An administrator removes a static member by its instance id.
            member_id = group.static_members.get(leaving.group_instance_id or "", NO_MEMBER_ID)
            if member_id == NO_MEMBER_ID:
                return ErrorCode.UNKNOWN_MEMBER_ID
        elif member_id in group.pending_joins:
            group.pending_joins.discard(member_id)
            self._end_session(group, member_id)
            return ErrorCode.NONE
        else:
            try:
                group.validate_member(member_id, leaving.group_instance_id)
            except KafkaError as error:
                return error.code
        self._remove(group, member_id, outcome)
        return ErrorCode.NONE

    def _remove(self, group: ClassicGroup, member_id: str, outcome: Outcome) -> None:
        member = group.remove(member_id)
        self._end_session(group, member_id)
        self._refuse_join(member, ErrorCode.UNKNOWN_MEMBER_ID, outcome)
        self._refuse_sync(member, ErrorCode.UNKNOWN_MEMBER_ID, outcome)

    def _refuse_join(self, member: Member, code: ErrorCode, outcome: Outcome) -> None:
        reply, member.join_reply = member.join_reply, None
        if reply is not None:
            outcome.refuse(reply, code)

    def _refuse_sync(self, member: Member, code: ErrorCode, outcome: Outcome) -> None:
        reply, member.sync_reply = member.sync_reply, None
        if reply is not None:
            outcome.refuse(reply, code)

    def record(self, group: ClassicGroup) -> NewRecord:
        """The group as it is now, to be kept."""
        return group_record(group.group_id, group.to_record(group.assignments()), self.clock.now_ms())
