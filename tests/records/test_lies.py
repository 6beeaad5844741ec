"""What lies, in a batch's header or inside it, meets the one exception that its readers know."""

from __future__ import annotations

import contextlib
import struct

import pytest
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from odradek.records.batch import (
    HEADER_BYTES,
    BatchHeader,
    CorruptBatch,
    InvalidBatch,
    MalformedBatch,
    RecordBatch,
    UnsupportedMagic,
    check_batch,
    read_header,
)
from odradek.records.builder import NewRecord, batch_bytes, build_batch, encode_varint
from odradek.records.compression import Codec, compress
from odradek.records.iteration import (
    MalformedRecords,
    first_at_or_after,
    iterate,
    max_timestamp_inside,
    max_timestamp_record,
    recompress,
)

RECORDS = [
    NewRecord(b"k1", b"v1", 100, [("h", b"x"), ("n", None)]),
    NewRecord(None, b"v2" * 100, 90),
    NewRecord(b"", None, 110, [("", b"")]),
]
GOOD = batch_bytes(build_batch(RECORDS))


def _patched(position: int, fmt: str, value: int, resum: bool = True) -> bytes:
    data = bytearray(GOOD)
    struct.pack_into(fmt, data, position, value)
    if resum:
        struct.pack_into(">I", data, 17, crc32c(memoryview(data)[21:]))
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", MalformedBatch),
        (GOOD[:60], MalformedBatch),
        (GOOD[:-1], MalformedBatch),
        (GOOD + b"\0", MalformedBatch),
        (GOOD + GOOD, MalformedBatch),
        (_patched(8, ">i", len(GOOD) - 11), MalformedBatch),
        (_patched(8, ">i", 0), CorruptBatch),
        (_patched(8, ">i", -1), CorruptBatch),
        (_patched(8, ">i", -(2**31)), CorruptBatch),
        (_patched(16, ">b", 1), UnsupportedMagic),
        (_patched(16, ">b", 0), UnsupportedMagic),
        (_patched(16, ">b", 3), CorruptBatch),
        (bytes(16) + b"\x01" + bytes(9), UnsupportedMagic),
        (_patched(17, ">I", 1, resum=False), CorruptBatch),
        (_patched(len(GOOD) - 1, ">B", 77, resum=False), CorruptBatch),
        (_patched(57, ">i", 2), MalformedBatch),
        (_patched(57, ">i", 0), MalformedBatch),
        (_patched(57, ">i", -1), MalformedBatch),
        (_patched(23, ">i", 5), MalformedBatch),
        (_patched(23, ">i", -1), MalformedBatch),
        (_patched(21, ">h", 5), MalformedBatch),
        (_patched(21, ">h", 7), MalformedBatch),
    ],
)
def test_lies_in_the_header(data: bytes, error: type[InvalidBatch]) -> None:
    with pytest.raises(error):
        check_batch(data)


def test_the_log_s_own_fields_are_outside_the_checksum() -> None:
    assert check_batch(_patched(0, ">q", 12345, resum=False)).header.base_offset == 12345
    assert check_batch(_patched(12, ">i", 6, resum=False)).header.leader_epoch == 6


def with_body(body: bytes, count: int, codec: Codec = Codec.NONE, base_timestamp: int = 0) -> tuple[BatchHeader, bytes]:
    """A batch that passes `check_batch` around any body."""
    body = compress(codec, body)
    header = read_header(GOOD)._replace(
        attributes=codec,
        batch_length=49 + len(body),
        last_offset_delta=count - 1,
        record_count=count,
        base_timestamp=base_timestamp,
    )
    batch = RecordBatch(header, (bytes(HEADER_BYTES), body)).with_header(header)
    data = batch_bytes(batch)
    assert check_batch(data).header == batch.header
    return batch.header, data


def _record(
    offset_delta: int = 0,
    timestamp_delta: int = 0,
    key: tuple[int, bytes] = (1, b"k"),
    value: tuple[int, bytes] = (1, b"v"),
    header_count: int = 0,
    headers: bytes = b"",
    length_change: int = 0,
) -> bytes:
    body = b"\0" + encode_varint(timestamp_delta) + encode_varint(offset_delta)
    body += encode_varint(key[0]) + key[1] + encode_varint(value[0]) + value[1]
    body += encode_varint(header_count) + headers
    return encode_varint(len(body) + length_change) + body


def test_the_hand_made_record_is_good() -> None:
    header, data = with_body(_record() + _record(1, 5, (-1, b""), (-1, b"")), 2)
    assert [(r.offset, r.timestamp, r.key, r.value) for r in iterate(header, data)] == [
        (0, 0, b"k", b"v"),
        (1, 5, None, None),
    ]


LIES: list[tuple[str, bytes, int]] = [
    ("no records", b"", 1),
    ("fewer records than counted", _record(), 2),
    ("more records than counted", _record() + _record(1), 1),
    ("bytes after the records", _record() + b"\0", 1),
    ("length too long", _record(length_change=1), 1),
    ("length too short", _record(length_change=-1), 1),
    ("length of nothing", encode_varint(0), 1),
    ("negative length", encode_varint(-5) + _record()[1:], 1),
    ("length beyond everything", encode_varint(2**31 - 1) + _record()[1:], 1),
    ("length too short, into the next", _record(length_change=-1) + _record(1), 2),
    ("offset delta twice", _record(0) + _record(0), 2),
    ("offset delta beyond the last", _record(0) + _record(2), 2),
    ("first offset delta not 0", _record(1) + _record(2), 2),
    ("negative offset delta", _record(-1), 1),
    ("offset deltas falling", _record(1) + _record(0), 2),
    ("key too long", _record(key=(50, b"k")), 1),
    ("key over the record's end", _record(key=(4, b"k")) + _record(1), 2),
    ("negative key length", _record(key=(-2, b"")), 1),
    ("value too long", _record(value=(50, b"v")), 1),
    ("value over the record's end", _record(value=(5, b"v")) + _record(1), 2),
    ("negative value length", _record(value=(-2, b"")), 1),
    ("negative header count", _record(header_count=-1), 1),
    ("more headers than there are", _record(header_count=1), 1),
    ("many more headers than there are", _record(header_count=2**31 - 1), 1),
    ("null header key", _record(header_count=1, headers=encode_varint(-1) + encode_varint(0)), 1),
    ("header key too long", _record(header_count=1, headers=encode_varint(9) + b"a" + encode_varint(0)), 1),
    ("header value too long", _record(header_count=1, headers=encode_varint(1) + b"a" + encode_varint(9)), 1),
    ("negative header value length", _record(header_count=1, headers=encode_varint(1) + b"a" + encode_varint(-2)), 1),
    ("bytes after the headers", _record(headers=b"\0\0"), 1),
    ("varint of six bytes", b"\xff\xff\xff\xff\xff\x01" + _record(), 1),
    ("varint of more than 32 bits", b"\xfe\xff\xff\xff\x7f" + _record(), 1),
    ("endless varint", b"\x80" * 30, 1),
    ("timestamp delta of eleven bytes", b"\x20\0" + b"\xff" * 10 + b"\x01\0\0\0\0", 1),
]


@pytest.mark.parametrize(("body", "count"), [pytest.param(body, count, id=name) for name, body, count in LIES])
@pytest.mark.parametrize("codec", [Codec.NONE, Codec.LZ4])
def test_lies_inside(body: bytes, count: int, codec: Codec) -> None:
    header, data = with_body(body, count, codec)
    with pytest.raises(MalformedRecords):
        list(iterate(header, data))
    with pytest.raises(MalformedRecords):
        max_timestamp_record(header, data)
    with pytest.raises(MalformedRecords):
        first_at_or_after(header, data, 2**62)
    unset = header._replace(max_timestamp=-7)
    assert max_timestamp_inside(unset, data) == unset.base_timestamp


def test_a_timestamp_outside_64_bits_is_a_lie() -> None:
    header, data = with_body(_record(timestamp_delta=1), 1, base_timestamp=2**63 - 1)
    with pytest.raises(MalformedRecords, match="timestamp"):
        list(iterate(header, data))


def test_compaction_may_leave_gaps_and_nothing() -> None:
    header, data = with_body(_record(2) + _record(7), 2)
    gapped = header._replace(last_offset_delta=9)
    assert [record.offset for record in iterate(gapped, data)] == [2, 7]
    emptied, data = with_body(b"", 1)
    emptied = emptied._replace(record_count=0)
    assert list(iterate(emptied, data)) == []
    assert max_timestamp_record(emptied, data) is None


@pytest.mark.parametrize("codec", [Codec.GZIP, Codec.SNAPPY, Codec.LZ4, Codec.ZSTD])
def test_a_body_that_does_not_decompress(codec: Codec) -> None:
    header, _ = with_body(_record(), 1)
    header = header._replace(attributes=codec)
    batch = RecordBatch(header, (bytes(HEADER_BYTES), _record())).with_header(header)
    with pytest.raises(MalformedRecords):
        list(iterate(batch.header, batch_bytes(batch)))
    with pytest.raises(MalformedRecords):
        recompress(batch, Codec.NONE)


def test_a_batch_that_decompresses_to_too_much() -> None:
    batch = build_batch([NewRecord(None, bytes(1_000_000))], codec=Codec.ZSTD)
    with pytest.raises(MalformedRecords, match="more than 10000 bytes"):
        list(iterate(batch.header, batch_bytes(batch), max_bytes=10_000))
    with pytest.raises(MalformedRecords, match="more than 10000 bytes"):
        recompress(batch, Codec.LZ4, max_bytes=10_000)


def test_data_that_is_not_the_header_s_batch() -> None:
    with pytest.raises(MalformedRecords):
        list(iterate(read_header(GOOD), GOOD[:-1]))
    with pytest.raises(MalformedRecords):
        list(iterate(read_header(GOOD)._replace(batch_length=3), GOOD[:15]))


@settings(max_examples=1000, deadline=None)
@given(st.data(), st.sampled_from([Codec.NONE, Codec.NONE, Codec.LZ4]))
def test_a_damaged_body_raises_one_error(draw: st.DataObject, codec: Codec) -> None:
    good = build_batch(RECORDS)
    body = bytearray(bytes(good.buffers[1]))
    for _ in range(draw.draw(st.integers(1, 4))):
        body[draw.draw(st.integers(0, len(body) - 1))] = draw.draw(st.integers(0, 255))
    header, data = with_body(bytes(body), 3, codec)
    with contextlib.suppress(MalformedRecords):
        assert [record.offset for record in iterate(header, data)] == [0, 1, 2]


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200), st.integers(1, 2**31 - 1))
def test_any_body_raises_one_error(body: bytes, count: int) -> None:
    header, data = with_body(body, count)
    with contextlib.suppress(MalformedRecords):
        assert len(list(iterate(header, data))) == count


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200) | st.integers(0, len(GOOD)).map(lambda end: GOOD[:end]))
def test_any_bytes_given_to_check_batch_raise_its_errors(data: bytes) -> None:
    with contextlib.suppress(InvalidBatch):
        assert check_batch(data).size == len(data)
