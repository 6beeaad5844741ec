"""SyncGroup (API key 14)."""

from __future__ import annotations

from odradek.protocol.fields import Message, Struct, byte_string, field, int16, int32, string


class SyncGroupRequestAssignment(Struct):
    member_id: string = field("0+")
    assignment: byte_string = field("0+")


class SyncGroupRequest(Message, api_key=14, versions="0-5", flexible="4+"):
    group_id: string = field("0+")
    generation_id: int32 = field("0+")
    member_id: string = field("0+")
    group_instance_id: string | None = field("3+", default=None, nullable="3+")
    protocol_type: string | None = field("5+", default=None, nullable="5+")
    protocol_name: string | None = field("5+", default=None, nullable="5+")
    assignments: list[SyncGroupRequestAssignment] = field("0+")


class SyncGroupResponse(Message, api_key=14, versions="0-5", flexible="4+"):
    throttle_time_ms: int32 = field("1+")
    error_code: int16 = field("0+")
    protocol_type: string | None = field("5+", default=None, nullable="5+")
    protocol_name: string | None = field("5+", default=None, nullable="5+")
    assignment: byte_string = field("0+")
