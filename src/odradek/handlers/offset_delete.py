"""OffsetDelete (API key 47), version 0 (KIP-496).

Card: forgets a group's offsets of partitions that no member subscribes to (GROUP_SUBSCRIBED_TO_TOPIC otherwise). A
group with members that are no consumers is NON_EMPTY_GROUP.
"""

from __future__ import annotations

from odradek.coordination.groups.shard import GroupShard
from odradek.coordination.operation import Outcome
from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import RequestContext
from odradek.protocol.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
)


async def handle(request: OffsetDeleteRequest, context: RequestContext) -> OffsetDeleteResponse:
    """Forgets the offsets, or says why not."""
    if not request.group_id:
        return OffsetDeleteResponse(error_code=ErrorCode.INVALID_GROUP_ID)
    response = OffsetDeleteResponse()
    wanted: list[tuple[str, int]] = []
    answers: list[OffsetDeleteResponsePartition] = []
    for topic in request.topics:
        of_topic = OffsetDeleteResponseTopic(name=topic.name)
        response.topics.append(of_topic)
        for asked in topic.partitions:
            answer = OffsetDeleteResponsePartition(partition_index=asked.partition_index)
            of_topic.partitions.append(answer)
            if context.broker.partitions.get(topic.name, asked.partition_index) is None:
                answer.error_code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            else:
                wanted.append((topic.name, asked.partition_index))
                answers.append(answer)

    def delete(shard: GroupShard, outcome: Outcome) -> list[ErrorCode]:
        return shard.delete_offsets(request.group_id, wanted, outcome)

    try:
        codes = await context.broker.groups.call(request.group_id, delete)
    except KafkaError as error:
        return OffsetDeleteResponse(error_code=error.code)
    for answer, code in zip(answers, codes, strict=True):
        answer.error_code = code
    return response


def refused(request: OffsetDeleteRequest, code: ErrorCode, version: int) -> OffsetDeleteResponse:
    """The answer that refuses the whole request."""
    return OffsetDeleteResponse(error_code=code)
