"""JoinGroup (API key 11)."""

from __future__ import annotations

from odradek.protocol.fields import Message, Struct, boolean, byte_string, field, int16, int32, string


class JoinGroupRequestProtocol(Struct):
    name: string = field("0+")
    metadata: byte_string = field("0+")


class JoinGroupRequest(Message, api_key=11, versions="0-9", flexible="6+"):
    group_id: string = field("0+")
    session_timeout_ms: int32 = field("0+")
    rebalance_timeout_ms: int32 = field("1+", default=-1)
    member_id: string = field("0+")
    group_instance_id: string | None = field("5+", default=None, nullable="5+")
    protocol_type: string = field("0+")
    protocols: list[JoinGroupRequestProtocol] = field("0+")
    reason: string | None = field("8+", default=None, nullable="8+")


class JoinGroupResponseMember(Struct):
    member_id: string = field("0+")
    group_instance_id: string | None = field("5+", default=None, nullable="5+")
    metadata: byte_string = field("0+")


class JoinGroupResponse(Message, api_key=11, versions="0-9", flexible="6+"):
    throttle_time_ms: int32 = field("2+")
    error_code: int16 = field("0+")
    generation_id: int32 = field("0+", default=-1)
    protocol_type: string | None = field("7+", default=None, nullable="7+")
    protocol_name: string | None = field("0+", nullable="7+")
    leader: string = field("0+")
    skip_assignment: boolean = field("9+", default=False)
    member_id: string = field("0+")
    members: list[JoinGroupResponseMember] = field("0+")
