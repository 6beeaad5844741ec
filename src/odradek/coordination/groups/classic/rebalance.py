"""The rebalance of a classic group: from a change of its members to their new assignments.

Role: the transitions of `ClassicGroup` after a member has joined, left, or not joined again in time, with the responses
and deadlines of each. `membership.py` decides who may join.

1. A member joins, leaves or expires: PREPARING_REBALANCE. JoinGroup requests wait.
2. All members have joined, or the longest rebalance timeout is over (missing members are removed, but for static ones):
   a new generation, COMPLETING_REBALANCE. JoinGroup requests are answered, SyncGroup requests wait.
3. The leader's SyncGroup brings the assignments: STABLE. SyncGroup requests are answered.

Invariants: a member is answered with a generation only if it belongs to it; each reply is answered once. The group's
record is written when the leader's assignment has come, and when the last member has left.
"""

from __future__ import annotations

from odradek.clock import Clock
from odradek.coordination.groups.classic.deadlines import INITIAL, JOIN, SYNC, Deadlines
from odradek.coordination.groups.classic.group import ClassicGroup, GroupState
from odradek.coordination.groups.classic.member import Member
from odradek.coordination.groups.classic.records import group_record
from odradek.coordination.groups.counters import GroupCounters
from odradek.coordination.operation import Outcome, Reply
from odradek.errors import ErrorCode, KafkaError
from odradek.protocol.messages.join_group import JoinGroupResponse
from odradek.protocol.messages.sync_group import SyncGroupRequest, SyncGroupResponse
from odradek.records.builder import NewRecord

NO_MEMBER_ID = ""


def joined(group: ClassicGroup, member_id: str, response: JoinGroupResponse) -> JoinGroupResponse:
    """Fills the group's present generation into a JoinGroup response, and returns it."""
    response.generation_id = group.generation
    response.protocol_type = group.protocol_type
    response.protocol_name = group.protocol
    response.leader = group.leader_id or NO_MEMBER_ID
    response.member_id = member_id
    return response


class Rebalancing:
    """The rebalances of one shard's classic groups."""

    def __init__(self, initial_delay_ms: int, clock: Clock, deadlines: Deadlines, counters: GroupCounters) -> None:
        self.initial_delay_ms = initial_delay_ms
        self.clock = clock
        self.deadlines = deadlines
        self.counters = counters

    # --- joining -------------------------------------------------------------------------------------------------

    def begin_or_complete(self, group: ClassicGroup, outcome: Outcome) -> None:
        if group.state is GroupState.PREPARING_REBALANCE:
            self.complete_if_all_joined(group, outcome)
        else:
            self.begin(group, outcome)

    def after_departure(self, group: ClassicGroup, outcome: Outcome) -> None:
        if group.state in (GroupState.STABLE, GroupState.COMPLETING_REBALANCE):
            self.begin(group, outcome)
        else:
            self.complete_if_all_joined(group, outcome)

    def begin(self, group: ClassicGroup, outcome: Outcome) -> None:
        """Begins a rebalance: all members must join again."""
        if group.state is GroupState.COMPLETING_REBALANCE:
            for member in group.members.values():
                member.assignment = b""
                if member.sync_reply is not None:
                    self.refuse_sync(member, ErrorCode.REBALANCE_IN_PROGRESS, outcome)
                    self.deadlines.keep_session(group.group_id, member)
        self.deadlines.end(SYNC, group.group_id)
        first = group.state is GroupState.EMPTY
        group.move_to(GroupState.PREPARING_REBALANCE, self.clock.now_ms())
        if first and (delay_ms := self.initial_delay_ms) > 0:
            group.new_member_added = False
            self._wait_for_more(group, delay_ms, max(group.rebalance_timeout_ms() - delay_ms, 0))
        elif group.has_all_joined():
            self._complete_join(group, outcome)
        else:
            self.deadlines.begin(JOIN, group.group_id, group.rebalance_timeout_ms())

    def _wait_for_more(self, group: ClassicGroup, delay_ms: int, remaining_ms: int) -> None:
        self.deadlines.begin(INITIAL, group.group_id, delay_ms)
        group.initial_delay_ms, group.initial_remaining_ms = delay_ms, remaining_ms

    def initial_delay_over(self, group: ClassicGroup, outcome: Outcome) -> None:
        """Extends the delay of a first rebalance while new members keep joining, up to the rebalance timeout (KIP-134);
        otherwise completes the join."""
        if group.new_member_added and group.initial_remaining_ms > 0:
            group.new_member_added = False
            delay_ms = min(self.initial_delay_ms, group.initial_remaining_ms)
            self._wait_for_more(group, delay_ms, max(group.initial_remaining_ms - group.initial_delay_ms, 0))
        else:
            self._complete_join(group, outcome)

    def complete_if_all_joined(self, group: ClassicGroup, outcome: Outcome) -> None:
        if group.state is not GroupState.PREPARING_REBALANCE or not group.has_all_joined():
            return
        if not self.deadlines.is_set(INITIAL, group.group_id):
            self._complete_join(group, outcome)

    def join_time_over(self, group: ClassicGroup, outcome: Outcome) -> None:
        """Completes the join: the members that have not joined by now are removed."""
        if group.state is GroupState.PREPARING_REBALANCE:
            self._complete_join(group, outcome)

    def _complete_join(self, group: ClassicGroup, outcome: Outcome) -> None:
        self.deadlines.end(JOIN, group.group_id)
        self.deadlines.end(INITIAL, group.group_id)
        for member in list(group.members.values()):
            if member.join_reply is None and member.instance_id is None:
                self.remove(group, member.member_id, outcome)
        if group.members and not group.elect_joined_leader():
            # All members are static and none has joined again: they stay until their sessions expire.
            self.deadlines.begin(JOIN, group.group_id, group.rebalance_timeout_ms())
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
            self.deadlines.keep_session(group.group_id, member)
            if reply is not None:
                leads = group.leader_id == member.member_id
                members = group.joined_members() if leads else []
                outcome.answer(reply, joined(group, member.member_id, JoinGroupResponse(members=members)))
        self.deadlines.begin(SYNC, group.group_id, group.rebalance_timeout_ms())

    def sync_time_over(self, group: ClassicGroup, outcome: Outcome) -> None:
        """Removes the members that have joined and not sent SyncGroup by now, and begins another rebalance."""
        if group.state not in (GroupState.COMPLETING_REBALANCE, GroupState.STABLE) or not group.pending_syncs:
            return
        for member_id in list(group.pending_syncs):
            self.remove(group, member_id, outcome)
        self.begin(group, outcome)

    # --- syncing -------------------------------------------------------------------------------------------------

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
        # The client has given up an earlier SyncGroup of the same member.
        self.refuse_sync(member, ErrorCode.REBALANCE_IN_PROGRESS, outcome)
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
                    self.deadlines.keep_session(group.group_id, one)
        self._end_sync_wait_if_all(group)

    def _end_sync_wait_if_all(self, group: ClassicGroup) -> None:
        if not group.pending_syncs:
            self.deadlines.end(SYNC, group.group_id)

    def _synced(self, group: ClassicGroup, member: Member) -> SyncGroupResponse:
        return SyncGroupResponse(
            protocol_type=group.protocol_type, protocol_name=group.protocol, assignment=member.assignment
        )

    # --- members and their replies -------------------------------------------------------------------------------

    def remove(self, group: ClassicGroup, member_id: str, outcome: Outcome) -> None:
        member = group.remove(member_id)
        self.deadlines.end_session(group.group_id, member_id)
        self.refuse_join(member, ErrorCode.UNKNOWN_MEMBER_ID, outcome)
        self.refuse_sync(member, ErrorCode.UNKNOWN_MEMBER_ID, outcome)

    def refuse_join(self, member: Member, code: ErrorCode, outcome: Outcome) -> None:
        reply, member.join_reply = member.join_reply, None
        if reply is not None:
            outcome.refuse(reply, code)

    def refuse_sync(self, member: Member, code: ErrorCode, outcome: Outcome) -> None:
        reply, member.sync_reply = member.sync_reply, None
        if reply is not None:
            outcome.refuse(reply, code)

    def record(self, group: ClassicGroup) -> NewRecord:
        """The record of the group's present state."""
        return group_record(group.group_id, group.to_record(group.assignments()), self.clock.now_ms())
