"""Encodes and decodes snapshots of the metadata image, in the format of KRaft's `.checkpoint` files, and batches of
metadata records.

Sans-IO. A snapshot has the format of `replay.snapshots`: between its header and footer are the records that make the
image.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from itertools import islice

from odradek.metadata.image import Delta, MetadataImage, MetadataRecord, decode_record, encode_record
from odradek.protocol.errors import DecodeError
from odradek.records.batch import BatchHeader, Buffer, InvalidBatch, RecordBatch
from odradek.records.builder import BatchBuilder, NewRecord, build_batch
from odradek.records.iteration import iterate
from odradek.replay.snapshots import SnapshotDamaged, batches_of, beginning, ending

# About 2 ms of work; after each batch the event loop runs other tasks.
RECORDS_PER_BATCH = 200


def batch_of(records: Iterable[MetadataRecord], now_ms: int) -> RecordBatch:
    """The batch of one change."""
    return build_batch([NewRecord(None, encode_record(record), now_ms) for record in records])


def batch_in_steps(records: Iterable[MetadataRecord], now_ms: int) -> Generator[None, None, RecordBatch]:
    """`batch_of` many records, one in a step."""
    builder = BatchBuilder()
    for record in records:
        builder.append(None, encode_record(record), now_ms)
        yield
    return builder.build()


def records_of(header: BatchHeader, batch: Buffer) -> Iterator[MetadataRecord]:
    """The metadata records of a batch that has been checked; none for a control batch. Raises `DecodeError`,
    `InvalidBatch`."""
    if header.is_control:
        return
    for record in iterate(header, batch):
        if record.value is None:
            raise DecodeError(f"the metadata record at offset {record.offset} has no value")
        yield decode_record(record.value)


def snapshot_batches(image: MetadataImage, leader_epoch: int, now_ms: int) -> Iterator[bytes]:
    """The batches of a snapshot of the image. The image must not change during the iteration."""
    yield beginning(now_ms, leader_epoch)
    offset = 1
    records = image.records()
    while chunk := list(islice(records, RECORDS_PER_BATCH)):
        yield b"".join(batch_of(chunk, now_ms).placed_at(offset, leader_epoch))
        offset += len(chunk)
    yield ending(now_ms, offset, leader_epoch)


def read_snapshot(data: bytes, offset: int) -> MetadataImage:
    """The image in the bytes of a snapshot that was made at `offset`. Raises `SnapshotDamaged`."""
    image = MetadataImage()
    image.offset = offset
    delta = Delta()
    for header, piece in batches_of(data):
        try:
            for record in records_of(header, piece):
                image.replay(record, delta)
        except (InvalidBatch, DecodeError, KeyError) as error:
            raise SnapshotDamaged(f"at record {header.base_offset}: {error}") from None
    return image
