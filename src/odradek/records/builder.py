"""Builds record batches from records, for the metadata log, the coordinators, the command line and tests.

Role: encode records as a producer does; `iteration` decodes them. Offsets in the batch are 0, 1, 2, ...; the log gives
it the real base offset. The base timestamp is the first record's timestamp; the leader epoch is -1 until the log sets
it.

Invariants: a batch from `build` passes `batch.check_batch`, and `iteration` reads the same records back. Values that do
not fit (a negative control type, an offset beyond 32 bits) are defects of the caller, and raise `AssertionError` or
`struct.error`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from odradek.records.batch import (
    CONTROL_BIT,
    HEADER_BYTES,
    LENGTH_OVERHEAD,
    NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID,
    NO_SEQUENCE,
    NO_TIMESTAMP,
    TIMESTAMP_TYPE_BIT,
    TRANSACTIONAL_BIT,
    BatchHeader,
    RecordBatch,
)
from odradek.records.compression import compress

NO_LEADER_EPOCH = -1
_INT_MAX = 2**31 - 1
_CONTROL_KEY = struct.Struct(">hh")

# Types of control records: ends of transactions (KIP-98) and of a snapshot (KIP-630).
CONTROL_ABORT = 0
CONTROL_COMMIT = 1
CONTROL_SNAPSHOT_HEADER = 3
CONTROL_SNAPSHOT_FOOTER = 4

Headers = Sequence[tuple[str, bytes | None]]


class NewRecord(NamedTuple):
    """A record to be written. `timestamp` in ms, -1 for none."""

    key: bytes | None
    value: bytes | None
    timestamp: int = NO_TIMESTAMP
    headers: Headers = ()


def control_key(control_type: int, version: int = 0) -> bytes:
    """The key of a control record: version and type."""
    return _CONTROL_KEY.pack(version, control_type)


def read_control_key(key: bytes | None) -> tuple[int, int] | None:
    """(version, type) of a control record's key; None where the key is too short. Keys of later versions may be
    longer."""
    if key is None or len(key) < _CONTROL_KEY.size:
        return None
    version, control_type = _CONTROL_KEY.unpack_from(key)
    return version, control_type


def encode_varint(value: int) -> bytes:
    """The zigzag varint of a number of at most 64 bits."""
    value = value << 1 if value >= 0 else (-value << 1) - 1
    if value < 0x80:
        return _SMALL[value]
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_SMALL = [bytes([value]) for value in range(0x80)]
_NULL = b"\x01"


class BatchBuilder:
    """Collects the records of one batch. `size` is the uncompressed size of the batch so far in bytes, header included,
    so that a producer can close it in time."""

    __slots__ = ("_base_timestamp", "_max_timestamp", "_pieces", "count", "size")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._base_timestamp = NO_TIMESTAMP
        self._max_timestamp = NO_TIMESTAMP
        self.count = 0
        self.size = HEADER_BYTES

    def append(
        self, key: bytes | None, value: bytes | None, timestamp: int = NO_TIMESTAMP, headers: Headers = ()
    ) -> None:
        """Adds a record; `timestamp` in ms."""
        if self.count == 0:
            self._base_timestamp = timestamp
        if timestamp > self._max_timestamp:
            self._max_timestamp = timestamp
        parts = [
            b"\0",
            encode_varint(timestamp - self._base_timestamp),
            encode_varint(self.count),
            _NULL if key is None else encode_varint(len(key)),
            key or b"",
            _NULL if value is None else encode_varint(len(value)),
            value or b"",
            encode_varint(len(headers)),
        ]
        for name, content in headers:
            encoded = name.encode("utf-8", "surrogateescape")
            parts += encode_varint(len(encoded)), encoded
            parts += (_NULL,) if content is None else (encode_varint(len(content)), content)
        body = b"".join(parts)
        length = encode_varint(len(body))
        self._pieces.append(length)
        self._pieces.append(body)
        self.count += 1
        self.size += len(length) + len(body)

    def build(
        self,
        *,
        codec: int = 0,
        level: int | None = None,
        base_offset: int = 0,
        leader_epoch: int = NO_LEADER_EPOCH,
        producer_id: int = NO_PRODUCER_ID,
        producer_epoch: int = NO_PRODUCER_EPOCH,
        base_sequence: int = NO_SEQUENCE,
        transactional: bool = False,
        control: bool = False,
        append_time_ms: int | None = None,
    ) -> RecordBatch:
        """The batch, in one buffer for the header and one for the records. With `append_time_ms` it is a LogAppendTime
        batch of that time. At least one record must have been appended."""
        assert 0 < self.count <= _INT_MAX, self.count
        body = b"".join(self._pieces)
        if codec:
            body = compress(codec, body, level)
        attributes = codec
        if transactional:
            attributes |= TRANSACTIONAL_BIT
        if control:
            attributes |= CONTROL_BIT
        max_timestamp = self._max_timestamp
        if append_time_ms is not None:
            attributes |= TIMESTAMP_TYPE_BIT
            max_timestamp = append_time_ms
        header = BatchHeader(
            base_offset=base_offset,
            batch_length=HEADER_BYTES - LENGTH_OVERHEAD + len(body),
            leader_epoch=leader_epoch,
            magic=2,
            crc=0,
            attributes=attributes,
            last_offset_delta=self.count - 1,
            base_timestamp=self._base_timestamp,
            max_timestamp=max_timestamp,
            producer_id=producer_id,
            producer_epoch=producer_epoch,
            base_sequence=base_sequence,
            record_count=self.count,
        )
        return RecordBatch(header, (bytes(HEADER_BYTES), body)).with_header(header)


def build_batch(
    records: Iterable[NewRecord],
    *,
    codec: int = 0,
    level: int | None = None,
    base_offset: int = 0,
    leader_epoch: int = NO_LEADER_EPOCH,
    producer_id: int = NO_PRODUCER_ID,
    producer_epoch: int = NO_PRODUCER_EPOCH,
    base_sequence: int = NO_SEQUENCE,
    transactional: bool = False,
    control: bool = False,
    append_time_ms: int | None = None,
) -> RecordBatch:
    """One batch of these records (at least one); see `BatchBuilder.build` for the arguments. `batch_bytes` joins its
    buffers."""
    builder = BatchBuilder()
    for record in records:
        builder.append(record.key, record.value, record.timestamp, record.headers)
    return builder.build(
        codec=codec,
        level=level,
        base_offset=base_offset,
        leader_epoch=leader_epoch,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=base_sequence,
        transactional=transactional,
        control=control,
        append_time_ms=append_time_ms,
    )


def build_control_batch(
    control_type: int,
    value: bytes,
    timestamp: int,
    *,
    base_offset: int = 0,
    leader_epoch: int = NO_LEADER_EPOCH,
    producer_id: int = NO_PRODUCER_ID,
    producer_epoch: int = NO_PRODUCER_EPOCH,
    transactional: bool = False,
) -> RecordBatch:
    """A batch of one control record: a transaction marker (with its producer id and epoch), or a control record of the
    metadata log such as a snapshot's header. `value` is the encoded control message, its version included."""
    return build_batch(
        [NewRecord(control_key(control_type), value, timestamp)],
        base_offset=base_offset,
        leader_epoch=leader_epoch,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        transactional=transactional,
        control=True,
    )


def batch_bytes(batch: RecordBatch) -> bytes:
    """The batch's bytes in one piece."""
    return b"".join(batch.buffers)
