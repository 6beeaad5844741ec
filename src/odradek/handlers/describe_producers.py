"""DescribeProducers (API key 61), version 0: each partition's state of its idempotent producers (KIP-664).

Card: a partition that is named twice is answered twice. A partition for which the response has no room gets
INVALID_REQUEST.
"""

from __future__ import annotations

from odradek.errors import ErrorCode
from odradek.handlers.context import RequestContext, Steps
from odradek.handlers.response_budget import ResponseBudget
from odradek.handlers.turns import LATER, LONG_ANSWER_BYTES
from odradek.handlers.turns import Steps as StepsTo
from odradek.partitions.partition import Partition
from odradek.protocol.messages.describe_producers import (
    DescribeProducersRequest,
    DescribeProducersResponse,
    PartitionResponse,
    ProducerState,
    TopicResponse,
)

# Producers that are answered between two yields.
AT_ONCE = 200
PARTITION_BYTES = 10
PRODUCER_BYTES = 40


def handle(request: DescribeProducersRequest, context: RequestContext) -> Steps:
    """The active producers of each partition."""
    budget = ResponseBudget(context.broker.config)
    response = DescribeProducersResponse()
    # A partition may have many producers: if it is named several times, they are one list in the response.
    described: dict[tuple[str, int], list[ProducerState]] = {}
    for topic in request.topics:
        answers = TopicResponse(name=topic.name)
        response.topics.append(answers)
        for index in topic.partition_indexes:
            answer = PartitionResponse(partition_index=index)
            answers.partitions.append(answer)
            yield
            partition = context.broker.partitions.get(topic.name, index)
            if partition is None:
                answer.error_code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
                continue
            producers = described.get((topic.name, index))
            if producers is None and not budget.is_over:
                producers = described[topic.name, index] = yield from _producers(partition)
            if producers is None or not budget.take(PARTITION_BYTES + PRODUCER_BYTES * len(producers)):
                answer.error_code, answer.error_message = ErrorCode.INVALID_REQUEST, budget.message
            else:
                answer.active_producers = producers
    if budget.used_bytes > LONG_ANSWER_BYTES:
        yield LATER
    return response


def _producers(partition: Partition) -> StepsTo[list[ProducerState]]:
    found = []
    for number, producer in enumerate(list(partition.active_producers()), 1):
        found.append(
            ProducerState(
                producer_id=producer.producer_id,
                producer_epoch=producer.epoch,
                last_sequence=producer.last_sequence,
                last_timestamp=producer.last_timestamp_ms,
                coordinator_epoch=producer.coordinator_epoch,
                current_txn_start_offset=producer.current_txn_first_offset,
            )
        )
        if number % AT_ONCE == 0:
            yield
    return found


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
