"""Parses the records inside a batch, and answers the few questions that need the records.

Layout of a record (magic 2, KIP-98), all varints zigzag: length, attributes int8, timestamp delta (64 bits), offset
delta, key length (-1 null), key, value length (-1 null), value, header count, and for each header key length, key,
value length (-1 null), value. The length counts what follows it.

Invariants: the records of a batch that passed `batch.check_batch` may still be malformed. So everything is read within
bounds, and every contradiction raises `MalformedRecords`, nothing else: wrong lengths and counts, offset deltas that do
not rise or exceed the header's last, timestamps outside 64 bits, bytes before or after the records. Memory is bounded
by `max_bytes` of decompressed payload. Offset deltas may have gaps, which compaction makes; where the header's count
equals the last delta plus one, rising deltas leave no room for gaps.

This costs about 1.5 us a record; produce and fetch on a topic with default settings do not use it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from odradek.records.batch import (
    CODEC_MASK,
    HEADER_BYTES,
    LENGTH_OVERHEAD,
    BatchHeader,
    Buffer,
    InvalidBatch,
    RecordBatch,
)
from odradek.records.compression import CompressionError, compress, decompress

# The default bound of a batch's decompressed payload, for callers without a setting of their own.
DECOMPRESSED_MAX_BYTES = 134_217_728

_LONG_MIN = -(2**63)
_LONG_MAX = 2**63 - 1


class MalformedRecords(InvalidBatch):
    """The records of a batch contradict themselves or its header (Kafka answers CORRUPT_MESSAGE where a broker must
    read them)."""


class Record(NamedTuple):
    """One record as a consumer sees it. `timestamp` is in ms, -1 for none. In a header's key, bytes that are not UTF-8
    become lone surrogates ("surrogateescape")."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


class _Bad(Exception):
    """A varint is longer than its type allows."""


def _read_varint(raw: bytes, position: int, max_bits: int) -> tuple[int, int]:
    """Reads an unsigned varint of at most `max_bits`; returns (value, position after it). Most callers read varints of
    one or two bytes themselves."""
    value = shift = 0
    while True:
        byte = raw[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> max_bits:
                raise _Bad
            return value, position
        shift += 7
        if shift >= max_bits:
            raise _Bad


def payload_of(header: BatchHeader, data: Buffer, max_bytes: int = DECOMPRESSED_MAX_BYTES) -> bytes:
    """The records' bytes of the batch that fills `data`, decompressed. Raises `MalformedRecords`."""
    if len(data) != header.batch_length + LENGTH_OVERHEAD or len(data) < HEADER_BYTES:
        raise MalformedRecords(f"{len(data)} bytes are not the batch's {header.batch_length + LENGTH_OVERHEAD}")
    body = memoryview(data)[HEADER_BYTES:]
    codec = header.attributes & CODEC_MASK
    if codec == 0:
        return bytes(body)
    try:
        return decompress(codec, body, max_bytes)
    except CompressionError as error:
        raise MalformedRecords(str(error)) from None


def iterate(header: BatchHeader, data: Buffer, max_bytes: int = DECOMPRESSED_MAX_BYTES) -> Iterator[Record]:
    """The records of the batch that fills `data` (header included), in order. Raises `MalformedRecords` at the first
    contradiction, possibly after it has yielded records.

    Under LogAppendTime every record has the batch's max timestamp (KIP-32)."""
    raw = payload_of(header, data, max_bytes)
    end_of_all = len(raw)
    base_offset = header.base_offset
    base_timestamp = header.base_timestamp
    append_time = header.max_timestamp if header.has_log_append_time else None
    last_delta = header.last_offset_delta
    previous_delta = -1
    position = 0
    new = tuple.__new__
    # Long and inline: every field is a varint, nearly always of one or two bytes, and calls would cost a third more.
    for index in range(header.record_count):
        try:
            length = raw[position]
            position += 1
            if length >= 0x80:
                second = raw[position]
                if second < 0x80:
                    length += (second << 7) - 0x80
                    position += 1
                else:
                    length, position = _read_varint(raw, position - 1, 32)
            end = position + (length >> 1)
            if length & 1 or end > end_of_all:
                raise MalformedRecords(f"record {index} has a length that does not fit in the batch")
            position += 1  # the record's attributes, which are unused

            delta = raw[position]
            position += 1
            if delta >= 0x80:
                second = raw[position]
                if second < 0x80:
                    delta += (second << 7) - 0x80
                    position += 1
                else:
                    delta, position = _read_varint(raw, position - 1, 64)
            timestamp = base_timestamp + ((delta >> 1) ^ -(delta & 1))

            delta = raw[position]
            position += 1
            if delta >= 0x80:
                second = raw[position]
                if second < 0x80:
                    delta += (second << 7) - 0x80
                    position += 1
                else:
                    delta, position = _read_varint(raw, position - 1, 32)
            if delta & 1 or not previous_delta < (delta >> 1) <= last_delta:
                raise MalformedRecords(f"record {index} has an offset delta that its neighbours or header rule out")
            previous_delta = delta >> 1

            length = raw[position]
            position += 1
            if length >= 0x80:
                second = raw[position]
                if second < 0x80:
                    length += (second << 7) - 0x80
                    position += 1
                else:
                    length, position = _read_varint(raw, position - 1, 32)
            key: bytes | None = None
            if length != 1:
                start = position
                position += length >> 1
                if length & 1 or position > end:
                    raise MalformedRecords(f"record {index} has a key that does not fit in it")
                key = raw[start:position]

            length = raw[position]
            position += 1
            if length >= 0x80:
                second = raw[position]
                if second < 0x80:
                    length += (second << 7) - 0x80
                    position += 1
                else:
                    length, position = _read_varint(raw, position - 1, 32)
            value: bytes | None = None
            if length != 1:
                start = position
                position += length >> 1
                if length & 1 or position > end:
                    raise MalformedRecords(f"record {index} has a value that does not fit in it")
                value = raw[start:position]

            count = raw[position]
            position += 1
            headers: tuple[tuple[str, bytes | None], ...] = ()
            if count:
                if count >= 0x80:
                    count, position = _read_varint(raw, position - 1, 32)
                if count & 1:
                    raise MalformedRecords(f"record {index} has a negative number of headers")
                headers, position = _read_headers(raw, position, end, count >> 1, index)
        except (IndexError, _Bad):
            raise MalformedRecords(f"record {index} is cut short, or has a number that is too long") from None
        if position != end:
            raise MalformedRecords(f"record {index} does not end where its length says")
        if append_time is not None:
            timestamp = append_time
        elif not _LONG_MIN <= timestamp <= _LONG_MAX:
            raise MalformedRecords(f"record {index} has a timestamp outside 64 bits")
        yield new(Record, (base_offset + previous_delta, timestamp, key, value, headers))
    if position != end_of_all:
        raise MalformedRecords(f"{end_of_all - position} bytes after the {header.record_count} records of the batch")


def _read_headers(
    raw: bytes, position: int, end: int, count: int, index: int
) -> tuple[tuple[tuple[str, bytes | None], ...], int]:
    """Reads the headers of a record that ends at `end`; returns them and the position after them. A header takes at
    least two bytes, which bounds their number."""
    if 2 * count > end - position:
        raise MalformedRecords(f"record {index} has more headers than fit in it")
    out: list[tuple[str, bytes | None]] = []
    for _ in range(count):
        length, position = _read_varint(raw, position, 32)
        start = position
        position += length >> 1
        if length & 1 or position > end:
            raise MalformedRecords(f"record {index} has a header key that does not fit in it")
        name = raw[start:position].decode("utf-8", "surrogateescape")
        length, position = _read_varint(raw, position, 32)
        if length == 1:
            out.append((name, None))
            continue
        start = position
        position += length >> 1
        if length & 1 or position > end:
            raise MalformedRecords(f"record {index} has a header value that does not fit in it")
        out.append((name, raw[start:position]))
    return tuple(out), position


def first_at_or_after(
    header: BatchHeader,
    data: Buffer,
    timestamp_ms: int,
    from_offset: int = 0,
    max_bytes: int = DECOMPRESSED_MAX_BYTES,
) -> tuple[int, int] | None:
    """For ListOffsets: (offset, timestamp) of the batch's first record with a timestamp at or above `timestamp_ms` and
    an offset at or above `from_offset`; None where there is none. Raises `MalformedRecords`."""
    for record in iterate(header, data, max_bytes):
        if record.timestamp >= timestamp_ms and record.offset >= from_offset:
            return record.offset, record.timestamp
    return None


def max_timestamp_record(
    header: BatchHeader, data: Buffer, max_bytes: int = DECOMPRESSED_MAX_BYTES
) -> tuple[int, int] | None:
    """(offset, timestamp) of the batch's record with the highest timestamp, the first of equals (ListOffsets with
    MAX_TIMESTAMP, KIP-734); None for a batch that compaction emptied. Raises `MalformedRecords`."""
    best: tuple[int, int] | None = None
    for record in iterate(header, data, max_bytes):
        if best is None or record.timestamp > best[1]:
            best = record.offset, record.timestamp
    return best


def max_timestamp_inside(header: BatchHeader, data: Buffer, max_bytes: int = DECOMPRESSED_MAX_BYTES) -> int:
    """The max timestamp of a batch whose header contradicts itself, from its records; where they cannot be read, the
    header's `least_max_timestamp`."""
    try:
        return max((record.timestamp for record in iterate(header, data, max_bytes)), default=header.max_timestamp)
    except MalformedRecords:
        return header.least_max_timestamp


def recompress(
    batch: RecordBatch, codec: int, level: int | None = None, max_bytes: int = DECOMPRESSED_MAX_BYTES
) -> RecordBatch:
    """The batch in another codec (a topic's `compression.type`), with a new header and CRC. The payload is decompressed
    and compressed without parsing records. Raises `MalformedRecords` where it cannot be decompressed."""
    data = batch.buffers[0] if len(batch.buffers) == 1 else b"".join(batch.buffers)
    body = compress(codec, payload_of(batch.header, data, max_bytes), level)
    header = batch.header._replace(
        attributes=batch.header.attributes & ~CODEC_MASK | codec,
        batch_length=HEADER_BYTES - LENGTH_OVERHEAD + len(body),
    )
    return RecordBatch(header, (bytes(HEADER_BYTES), body)).with_header(header)
