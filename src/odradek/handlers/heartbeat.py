"""Heartbeat (API key 12), versions 0-4.

Card: 3 static members (KIP-345). REBALANCE_IN_PROGRESS asks the member to rejoin. Answered at once, without waiting for
the disk, because the answer depends on no durable state.
"""

from __future__ import annotations

from odradek.coordination.groups.classic.groups import ClassicGroups
from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import RequestContext
from odradek.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse


def handle(request: HeartbeatRequest, context: RequestContext) -> HeartbeatResponse:
    """Extends the member's session."""
    if not request.group_id:
        return HeartbeatResponse(error_code=ErrorCode.INVALID_GROUP_ID)
    try:
        return context.broker.groups.active(request.group_id).of(ClassicGroups).heartbeat(request)
    except KafkaError as error:
        return HeartbeatResponse(error_code=error.code)


def refused(request: HeartbeatRequest, code: ErrorCode, version: int) -> HeartbeatResponse:
    """The answer that refuses the whole request."""
    return HeartbeatResponse(error_code=code)
