"""The record batch, magic 2: its header, the checks of a received batch, and the header fields that the log rewrites.

Sans-IO. A batch has the same bytes on the wire and on disk:

    position  0 base_offset int64 | 8 batch_length int32 | 12 partition_leader_epoch int32 | 16 magic int8
    17 crc uint32 (CRC-32C of everything from position 21) | 21 attributes int16 | 23 last_offset_delta int32
    27 base_timestamp int64 | 35 max_timestamp int64 | 43 producer_id int64 | 51 producer_epoch int16
    53 base_sequence int32 | 57 record_count int32 | 61 records

The log may rewrite bytes 0-7 and 12-15 (offset, leader epoch) without changing the rest, because the CRC does not cover
them: so a received batch is stored by writing 16 new bytes and a view. Records are never parsed here;
`records/iteration` does that.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from crc32c import crc32c

Buffer = bytes | bytearray | memoryview

HEADER = struct.Struct(">qiibIhiqqqhii")
HEADER_BYTES = HEADER.size  # 61
PREFIX = struct.Struct(">qii")  # base_offset, batch_length, partition_leader_epoch: the part that the log rewrites
PREFIX_BYTES = PREFIX.size  # 16
LENGTH_OVERHEAD = 12  # base_offset and batch_length: batch_length counts only the bytes after itself
_CRC_START = 21
_TAIL = struct.Struct(">hiqqqhii")  # attributes .. record_count: the header fields that the CRC covers

CODEC_MASK = 0x07
TIMESTAMP_TYPE_BIT = 0x08
TRANSACTIONAL_BIT = 0x10
CONTROL_BIT = 0x20
DELETE_HORIZON_BIT = 0x40
KNOWN_ATTRIBUTES = 0x7F

NO_TIMESTAMP = -1
NO_PRODUCER_ID = -1
NO_PRODUCER_EPOCH = -1
NO_SEQUENCE = -1


class BatchHeader(NamedTuple):
    """The fields of a batch's header (61 bytes), in their order."""

    base_offset: int
    batch_length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def size(self) -> int:
        """Bytes of the whole batch."""
        return self.batch_length + LENGTH_OVERHEAD

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> int:
        return self.base_offset + self.last_offset_delta + 1

    @property
    def codec(self) -> int:
        """0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd."""
        return self.attributes & CODEC_MASK

    @property
    def is_transactional(self) -> bool:
        return bool(self.attributes & TRANSACTIONAL_BIT)

    @property
    def is_control(self) -> bool:
        return bool(self.attributes & CONTROL_BIT)

    @property
    def has_log_append_time(self) -> bool:
        return bool(self.attributes & TIMESTAMP_TYPE_BIT)

    @property
    def contradicts_its_times(self) -> bool:
        """Whether the max timestamp is below the base timestamp: some producers leave it unset. (Under LogAppendTime
        the broker sets it.)"""
        return self.max_timestamp < self.base_timestamp and not self.has_log_append_time

    @property
    def least_max_timestamp(self) -> int:
        """A lower bound of the true max timestamp: the header's, or, where that contradicts itself, the base timestamp,
        which is the first record's."""
        return self.base_timestamp if self.contradicts_its_times else self.max_timestamp

    @property
    def first_timestamp(self) -> int:
        """The timestamp of the first record that has one, as far as the header tells; -1 where no record has one."""
        if self.has_log_append_time or self.base_timestamp < 0:
            return self.max_timestamp
        return self.base_timestamp

    @property
    def has_producer_id(self) -> bool:
        return self.producer_id >= 0

    @property
    def last_sequence(self) -> int:
        """The sequence number of the last record; numbers wrap to 0 after 2^31 - 1."""
        if self.base_sequence < 0:
            return self.base_sequence
        return (self.base_sequence + self.last_offset_delta) & 0x7FFFFFFF


class InvalidBatch(ValueError):
    """Bytes are not a valid record batch. Each subclass below stands for one of Kafka's error codes."""


class CorruptBatch(InvalidBatch):
    """Wrong CRC, impossible length, or unknown magic (Kafka: CORRUPT_MESSAGE, which clients retry)."""


class UnsupportedMagic(InvalidBatch):
    """A message set of magic 0 or 1 (Kafka: INVALID_RECORD)."""


class MalformedBatch(InvalidBatch):
    """The bytes are not exactly one whole batch, or its fields contradict each other (Kafka: INVALID_RECORD)."""


class RecordBatch:
    """One batch: its parsed header and the buffers that hold it.

    `buffers` are the whole batch's bytes in order; the first holds at least the first 16 bytes. They are views of the
    received bytes, or new bytes where the header or the records were rewritten.
    """

    __slots__ = ("buffers", "header")

    def __init__(self, header: BatchHeader, buffers: tuple[Buffer, ...]) -> None:
        self.header = header
        self.buffers = buffers

    @property
    def size(self) -> int:
        return self.header.batch_length + LENGTH_OVERHEAD

    def placed_at(self, base_offset: int, leader_epoch: int) -> tuple[Buffer, ...]:
        """The batch's buffers with this base offset and leader epoch. The body is not copied, and the CRC stays
        correct."""
        first, *rest = self.buffers
        prefix = PREFIX.pack(base_offset, self.header.batch_length, leader_epoch)
        return (prefix, memoryview(first)[PREFIX_BYTES:], *rest)

    def with_log_append_time(self, now_ms: int) -> RecordBatch:
        """The batch under LogAppendTime: with the timestamp type bit set, `max_timestamp` as the time of all records
        (KIP-32), and a new CRC."""
        h = self.header
        attributes = h.attributes | TIMESTAMP_TYPE_BIT
        return self.with_header(h._replace(attributes=attributes, max_timestamp=now_ms))

    def with_header(self, header: BatchHeader) -> RecordBatch:
        """The batch with other header fields and a new CRC; the records are not copied."""
        body = _skip(self.buffers, HEADER_BYTES)
        tail = _TAIL.pack(*header[5:])
        crc = crc32c(tail)
        for piece in body:
            crc = crc32c(piece, crc)
        header = header._replace(crc=crc)
        return RecordBatch(header, (HEADER.pack(*header), *body))


def _skip(buffers: tuple[Buffer, ...], count: int) -> tuple[Buffer, ...]:
    """The buffers without their first `count` bytes."""
    out: list[Buffer] = []
    for piece in buffers:
        if count >= len(piece):
            count -= len(piece)
            continue
        out.append(memoryview(piece)[count:])
        count = 0
    return tuple(out)


def read_header(data: Buffer, position: int = 0) -> BatchHeader:
    """Reads a batch's header, without checks, from at least 61 bytes at `position`."""
    return BatchHeader._make(HEADER.unpack_from(data, position))


def check_batch(data: Buffer) -> RecordBatch:
    """The one batch that fills `data`. Checks length, magic, CRC and codec, and that record count and last offset delta
    agree. Raises `CorruptBatch`, `UnsupportedMagic` or `MalformedBatch`.

    The records are not parsed: code that parses them must expect anything in them.
    """
    size = len(data)
    if size > PREFIX_BYTES and data[PREFIX_BYTES] != 2:
        magic = data[PREFIX_BYTES]
        if magic in (0, 1):
            raise UnsupportedMagic(f"message sets of magic {magic} are not supported, only batches of magic 2")
        raise CorruptBatch(f"magic {magic} is unknown")
    if size < HEADER_BYTES:
        raise MalformedBatch(f"{size} bytes are fewer than a batch header's {HEADER_BYTES}")
    header = BatchHeader._make(HEADER.unpack_from(data, 0))
    if header.batch_length + LENGTH_OVERHEAD != size:
        if header.batch_length + LENGTH_OVERHEAD < HEADER_BYTES:
            raise CorruptBatch(f"batch length {header.batch_length} is less than a header's")
        if header.batch_length + LENGTH_OVERHEAD < size:
            raise MalformedBatch("more than one batch, or bytes after the batch")
        raise MalformedBatch(f"the batch says it has {header.batch_length + LENGTH_OVERHEAD} bytes, but {size} came")
    view = memoryview(data)
    if crc32c(view[_CRC_START:]) != header.crc:
        raise CorruptBatch("the checksum (CRC-32C) does not match")
    if header.record_count < 1 or header.record_count != header.last_offset_delta + 1:
        raise MalformedBatch(
            f"the batch says it has {header.record_count} records, but its last offset delta is "
            f"{header.last_offset_delta}"
        )
    if header.attributes & CODEC_MASK > 4:
        raise MalformedBatch(f"compression codec {header.attributes & CODEC_MASK} is unknown")
    return RecordBatch(header, (view,))


def check_stored(header: BatchHeader, data: Buffer) -> None:
    """Checks magic and CRC of the batch of a log that fills `data`. Counts and offsets are not compared, because
    compaction leaves gaps. Raises `CorruptBatch`."""
    if header.magic != 2:
        raise CorruptBatch(f"the batch at offset {header.base_offset} has the magic {header.magic}, not 2")
    if crc32c(memoryview(data)[_CRC_START:]) != header.crc:
        raise CorruptBatch(f"the checksum (CRC-32C) of the batch at offset {header.base_offset} does not match")


def checked_batches(data: Buffer) -> Iterator[tuple[BatchHeader, memoryview]]:
    """`split_batches` with `check_stored` of each batch, for code that relies on the records. Raises `CorruptBatch` at
    the first damaged batch."""
    for header, piece in split_batches(data):
        check_stored(header, piece)
        yield header, piece


def split_batches(data: Buffer) -> Iterator[tuple[BatchHeader, memoryview]]:
    """The whole batches at the beginning of `data`, unchecked. The iteration ends at a last batch that is cut short, as
    in a Fetch response, or at an impossible length."""
    view = memoryview(data)
    position = 0
    while position + HEADER_BYTES <= len(view):
        header = read_header(view, position)
        if header.size < HEADER_BYTES or position + header.size > len(view):
            return
        yield header, view[position : position + header.size]
        position += header.size
