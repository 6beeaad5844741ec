"""DescribeTopicPartitions (API key 75), version 0 (KIP-966).

Card: topics in the order of their names, partitions up to `response_partition_limit` (at most
`max.request.partition.size.limit`), and a cursor for the next request. An empty list of topics means all.
"""

from __future__ import annotations

from heapq import merge

from odradek.errors import ErrorCode
from odradek.handlers.context import RequestContext, Steps
from odradek.handlers.topics import OPERATIONS_NOT_ASKED, TOPIC_OPERATIONS, leader_epoch, why_unknown
from odradek.internal_topics import INTERNAL_TOPICS
from odradek.protocol.messages.describe_topic_partitions import (
    Cursor,
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
)

# Names that are sorted in one step, which takes 2 ms.
SORTED_AT_ONCE = 4000


def handle(request: DescribeTopicPartitionsRequest, context: RequestContext) -> Steps:
    """A page of partitions."""
    broker = context.broker
    image = broker.metadata.image
    response = DescribeTopicPartitionsResponse()
    asked = {topic.name for topic in request.topics}
    cursor = request.cursor
    if cursor is not None and (cursor.partition_index < 0 or (asked and cursor.topic_name not in asked)):
        for refused_topic in request.topics:
            yield
            response.topics.append(
                DescribeTopicPartitionsResponseTopic(
                    error_code=ErrorCode.INVALID_REQUEST,
                    name=refused_topic.name,
                    topic_authorized_operations=OPERATIONS_NOT_ASKED,
                )
            )
        return response
    first_name, first_index = (cursor.topic_name, cursor.partition_index) if cursor is not None else ("", 0)
    left = max(1, min(request.response_partition_limit, broker.config.integer("max.request.partition.size.limit")))
    names = [name for name in asked or image.topics if name >= first_name]
    runs = []
    for start in range(0, len(names), SORTED_AT_ONCE):
        yield
        runs.append(sorted(names[start : start + SORTED_AT_ONCE]))
    for name in merge(*runs):
        yield
        topic = image.topics.get(name)
        if topic is None and not asked:
            continue  # deleted meanwhile
        answer = DescribeTopicPartitionsResponseTopic(
            name=name, is_internal=name in INTERNAL_TOPICS, topic_authorized_operations=TOPIC_OPERATIONS
        )
        if topic is None:
            answer.error_code = why_unknown(name)
            response.topics.append(answer)
            continue
        if left == 0:
            response.next_cursor = Cursor(topic_name=name, partition_index=0)
            break
        start = first_index if name == first_name else 0
        indexes = [index for index in sorted(topic.partition_records) if index >= start]
        answer.topic_id = topic.id
        answer.partitions = [
            DescribeTopicPartitionsResponsePartition(
                partition_index=index,
                leader_id=broker.node_id,
                leader_epoch=leader_epoch(broker, name, index),
                replica_nodes=[broker.node_id],
                isr_nodes=[broker.node_id],
                eligible_leader_replicas=[],
                last_known_elr=[],
            )
            for index in indexes[:left]
        ]
        response.topics.append(answer)
        if len(indexes) > left:
            response.next_cursor = Cursor(topic_name=name, partition_index=indexes[left])
            break
        left -= len(indexes)
    return response


def refused(request: DescribeTopicPartitionsRequest, code: ErrorCode, version: int) -> DescribeTopicPartitionsResponse:
    """The answer that refuses the whole request."""
    return DescribeTopicPartitionsResponse(
        topics=[DescribeTopicPartitionsResponseTopic(error_code=code, name=topic.name) for topic in request.topics]
    )
