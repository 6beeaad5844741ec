"""ListOffsets (API key 2), versions 1-11.

Card:
- 2 isolation level; 4 leader epochs; 7 max timestamp (KIP-734); 8 earliest local, 9 latest tiered, 11 earliest
  pending upload (there is no tiered storage: the first is the earliest offset, the others are none); 10 a timeout.
- By time: the first record at or after it. The engine finds the batch, whose records are read in a thread; a batch
  that cannot be read is skipped, because consumers cannot read it either.
- A partition named twice is refused with INVALID_REQUEST, a special time of a later version with UNSUPPORTED_VERSION.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable

from odradek.engines.interface import LogFailure
from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import RequestContext
from odradek.partitions import lookup
from odradek.partitions.partition import Partition
from odradek.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsPartitionResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)

LATEST = -1
EARLIEST = -2
MAX_TIMESTAMP = -3
EARLIEST_LOCAL = -4
LATEST_TIERED = -5
EARLIEST_PENDING_UPLOAD = -6
SINCE_VERSION = {
    LATEST: 0,
    EARLIEST: 0,
    MAX_TIMESTAMP: 7,
    EARLIEST_LOCAL: 8,
    LATEST_TIERED: 9,
    EARLIEST_PENDING_UPLOAD: 11,
}


def handle(
    request: ListOffsetsRequest, context: RequestContext
) -> ListOffsetsResponse | Awaitable[ListOffsetsResponse]:
    """Returns the offsets; an awaitable if a timestamp must be searched."""
    asked = Counter((topic.name, p.partition_index) for topic in request.topics for p in topic.partitions)
    looking: list[Awaitable[None]] = []
    response = ListOffsetsResponse()
    for topic in request.topics:
        answers = ListOffsetsTopicResponse(name=topic.name)
        response.topics.append(answers)
        for wanted in topic.partitions:
            answer = ListOffsetsPartitionResponse(partition_index=wanted.partition_index)
            answers.partitions.append(answer)
            if asked[topic.name, wanted.partition_index] > 1:
                answer.error_code = ErrorCode.INVALID_REQUEST
            elif wanted.timestamp < 0 and SINCE_VERSION.get(wanted.timestamp, 1 << 15) > context.api_version:
                answer.error_code = ErrorCode.UNSUPPORTED_VERSION
            else:
                partition = context.broker.partitions.get(topic.name, wanted.partition_index)
                later = _answer(wanted, answer, partition, request.isolation_level)
                if later is not None:
                    looking.append(later)
    return response if not looking else _wait(response, looking)


def refused(request: ListOffsetsRequest, code: ErrorCode, version: int) -> ListOffsetsResponse:
    """The answer that refuses the whole request."""
    return ListOffsetsResponse(
        topics=[
            ListOffsetsTopicResponse(
                name=topic.name,
                partitions=[
                    ListOffsetsPartitionResponse(partition_index=wanted.partition_index, error_code=code)
                    for wanted in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )


async def _wait(response: ListOffsetsResponse, looking: list[Awaitable[None]]) -> ListOffsetsResponse:
    await asyncio.gather(*looking)
    return response


def _answer(
    wanted: ListOffsetsPartition,
    answer: ListOffsetsPartitionResponse,
    partition: Partition | None,
    isolation_level: int,
) -> Awaitable[None] | None:
    if partition is None:
        answer.error_code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        return None
    try:
        offsets = partition.offsets()
        partition.check_epoch(wanted.current_leader_epoch)
        if wanted.timestamp == LATEST:
            answer.offset = offsets.last_stable_offset if isolation_level else offsets.high_watermark
            answer.leader_epoch = partition.leader_epoch
        elif wanted.timestamp in (EARLIEST, EARLIEST_LOCAL):
            answer.offset = offsets.log_start_offset
            answer.leader_epoch = lookup.epoch_at(partition, offsets.log_start_offset)
        elif wanted.timestamp in (LATEST_TIERED, EARLIEST_PENDING_UPLOAD):
            pass
        else:
            return _look(wanted.timestamp, answer, partition, isolation_level)
    except KafkaError as error:
        answer.error_code = error.code
    return None


async def _look(
    timestamp: int, answer: ListOffsetsPartitionResponse, partition: Partition, isolation_level: int
) -> None:
    try:
        if timestamp == MAX_TIMESTAMP:
            found = await lookup.find_max_timestamp(partition)
        else:
            found = await lookup.find_by_timestamp(partition, timestamp)
    except KafkaError as error:
        answer.error_code = error.code
        return
    except (LogFailure, OSError):
        answer.error_code = ErrorCode.KAFKA_STORAGE_ERROR
        return
    if found is not None and not (isolation_level and found.offset >= partition.offsets().last_stable_offset):
        answer.offset, answer.timestamp, answer.leader_epoch = found
