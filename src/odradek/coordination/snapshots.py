"""A state machine's durable state as bytes: the records that make it, in batches, between a header and a footer.

Sans-IO. The bytes are record batches (with their CRC), as a metadata snapshot's are; reading checks every batch and
the footer, so that a snapshot that was cut or damaged is not used: the log has everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from odradek.protocol.compiler import encode
from odradek.protocol.fields import Message
from odradek.protocol.records.control import SnapshotFooterRecord, SnapshotHeaderRecord
from odradek.records.batch import InvalidBatch, checked_batches
from odradek.records.builder import (
    CONTROL_SNAPSHOT_FOOTER,
    CONTROL_SNAPSHOT_HEADER,
    BatchBuilder,
    batch_bytes,
    build_control_batch,
    read_control_key,
)
from odradek.records.iteration import iterate

RECORDS_PER_BATCH = 1000


class SnapshotDamaged(ValueError):
    """The bytes are not a whole snapshot."""


def write_snapshot(records: Iterable[tuple[bytes, bytes]], now_ms: int) -> bytes:
    """The snapshot of a state that these (key, value) records make. CPU only: it may run in a thread."""
    pieces = [_control(CONTROL_SNAPSHOT_HEADER, SnapshotHeaderRecord(last_contained_log_timestamp=now_ms), now_ms)]
    waiting = iter(records)
    while chunk := list(islice(waiting, RECORDS_PER_BATCH)):
        builder = BatchBuilder()
        for key, value in chunk:
            builder.append(key, value, now_ms)
        pieces.append(batch_bytes(builder.build()))
    pieces.append(_control(CONTROL_SNAPSHOT_FOOTER, SnapshotFooterRecord(), now_ms))
    return b"".join(pieces)


def _control(control_type: int, message: Message, now_ms: int) -> bytes:
    return batch_bytes(build_control_batch(control_type, encode(message, 0), now_ms))


def read_snapshot(data: bytes) -> Iterator[tuple[bytes, bytes | None]]:
    """The records of a snapshot. Raises `SnapshotDamaged`, perhaps after some of them."""
    position = 0
    whole = False
    try:
        for header, piece in checked_batches(data):
            position += header.size
            whole = False
            for record in iterate(header, piece):
                if header.is_control:
                    kind = read_control_key(record.key)
                    whole = kind is not None and kind[1] == CONTROL_SNAPSHOT_FOOTER
                elif record.key is not None:
                    yield record.key, record.value
    except InvalidBatch as error:
        raise SnapshotDamaged(f"at byte {position}: {error}") from None
    if not whole or position != len(data):
        raise SnapshotDamaged(f"cut short at byte {position}")
