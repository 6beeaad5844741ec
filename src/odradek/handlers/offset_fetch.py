"""OffsetFetch (API key 9), versions 1-10.

Card: 2 all topics, and an error for the group, 5 leader epochs (KIP-320), 7 stable offsets only (there are no
transactions yet, so all are), 8 several groups (KIP-709), 9 member id and epoch of the newer groups (KIP-848), 10
topic ids. Where nothing was committed the offset is -1, also for topics that do not exist.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from odradek.coordination.groups.offsets import Topics
from odradek.coordination.groups.records import Committed
from odradek.coordination.groups.shard import GroupShard
from odradek.coordination.operation import Outcome
from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import RequestContext
from odradek.partitions.registry import Partitions
from odradek.protocol.fields import ZERO_UUID
from odradek.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchResponse,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
)

GROUP_ERROR_SINCE = 2
SEVERAL_GROUPS_SINCE = 8
BY_ID_SINCE = 10
NOTHING = Committed(offset=-1, leader_epoch=-1, metadata="", commit_ms=-1)


async def handle(request: OffsetFetchRequest, context: RequestContext) -> OffsetFetchResponse:
    """The committed offsets."""
    if context.api_version >= SEVERAL_GROUPS_SINCE:
        groups = await asyncio.gather(*(_group(group, context) for group in request.groups))
        return OffsetFetchResponse(groups=list(groups))
    try:
        found = await _offsets(request.group_id, context)
    except KafkaError as error:
        if context.api_version >= GROUP_ERROR_SINCE:
            return OffsetFetchResponse(error_code=error.code)
        return OffsetFetchResponse(topics=_old_topics(request.topics or [], {}, error.code))
    if request.topics is not None:
        return OffsetFetchResponse(topics=_old_topics(request.topics, found, ErrorCode.NONE))
    every = [OffsetFetchRequestTopic(name=name, partition_indexes=list(of)) for name, of in found.items()]
    return OffsetFetchResponse(topics=_old_topics(every, found, ErrorCode.NONE))


async def _offsets(group_id: str, context: RequestContext) -> Topics:
    def read(shard: GroupShard, outcome: Outcome) -> Topics:
        return {topic: dict(partitions) for topic, partitions in shard.offsets.of(group_id).items()}

    return await context.broker.groups.call(group_id, read)


def _old_topics(
    topics: Sequence[OffsetFetchRequestTopic], found: Topics, code: ErrorCode
) -> list[OffsetFetchResponseTopic]:
    answers = []
    for topic in topics:
        of = found.get(topic.name, {})
        answer = OffsetFetchResponseTopic(name=topic.name)
        answers.append(answer)
        for index in topic.partition_indexes:
            committed = of.get(index, NOTHING)
            answer.partitions.append(
                OffsetFetchResponsePartition(
                    partition_index=index,
                    committed_offset=committed.offset,
                    committed_leader_epoch=committed.leader_epoch,
                    metadata=committed.metadata,
                    error_code=code,
                )
            )
    return answers


async def _group(group: OffsetFetchRequestGroup, context: RequestContext) -> OffsetFetchResponseGroup:
    response = OffsetFetchResponseGroup(group_id=group.group_id)
    partitions = context.broker.partitions
    by_id = context.api_version >= BY_ID_SINCE
    try:
        found = await _offsets(group.group_id, context)
    except KafkaError as error:
        response.error_code = error.code
        return response
    if group.topics is None:
        for name, of in found.items():
            topic_id = _id_of(name, partitions) if by_id else ZERO_UUID
            if topic_id is not None:
                response.topics.append(_topic(name, topic_id, list(of), of, ErrorCode.NONE))
        return response
    for topic in group.topics:
        if not by_id:
            answer = _topic(topic.name, ZERO_UUID, topic.partition_indexes, found.get(topic.name, {}), ErrorCode.NONE)
        else:
            known = partitions.topics_by_id.get(topic.topic_id)
            of = {} if known is None else found.get(known.name, {})
            code = ErrorCode.UNKNOWN_TOPIC_ID if known is None else ErrorCode.NONE
            answer = _topic("", topic.topic_id, topic.partition_indexes, of, code)
        response.topics.append(answer)
    return response


def _id_of(name: str, partitions: Partitions) -> bytes | None:
    topic = partitions.topics.get(name)
    return None if topic is None else topic.topic_id


def _topic(
    name: str, topic_id: bytes, indexes: Sequence[int], of: dict[int, Committed], code: ErrorCode
) -> OffsetFetchResponseTopics:
    answer = OffsetFetchResponseTopics(name=name, topic_id=topic_id)
    for index in indexes:
        committed = of.get(index, NOTHING)
        answer.partitions.append(
            OffsetFetchResponsePartitions(
                partition_index=index,
                committed_offset=committed.offset,
                committed_leader_epoch=committed.leader_epoch,
                metadata=committed.metadata,
                error_code=code,
            )
        )
    return answer
