"""OffsetCommit (API key 8), versions 2-10.

Card: 2-4 a retention time in the request, 6 leader epochs (KIP-320), 7 static members (KIP-345), 9 errors of the newer
group types (KIP-848), 10 topic ids. Answered when the commit is durable.
- Only partitions that do not exist are refused with an error of theirs; if no other is left, the group is not asked.
- Text longer than `offset.metadata.max.bytes` (UTF-16 units, as Kafka counts) is refused for its partition.
- Very many partitions are committed in parts, and other requests run in between. If the group refuses a part (because
  it has begun a rebalance), all later parts are refused; earlier ones stay committed and are answered so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from odradek.coordination.groups import committing
from odradek.coordination.groups.shard import GroupShard
from odradek.coordination.operation import Outcome, Reply
from odradek.coordination.replies import Untold, settled
from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import Answer, RequestContext
from odradek.handlers.offsets_to_commit import Answers, ToCommit, are_many, committed, parts, refuse, to_commit
from odradek.handlers.turns import Steps as StepsTo
from odradek.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)

GROUP_NOT_FOUND_SINCE = 9
BY_ID_SINCE = 10


def handle(request: OffsetCommitRequest, context: RequestContext) -> Answer | Awaitable[Answer]:
    """Commits the offsets."""
    if are_many(request.topics):
        return _all_parts(request, context)
    answers: Answers = {}
    offsets = _to_commit(request.topics, answers, context)
    response = OffsetCommitResponse(topics=list(answers.values()))
    if not offsets:
        return response

    def commit(shard: GroupShard, reply: Reply, outcome: Outcome) -> None:
        _commit(request, offsets, context, shard, outcome)
        outcome.answer(reply, response)

    def refusal(code: ErrorCode) -> OffsetCommitResponse:
        _refuse(offsets, code, context)
        return response

    return context.broker.groups.ask(request.group_id, commit, refusal)


async def _all_parts(request: OffsetCommitRequest, context: RequestContext) -> OffsetCommitResponse:
    """Commits in parts, and all of them also if the connection is lost meanwhile."""
    return await (await context.broker.turns.run(_in_parts(request, context)))


def _in_parts(request: OffsetCommitRequest, context: RequestContext) -> StepsTo[Awaitable[OffsetCommitResponse]]:
    answers: Answers = {}
    made: list[Untold[list[ToCommit]]] = []
    refused = ErrorCode.NONE
    for part in parts(request.topics):
        offsets = _to_commit(part, answers, context)
        if offsets and not refused:

            def commit(shard: GroupShard, outcome: Outcome, offsets: list[ToCommit] = offsets) -> list[ToCommit]:
                _commit(request, offsets, context, shard, outcome)
                return offsets

            try:
                made.append(context.broker.groups.start(request.group_id, commit))
            except KafkaError as error:
                refused = error.code
        if refused:
            _refuse(offsets, refused, context)
        yield
    return _told(OffsetCommitResponse(topics=list(answers.values())), made, context)


async def _told(
    response: OffsetCommitResponse, made: Sequence[Untold[list[ToCommit]]], context: RequestContext
) -> OffsetCommitResponse:
    await settled(made)
    for one in made:
        if one.is_lost:
            _refuse(one.result, ErrorCode.NOT_COORDINATOR, context)
    return response


def _to_commit(topics: Sequence[OffsetCommitRequestTopic], answers: Answers, context: RequestContext) -> list[ToCommit]:
    return to_commit(
        topics,
        answers,
        OffsetCommitResponseTopic,
        OffsetCommitResponsePartition,
        context.broker.partitions,
        by_id=context.api_version >= BY_ID_SINCE,
    )


def _commit(
    request: OffsetCommitRequest,
    offsets: list[ToCommit],
    context: RequestContext,
    shard: GroupShard,
    outcome: Outcome,
) -> None:
    """The operation. Raises `KafkaError`."""
    check = committing.check_commit(
        shard,
        request.group_id,
        request.member_id,
        request.group_instance_id,
        request.generation_id_or_member_epoch,
        context.api_version,
    )
    commits = committed(request.group_id, offsets, context.broker, request.retention_time_ms)
    committing.commit(shard, commits, check, outcome)


def _refuse(offsets: list[ToCommit], code: ErrorCode, context: RequestContext) -> None:
    refuse(offsets, code, knows_group_not_found=context.api_version >= GROUP_NOT_FOUND_SINCE)


def refused(request: OffsetCommitRequest, code: ErrorCode, version: int) -> OffsetCommitResponse:
    """The answer that refuses the whole request."""
    return OffsetCommitResponse(
        topics=[
            OffsetCommitResponseTopic(
                name=topic.name,
                topic_id=topic.topic_id,
                partitions=[
                    OffsetCommitResponsePartition(partition_index=asked.partition_index, error_code=code)
                    for asked in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )
