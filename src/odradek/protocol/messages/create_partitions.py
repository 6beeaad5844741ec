"""CreatePartitions (API key 37)."""

from __future__ import annotations

from odradek.protocol.fields import Message, Struct, boolean, field, int16, int32, string


class CreatePartitionsAssignment(Struct):
    broker_ids: list[int32] = field("0+")


class CreatePartitionsTopic(Struct):
    name: string = field("0+", entity_type="topicName")
    count: int32 = field("0+")
    assignments: list[CreatePartitionsAssignment] | None = field("0+", nullable="0+")


class CreatePartitionsRequest(Message, api_key=37, versions="0-3", flexible="2+"):
    topics: list[CreatePartitionsTopic] = field("0+")
    timeout_ms: int32 = field("0+")
    validate_only: boolean = field("0+")


class CreatePartitionsTopicResult(Struct):
    name: string = field("0+")
    error_code: int16 = field("0+")
    error_message: string | None = field("0+", default=None, nullable="0+")


class CreatePartitionsResponse(Message, api_key=37, versions="0-3", flexible="2+"):
    throttle_time_ms: int32 = field("0+")
    results: list[CreatePartitionsTopicResult] = field("0+")
