"""Joining, staying in and leaving a classic group: Kafka's rules, as operations on one shard's groups.

Role: whether somebody is a member, under which id, and for how long without a word. An operation is given the group's
soft state and an `Outcome` to fill; what follows for the other members is a rebalance (`rebalance.py`).

Invariants: a member that waits (for a join or a sync) is not lost by its session, one that neither waits nor is heard
of is; a reply is answered once. The group's record is written when a static member got a new id. (KIP-62, KIP-345,
KIP-394, KIP-559, KIP-800, KIP-814 say which field means what in which version.)
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from typing import NamedTuple

from odradek.coordination.groups.classic.deadlines import Deadlines
from odradek.coordination.groups.classic.group import ClassicGroup, GroupState
from odradek.coordination.groups.classic.member import Member, protocols_of
from odradek.coordination.groups.classic.rebalance import NO_MEMBER_ID, Rebalancing, joined
from odradek.coordination.groups.classic.settings import ClassicSettings
from odradek.coordination.operation import Outcome, Reply
from odradek.errors import ErrorCode, KafkaError
from odradek.protocol.messages.heartbeat import HeartbeatRequest
from odradek.protocol.messages.join_group import JoinGroupRequest, JoinGroupResponse
from odradek.protocol.messages.leave_group import MemberIdentity

MEMBER_ID_REQUIRED_SINCE = 4
SKIP_ASSIGNMENT_SINCE = 9
REBALANCE_TIMEOUT_SINCE = 1


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
        self, settings: ClassicSettings, choose: random.Random, deadlines: Deadlines, rebalancing: Rebalancing
    ) -> None:
        self.settings = settings
        self.choose = choose
        self.deadlines = deadlines
        self.rebalancing = rebalancing

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
            self.deadlines.begin_session(group.group_id, member_id, joining.request.session_timeout_ms)
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
            outcome.answer(reply, joined(group, member_id, JoinGroupResponse(members=members)))
        elif state is GroupState.STABLE and same and group.leader_id != member_id:
            outcome.answer(reply, joined(group, member_id, JoinGroupResponse()))
        else:
            self._update(group, member, reply, joining, outcome)
            self.rebalancing.begin_or_complete(group, outcome)

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
        self.deadlines.begin_session(group.group_id, member_id, self.settings.new_member_join_timeout_ms)
        self.rebalancing.begin_or_complete(group, outcome)

    def _update(self, group: ClassicGroup, member: Member, reply: Reply, joining: Joining, outcome: Outcome) -> None:
        group.update_protocols(member, joining.protocols)
        member.rebalance_timeout_ms = joining.rebalance_timeout_ms
        member.session_timeout_ms = joining.request.session_timeout_ms
        if member.join_reply is not None:
            # Its earlier join was given up by the client; nobody reads this answer.
            self.rebalancing.refuse_join(member, ErrorCode.REBALANCE_IN_PROGRESS, outcome)
        member.join_reply = reply

    def _replace_static(
        self, group: ClassicGroup, reply: Reply, joining: Joining, member_id: str, outcome: Outcome
    ) -> None:
        """A static member comes back without its id: it gets a new one, and its old self is fenced (KIP-345)."""
        instance_id = joining.request.group_instance_id
        assert instance_id is not None
        leader_before = group.leader_id
        member = group.members[group.static_members[instance_id]]
        self.rebalancing.refuse_join(member, ErrorCode.FENCED_INSTANCE_ID, outcome)
        self.rebalancing.refuse_sync(member, ErrorCode.FENCED_INSTANCE_ID, outcome)
        old_id, member = group.replace_static(instance_id, member_id)
        self.deadlines.end_session(group.group_id, old_id)
        self.deadlines.keep_session(group.group_id, member)
        if group.state is not GroupState.STABLE:
            self._update(group, member, reply, joining, outcome)
            self.rebalancing.begin_or_complete(group, outcome)
            return
        self._update(group, member, reply, joining, outcome)
        if group.select_protocol() != group.protocol:
            self.rebalancing.begin_or_complete(group, outcome)
            return
        # Nothing changes for the others: no rebalance (KIP-345), the assignment stays (KIP-814 tells the leader so).
        member.join_reply = None
        leads = group.leader_id == member_id
        response = joined(group, member_id, JoinGroupResponse())
        if joining.version >= SKIP_ASSIGNMENT_SINCE:
            response.skip_assignment = leads
            response.members = group.joined_members() if leads else []
        else:
            # The name of the old leader, so that a new one that leads does not assign without knowing the members.
            response.leader = leader_before or NO_MEMBER_ID
        outcome.records.append(self.rebalancing.record(group))
        outcome.answer(reply, response)

    # --- stay and leave ------------------------------------------------------------------------------------------

    def heartbeat(self, group: ClassicGroup, request: HeartbeatRequest) -> ErrorCode:
        """NONE, or REBALANCE_IN_PROGRESS when the member is to join again. Raises `KafkaError`."""
        member = group.validate_member(request.member_id, request.group_instance_id)
        if request.generation_id != group.generation:
            raise KafkaError(ErrorCode.ILLEGAL_GENERATION)
        self.deadlines.keep_session(group.group_id, member)
        return ErrorCode.REBALANCE_IN_PROGRESS if group.state is GroupState.PREPARING_REBALANCE else ErrorCode.NONE

    def leave(self, group: ClassicGroup, members: Sequence[MemberIdentity], outcome: Outcome) -> list[ErrorCode]:
        """Takes members out; what became of each."""
        count = len(group.members)
        results = [self._leave_one(group, leaving, outcome) for leaving in members]
        if len(group.members) < count:
            self.rebalancing.after_departure(group, outcome)
        else:
            self.rebalancing.complete_if_all_joined(group, outcome)
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
            self.deadlines.end_session(group.group_id, member_id)
            return ErrorCode.NONE
        else:
            try:
                group.validate_member(member_id, leaving.group_instance_id)
            except KafkaError as error:
                return error.code
        self.rebalancing.remove(group, member_id, outcome)
        return ErrorCode.NONE

    def session_over(self, group: ClassicGroup, member_id: str, outcome: Outcome) -> None:
        """A member, or somebody who was given an id, was not heard of in time."""
        if member_id in group.pending_joins:
            group.pending_joins.discard(member_id)
            self.rebalancing.complete_if_all_joined(group, outcome)
            return
        member = group.members.get(member_id)
        if member is None:
            return
        if not member.is_new and (member.join_reply is not None or member.sync_reply is not None):
            # It waits for the others; its session goes on with the answer.
            return
        self.rebalancing.remove(group, member_id, outcome)
        self.rebalancing.after_departure(group, outcome)
