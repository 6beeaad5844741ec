"""DeleteTopics (API key 20)."""

from __future__ import annotations

from odradek.protocol.fields import Message, Struct, field, int16, int32, string, uuid


class DeleteTopicState(Struct):
    name: string | None = field("6+", default=None, nullable="6+", entity_type="topicName")
    topic_id: uuid = field("6+")


class DeleteTopicsRequest(Message, api_key=20, versions="1-6", flexible="4+"):
    topics: list[DeleteTopicState] = field("6+")
    topic_names: list[string] = field("0-5", entity_type="topicName")
    timeout_ms: int32 = field("0+")


class DeletableTopicResult(Struct):
    name: string | None = field("0+", nullable="6+")
    topic_id: uuid = field("6+")
    error_code: int16 = field("0+")
    error_message: string | None = field("5+", default=None, nullable="5+")


class DeleteTopicsResponse(Message, api_key=20, versions="1-6", flexible="4+"):
    throttle_time_ms: int32 = field("1+")
    responses: list[DeletableTopicResult] = field("0+")
