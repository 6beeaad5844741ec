"""OffsetDelete (API key 47), version 0 (KIP-496).

Card: deletes a group's offsets of topics that no member subscribes to (else GROUP_SUBSCRIBED_TO_TOPIC). A group whose
members are no consumers is refused with NON_EMPTY_GROUP. As in Kafka, a topic named twice has one entry in the answer,
and a partition named twice is answered twice.
"""

from __future__ import annotations

from collections.abc import Awaitable

from odradek.coordination.replies import Untold, settled
from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import RequestContext
from odradek.handlers.turns import Steps as StepsTo
from odradek.protocol.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
)


async def handle(request: OffsetDeleteRequest, context: RequestContext) -> OffsetDeleteResponse:
    """Deletes the offsets, or returns an error for each. Ends what it has begun also if the connection is lost."""
    told = await context.broker.turns.run(_delete(request, context))
    return told if isinstance(told, OffsetDeleteResponse) else await told


def _delete(
    request: OffsetDeleteRequest, context: RequestContext
) -> StepsTo[OffsetDeleteResponse | Awaitable[OffsetDeleteResponse]]:
    if not request.group_id:
        return OffsetDeleteResponse(error_code=ErrorCode.INVALID_GROUP_ID)
    topics: dict[str, OffsetDeleteResponseTopic] = {}
    wanted: list[tuple[str, int]] = []
    answers: list[OffsetDeleteResponsePartition] = []
    for topic in request.topics:
        of_topic = topics.setdefault(topic.name, OffsetDeleteResponseTopic(name=topic.name))
        for asked in topic.partitions:
            answer = OffsetDeleteResponsePartition(partition_index=asked.partition_index)
            of_topic.partitions.append(answer)
            if context.broker.partitions.get(topic.name, asked.partition_index) is None:
                answer.error_code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            else:
                wanted.append((topic.name, asked.partition_index))
                answers.append(answer)
            yield
    try:
        deleted = yield from context.broker.groups.steps(
            request.group_id, lambda shard: shard.delete_offsets(request.group_id, wanted)
        )
    except KafkaError as error:
        return OffsetDeleteResponse(error_code=error.code)
    for answer, code in zip(answers, deleted.result, strict=True):
        answer.error_code = code
    return _told(OffsetDeleteResponse(topics=list(topics.values())), deleted)


async def _told(response: OffsetDeleteResponse, deleted: Untold[list[ErrorCode]]) -> OffsetDeleteResponse:
    await settled((deleted,))
    return OffsetDeleteResponse(error_code=ErrorCode.NOT_COORDINATOR) if deleted.is_lost else response


def refused(request: OffsetDeleteRequest, code: ErrorCode, version: int) -> OffsetDeleteResponse:
    """The answer that refuses the whole request."""
    return OffsetDeleteResponse(error_code=code)
