"""OffsetFetch (API key 9), versions 1-10.

Card: 2 all topics, and an error for the group, 5 leader epochs (KIP-320), 7 stable offsets only (KIP-447: one that a
transaction may yet change is UNSTABLE_OFFSET_COMMIT, and asked for again), 8 several groups (KIP-709), 9 member id and
epoch of the newer groups (KIP-848), 10 topic ids. Where nothing was committed the offset is -1, also for topics that
do not exist.
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
NO_EPOCH = -1
# Topic and partition of offsets that may change.
Unstable = frozenset[tuple[str, int]]
NOTHING = Committed(offset=-1, leader_epoch=-1, metadata="", commit_ms=-1)


async def handle(request: OffsetFetchRequest, context: RequestContext) -> OffsetFetchResponse:
    """The committed offsets."""
    if context.api_version >= SEVERAL_GROUPS_SINCE:
        groups = await asyncio.gather(*(_group(group, request.require_stable, context) for group in request.groups))
        return OffsetFetchResponse(groups=list(groups))
    try:
        found, unstable = await _offsets(request.group_id, None, NO_EPOCH, request.require_stable, context)
    except KafkaError as error:
        if context.api_version >= GROUP_ERROR_SINCE:
            return OffsetFetchResponse(error_code=error.code)
        return OffsetFetchResponse(topics=_old_topics(request.topics or [], {}, error.code, frozenset()))
    if request.topics is not None:
        return OffsetFetchResponse(topics=_old_topics(request.topics, found, ErrorCode.NONE, unstable))
    every = [OffsetFetchRequestTopic(name=name, partition_indexes=list(of)) for name, of in found.items()]
    return OffsetFetchResponse(topics=_old_topics(every, found, ErrorCode.NONE, unstable))


def refused(request: OffsetFetchRequest, code: ErrorCode, version: int) -> OffsetFetchResponse:
    """The answer that refuses the whole request."""
    if version >= SEVERAL_GROUPS_SINCE:
        return OffsetFetchResponse(
            groups=[OffsetFetchResponseGroup(group_id=group.group_id, error_code=code) for group in request.groups]
        )
    if version >= GROUP_ERROR_SINCE:
        return OffsetFetchResponse(error_code=code)
    return OffsetFetchResponse(topics=_old_topics(request.topics or [], {}, code, frozenset()))


async def _offsets(
    group_id: str, member_id: str | None, member_epoch: int, require_stable: bool, context: RequestContext
) -> tuple[Topics, Unstable]:
    """A group's offsets; and where transactions that have not ended may change them, if that matters."""

    def read(shard: GroupShard, outcome: Outcome) -> tuple[Topics, Unstable]:
        committed = shard.fetch_offsets(group_id, member_id, member_epoch)
        found = {topic: dict(partitions) for topic, partitions in committed.items()}
        pending = shard.pending.keys_of(group_id) if require_stable else ()
        return found, frozenset((key.topic, key.partition) for key in pending)

    return await context.broker.groups.call(group_id, read)


def _old_topics(
    topics: Sequence[OffsetFetchRequestTopic], found: Topics, code: ErrorCode, unstable: Unstable
) -> list[OffsetFetchResponseTopic]:
    answers = []
    for topic in topics:
        of = found.get(topic.name, {})
        answer = OffsetFetchResponseTopic(name=topic.name)
        answers.append(answer)
        for index in topic.partition_indexes:
            is_unstable = (topic.name, index) in unstable
            committed = NOTHING if is_unstable else of.get(index, NOTHING)
            answer.partitions.append(
                OffsetFetchResponsePartition(
                    partition_index=index,
                    committed_offset=committed.offset,
                    committed_leader_epoch=committed.leader_epoch,
                    metadata=committed.metadata,
                    error_code=ErrorCode.UNSTABLE_OFFSET_COMMIT if is_unstable else code,
                )
            )
    return answers


async def _group(
    group: OffsetFetchRequestGroup, require_stable: bool, context: RequestContext
) -> OffsetFetchResponseGroup:
    response = OffsetFetchResponseGroup(group_id=group.group_id)
    partitions = context.broker.partitions
    by_id = context.api_version >= BY_ID_SINCE
    try:
        member = group.member_id, group.member_epoch
        found, unstable = await _offsets(group.group_id, *member, require_stable, context)
    except KafkaError as error:
        response.error_code = error.code
        return response
    if group.topics is None:
        for name, of in found.items():
            topic_id = _id_of(name, partitions) if by_id else ZERO_UUID
            if topic_id is not None:
                answer = _topic(name, topic_id, list(of), of, ErrorCode.NONE)
                _mark_unstable(answer, name, unstable)
                response.topics.append(answer)
        return response
    for topic in group.topics:
        if not by_id:
            answer = _topic(topic.name, ZERO_UUID, topic.partition_indexes, found.get(topic.name, {}), ErrorCode.NONE)
            _mark_unstable(answer, topic.name, unstable)
        else:
            known = partitions.topics_by_id.get(topic.topic_id)
            of = {} if known is None else found.get(known.name, {})
            code = ErrorCode.UNKNOWN_TOPIC_ID if known is None else ErrorCode.NONE
            answer = _topic("", topic.topic_id, topic.partition_indexes, of, code)
            if known is not None:
                _mark_unstable(answer, known.name, unstable)
        response.topics.append(answer)
    return response


def _mark_unstable(answer: OffsetFetchResponseTopics, name: str, unstable: Unstable) -> None:
    if not unstable:
        return
    for one in answer.partitions:
        if (name, one.partition_index) in unstable:
            one.committed_offset, one.committed_leader_epoch, one.metadata = -1, -1, ""
            one.error_code = ErrorCode.UNSTABLE_OFFSET_COMMIT


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
