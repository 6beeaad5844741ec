"""Joining, staying in and leaving a classic group: Kafka's rules, as operations on one shard's groups.

Role: decide who may join, under which member id, and when a session expires. An operation changes the group's soft
state and fills an `Outcome`; if the change affects the other members, it begins a rebalance (`rebalance.py`).

Invariants: a member's session expires only while it has no JoinGroup or SyncGroup request that waits, unless it is new;
each reply is answered once. The group's record is written when a static member gets a new member id. (KIP-62, KIP-345,
KIP-394, KIP-559, KIP-800 and KIP-814 define the fields of each version.)
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
    """A JoinGroup request with its version, its client, and its protocols by name."""

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
    """A JoinGroup response with an error. Without a protocol, `protocol_name` is null, and empty before version 7."""
    return JoinGroupResponse(
        error_code=code, member_id=member_id, protocol_name=None if version >= 7 else "", leader=NO_MEMBER_ID
    )


class Membership:
    """The rules of membership for the classic groups of one shard."""

    def __init__(
        self, settings: ClassicSettings, choose: random.Random, deadlines: Deadlines, rebalancing: Rebalancing
    ) -> None:
        self.settings = settings
        self.choose = choose
        self.deadlines = deadlines
        self.rebalancing = rebalancing

    # --- join ----------------------------------------------------------------------------------------------------

    def join(self, group: ClassicGroup, reply: Reply, joining: Joining, outcome: Outcome) -> None:
        """Answers at once, or keeps the reply until the rebalance is done. Raises `KafkaError`; the response must then
        carry the member id of the request."""
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
            # The member has not received the response to its JoinGroup of this generation.
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
        # A new member does not know its id yet, or cannot heartbeat while its JoinGroup waits: a long rebalance could
        # fill with members whose clients have given up. This deadline removes those that are not answered in time.
        self.deadlines.begin_session(group.group_id, member_id, self.settings.new_member_join_timeout_ms)
        self.rebalancing.begin_or_complete(group, outcome)

    def _update(self, group: ClassicGroup, member: Member, reply: Reply, joining: Joining, outcome: Outcome) -> None:
        group.update_protocols(member, joining.protocols)
        member.rebalance_timeout_ms = joining.rebalance_timeout_ms
        member.session_timeout_ms = joining.request.session_timeout_ms
        if member.join_reply is not None:
            # The client has given up the earlier JoinGroup and does not read this response.
            self.rebalancing.refuse_join(member, ErrorCode.REBALANCE_IN_PROGRESS, outcome)
        member.join_reply = reply

    def _replace_static(
        self, group: ClassicGroup, reply: Reply, joining: Joining, member_id: str, outcome: Outcome
    ) -> None:
        """Gives a static member that joins without its member id a new one; the old id is fenced (KIP-345)."""
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
        # Nothing changes for the other members, so there is no rebalance (KIP-345). The assignment stays; the response
        # tells the leader so (KIP-814).
        member.join_reply = None
        leads = group.leader_id == member_id
        response = joined(group, member_id, JoinGroupResponse())
        if joining.version >= SKIP_ASSIGNMENT_SINCE:
            response.skip_assignment = leads
            response.members = group.joined_members() if leads else []
        else:
            # The old leader's id, so that a returning leader does not assign: this response does not list the members.
            response.leader = leader_before or NO_MEMBER_ID
        outcome.records.append(self.rebalancing.record(group))
        outcome.answer(reply, response)

    # --- stay and leave ------------------------------------------------------------------------------------------

    def heartbeat(self, group: ClassicGroup, request: HeartbeatRequest) -> ErrorCode:
        """Renews the member's session; returns NONE, or REBALANCE_IN_PROGRESS if it must join again. Raises
        `KafkaError`."""
        member = group.validate_member(request.member_id, request.group_instance_id)
        if request.generation_id != group.generation:
            raise KafkaError(ErrorCode.ILLEGAL_GENERATION)
        self.deadlines.keep_session(group.group_id, member)
        return ErrorCode.REBALANCE_IN_PROGRESS if group.state is GroupState.PREPARING_REBALANCE else ErrorCode.NONE

    def leave(self, group: ClassicGroup, members: Sequence[MemberIdentity], outcome: Outcome) -> list[ErrorCode]:
        """Removes members; returns a code for each."""
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
        """Removes a member, or a pending member id, whose session has expired."""
        if member_id in group.pending_joins:
            group.pending_joins.discard(member_id)
            self.rebalancing.complete_if_all_joined(group, outcome)
            return
        member = group.members.get(member_id)
        if member is None:
            return
        if not member.is_new and (member.join_reply is not None or member.sync_reply is not None):
            # The member waits for the others; its session is renewed when it is answered.
            return
        self.rebalancing.remove(group, member_id, outcome)
        self.rebalancing.after_departure(group, outcome)
