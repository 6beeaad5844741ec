"""JoinGroup (API key 11), versions 0-9.

Card: 1 rebalance timeout (KIP-62), 4 a new member gets its id with MEMBER_ID_REQUIRED and joins with it (KIP-394), 5
static members (KIP-345), 7 the answer has the protocol type (KIP-559), 8 a reason (KIP-800), 9 a leader that is a
static member may skip the assignment (KIP-814). Answered when all members have joined.
"""

from __future__ import annotations

from collections.abc import Awaitable

from odradek.coordination.groups.classic.groups import ClassicGroups
from odradek.coordination.groups.classic.membership import join_refused
from odradek.coordination.groups.classic.rebalance import NO_MEMBER_ID
from odradek.coordination.groups.shard import GroupShard
from odradek.coordination.operation import Outcome, Reply
from odradek.errors import ErrorCode
from odradek.handlers.context import Answer, RequestContext
from odradek.protocol.messages.join_group import JoinGroupRequest, JoinGroupResponse


def handle(request: JoinGroupRequest, context: RequestContext) -> Answer | Awaitable[Answer]:
    """Joins or rejoins the group."""
    version = context.api_version
    client = context.client_id, f"/{context.client_host}"

    def refusal(code: ErrorCode) -> JoinGroupResponse:
        member_id = NO_MEMBER_ID if code == ErrorCode.GROUP_MAX_SIZE_REACHED else request.member_id
        return join_refused(code, member_id, version)

    def join(shard: GroupShard, reply: Reply, outcome: Outcome) -> None:
        shard.of(ClassicGroups).join(reply, request, version, client, outcome)

    if not request.group_id:
        return refusal(ErrorCode.INVALID_GROUP_ID)
    return context.broker.groups.ask(request.group_id, join, refusal)


def refused(request: JoinGroupRequest, code: ErrorCode, version: int) -> JoinGroupResponse:
    """The answer that refuses the whole request."""
    return join_refused(code, version=version)
