"""SyncGroup (API key 14), versions 0-5.

Card: 3 static members (KIP-345), 5 protocol type and name, which must be those of the group (KIP-559). The leader sends
the assignments of all members; the other members' answers wait for it.
"""

from __future__ import annotations

from collections.abc import Awaitable

from odradek.coordination.groups.classic.groups import ClassicGroups
from odradek.coordination.groups.shard import GroupShard
from odradek.coordination.operation import Outcome, Reply
from odradek.errors import ErrorCode
from odradek.handlers.context import Answer, RequestContext
from odradek.protocol.messages.sync_group import SyncGroupRequest, SyncGroupResponse

PROTOCOL_SINCE = 5


def handle(request: SyncGroupRequest, context: RequestContext) -> Answer | Awaitable[Answer]:
    """Returns the member's assignment, once the leader has sent it."""

    def sync(shard: GroupShard, reply: Reply, outcome: Outcome) -> None:
        shard.of(ClassicGroups).sync(reply, request, outcome)

    def refusal(code: ErrorCode) -> SyncGroupResponse:
        return refused(request, code, context.api_version)

    if context.api_version >= PROTOCOL_SINCE and (request.protocol_type is None or request.protocol_name is None):
        return refusal(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
    if not request.group_id:
        return refusal(ErrorCode.INVALID_GROUP_ID)
    return context.broker.groups.ask(request.group_id, sync, refusal)


def refused(request: SyncGroupRequest, code: ErrorCode, version: int) -> SyncGroupResponse:
    """The answer that refuses the whole request."""
    return SyncGroupResponse(error_code=code)
