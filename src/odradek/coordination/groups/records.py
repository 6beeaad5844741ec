"""The records of committed offsets in `__consumer_offsets`, in Kafka's formats.

A key begins with the record's type (int16), a value with its version. Types 0 and 1 are committed offsets (0 was
written by very old versions of Kafka). Each other record type belongs to one type of group (`classic/records.py`);
records of unknown types are kept unread. A null value is a tombstone: the offset was deleted. Sans-IO.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import NamedTuple

from odradek.protocol.decoding import decode
from odradek.protocol.encoding import encode
from odradek.protocol.errors import DecodeError
from odradek.protocol.fields import ZERO_UUID, Message
from odradek.protocol.records.group import (
    LegacyOffsetCommitKey,
    LegacyOffsetCommitValue,
    OffsetCommitKey,
    OffsetCommitValue,
)
from odradek.records.builder import NewRecord

_PREFIX = struct.Struct(">h")
PREFIX_SIZE = _PREFIX.size
_PARTITION = struct.Struct(">i")
# Of groups with topics, as many as are remembered: a group commits of the same topics again and again.
KEYS_KEPT = 256

LEGACY_OFFSET_TYPE = 0
OFFSET_TYPE = 1

# The versions of values that Kafka 4.4 writes: only version 1 has a field for an expiry time.
OFFSET_VERSION_WITH_EXPIRY = 1
OFFSET_VERSION = 3
OFFSET_VERSION_WITH_TOPIC_ID = 4

NO_TIMESTAMP = -1


class Committed(NamedTuple):
    """A committed offset. Times in ms; `expire_ms` is -1 unless the commit asked for an expiry time."""

    offset: int
    leader_epoch: int
    metadata: str
    commit_ms: int
    expire_ms: int = NO_TIMESTAMP
    topic_id: bytes = ZERO_UUID


class OffsetKey(NamedTuple):
    """The key of a committed offset: a group and a partition."""

    group_id: str
    topic: str
    partition: int


# --- prefixes of keys and values -------------------------------------------------------------------------------------


def with_prefix(prefix: int, message: Message, version: int = 0) -> bytes:
    """An encoded key after its type, or an encoded value after its version."""
    return _PREFIX.pack(prefix) + encode(message, version)


def prefix_of(data: bytes) -> int:
    """A key's type, or a value's version. Raises `DecodeError`."""
    if len(data) < PREFIX_SIZE:
        raise DecodeError("a record of a group without its version")
    prefix: int = _PREFIX.unpack_from(data)[0]
    return prefix


def check_version(message: type[Message], version: int) -> None:
    """Raises `DecodeError` for a version that the message does not have."""
    if version not in message.valid_versions:
        raise DecodeError(f"{message.__name__} has no version {version}")


# --- committed offsets -----------------------------------------------------------------------------------------------


@lru_cache(KEYS_KEPT)
def _key_of_topic(group_id: str, topic: str) -> bytes:
    """What the keys of a group's offsets of a topic begin with: all but the partition, which comes last."""
    return with_prefix(OFFSET_TYPE, OffsetCommitKey(group=group_id, topic=topic, partition=0))[: -_PARTITION.size]


def offset_record(key: OffsetKey, committed: Committed | None, now_ms: int) -> NewRecord:
    """A commit, or with None its tombstone."""
    encoded = _key_of_topic(key.group_id, key.topic) + _PARTITION.pack(key.partition)
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
    return with_prefix(version, value, version)


def read_offset_key(key: bytes) -> OffsetKey | None:
    """The key of a committed offset; None for a record of another type. Raises `DecodeError`."""
    kind = prefix_of(key)
    if kind not in (OFFSET_TYPE, LEGACY_OFFSET_TYPE):
        return None
    cls = OffsetCommitKey if kind == OFFSET_TYPE else LegacyOffsetCommitKey
    read, _ = decode(cls, 0, key, PREFIX_SIZE)
    return OffsetKey(read.group, read.topic, read.partition)


def read_committed(key: bytes, value: bytes) -> Committed:
    """The committed offset in a record's value. Raises `DecodeError`."""
    version = prefix_of(value)
    if prefix_of(key) == LEGACY_OFFSET_TYPE:
        check_version(LegacyOffsetCommitValue, version)
        old, _ = decode(LegacyOffsetCommitValue, version, value, PREFIX_SIZE)
        return Committed(old.offset, -1, old.metadata, old.commit_timestamp)
    check_version(OffsetCommitValue, version)
    read, _ = decode(OffsetCommitValue, version, value, PREFIX_SIZE)
    return Committed(
        read.offset, read.leader_epoch, read.metadata, read.commit_timestamp, read.expire_timestamp, read.topic_id
    )
