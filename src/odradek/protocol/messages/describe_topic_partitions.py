"""DescribeTopicPartitions (API key 75)."""

from __future__ import annotations

from odradek.protocol.fields import Message, Struct, boolean, field, int16, int32, string, uuid


class TopicRequest(Struct):
    name: string = field("0+", entity_type="topicName")


class Cursor(Struct):
    topic_name: string = field("0+", entity_type="topicName")
    partition_index: int32 = field("0+")


class DescribeTopicPartitionsRequest(Message, api_key=75, versions="0", flexible="0+"):
    topics: list[TopicRequest] = field("0+")
    response_partition_limit: int32 = field("0+", default=2000)
    cursor: Cursor | None = field("0+", default=None, nullable="0+")


class DescribeTopicPartitionsResponsePartition(Struct):
    error_code: int16 = field("0+")
    partition_index: int32 = field("0+")
    leader_id: int32 = field("0+")
    leader_epoch: int32 = field("0+", default=-1)
    replica_nodes: list[int32] = field("0+")
    isr_nodes: list[int32] = field("0+")
    eligible_leader_replicas: list[int32] | None = field("0+", default=None, nullable="0+")
    last_known_elr: list[int32] | None = field("0+", default=None, nullable="0+")
    offline_replicas: list[int32] = field("0+")


class DescribeTopicPartitionsResponseTopic(Struct):
    error_code: int16 = field("0+")
    name: string | None = field("0+", nullable="0+")
    topic_id: uuid = field("0+")
    is_internal: boolean = field("0+", default=False)
    partitions: list[DescribeTopicPartitionsResponsePartition] = field("0+")
    topic_authorized_operations: int32 = field("0+", default=-2147483648)


class DescribeTopicPartitionsResponse(Message, api_key=75, versions="0", flexible="0+"):
    throttle_time_ms: int32 = field("0+")
    topics: list[DescribeTopicPartitionsResponseTopic] = field("0+")
    next_cursor: Cursor | None = field("0+", default=None, nullable="0+")
