"""The records of `__consumer_offsets`, in Kafka's formats: what a group leaves in its log.

A key begins with the record's type (int16), a value with its version. Types: 0 and 1 are committed offsets (0 is how
very old Kafkas wrote them), 2 is a classic group. A null value is a tombstone: the offset, or the group, is gone.
Records of other types (of the newer group protocols) are for others, who keep their bytes as they are.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from odradek.protocol.decoding import decode
from odradek.protocol.encoding import encode
from odradek.protocol.errors import DecodeError
from odradek.protocol.fields import ZERO_UUID, Message
from odradek.protocol.records.consumer_assignment import ConsumerProtocolAssignment
from odradek.protocol.records.consumer_subscription import ConsumerProtocolSubscription
from odradek.protocol.records.group import (
    GroupMetadataKey,
    GroupMetadataValue,
    LegacyOffsetCommitKey,
    LegacyOffsetCommitValue,
    OffsetCommitKey,
    OffsetCommitValue,
)
from odradek.records.builder import NewRecord

_SHORT = struct.Struct(">h")

LEGACY_OFFSET_TYPE = 0
OFFSET_TYPE = 1
GROUP_TYPE = 2

# The versions of values that Kafka 4.4 writes: 1 is the only one with an expiry of its own.
OFFSET_VERSION_WITH_EXPIRY = 1
OFFSET_VERSION = 3
OFFSET_VERSION_WITH_TOPIC_ID = 4
GROUP_VERSION = 3

TopicPartition = tuple[str, int]
NO_TIMESTAMP = -1


class Committed(NamedTuple):
    """A committed offset. Times in ms; `expire_ms` is -1 unless the commit asked for a time of its own."""

    offset: int
    leader_epoch: int
    metadata: str
    commit_ms: int
    expire_ms: int = NO_TIMESTAMP
    topic_id: bytes = ZERO_UUID


class OffsetKey(NamedTuple):
    """Whose offset of which partition."""

    group_id: str
    topic: str
    partition: int


class GroupKey(NamedTuple):
    """A classic group."""

    group_id: str


def _encode(message: Message, kind: int, version: int = 0) -> bytes:
    return _SHORT.pack(kind) + encode(message, version)


def _version(data: bytes) -> int:
    if len(data) < _SHORT.size:
        raise DecodeError("a record of a group without its version")
    version: int = _SHORT.unpack_from(data)[0]
    return version


def offset_record(key: OffsetKey, committed: Committed | None, now_ms: int) -> NewRecord:
    """A commit, or with None its tombstone."""
    encoded = _encode(OffsetCommitKey(group=key.group_id, topic=key.topic, partition=key.partition), OFFSET_TYPE)
    return NewRecord(encoded, None if committed is None else encode_committed(committed), now_ms)


def encode_committed(committed: Committed) -> bytes:
    if committed.expire_ms != NO_TIMESTAMP:
        version = OFFSET_VERSION_WITH_EXPIRY
    elif committed.topic_id != ZERO_UUID:
        version = OFFSET_VERSION_WITH_TOPIC_ID
    else:
        version = OFFSET_VERSION
    value = OffsetCommitValue(
        offset=committed.offset,
        leader_epoch=committed.leader_epoch,
        metadata=committed.metadata,
        commit_timestamp=committed.commit_ms,
        expire_timestamp=committed.expire_ms,
        topic_id=committed.topic_id,
    )
    return _encode(value, version, version)


def group_record(group_id: str, value: GroupMetadataValue | None, now_ms: int) -> NewRecord:
    """A classic group as it is now, or with None its tombstone."""
    key = _encode(GroupMetadataKey(group=group_id), GROUP_TYPE)
    return NewRecord(key, None if value is None else _encode(value, GROUP_VERSION, GROUP_VERSION), now_ms)


def read_key(key: bytes) -> OffsetKey | GroupKey | None:
    """Whose record it is; None for a type that is not the classic groups'. Raises `DecodeError`."""
    kind = _version(key)
    if kind in (OFFSET_TYPE, LEGACY_OFFSET_TYPE):
        cls = OffsetCommitKey if kind == OFFSET_TYPE else LegacyOffsetCommitKey
        read, _ = decode(cls, 0, key, _SHORT.size)
        return OffsetKey(read.group, read.topic, read.partition)
    if kind == GROUP_TYPE:
        return GroupKey(decode(GroupMetadataKey, 0, key, _SHORT.size)[0].group)
    return None


def read_committed(key: bytes, value: bytes) -> Committed:
    """A commit's value. Raises `DecodeError`."""
    version = _version(value)
    if _version(key) == LEGACY_OFFSET_TYPE:
        _check(LegacyOffsetCommitValue, version)
        old, _ = decode(LegacyOffsetCommitValue, version, value, _SHORT.size)
        return Committed(old.offset, -1, old.metadata, old.commit_timestamp)
    _check(OffsetCommitValue, version)
    read, _ = decode(OffsetCommitValue, version, value, _SHORT.size)
    return Committed(
        read.offset, read.leader_epoch, read.metadata, read.commit_timestamp, read.expire_timestamp, read.topic_id
    )


def read_group(value: bytes) -> GroupMetadataValue:
    """A classic group's value. Raises `DecodeError`."""
    version = _version(value)
    _check(GroupMetadataValue, version)
    read: GroupMetadataValue = decode(GroupMetadataValue, version, value, _SHORT.size)[0]
    return read


def _check(message: type[Message], version: int) -> None:
    if version not in message.valid_versions:
        raise DecodeError(f"{message.__name__} has no version {version}")


def subscribed_topics(metadata: bytes) -> frozenset[str] | None:
    """The topics in a consumer's subscription; None where it cannot be read. As in Kafka, of any version only the
    first one's fields are looked at: what follows them may be anything."""
    try:
        if _version(metadata) < 0:
            return None
        return frozenset(decode(ConsumerProtocolSubscription, 0, metadata, _SHORT.size)[0].topics)
    except DecodeError:
        return None


def assigned_partitions(assignment: bytes) -> dict[str, list[int]] | None:
    """The partitions in a consumer's assignment; None where it cannot be read."""
    try:
        version = _version(assignment)
        if version < 0:
            return None
        version = min(version, ConsumerProtocolAssignment.valid_versions.last)
        read, _ = decode(ConsumerProtocolAssignment, version, assignment, _SHORT.size)
        return {topic.topic: topic.partitions for topic in read.assigned_partitions}
    except DecodeError:
        return None
