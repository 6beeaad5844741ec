"""OffsetFetch (API key 9), versions 1-10.

Card: 2 all topics, and an error for the group, 5 leader epochs (KIP-320), 7 stable offsets only (KIP-447: an offset
that an open transaction may change gets UNSTABLE_OFFSET_COMMIT, and the client retries), 8 several groups (KIP-709), 9
member id and epoch of the newer group types (KIP-848), 10 topic ids. If nothing was committed the offset is -1, also
for topics that do not exist. Groups and partitions named twice are answered twice; a group for which the response has
no room gets INVALID_REQUEST.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

from odradek.coordination.groups.records import Committed, OffsetKey
from odradek.coordination.groups.shard import GroupShard
from odradek.coordination.operation import Outcome
from odradek.coordination.replies import Untold, settled
from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import RequestContext, Steps
from odradek.handlers.response_budget import LENGTH_BYTES, ResponseBudget
from odradek.handlers.topics import find_topic
from odradek.handlers.turns import LATER, LONG_ANSWER_BYTES
from odradek.handlers.turns import Steps as StepsTo
from odradek.protocol.fields import ZERO_UUID
from odradek.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
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
# Partitions that are answered between two yields: less than half a ms.
AT_ONCE = 200
# Estimated bytes of a topic, and of a partition without its metadata text.
TOPIC_BYTES = 32
PARTITION_BYTES = 20
P = TypeVar("P", OffsetFetchResponsePartition, OffsetFetchResponsePartitions)
NOTHING = Committed(offset=-1, leader_epoch=-1, metadata="", commit_ms=-1)


class _Offsets(NamedTuple):
    """A group's offsets of the requested topics, at one moment."""

    topics: Mapping[str, Mapping[int, Committed]]
    unstable: frozenset[tuple[str, int]]
    """Topic and partition of the offsets that open transactions may change; empty without `require_stable`."""


_Asked = Sequence[tuple[str, Sequence[int]]]
"""The requested topics by name, each with its partitions."""


def handle(request: OffsetFetchRequest, context: RequestContext) -> Steps:
    """The committed offsets."""
    if context.api_version >= SEVERAL_GROUPS_SINCE:
        return (yield from _several(request, context))
    asked = None if request.topics is None else [(topic.name, topic.partition_indexes) for topic in request.topics]
    try:
        found = _offsets(request.group_id, None, NO_EPOCH, asked, request.require_stable, context)
    except KafkaError as error:
        return refused(request, error.code, context.api_version)
    response, size = OffsetFetchResponse(), 0
    for name, indexes in asked if asked is not None else _all(found.result):
        partitions, added = yield from _partitions(OffsetFetchResponsePartition, name, indexes, found.result)
        response.topics.append(OffsetFetchResponseTopic(name=name, partitions=partitions))
        size += added
        yield
    if size > LONG_ANSWER_BYTES:
        yield LATER
    return (
        response if not (found.is_open or found.is_lost) else _told_old(request, context.api_version, response, found)
    )


async def _told_old(
    request: OffsetFetchRequest, version: int, response: OffsetFetchResponse, found: Untold[_Offsets]
) -> OffsetFetchResponse:
    await settled((found,))
    return refused(request, ErrorCode.NOT_COORDINATOR, version) if found.is_lost else response


def refused(request: OffsetFetchRequest, code: ErrorCode, version: int) -> OffsetFetchResponse:
    """The answer that refuses the whole request."""
    if version >= SEVERAL_GROUPS_SINCE:
        return OffsetFetchResponse(
            groups=[OffsetFetchResponseGroup(group_id=group.group_id, error_code=code) for group in request.groups]
        )
    if version >= GROUP_ERROR_SINCE:
        return OffsetFetchResponse(error_code=code)
    return OffsetFetchResponse(
        topics=[
            OffsetFetchResponseTopic(
                name=topic.name,
                partitions=[
                    OffsetFetchResponsePartition(
                        partition_index=index, committed_offset=-1, metadata="", error_code=code
                    )
                    for index in topic.partition_indexes
                ],
            )
            for topic in request.topics or ()
        ]
    )


# --- several groups --------------------------------------------------------------------------------------------------

_Group = Untold[tuple[OffsetFetchResponseGroup, int]]
"""The answer for a group, and its estimated bytes."""


def _several(request: OffsetFetchRequest, context: RequestContext) -> Steps:
    budget = ResponseBudget(context.broker.config)
    groups: list[Untold[OffsetFetchResponseGroup]] = []
    # All offsets of a group may be many: a group that is named several times is one object in the response.
    whole: dict[tuple[str, str | None, int], _Group] = {}
    for asked in request.groups:
        if not budget.is_over:
            key = asked.group_id, asked.member_id, asked.member_epoch
            found = whole.get(key) if asked.topics is None else None
            if found is None:
                found = yield from _group(asked, request.require_stable, context)
                if asked.topics is None:
                    whole[key] = found
            group, size = found.result
            if budget.take(size):
                groups.append(Untold(group, found.durable))
                yield
                continue
        refusal = OffsetFetchResponseGroup(group_id=asked.group_id, error_code=ErrorCode.INVALID_REQUEST)
        groups.append(Untold(refusal, None))
        yield
    if budget.used_bytes > LONG_ANSWER_BYTES:
        yield LATER
    if any(one.is_open or one.is_lost for one in groups):
        return _told(groups)
    return OffsetFetchResponse(groups=[one.result for one in groups])


async def _told(groups: Sequence[Untold[OffsetFetchResponseGroup]]) -> OffsetFetchResponse:
    await settled(groups)
    return OffsetFetchResponse(
        groups=[
            OffsetFetchResponseGroup(group_id=one.result.group_id, error_code=ErrorCode.NOT_COORDINATOR)
            if one.is_lost
            else one.result
            for one in groups
        ]
    )


def _group(group: OffsetFetchRequestGroup, require_stable: bool, context: RequestContext) -> StepsTo[_Group]:
    response, size = OffsetFetchResponseGroup(group_id=group.group_id), LENGTH_BYTES + len(group.group_id)
    by_id = context.api_version >= BY_ID_SINCE
    partitions = context.broker.partitions
    # The name and id in the request, and the known name, of each topic; "" if the topic does not exist.
    named: list[tuple[str, bytes, str, Sequence[int]]] = []
    for asked in group.topics or ():
        if by_id:
            topic = find_topic(partitions, asked.name, asked.topic_id, by_id)
            named.append(("", asked.topic_id, "" if topic is None else topic.name, asked.partition_indexes))
        else:
            named.append((asked.name, ZERO_UUID, asked.name, asked.partition_indexes))
    wanted = None if group.topics is None else [(known, indexes) for _, _, known, indexes in named]
    try:
        found, durable = _offsets(group.group_id, group.member_id, group.member_epoch, wanted, require_stable, context)
    except KafkaError as error:
        response.error_code = error.code
        return Untold((response, size), None)
    if group.topics is None:
        for name, indexes in _all(found):
            here = partitions.topics.get(name)
            if here is not None or not by_id:
                named.append((name, ZERO_UUID if here is None else here.topic_id, name, indexes))
    for name, topic_id, known, indexes in named:
        code = ErrorCode.UNKNOWN_TOPIC_ID if by_id and not known else ErrorCode.NONE
        answers, added = yield from _partitions(OffsetFetchResponsePartitions, known, indexes, found, code)
        response.topics.append(OffsetFetchResponseTopics(name=name, topic_id=topic_id, partitions=answers))
        size += added
        yield
    return Untold((response, size), durable)


# --- one group -------------------------------------------------------------------------------------------------------


def _offsets(
    group_id: str,
    member_id: str | None,
    member_epoch: int,
    asked: _Asked | None,
    require_stable: bool,
    context: RequestContext,
) -> Untold[_Offsets]:
    """A group's offsets of the requested topics, or of all topics. Raises `KafkaError`."""

    def read(shard: GroupShard, outcome: Outcome) -> _Offsets:
        committed = shard.fetch_offsets(group_id, member_id, member_epoch)
        names = committed if asked is None else [name for name, _ in asked if name in committed]
        topics = {name: dict(committed[name]) for name in names}
        pending = shard.pending.keys_of(group_id) if require_stable else ()
        if not pending:
            return _Offsets(topics, frozenset())
        if asked is None:
            return _Offsets(topics, frozenset((key.topic, key.partition) for key in pending))
        places = ((name, index) for name, indexes in asked for index in indexes)
        return _Offsets(topics, frozenset(place for place in places if OffsetKey(group_id, *place) in pending))

    return context.broker.groups.start(group_id, read)


def _all(found: _Offsets) -> _Asked:
    return [(name, list(of)) for name, of in found.topics.items()]


def _partitions(
    kind: type[P], topic: str, indexes: Sequence[int], found: _Offsets, code: ErrorCode = ErrorCode.NONE
) -> StepsTo[tuple[list[P], int]]:
    """The answers for partitions of a topic, as structures of the class `kind`, and their estimated bytes with the
    topic's."""
    of = found.topics.get(topic, {})
    answers: list[P] = []
    size = TOPIC_BYTES + len(topic) + PARTITION_BYTES * len(indexes)
    for number, index in enumerate(indexes, 1):
        is_unstable = (topic, index) in found.unstable
        committed = NOTHING if is_unstable else of.get(index, NOTHING)
        size += len(committed.metadata)
        answers.append(
            kind(
                partition_index=index,
                committed_offset=committed.offset,
                committed_leader_epoch=committed.leader_epoch,
                metadata=committed.metadata,
                error_code=ErrorCode.UNSTABLE_OFFSET_COMMIT if is_unstable else code,
            )
        )
        if number % AT_ONCE == 0:
            yield
    return answers, size
