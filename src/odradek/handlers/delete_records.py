"""DeleteRecords (API key 21), versions 0-2.

Card: moves a partition's log start offset; -1 means to the high watermark (KIP-107). An offset above that is refused
with OFFSET_OUT_OF_RANGE, one below the log start changes nothing. Answered when the new log start offset is durable. If
a partition is named twice, the last offset counts.
- Internal topics keep their records (INVALID_TOPIC_EXCEPTION), and so does a topic whose `cleanup.policy` is only
  `compact` (POLICY_VIOLATION).
"""

from __future__ import annotations

from typing import NamedTuple

from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import RequestContext, Steps
from odradek.handlers.turns import side_by_side
from odradek.internal_topics import check_delete_records
from odradek.partitions.partition import Partition
from odradek.protocol.messages.delete_records import (
    DeleteRecordsPartitionResult,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopicResult,
)

# Partitions that are looked at in one step of a long request.
PARTITIONS_A_STEP = 200


def handle(request: DeleteRecordsRequest, context: RequestContext) -> Steps:
    """Moves the starts of the partitions side by side."""
    offsets: dict[str, dict[int, int]] = {}
    for topic in request.topics:
        of_topic = offsets.setdefault(topic.name, {})
        for wanted in topic.partitions:
            of_topic[wanted.partition_index] = wanted.offset
        yield
    response = DeleteRecordsResponse()
    work: list[_Deletion] = []
    for name, of_topic in offsets.items():
        results = DeleteRecordsTopicResult(name=name)
        response.topics.append(results)
        for number, (index, offset) in enumerate(of_topic.items(), 1):
            result = DeleteRecordsPartitionResult(partition_index=index, low_watermark=-1)
            results.partitions.append(result)
            partition = context.broker.partitions.get(name, index)
            if partition is None:
                result.error_code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            elif refusal := check_delete_records(name):
                result.error_code = refusal
            else:
                work.append(_Deletion(partition, offset, result))
            if number % PARTITIONS_A_STEP == 0:
                yield
        yield
    return _delete_all(work, response)


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


class _Deletion(NamedTuple):
    """A start that moves."""

    partition: Partition
    offset: int
    result: DeleteRecordsPartitionResult

    async def run(self) -> None:
        try:
            self.result.low_watermark = await self.partition.delete_records(self.offset)
        except KafkaError as error:
            self.result.error_code = error.code


async def _delete_all(work: list[_Deletion], response: DeleteRecordsResponse) -> DeleteRecordsResponse:
    await side_by_side([deletion.run for deletion in work])
    return response
