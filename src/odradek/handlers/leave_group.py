"""LeaveGroup (API key 13), versions 0-5.

Card: 3 several members, also static ones by instance id (KIP-345), each with its own error code, 5 a reason (KIP-800).
"""

from __future__ import annotations

from collections.abc import Awaitable

from odradek.coordination.groups.classic.groups import ClassicGroups
from odradek.coordination.groups.shard import GroupShard
from odradek.coordination.operation import Outcome, Reply
from odradek.errors import ErrorCode
from odradek.handlers.context import Answer, RequestContext
from odradek.protocol.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse, MemberIdentity

SEVERAL_SINCE = 3


def handle(request: LeaveGroupRequest, context: RequestContext) -> Answer | Awaitable[Answer]:
    """Removes members from the group."""
    several = context.api_version >= SEVERAL_SINCE
    members = request.members if several else [MemberIdentity(member_id=request.member_id)]

    def leave(shard: GroupShard, reply: Reply, outcome: Outcome) -> None:
        answers = shard.of(ClassicGroups).leave(request.group_id, members, outcome)
        if several:
            outcome.answer(reply, LeaveGroupResponse(members=answers))
        else:
            outcome.answer(reply, LeaveGroupResponse(error_code=answers[0].error_code))

    def refusal(code: ErrorCode) -> LeaveGroupResponse:
        return refused(request, code, context.api_version)

    if not request.group_id:
        return refusal(ErrorCode.INVALID_GROUP_ID)
    return context.broker.groups.ask(request.group_id, leave, refusal)


def refused(request: LeaveGroupRequest, code: ErrorCode, version: int) -> LeaveGroupResponse:
    """The answer that refuses the whole request."""
    return LeaveGroupResponse(error_code=code)
