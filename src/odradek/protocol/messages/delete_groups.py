"""DeleteGroups (API key 42)."""

from __future__ import annotations

from odradek.protocol.fields import Message, Struct, field, int16, int32, string


class DeleteGroupsRequest(Message, api_key=42, versions="0-3", flexible="2+"):
    groups_names: list[string] = field("0+")


class DeletableGroupResult(Struct):
    group_id: string = field("0+")
    error_code: int16 = field("0+")
    error_message: string | None = field("3+", default=None, nullable="3+")


class DeleteGroupsResponse(Message, api_key=42, versions="0-3", flexible="2+"):
    throttle_time_ms: int32 = field("0+")
    results: list[DeletableGroupResult] = field("0+")
