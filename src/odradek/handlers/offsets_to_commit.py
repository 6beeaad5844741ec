"""Shared by OffsetCommit and TxnOffsetCommit: finds the partitions, makes the offsets to commit, and fills refusals in.

As in Kafka, a topic named twice has one entry in the answer, and a partition named twice is answered twice. A request
with many partitions is committed in parts (`parts`), each of them atomically.

The requests and answers of both APIs have the same fields. Whether a member may commit is decided by its group
(`coordination/groups/committing.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from odradek.config.bounds import LONG_MAX
from odradek.coordination.groups.records import NO_TIMESTAMP, Committed, OffsetKey
from odradek.coordination.operation import STEP_RECORDS
from odradek.errors import ErrorCode
from odradek.handlers.context import BrokerParts
from odradek.handlers.topics import find_topic, unknown
from odradek.partitions.registry import Partitions, Topic
from odradek.protocol.messages.offset_commit import (
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)
from odradek.protocol.messages.txn_offset_commit import (
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
    TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
)

NO_RETENTION = -1

_Asked = OffsetCommitRequestPartition | TxnOffsetCommitRequestPartition
_Answer = OffsetCommitResponsePartition | TxnOffsetCommitResponsePartition
# A requested partition that exists, its topic, and its entry in the answer.
ToCommit = tuple[_Asked, Topic, _Answer]
_AskedTopic = OffsetCommitRequestTopic | TxnOffsetCommitRequestTopic
Answers = dict[str | bytes, Any]
"""The answer for each topic, by its name or id."""


def are_many(topics: Sequence[_AskedTopic]) -> bool:
    """Whether these are more partitions than one part may have."""
    if len(topics) == 1:
        return len(topics[0].partitions) > STEP_RECORDS
    return sum([len(topic.partitions) for topic in topics]) > STEP_RECORDS


def parts(topics: Sequence[_AskedTopic]) -> Iterator[list[Any]]:
    """Splits the topics and partitions, in their order, into parts that are committed one after the other."""
    part: list[Any] = []
    room = STEP_RECORDS
    for topic in topics:
        first, count = 0, len(topic.partitions)
        while first < count:
            some: list[Any] = [*topic.partitions[first : first + room]]
            part.append(type(topic)(name=topic.name, topic_id=topic.topic_id, partitions=some))
            first += len(some)
            room -= len(some)
            if not room:
                yield part
                part, room = [], STEP_RECORDS
    if part:
        yield part


def to_commit(
    topics: Iterable[_AskedTopic],
    answers: Answers,
    topic_answer: type[OffsetCommitResponseTopic | TxnOffsetCommitResponseTopic],
    partition_answer: type[_Answer],
    partitions: Partitions,
    by_id: bool,
) -> list[ToCommit]:
    """The requested partitions that exist. Adds to `answers` an entry for every requested partition, in the API's own
    classes; entries of partitions that do not exist have the error set."""
    found: list[ToCommit] = []
    for asked_topic in topics:
        if not asked_topic.partitions:
            continue
        topic = find_topic(partitions, asked_topic.name, asked_topic.topic_id, by_id)
        name = asked_topic.topic_id if by_id else asked_topic.name
        of_topic = answers.get(name)
        if of_topic is None:
            of_topic = answers[name] = topic_answer(name=asked_topic.name, topic_id=asked_topic.topic_id)
        of_partitions: list[Any] = of_topic.partitions
        for asked in asked_topic.partitions:
            answer = partition_answer(partition_index=asked.partition_index)
            of_partitions.append(answer)
            if topic is not None and 0 <= asked.partition_index < len(topic.partitions):
                found.append((asked, topic, answer))
            else:
                answer.error_code = unknown(topic, by_id)
    return found


def committed(
    group_id: str, offsets: list[ToCommit], broker: BrokerParts, retention_ms: int = NO_RETENTION
) -> Iterator[tuple[OffsetKey, Committed]]:
    """The offsets to commit. A partition whose metadata text is too long is refused in its entry and left out."""
    now_ms = broker.clock.now_ms()
    longest = broker.config.integer("offset.metadata.max.bytes")
    expire_ms = NO_TIMESTAMP if retention_ms == NO_RETENTION else min(now_ms + retention_ms, LONG_MAX)
    for asked, topic, answer in offsets:
        metadata = asked.committed_metadata or ""
        if _too_long(metadata, longest):
            answer.error_code = ErrorCode.OFFSET_METADATA_TOO_LARGE
            continue
        yield (
            OffsetKey(group_id, topic.name, asked.partition_index),
            Committed(
                asked.committed_offset, asked.committed_leader_epoch, metadata, now_ms, expire_ms, topic.topic_id
            ),
        )


def refuse(offsets: list[ToCommit], code: ErrorCode, knows_group_not_found: bool) -> None:
    """Sets the error with which the group or the transaction refused the commit. Versions that do not know
    GROUP_ID_NOT_FOUND get ILLEGAL_GENERATION."""
    if code == ErrorCode.GROUP_ID_NOT_FOUND and not knows_group_not_found:
        code = ErrorCode.ILLEGAL_GENERATION
    for _, _, answer in offsets:
        answer.error_code = code


def _too_long(metadata: str, longest: int) -> bool:
    """Whether a text has more than `longest` UTF-16 units; characters outside the basic plane count as two."""
    return len(metadata) > longest or (
        2 * len(metadata) > longest and len(metadata.encode("utf-16-be", "surrogatepass")) > 2 * longest
    )
