"""DeleteRecords (API key 21), versions 0-2.

Card: moves a partition's log start offset; -1 means to the high watermark (KIP-107). An offset above that is refused
with OFFSET_OUT_OF_RANGE, one below the log start changes nothing. Answered when the new log start offset is durable.
- Internal topics keep their records (INVALID_TOPIC_EXCEPTION), and so does a topic whose `cleanup.policy` is only
  `compact` (POLICY_VIOLATION).
"""

from __future__ import annotations

import asyncio

from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import RequestContext
from odradek.internal_topics import check_delete_records
from odradek.partitions.partition import Partition
from odradek.protocol.messages.delete_records import (
    DeleteRecordsPartitionResult,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopicResult,
)


async def handle(request: DeleteRecordsRequest, context: RequestContext) -> DeleteRecordsResponse:
    """Moves the log start offsets of all partitions concurrently."""
    response = DeleteRecordsResponse()
    work = []
    for topic in request.topics:
        results = DeleteRecordsTopicResult(name=topic.name)
        response.topics.append(results)
        for wanted in topic.partitions:
            result = DeleteRecordsPartitionResult(partition_index=wanted.partition_index, low_watermark=-1)
            results.partitions.append(result)
            partition = context.broker.partitions.get(topic.name, wanted.partition_index)
            if partition is None:
                result.error_code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            elif refusal := check_delete_records(topic.name):
                result.error_code = refusal
            else:
                work.append(_delete(partition, wanted.offset, result))
    await asyncio.gather(*work)
    return response


def refused(request: DeleteRecordsRequest, code: ErrorCode, version: int) -> DeleteRecordsResponse:
    """The answer that refuses the whole request."""
    return DeleteRecordsResponse(
        topics=[
            DeleteRecordsTopicResult(
                name=topic.name,
                partitions=[
                    DeleteRecordsPartitionResult(
                        partition_index=wanted.partition_index, low_watermark=-1, error_code=code
                    )
                    for wanted in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )


async def _delete(partition: Partition, offset: int, result: DeleteRecordsPartitionResult) -> None:
    try:
        result.low_watermark = await partition.delete_records(offset)
    except KafkaError as error:
        result.error_code = error.code
