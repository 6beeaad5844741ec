"""OffsetCommit (API key 8), versions 2-10.

Card: 2-4 a retention of the commit's own, 6 leader epochs (KIP-320), 7 static members (KIP-345), 9 the newer groups'
errors (KIP-848), 10 topic ids. Answered when durable.
- Partitions that do not exist are refused by themselves; if nothing else is left, the group is not asked.
- Text longer than `offset.metadata.max.bytes` (UTF-16 units, as Kafka counts) is refused for its partition.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator

from odradek.config.bounds import LONG_MAX
from odradek.coordination.groups import committing
from odradek.coordination.groups.records import NO_TIMESTAMP, Committed, OffsetKey
from odradek.coordination.groups.shard import GroupShard
from odradek.coordination.operation import Outcome, Reply
from odradek.errors import ErrorCode
from odradek.handlers.context import Answer, RequestContext
from odradek.protocol.fields import ZERO_UUID
from odradek.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)

GROUP_NOT_FOUND_SINCE = 9
BY_ID_SINCE = 10
NO_RETENTION = -1

# A partition asked for, its topic's name and id, and its place in the answer.
_Wanted = tuple[OffsetCommitRequestPartition, str, bytes, OffsetCommitResponsePartition]


def handle(request: OffsetCommitRequest, context: RequestContext) -> Answer | Awaitable[Answer]:
    """Commits the offsets."""
    response = OffsetCommitResponse()
    wanted = list(_wanted(request, response, context))
    if not wanted:
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
        committing.commit(shard, _commits(request, wanted, context), check, outcome)
        outcome.answer(reply, response)

    def refusal(code: ErrorCode) -> OffsetCommitResponse:
        if code == ErrorCode.GROUP_ID_NOT_FOUND and context.api_version < GROUP_NOT_FOUND_SINCE:
            code = ErrorCode.ILLEGAL_GENERATION
        for _, _, _, answer in wanted:
            answer.error_code = code
        return response

    return context.broker.groups.ask(request.group_id, commit, refusal)


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


def _wanted(request: OffsetCommitRequest, response: OffsetCommitResponse, context: RequestContext) -> Iterator[_Wanted]:
    """The partitions that exist; the answers of all go into the response."""
    partitions = context.broker.partitions
    by_id = context.api_version >= BY_ID_SINCE
    for topic in request.topics:
        if not topic.partitions:
            continue
        found = partitions.topics_by_id.get(topic.topic_id) if by_id else partitions.topics.get(topic.name)
        topic_id = topic.topic_id if by_id else ZERO_UUID
        answers = OffsetCommitResponseTopic(name=topic.name, topic_id=topic_id)
        response.topics.append(answers)
        unknown = ErrorCode.UNKNOWN_TOPIC_ID if by_id and found is None else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        for asked in topic.partitions:
            answer = OffsetCommitResponsePartition(partition_index=asked.partition_index)
            answers.partitions.append(answer)
            if found is not None and 0 <= asked.partition_index < len(found.partitions):
                yield asked, found.name, found.topic_id, answer
            else:
                answer.error_code = unknown


def too_long(metadata: str, longest: int) -> bool:
    """Whether a text has more than so many UTF-16 units. Outside the basic plane a character is two."""
    return len(metadata) > longest or (
        2 * len(metadata) > longest and len(metadata.encode("utf-16-be", "surrogatepass")) > 2 * longest
    )


def _commits(
    request: OffsetCommitRequest, wanted: list[_Wanted], context: RequestContext
) -> Iterator[tuple[OffsetKey, Committed]]:
    broker = context.broker
    now_ms = broker.clock.now_ms()
    longest = broker.config.integer("offset.metadata.max.bytes")
    kept_ms = request.retention_time_ms
    expire_ms = NO_TIMESTAMP if kept_ms == NO_RETENTION else min(now_ms + kept_ms, LONG_MAX)
    for asked, name, topic_id, answer in wanted:
        metadata = asked.committed_metadata or ""
        if too_long(metadata, longest):
            answer.error_code = ErrorCode.OFFSET_METADATA_TOO_LARGE
            continue
        committed = Committed(
            asked.committed_offset, asked.committed_leader_epoch, metadata, now_ms, expire_ms, topic_id
        )
        yield OffsetKey(request.group_id, name, asked.partition_index), committed
