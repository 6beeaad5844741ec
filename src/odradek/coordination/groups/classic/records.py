"""The record of a classic group in `__consumer_offsets`, in Kafka's format (type 2): the group with its members.

A null value is a tombstone: the group was deleted. Sans-IO.
"""

from __future__ import annotations

from odradek.coordination.groups.records import PREFIX_SIZE, check_version, prefix_of, with_prefix
from odradek.protocol.decoding import decode
from odradek.protocol.records.group import GroupMetadataKey, GroupMetadataValue
from odradek.records.builder import NewRecord

GROUP_TYPE = 2
# The version of values that Kafka 4.4 writes.
GROUP_VERSION = 3


def group_record(group_id: str, value: GroupMetadataValue | None, now_ms: int) -> NewRecord:
    """The record of a classic group; its tombstone if `value` is None."""
    encoded = None if value is None else with_prefix(GROUP_VERSION, value, GROUP_VERSION)
    return NewRecord(group_key(group_id), encoded, now_ms)


def group_key(group_id: str) -> bytes:
    """The key of a classic group's record."""
    return with_prefix(GROUP_TYPE, GroupMetadataKey(group=group_id))


def read_group_key(key: bytes) -> str | None:
    """The group id; None for a record of another type. Raises `DecodeError`."""
    if prefix_of(key) != GROUP_TYPE:
        return None
    read: GroupMetadataKey = decode(GroupMetadataKey, 0, key, PREFIX_SIZE)[0]
    return read.group


def read_group(value: bytes) -> GroupMetadataValue:
    """The value of a classic group's record, decoded. Raises `DecodeError`."""
    version = prefix_of(value)
    check_version(GroupMetadataValue, version)
    read: GroupMetadataValue = decode(GroupMetadataValue, version, value, PREFIX_SIZE)[0]
    return read
