"""OffsetCommit (API key 8), versions 2-10.

Card: 2-4 a retention time in the request, 6 leader epochs (KIP-320), 7 static members (KIP-345), 9 errors of the newer
group types (KIP-848), 10 topic ids. Answered when the commit is durable.
- Only partitions that do not exist are refused with an error of theirs; if no other is left, the group is not asked.
- Text longer than `offset.metadata.max.bytes` (UTF-16 units, as Kafka counts) is refused for its partition.
"""

from __future__ import annotations

from collections.abc import Awaitable

from odradek.coordination.groups import committing
from odradek.coordination.groups.shard import GroupShard
from odradek.coordination.operation import Outcome, Reply
from odradek.errors import ErrorCode
from odradek.handlers.context import Answer, RequestContext
from odradek.handlers.offsets_to_commit import committed, refuse, to_commit
from odradek.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)

GROUP_NOT_FOUND_SINCE = 9
BY_ID_SINCE = 10


def handle(request: OffsetCommitRequest, context: RequestContext) -> Answer | Awaitable[Answer]:
    """Commits the offsets."""
    broker, version = context.broker, context.api_version
    response = OffsetCommitResponse()
    offsets = to_commit(
        request,
        response.topics,
        OffsetCommitResponseTopic,
        OffsetCommitResponsePartition,
        broker.partitions,
        by_id=version >= BY_ID_SINCE,
    )
    if not offsets:
        return response

    def commit(shard: GroupShard, reply: Reply, outcome: Outcome) -> None:
        check = committing.check_commit(
            shard,
            request.group_id,
            request.member_id,
            request.group_instance_id,
            request.generation_id_or_member_epoch,
            context.api_version,
        )
        commits = committed(request.group_id, offsets, broker, request.retention_time_ms)
        committing.commit(shard, commits, check, outcome)
        outcome.answer(reply, response)

    def refusal(code: ErrorCode) -> OffsetCommitResponse:
        refuse(offsets, code, knows_group_not_found=version >= GROUP_NOT_FOUND_SINCE)
        return response

    return broker.groups.ask(request.group_id, commit, refusal)


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
