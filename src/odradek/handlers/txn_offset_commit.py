"""TxnOffsetCommit (API key 28), versions 0-6: offsets that count when a producer's transaction is committed.

Card: 2 leader epochs (KIP-320), 3 the member that read what they stand for, which fences others (KIP-447), 5
transactions version 2: the commit itself makes the group part of the transaction (KIP-890), 6 topic ids, and a member
of an unknown group is told GROUP_ID_NOT_FOUND, before ILLEGAL_GENERATION (KIP-1319). Answered when durable. Before 5
the group must have been added by AddOffsetsToTxn.
"""

from __future__ import annotations

from collections.abc import Iterator

from odradek.coordination.groups import committing
from odradek.coordination.groups.records import Committed, OffsetKey
from odradek.coordination.groups.shard import GroupShard
from odradek.coordination.operation import Outcome
from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import RequestContext
from odradek.handlers.offset_commit import too_long
from odradek.protocol.fields import ZERO_UUID
from odradek.protocol.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitResponse,
    TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
)

ABORTABLE_SINCE = 4
IMPLICIT_SINCE = 5
BY_ID_SINCE = 6
GROUP_NOT_FOUND_SINCE = 6

# A partition asked for, its topic's name and id, and its place in the answer.
_Wanted = tuple[TxnOffsetCommitRequestPartition, str, bytes, TxnOffsetCommitResponsePartition]


async def handle(request: TxnOffsetCommitRequest, context: RequestContext) -> TxnOffsetCommitResponse:
    """Writes the offsets in the producer's transaction."""
    response = TxnOffsetCommitResponse()
    wanted = list(_wanted(request, response, context))
    if not wanted:
        return response
    producer = request.producer_id, request.producer_epoch

    def commit(shard: GroupShard, outcome: Outcome) -> None:
        check = committing.check_commit(
            shard,
            request.group_id,
            request.member_id,
            request.group_instance_id,
            request.generation_id_or_member_epoch,
            context.api_version,
            is_transactional=True,
        )
        committing.commit(shard, _commits(request, wanted, context), check, outcome)
        outcome.producer = producer

    broker = context.broker
    try:
        if not request.transactional_id:
            raise KafkaError(ErrorCode.INVALID_REQUEST)
        await broker.groups.ready()
        code = await broker.transactions.add_group(
            request.transactional_id, *producer, request.group_id, implicit=context.api_version >= IMPLICIT_SINCE
        )
        if code == ErrorCode.INVALID_TXN_STATE and context.api_version >= ABORTABLE_SINCE:
            code = ErrorCode.TRANSACTION_ABORTABLE
        if code != ErrorCode.NONE:
            raise KafkaError(code)
        await broker.groups.call(request.group_id, commit)
    except KafkaError as error:
        code = error.code
        if code == ErrorCode.GROUP_ID_NOT_FOUND and context.api_version < GROUP_NOT_FOUND_SINCE:
            code = ErrorCode.ILLEGAL_GENERATION
        for _, _, _, answer in wanted:
            answer.error_code = code
    return response


def refused(request: TxnOffsetCommitRequest, code: ErrorCode, version: int) -> TxnOffsetCommitResponse:
    """The answer that refuses the whole request."""
    return TxnOffsetCommitResponse(
        topics=[
            TxnOffsetCommitResponseTopic(
                name=topic.name,
                topic_id=topic.topic_id,
                partitions=[
                    TxnOffsetCommitResponsePartition(partition_index=asked.partition_index, error_code=code)
                    for asked in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )


def _wanted(
    request: TxnOffsetCommitRequest, response: TxnOffsetCommitResponse, context: RequestContext
) -> Iterator[_Wanted]:
    """The partitions that exist; the answers of all go into the response."""
    partitions = context.broker.partitions
    by_id = context.api_version >= BY_ID_SINCE
    for topic in request.topics:
        found = partitions.topics_by_id.get(topic.topic_id) if by_id else partitions.topics.get(topic.name)
        topic_id = topic.topic_id if by_id else ZERO_UUID
        answers = TxnOffsetCommitResponseTopic(name=topic.name, topic_id=topic_id)
        response.topics.append(answers)
        unknown = ErrorCode.UNKNOWN_TOPIC_ID if by_id and found is None else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        for asked in topic.partitions:
            answer = TxnOffsetCommitResponsePartition(partition_index=asked.partition_index)
            answers.partitions.append(answer)
            if found is not None and 0 <= asked.partition_index < len(found.partitions):
                yield asked, found.name, found.topic_id, answer
            else:
                answer.error_code = unknown


def _commits(
    request: TxnOffsetCommitRequest, wanted: list[_Wanted], context: RequestContext
) -> Iterator[tuple[OffsetKey, Committed]]:
    broker = context.broker
    now_ms = broker.clock.now_ms()
    longest = broker.config.integer("offset.metadata.max.bytes")
    for asked, name, topic_id, answer in wanted:
        metadata = asked.committed_metadata or ""
        if too_long(metadata, longest):
            answer.error_code = ErrorCode.OFFSET_METADATA_TOO_LARGE
            continue
        committed = Committed(asked.committed_offset, asked.committed_leader_epoch, metadata, now_ms, topic_id=topic_id)
        yield OffsetKey(request.group_id, name, asked.partition_index), committed
