"""OffsetDelete (API key 47)."""

from __future__ import annotations

from odradek.protocol.fields import Message, Struct, field, int16, int32, string


class OffsetDeleteRequestPartition(Struct):
    partition_index: int32 = field("0+")


class OffsetDeleteRequestTopic(Struct):
    name: string = field("0+", entity_type="topicName")
    partitions: list[OffsetDeleteRequestPartition] = field("0+")


class OffsetDeleteRequest(Message, api_key=47, versions="0", flexible="none"):
    group_id: string = field("0+")
    topics: list[OffsetDeleteRequestTopic] = field("0+")


class OffsetDeleteResponsePartition(Struct):
    partition_index: int32 = field("0+")
    error_code: int16 = field("0+")


class OffsetDeleteResponseTopic(Struct):
    name: string = field("0+")
    partitions: list[OffsetDeleteResponsePartition] = field("0+")


class OffsetDeleteResponse(Message, api_key=47, versions="0", flexible="none"):
    error_code: int16 = field("0+")
    throttle_time_ms: int32 = field("0+")
    topics: list[OffsetDeleteResponseTopic] = field("0+")
