"""TxnOffsetCommit (API key 28), versions 0-6: commits offsets as part of a producer's transaction.

Card: 2 leader epochs (KIP-320), 3 the member id and generation, by which former members are fenced (KIP-447), 5
transactions version 2: the request adds the group to the transaction (KIP-890); before 5, AddOffsetsToTxn must have
added it. 6 topic ids, and GROUP_ID_NOT_FOUND for an unknown group instead of ILLEGAL_GENERATION (KIP-1319). Answered
when durable. Very many partitions are committed in parts, as by OffsetCommit; a producer that gets an error aborts the
transaction and with it all parts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from odradek.coordination.groups import committing
from odradek.coordination.groups.shard import GroupShard
from odradek.coordination.operation import STEP_RECORDS, Outcome
from odradek.coordination.replies import Untold, settled
from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import RequestContext
from odradek.handlers.offsets_to_commit import Answers, ToCommit, committed, parts, refuse, to_commit
from odradek.handlers.turns import Steps as StepsTo
from odradek.protocol.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitResponse,
    TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
)

ABORTABLE_SINCE = 4
IMPLICIT_SINCE = 5
BY_ID_SINCE = 6
GROUP_NOT_FOUND_SINCE = 6


async def handle(request: TxnOffsetCommitRequest, context: RequestContext) -> TxnOffsetCommitResponse:
    """Commits the offsets as part of the producer's transaction."""
    broker, version = context.broker, context.api_version
    answers: Answers = {}
    offsets = await broker.turns.run(_to_commit(request, answers, context))
    response = TxnOffsetCommitResponse(topics=list(answers.values()))
    if not offsets:
        return response
    producer = request.producer_id, request.producer_epoch
    refuses = partial(refuse, knows_group_not_found=version >= GROUP_NOT_FOUND_SINCE)
    try:
        if not request.transactional_id:
            raise KafkaError(ErrorCode.INVALID_REQUEST)
        await broker.groups.ready()
        code = await broker.transactions.add_group(
            request.transactional_id, *producer, request.group_id, implicit=version >= IMPLICIT_SINCE
        )
        if code == ErrorCode.INVALID_TXN_STATE and version >= ABORTABLE_SINCE:
            code = ErrorCode.TRANSACTION_ABORTABLE
        if code != ErrorCode.NONE:
            raise KafkaError(code)
    except KafkaError as error:
        refuses(offsets, error.code)
        return response
    made = await broker.turns.run(_commit(request, offsets, context, refuses))
    await settled(made)
    for one in made:
        if one.is_lost:
            refuses(one.result, ErrorCode.NOT_COORDINATOR)
    return response


def _to_commit(request: TxnOffsetCommitRequest, answers: Answers, context: RequestContext) -> StepsTo[list[ToCommit]]:
    offsets: list[ToCommit] = []
    for part in parts(request.topics):
        offsets += to_commit(
            part,
            answers,
            TxnOffsetCommitResponseTopic,
            TxnOffsetCommitResponsePartition,
            context.broker.partitions,
            by_id=context.api_version >= BY_ID_SINCE,
        )
        yield
    return offsets


def _commit(
    request: TxnOffsetCommitRequest,
    offsets: list[ToCommit],
    context: RequestContext,
    refuses: Callable[[list[ToCommit], ErrorCode], None],
) -> StepsTo[list[Untold[list[ToCommit]]]]:
    """Commits one part after the other; if the group refuses one, all later parts are refused."""
    made: list[Untold[list[ToCommit]]] = []
    for first in range(0, len(offsets), STEP_RECORDS):
        part = offsets[first : first + STEP_RECORDS]

        def commit(
            shard: GroupShard, outcome: Outcome, part: list[ToCommit] = part, continues: bool = first > 0
        ) -> list[ToCommit]:
            check = committing.check_commit(
                shard,
                request.group_id,
                request.member_id,
                request.group_instance_id,
                request.generation_id_or_member_epoch,
                context.api_version,
                is_transactional=True,
            )
            committing.commit(shard, committed(request.group_id, part, context.broker), check, outcome)
            outcome.producer = request.producer_id, request.producer_epoch
            outcome.continues = continues
            return part

        try:
            made.append(context.broker.groups.start(request.group_id, commit))
        except KafkaError as error:
            refuses(offsets[first:], error.code)
            break
        yield
    return made


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
