"""OffsetFetch (API key 9), versions 1-10.

Card: 2 all topics, and an error for the group, 5 leader epochs (KIP-320), 7 stable offsets only (KIP-447: one that a
transaction may yet change is UNSTABLE_OFFSET_COMMIT, and asked for again), 8 several groups (KIP-709), 9 member id and
epoch of the newer groups (KIP-848), 10 topic ids. Where nothing was committed the offset is -1, also for topics that
do not exist.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TypeVar

from odradek.coordination.groups.offsets import Topics
from odradek.coordination.groups.records import Committed
from odradek.coordination.groups.shard import GroupShard
from odradek.coordination.operation import Outcome
from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import RequestContext
from odradek.handlers.topics import find_topic
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
P = TypeVar("P", OffsetFetchResponsePartition, OffsetFetchResponsePartitions)
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
    return [
        OffsetFetchResponseTopic(
            name=topic.name,
            partitions=_partitions(
                OffsetFetchResponsePartition, topic.name, topic.partition_indexes, found, unstable, code
            ),
        )
        for topic in topics
    ]


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

    def add(name: str, topic_id: bytes, known: str, indexes: Iterable[int], code: ErrorCode) -> None:
        answers = _partitions(OffsetFetchResponsePartitions, known, indexes, found, unstable, code)
        response.topics.append(OffsetFetchResponseTopics(name=name, topic_id=topic_id, partitions=answers))

    if group.topics is None:
        for name, of in found.items():
            topic = partitions.topics.get(name)
            if topic is not None or not by_id:
                add(name, ZERO_UUID if topic is None else topic.topic_id, name, of, ErrorCode.NONE)
        return response
    for asked in group.topics:
        if not by_id:
            add(asked.name, ZERO_UUID, asked.name, asked.partition_indexes, ErrorCode.NONE)
            continue
        topic = find_topic(partitions, asked.name, asked.topic_id, by_id)
        code = ErrorCode.UNKNOWN_TOPIC_ID if topic is None else ErrorCode.NONE
        add("", asked.topic_id, "" if topic is None else topic.name, asked.partition_indexes, code)
    return response


def _partitions(
    kind: type[P], topic: str, indexes: Iterable[int], found: Topics, unstable: Unstable, code: ErrorCode
) -> list[P]:
    """The answers for partitions of a topic, in the structure that the version has for them."""
    of = found.get(topic, {})
    answers = []
    for index in indexes:
        is_unstable = (topic, index) in unstable
        committed = NOTHING if is_unstable else of.get(index, NOTHING)
        answers.append(
            kind(
                partition_index=index,
                committed_offset=committed.offset,
                committed_leader_epoch=committed.leader_epoch,
                metadata=committed.metadata,
                error_code=ErrorCode.UNSTABLE_OFFSET_COMMIT if is_unstable else code,
            )
        )
    return answers
