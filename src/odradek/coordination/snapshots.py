"""Encodes and decodes a state machine's durable state as records in the snapshot format of `replay.snapshots`.
Sans-IO."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from odradek.records.batch import InvalidBatch
from odradek.records.builder import BatchBuilder, batch_bytes
from odradek.records.iteration import iterate
from odradek.replay.snapshots import SnapshotDamaged, batches_of, beginning, ending

RECORDS_PER_BATCH = 1000


def write_snapshot(records: Iterable[tuple[bytes, bytes]], now_ms: int) -> bytes:
    """The bytes of a snapshot with these records (key, value). CPU only: it may run in a thread."""
    pieces = [beginning(now_ms)]
    waiting = iter(records)
    while chunk := list(islice(waiting, RECORDS_PER_BATCH)):
        builder = BatchBuilder()
        for key, value in chunk:
            builder.append(key, value, now_ms)
        pieces.append(batch_bytes(builder.build()))
    pieces.append(ending(now_ms))
    return b"".join(pieces)


def read_snapshot(data: bytes) -> Iterator[tuple[bytes, bytes | None]]:
    """The records of a snapshot. May raise `SnapshotDamaged` after it has yielded some of them."""
    for header, piece in batches_of(data):
        try:
            for record in iterate(header, piece):
                if record.key is not None:
                    yield record.key, record.value
        except InvalidBatch as error:
            raise SnapshotDamaged(f"at record {header.base_offset}: {error}") from None
