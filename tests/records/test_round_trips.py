"""Batches that the builder makes are checked, read back, and recompressed as they were given."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from odradek.records.batch import check_batch, split_batches
from odradek.records.builder import (
    CONTROL_COMMIT,
    BatchBuilder,
    NewRecord,
    batch_bytes,
    build_batch,
    build_control_batch,
    encode_varint,
    read_control_key,
)
from odradek.records.compression import Codec
from odradek.records.iteration import (
    Record,
    first_at_or_after,
    iterate,
    max_timestamp_inside,
    max_timestamp_record,
    recompress,
)

optional_bytes = st.none() | st.binary(max_size=200)
new_records = st.lists(
    st.builds(
        NewRecord,
        optional_bytes,
        optional_bytes,
        st.integers(-1, 2**53),
        st.lists(st.tuples(st.text(max_size=10), optional_bytes), max_size=3),
    ),
    min_size=1,
    max_size=20,
)


@settings(max_examples=150, deadline=None)
@given(new_records, st.sampled_from(list(Codec)), st.integers(0, 2**60))
def test_what_is_built_is_read_back(records: list[NewRecord], codec: Codec, base_offset: int) -> None:
    data = batch_bytes(build_batch(records, codec=codec, base_offset=base_offset))
    batch = check_batch(data)
    assert list(iterate(batch.header, data)) == [
        Record(base_offset + i, r.timestamp, r.key, r.value, tuple(r.headers)) for i, r in enumerate(records)
    ]
    assert batch.header.max_timestamp == max(r.timestamp for r in records)
    assert batch.header.base_timestamp == records[0].timestamp


@settings(max_examples=50, deadline=None)
@given(new_records, st.sampled_from(list(Codec)), st.sampled_from(list(Codec)))
def test_recompressing_keeps_the_records(records: list[NewRecord], before: Codec, after: Codec) -> None:
    batch = build_batch(records, codec=before, producer_id=7, producer_epoch=1, base_sequence=3, transactional=True)
    again = recompress(batch, after)
    data = batch_bytes(again)
    checked = check_batch(data).header
    assert checked == again.header
    assert checked.codec == after
    ignored = {"crc": 0, "batch_length": 0, "attributes": 0}
    assert checked._replace(**ignored) == batch.header._replace(**ignored)
    assert checked.is_transactional
    assert list(iterate(checked, data)) == list(iterate(batch.header, batch_bytes(batch)))


@given(st.integers(-(2**63), 2**63 - 1))
def test_varints_are_zigzag(value: int) -> None:
    unsigned = sum((byte & 0x7F) << 7 * i for i, byte in enumerate(encode_varint(value)))
    assert (unsigned >> 1) ^ -(unsigned & 1) == value


def test_the_builder_knows_the_size_of_an_uncompressed_batch() -> None:
    builder = BatchBuilder()
    for i in range(1000):
        builder.append(None, b"x" * i, 1_000 + i, [("h", None)])
    assert builder.size == len(batch_bytes(builder.build()))


def test_producer_fields_and_flags_reach_the_header() -> None:
    batch = build_batch(
        [NewRecord(b"k", b"v", 5)],
        producer_id=9,
        producer_epoch=2,
        base_sequence=77,
        transactional=True,
        append_time_ms=123,
        leader_epoch=4,
        base_offset=10,
    )
    header = check_batch(batch_bytes(batch)).header
    assert (header.producer_id, header.producer_epoch, header.base_sequence, header.leader_epoch) == (9, 2, 77, 4)
    assert header.is_transactional and header.has_log_append_time and not header.is_control
    [record] = iterate(header, batch_bytes(batch))
    assert record == Record(10, 123, b"k", b"v")


def test_a_control_batch_says_its_type() -> None:
    data = batch_bytes(build_control_batch(CONTROL_COMMIT, b"\0\0\0\0\0\1", 5, producer_id=1, producer_epoch=0))
    header = check_batch(data).header
    [record] = iterate(header, data)
    assert header.is_control
    assert read_control_key(record.key) == (0, CONTROL_COMMIT)
    assert read_control_key(b"\0") is None and read_control_key(None) is None


def test_log_append_time_overrides_every_record() -> None:
    batch = build_batch([NewRecord(None, b"a", 5), NewRecord(None, b"b", 50)]).with_log_append_time(99)
    data = batch_bytes(batch)
    check_batch(data)
    assert [record.timestamp for record in iterate(batch.header, data)] == [99, 99]
    assert max_timestamp_record(batch.header, data) == (0, 99)


def test_questions_by_timestamp() -> None:
    batch = build_batch([NewRecord(None, b"", t) for t in (10, 30, 20, 30, 5)], base_offset=100)
    data = batch_bytes(batch)
    assert first_at_or_after(batch.header, data, 10) == (100, 10)
    assert first_at_or_after(batch.header, data, 11) == (101, 30)
    assert first_at_or_after(batch.header, data, 11, from_offset=102) == (102, 20)
    assert first_at_or_after(batch.header, data, 31) is None
    assert max_timestamp_record(batch.header, data) == (101, 30)


@pytest.mark.parametrize("codec", list(Codec))
def test_what_a_header_says_of_time(codec: Codec) -> None:
    batch = build_batch([NewRecord(None, b"", t) for t in (10, 30, 20)], codec=codec)
    header, data = batch.header, batch_bytes(batch)
    assert (header.contradicts_its_times, header.least_max_timestamp, header.first_timestamp) == (False, 30, 10)
    for unset in (header._replace(max_timestamp=time) for time in (-1, 0, 9)):
        assert (unset.contradicts_its_times, unset.least_max_timestamp, unset.first_timestamp) == (True, 10, 10)
        assert max_timestamp_inside(unset, data) == 30
    own = batch.with_log_append_time(7).header
    assert (own.contradicts_its_times, own.least_max_timestamp, own.first_timestamp) == (False, 7, 7)


def test_header_keys_that_are_not_utf8_keep_their_bytes() -> None:
    name = b"\xff\xfe".decode("utf-8", "surrogateescape")
    data = batch_bytes(build_batch([NewRecord(None, None, headers=[(name, b"x")])]))
    [record] = iterate(check_batch(data).header, data)
    assert record.headers[0][0].encode("utf-8", "surrogateescape") == b"\xff\xfe"


def test_a_batch_placed_in_the_log_is_still_whole() -> None:
    batch = build_batch([NewRecord(None, b"a"), NewRecord(None, b"b")])
    data = b"".join(batch.placed_at(500, 3)) + b"".join(batch.placed_at(502, 3))
    found = list(split_batches(data))
    assert [(header.base_offset, header.leader_epoch) for header, _ in found] == [(500, 3), (502, 3)]
    for header, view in found:
        assert check_batch(view).header == header
        assert [record.offset for record in iterate(header, view)] == [header.base_offset, header.last_offset]
    assert len(list(split_batches(data[:-1]))) == 1
