"""OffsetForLeaderEpoch (API key 23), versions 2-4.

Card: 2 current leader epoch (KIP-320), 3 replica id, 4 flexible. Tells a consumer where the epoch of its last record
ends here, so that it notices records that were taken back. -1 and -1 where no such epoch is known. A partition that is
named twice is answered twice.
"""

from __future__ import annotations

from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import RequestContext
from odradek.handlers.turns import Steps
from odradek.partitions.partition import Partition
from odradek.protocol.messages.offset_for_leader_epoch import (
    EpochEndOffset,
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition,
    OffsetForLeaderTopicResult,
)

# Partitions that are looked at in one step of a long request.
PARTITIONS_A_STEP = 100


def handle(request: OffsetForLeaderEpochRequest, context: RequestContext) -> Steps[OffsetForLeaderEpochResponse]:
    """Returns the end offset of each requested epoch."""
    response = OffsetForLeaderEpochResponse()
    for topic in request.topics:
        answers = OffsetForLeaderTopicResult(topic=topic.topic)
        response.topics.append(answers)
        for number, wanted in enumerate(topic.partitions, 1):
            partition = context.broker.partitions.get(topic.topic, wanted.partition)
            answers.partitions.append(_answer(wanted, partition))
            if number % PARTITIONS_A_STEP == 0:
                yield
        yield
    return response


def _answer(wanted: OffsetForLeaderPartition, partition: Partition | None) -> EpochEndOffset:
    answer = EpochEndOffset(partition=wanted.partition)
    if partition is None:
        answer.error_code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        return answer
    try:
        partition.check_epoch(wanted.current_leader_epoch)
        end = partition.epoch_end(wanted.leader_epoch)
    except KafkaError as error:
        answer.error_code = error.code
        return answer
    if end is not None:
        answer.leader_epoch, answer.end_offset = end
    return answer


def refused(request: OffsetForLeaderEpochRequest, code: ErrorCode, version: int) -> OffsetForLeaderEpochResponse:
    """The answer that refuses the whole request."""
    return OffsetForLeaderEpochResponse(
        topics=[
            OffsetForLeaderTopicResult(
                topic=topic.topic,
                partitions=[EpochEndOffset(partition=wanted.partition, error_code=code) for wanted in topic.partitions],
            )
            for topic in request.topics
        ]
    )
