"""The bytes of `__consumer_offsets`: against the formats' own layout, old and new, and as Kafka reads them."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import pytest

from odradek.coordination.groups.classic.groups import ClassicGroups
from odradek.coordination.groups.classic.records import group_record, read_group, read_group_key
from odradek.coordination.groups.records import Committed, OffsetKey, offset_record, read_committed, read_offset_key
from odradek.coordination.sharded_topic import partition_of
from odradek.protocol.encoding import encode
from odradek.protocol.errors import DecodeError
from odradek.protocol.fields import ZERO_UUID
from odradek.protocol.records.group import GroupMetadataValue, MemberMetadata, OffsetCommitValue
from odradek.records.builder import NewRecord, batch_bytes, build_batch
from tests.coordination.stories import Story
from tests.reference import dump_log_segments, needs_java

KEY = OffsetKey("gr\u00fcppe", "topic", 3)
TOPIC_ID = bytes(range(16))
COMMITTED = [
    Committed(42, -1, "", 1_700_000_000_000),
    Committed(42, 7, "where I was", 1_700_000_000_000),
    Committed(2**63 - 1, 0, "\u00fc" * 100, 0, topic_id=TOPIC_ID),
    Committed(0, -1, "", 1, expire_ms=86_400_001),
]


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack(">h", len(data)) + data


def group_value(generation: int = 5, members: int = 2) -> GroupMetadataValue:
    return GroupMetadataValue(
        protocol_type="consumer",
        generation=generation,
        protocol="range",
        leader="m-0",
        current_state_timestamp=1_700_000_000_000,
        members=[
            MemberMetadata(
                member_id=f"m-{number}",
                group_instance_id=f"i-{number}" if number else None,
                client_id="c",
                client_host="/127.0.0.1",
                rebalance_timeout=300_000,
                session_timeout=45_000,
                subscription=b"\0\1\0\0\0\1\0\1t\0\0\0\0",
                assignment=b"\0\1\0\0\0\0\0\0\0\0",
            )
            for number in range(members)
        ],
    )


def key_bytes(record: NewRecord) -> bytes:
    assert record.key is not None
    return record.key


def value_bytes(record: NewRecord) -> bytes:
    assert record.value is not None
    return record.value


# --- offsets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("committed", COMMITTED)
def test_a_commit_comes_back(committed: Committed) -> None:
    record = offset_record(KEY, committed, 9)
    assert read_offset_key(key_bytes(record)) == KEY
    assert read_committed(key_bytes(record), value_bytes(record)) == committed
    assert record.timestamp == 9


def test_the_layout_of_a_commit() -> None:
    record = offset_record(OffsetKey("g", "t", 1), Committed(42, 7, "m", 1000), 9)
    assert record.key == struct.pack(">h", 1) + text("g") + text("t") + struct.pack(">i", 1)
    assert record.value == struct.pack(">hqi", 3, 42, 7) + text("m") + struct.pack(">q", 1000)


def test_a_tombstone_has_the_key_of_its_commit() -> None:
    assert offset_record(KEY, None, 9) == NewRecord(offset_record(KEY, COMMITTED[0], 9).key, None, 9)


@pytest.mark.parametrize("version", range(5))
def test_every_version_of_a_commit_is_read(version: int) -> None:
    """What each version has a place for; the rest is as if it had not been said."""
    value = OffsetCommitValue(
        offset=42,
        leader_epoch=7 if version >= 3 else -1,
        metadata="m",
        commit_timestamp=1000,
        expire_timestamp=2000 if version == 1 else -1,
        topic_id=TOPIC_ID if version >= 4 else ZERO_UUID,
    )
    read = read_committed(key_bytes(offset_record(KEY, None, 0)), struct.pack(">h", version) + encode(value, version))
    assert read == Committed(
        42,
        7 if version >= 3 else -1,
        "m",
        1000,
        2000 if version == 1 else -1,
        TOPIC_ID if version >= 4 else ZERO_UUID,
    )


def test_a_commit_of_a_very_old_kafka() -> None:
    key = struct.pack(">h", 0) + text("g") + text("t") + struct.pack(">i", 1)
    assert read_offset_key(key) == OffsetKey("g", "t", 1)
    value = struct.pack(">hq", 0, 42) + text("m") + struct.pack(">q", 1000)
    assert read_committed(key, value) == Committed(42, -1, "m", 1000)


# --- groups ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("members", [0, 1, 2])
def test_a_group_comes_back(members: int) -> None:
    record = group_record("g", group_value(members=members), 9)
    assert read_group_key(key_bytes(record)) == "g"
    assert read_group(value_bytes(record)) == group_value(members=members)
    assert record.key == struct.pack(">h", 2) + text("g")
    assert value_bytes(record)[:2] == struct.pack(">h", 3)


@pytest.mark.parametrize("version", range(5))
def test_every_version_of_a_group_is_read(version: int) -> None:
    value = group_value()
    if version < 3:
        value.members[1].group_instance_id = None
    if version < 2:
        value.current_state_timestamp = -1
    if version < 1:
        for member in value.members:
            member.rebalance_timeout = -1
    assert read_group(struct.pack(">h", version) + encode(value, version)) == value


# --- what cannot be read ---------------------------------------------------------------------------------------------

OFFSET_KEY_BYTES = key_bytes(offset_record(KEY, None, 0))
OFFSET_VALUE_BYTES = value_bytes(offset_record(KEY, COMMITTED[1], 0))
GROUP_VALUE_BYTES = value_bytes(group_record("g", group_value(), 0))


@pytest.mark.parametrize("kept", range(len(OFFSET_KEY_BYTES)))
def test_a_key_cut_short_is_refused(kept: int) -> None:
    with pytest.raises(DecodeError):
        read_offset_key(OFFSET_KEY_BYTES[:kept])


@pytest.mark.parametrize("kept", range(len(OFFSET_VALUE_BYTES)))
def test_a_commit_cut_short_is_refused(kept: int) -> None:
    with pytest.raises(DecodeError):
        read_committed(OFFSET_KEY_BYTES, OFFSET_VALUE_BYTES[:kept])


@pytest.mark.parametrize("kept", range(len(GROUP_VALUE_BYTES)))
def test_a_group_cut_short_is_refused(kept: int) -> None:
    with pytest.raises(DecodeError):
        read_group(GROUP_VALUE_BYTES[:kept])


@pytest.mark.parametrize("version", [-1, 5, 32767])
def test_a_version_that_nobody_knows_is_named(version: int) -> None:
    with pytest.raises(DecodeError, match=f"version {version}$"):
        read_committed(OFFSET_KEY_BYTES, struct.pack(">h", version) + OFFSET_VALUE_BYTES[2:])
    with pytest.raises(DecodeError, match=f"version {version}$"):
        read_group(struct.pack(">h", version) + GROUP_VALUE_BYTES[2:])


def test_records_of_other_types_are_kept_as_they_are() -> None:
    """Those of the newer kinds of groups (types 3 and above) outlive a snapshot, and end by their tombstone."""
    shard = Story().new_shard()
    key, other = struct.pack(">h", 3) + b"whatever", struct.pack(">h", 16) + b"more"
    assert read_offset_key(key) is None and read_group_key(key) is None
    shard.replay(key, b"one")
    shard.replay(other, b"two")
    shard.replay(key, b"three")
    assert list(shard.records()()) == [(key, b"three"), (other, b"two")]
    shard.replay(key, None)
    assert list(shard.records()()) == [(other, b"two")]


def test_a_group_that_cannot_be_read_costs_its_members_a_join_and_nobody_else_anything() -> None:
    shard = Story().new_shard()
    broken = key_bytes(group_record("broken", None, 0))
    for key, value in (
        (broken, struct.pack(">h", 99)),
        (key_bytes(group_record("g", None, 0)), GROUP_VALUE_BYTES),
        (OFFSET_KEY_BYTES, OFFSET_VALUE_BYTES),
    ):
        shard.replay(key, value)
    shard.prepare()
    shard.loaded()
    assert shard.of(ClassicGroups).group("broken") is None
    group = shard.of(ClassicGroups).group("g")
    assert group is not None and list(group.members) == ["m-0", "m-1"]
    assert shard.offsets.get(*KEY) == COMMITTED[1]
    assert (broken, struct.pack(">h", 99)) in list(shard.records()())


# --- Kafka's side ----------------------------------------------------------------------------------------------------


@needs_java
def test_kafka_reads_what_we_write(tmp_path: Path) -> None:
    records = [
        *(offset_record(KEY, committed, 9) for committed in COMMITTED),
        offset_record(KEY, None, 9),
        group_record("g", group_value(), 9),
        group_record("g", None, 9),
    ]
    segment = tmp_path / "__consumer_offsets-0" / f"{0:020d}.log"
    segment.parent.mkdir()
    segment.write_bytes(batch_bytes(build_batch(records)))
    dump = dump_log_segments("--offsets-decoder", "--files", str(segment))
    said = re.findall(r"key: (\{.*?\})(?: payload: (.*))?$", dump, re.MULTILINE)
    keys = [json.loads(key) for key, _ in said]
    key = {"group": KEY.group_id, "topic": KEY.topic, "partition": KEY.partition}
    assert [one["data"] for one in keys] == [key] * 5 + [{"group": "g"}] * 2
    values = [json.loads(value) for _, value in said if value not in ("", "<DELETE>")]
    assert [one["version"] for one in values] == ["3", "3", "4", "1", "3"]
    for committed, value in zip(COMMITTED, values, strict=False):
        data = value["data"]
        assert (data["offset"], data["metadata"], data["commitTimestamp"]) == (
            committed.offset,
            committed.metadata,
            committed.commit_ms,
        )
        assert data.get("leaderEpoch", -1) == committed.leader_epoch
    group = values[4]["data"]
    assert (group["generation"], group["leader"]) == (5, "m-0")
    assert [member["groupInstanceId"] for member in group["members"]] == [None, "i-1"]


# What Java's String.hashCode says.
JAVA_HASHES = {
    "": 0,
    "abc": 96354,
    "group": 98629247,
    "my-group": -1906497762,
    "hello world": 1794106052,
    # One character of two UTF-16 units.
    "\U0001f600": 1772899,
    # The smallest, of which Java has no absolute value: Kafka takes 0.
    "polygenelubricants": -(2**31),
}


@pytest.mark.parametrize("group_id", JAVA_HASHES)
def test_a_groups_partition_is_by_javas_hash(group_id: str) -> None:
    java_hash = JAVA_HASHES[group_id]
    expected = 0 if java_hash == -(2**31) else abs(java_hash)
    for partitions in (1, 7, 50):
        assert partition_of(group_id, partitions) == expected % partitions
