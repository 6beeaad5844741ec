"""Small batches for tests: records, times and sizes are what the arguments say."""

from __future__ import annotations

from collections.abc import Iterable

from odradek.records.batch import Buffer, RecordBatch, check_batch
from odradek.records.builder import NewRecord, batch_bytes, build_batch


def make_batch(count: int = 1, *, timestamp: int = 1_000, size: int = 10, value: bytes | None = None) -> RecordBatch:
    """A batch of `count` records of `size` value bytes, all at `timestamp` (ms)."""
    content = value if value is not None else b"v" * size
    return build_batch(NewRecord(b"k%d" % index, content, timestamp) for index in range(count))


def joined(buffers: Iterable[Buffer]) -> bytes:
    return b"".join(bytes(piece) for piece in buffers)


def with_header(data: Buffer, **fields: int) -> bytes:
    """The batch in `data` under a header that says something else, with a true checksum."""
    batch = check_batch(data)
    return batch_bytes(batch.with_header(batch.header._replace(**fields)))
