"""ListOffsets (API key 2), versions 1-11.

Card:
- 2 isolation level; 4 leader epochs; 7 max timestamp (KIP-734); 8 earliest local, 9 latest tiered, 11 earliest
  pending upload (there is no tiered storage: the first is the earliest offset, the others are none); 10 a timeout.
- By time: the first record at or after it. The engine finds the batch, whose records are read in a thread; a batch
  that cannot be read is skipped, as no consumer could read it either.
- A partition named twice is answered once, with INVALID_REQUEST; a special time of a later version is refused with
  UNSUPPORTED_VERSION.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from odradek.engines.interface import LogFailure
from odradek.errors import ErrorCode, KafkaError
from odradek.handlers import turns
from odradek.handlers.context import RequestContext, Steps
from odradek.handlers.turns import side_by_side
from odradek.partitions import lookup
from odradek.partitions.partition import Partition
from odradek.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsPartitionResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)

# What is done in one step of a long request.
PARTITIONS_A_STEP = 50
NAMES_A_STEP = 1000
# Of a partition that is named often: its one answer is there.
ANSWERED = -1
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


def handle(request: ListOffsetsRequest, context: RequestContext) -> Steps:
    """Returns the offsets; an awaitable if a timestamp must be searched."""
    times_asked = yield from _times_asked(request)
    looking: list[_Look] = []
    response = ListOffsetsResponse()
    answers: dict[str, ListOffsetsTopicResponse] = {}
    for topic in request.topics:
        for number, wanted in enumerate(topic.partitions, 1):
            if number % PARTITIONS_A_STEP == 0:
                yield
            place = topic.name, wanted.partition_index
            times = times_asked[place]
            if times == ANSWERED:
                continue
            answer = ListOffsetsPartitionResponse(partition_index=wanted.partition_index)
            if topic.name not in answers:
                answers[topic.name] = ListOffsetsTopicResponse(name=topic.name)
                response.topics.append(answers[topic.name])
            answers[topic.name].partitions.append(answer)
            if times > 1:
                times_asked[place] = ANSWERED
                answer.error_code = ErrorCode.INVALID_REQUEST
            elif wanted.timestamp < 0 and SINCE_VERSION.get(wanted.timestamp, 1 << 15) > context.api_version:
                answer.error_code = ErrorCode.UNSUPPORTED_VERSION
            else:
                partition = context.broker.partitions.get(*place)
                if _must_look(wanted, answer, partition, request.isolation_level):
                    assert partition is not None
                    looking.append(_Look(wanted.timestamp, answer, partition, request.isolation_level))
        yield
    return response if not looking else _look_at_all(looking, response)


def _times_asked(request: ListOffsetsRequest) -> turns.Steps[Counter[tuple[str, int]]]:
    """How often a request names each partition."""
    asked: Counter[tuple[str, int]] = Counter()
    for topic in request.topics:
        for first in range(0, len(topic.partitions), NAMES_A_STEP):
            names = topic.partitions[first : first + NAMES_A_STEP]
            asked.update((topic.name, wanted.partition_index) for wanted in names)
            yield
    return asked


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


def _must_look(
    wanted: ListOffsetsPartition,
    answer: ListOffsetsPartitionResponse,
    partition: Partition | None,
    isolation_level: int,
) -> bool:
    """Answers what is asked of a partition, or says that a record has to be looked for."""
    if partition is None:
        answer.error_code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        return False
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
            return offsets.log_start_offset < offsets.high_watermark
    except KafkaError as error:
        answer.error_code = error.code
    return False


class _Look(NamedTuple):
    """A record that has to be looked for, and whose answer it is."""

    timestamp: int
    answer: ListOffsetsPartitionResponse
    partition: Partition
    isolation_level: int

    async def run(self) -> None:
        answer, partition = self.answer, self.partition
        try:
            if self.timestamp == MAX_TIMESTAMP:
                found = await lookup.find_max_timestamp(partition)
            else:
                found = await lookup.find_by_timestamp(partition, self.timestamp)
            if found is not None and not (
                self.isolation_level and found.offset >= partition.offsets().last_stable_offset
            ):
                answer.offset, answer.timestamp, answer.leader_epoch = found
        except KafkaError as error:
            answer.error_code = error.code
        except (LogFailure, OSError):
            answer.error_code = ErrorCode.KAFKA_STORAGE_ERROR


async def _look_at_all(looking: list[_Look], response: ListOffsetsResponse) -> ListOffsetsResponse:
    await side_by_side([look.run for look in looking])
    return response
