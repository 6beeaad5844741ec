"""The metadata image as a snapshot, in the bytes of KRaft's `.checkpoint` files, and batches of metadata records.

Sans-IO. A snapshot is a control batch with a header record, the records that make the image, and a control batch with
a footer. Reading checks every batch and the footer: a snapshot that was cut or damaged is not used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from odradek.metadata.image import Delta, MetadataImage, MetadataRecord, decode_record, encode_record
from odradek.protocol.compiler import DecodeError, encode
from odradek.protocol.fields import Message
from odradek.protocol.records.control import SnapshotFooterRecord, SnapshotHeaderRecord
from odradek.records.batch import BatchHeader, Buffer, InvalidBatch, RecordBatch, checked_batches
from odradek.records.builder import (
    BatchBuilder,
    NewRecord,
    batch_bytes,
    build_batch,
    control_key,
    read_control_key,
)
from odradek.records.iteration import iterate

SNAPSHOT_HEADER_TYPE = 3
SNAPSHOT_FOOTER_TYPE = 4
# About 2 ms of work, after which the event loop has its turn.
RECORDS_PER_BATCH = 200


class SnapshotDamaged(ValueError):
    """The bytes are not a whole snapshot of metadata."""


def batch_of(records: Iterable[MetadataRecord], now_ms: int) -> RecordBatch:
    """One batch of metadata records: one change."""
    return build_batch([NewRecord(None, encode_record(record), now_ms) for record in records])


def records_in(data: bytes) -> Iterator[MetadataRecord]:
    """The metadata records of the whole batches in `data`, each checked; control batches are passed over. Raises
    `DecodeError`, `InvalidBatch`."""
    for header, piece in checked_batches(data):
        yield from records_of(header, piece)


def records_of(header: BatchHeader, batch: Buffer) -> Iterator[MetadataRecord]:
    """The metadata records of a batch that has been checked; of a control batch none. Raises `DecodeError`,
    `InvalidBatch`."""
    if header.is_control:
        return
    for record in iterate(header, batch):
        if record.value is None:
            raise DecodeError(f"the metadata record at offset {record.offset} has no value")
        yield decode_record(record.value)


def snapshot_batches(image: MetadataImage, leader_epoch: int, now_ms: int) -> Iterator[bytes]:
    """The image as a snapshot's bytes, batch by batch. The image must not change meanwhile."""
    header = SnapshotHeaderRecord(version=0, last_contained_log_timestamp=now_ms)
    yield _control(SNAPSHOT_HEADER_TYPE, header, 0, leader_epoch, now_ms)
    offset = 1
    records = image.records()
    while chunk := list(islice(records, RECORDS_PER_BATCH)):
        yield b"".join(batch_of(chunk, now_ms).placed_at(offset, leader_epoch))
        offset += len(chunk)
    yield _control(SNAPSHOT_FOOTER_TYPE, SnapshotFooterRecord(version=0), offset, leader_epoch, now_ms)


def _control(control_type: int, message: Message, offset: int, leader_epoch: int, now_ms: int) -> bytes:
    builder = BatchBuilder()
    builder.append(control_key(control_type), encode(message, 0), now_ms)
    return batch_bytes(builder.build(base_offset=offset, leader_epoch=leader_epoch, control=True))


def read_snapshot(data: bytes, offset: int) -> MetadataImage:
    """The image of a snapshot made at `offset`. Raises `SnapshotDamaged`."""
    image = MetadataImage()
    image.offset = offset
    delta = Delta()
    position = 0
    whole = False
    try:
        for header, piece in checked_batches(data):
            position += header.size
            if header.is_control:
                keys = [read_control_key(record.key) for record in iterate(header, piece)]
                whole = any(key is not None and key[1] == SNAPSHOT_FOOTER_TYPE for key in keys)
                continue
            for record in records_of(header, piece):
                image.replay(record, delta)
    except (InvalidBatch, DecodeError, KeyError) as error:
        raise SnapshotDamaged(f"at byte {position}: {error}") from None
    if not whole or position != len(data):
        raise SnapshotDamaged(f"cut short at byte {position}")
    return image
