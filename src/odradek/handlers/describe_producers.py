"""DescribeProducers (API key 61), version 0: what each partition remembers of its idempotent producers (KIP-664)."""

from __future__ import annotations

from odradek.errors import ErrorCode
from odradek.handlers.context import RequestContext
from odradek.protocol.messages.describe_producers import (
    DescribeProducersRequest,
    DescribeProducersResponse,
    PartitionResponse,
    ProducerState,
    TopicResponse,
)


def handle(request: DescribeProducersRequest, context: RequestContext) -> DescribeProducersResponse:
    """The active producers of each partition."""
    response = DescribeProducersResponse()
    for topic in request.topics:
        answers = TopicResponse(name=topic.name)
        response.topics.append(answers)
        for index in topic.partition_indexes:
            answer = PartitionResponse(partition_index=index)
            answers.partitions.append(answer)
            partition = context.broker.partitions.get(topic.name, index)
            if partition is None:
                answer.error_code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
                continue
            answer.active_producers = [
                ProducerState(
                    producer_id=producer.producer_id,
                    producer_epoch=producer.epoch,
                    last_sequence=producer.last_sequence,
                    last_timestamp=producer.last_timestamp_ms,
                    coordinator_epoch=producer.coordinator_epoch,
                    current_txn_start_offset=producer.current_txn_first_offset,
                )
                for producer in partition.active_producers()
            ]
    return response


def refused(request: DescribeProducersRequest, code: ErrorCode, version: int) -> DescribeProducersResponse:
    """The answer that refuses the whole request."""
    return DescribeProducersResponse(
        topics=[
            TopicResponse(
                name=topic.name,
                partitions=[
                    PartitionResponse(partition_index=index, error_code=code) for index in topic.partition_indexes
                ],
            )
            for topic in request.topics
        ]
    )
