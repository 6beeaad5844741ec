"""Snapshots: a log's state is restored from one first, so that only the records after it need be replayed.

Role: find a log's newest sound snapshot, and write and read the snapshot format of the metadata and of coordinators.
It is that of KRaft's `.checkpoint` files: record batches, each with its checksum, between a header and a footer (both
control records), so that a cut or damaged snapshot is recognized. (Snapshots of producer states have another format,
Kafka's.)

Invariants: a damaged snapshot is logged, and the one before it is used instead; without any, the whole log is replayed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import TypeVar

from odradek.engines.interface import PartitionLog
from odradek.logs import get_logger
from odradek.protocol.decoding import decode
from odradek.protocol.encoding import encode
from odradek.protocol.errors import DecodeError
from odradek.protocol.records.control import SnapshotFooterRecord, SnapshotHeaderRecord
from odradek.records.batch import BatchHeader, InvalidBatch, checked_batches
from odradek.records.builder import (
    CONTROL_SNAPSHOT_FOOTER,
    CONTROL_SNAPSHOT_HEADER,
    NO_LEADER_EPOCH,
    batch_bytes,
    build_control_batch,
    read_control_key,
)
from odradek.records.iteration import iterate

log = get_logger("odradek.replay")

VERSION = 0
"""The version of the snapshot format; a snapshot with another version is not read."""
T = TypeVar("T")


class SnapshotDamaged(ValueError):
    """The bytes are no whole snapshot, or one of an unknown version."""


async def newest_sound(
    opened: PartitionLog,
    kind: str,
    upto: int,
    read: Callable[[int, bytes], T],
    least: int = 0,
    executor: Executor | None = None,
) -> tuple[int, T] | None:
    """The newest sound snapshot of a log with an offset from `least` to `upto`, as (offset, what `read` returned); None
    if there is none. `read` is called with the offset and the bytes, in `executor` if given, and must raise
    `SnapshotDamaged` if they are damaged. Raises `LogFailure`."""
    while (found := await opened.load_snapshot(kind, upto)) is not None and found[0] >= least:
        try:
            if executor is None:
                return found[0], read(*found)
            return found[0], await asyncio.get_running_loop().run_in_executor(executor, read, *found)
        except SnapshotDamaged as damage:
            log.warning("snapshot ignored", partition=str(opened.identity), kind=kind, offset=found[0], why=str(damage))
            upto = found[0] - 1
    return None


def beginning(now_ms: int, leader_epoch: int = NO_LEADER_EPOCH) -> bytes:
    """The first batch of a snapshot: its header."""
    header = SnapshotHeaderRecord(version=VERSION, last_contained_log_timestamp=now_ms)
    return _control(CONTROL_SNAPSHOT_HEADER, encode(header, 0), now_ms, 0, leader_epoch)


def ending(now_ms: int, offset: int = 0, leader_epoch: int = NO_LEADER_EPOCH) -> bytes:
    """The last batch of a snapshot: its footer. `offset` is the batch's offset in the snapshot."""
    footer = SnapshotFooterRecord(version=VERSION)
    return _control(CONTROL_SNAPSHOT_FOOTER, encode(footer, 0), now_ms, offset, leader_epoch)


def _control(control_type: int, value: bytes, now_ms: int, offset: int, leader_epoch: int) -> bytes:
    return batch_bytes(build_control_batch(control_type, value, now_ms, base_offset=offset, leader_epoch=leader_epoch))


def batches_of(data: bytes) -> Iterator[tuple[BatchHeader, memoryview]]:
    """The batches of a snapshot between header and footer, after a check of each. May raise `SnapshotDamaged` after it
    has yielded some of them."""
    position = 0
    whole = False
    try:
        for header, piece in checked_batches(data):
            whole = False
            if not header.is_control:
                yield header, piece
            for record in iterate(header, piece) if header.is_control else ():
                kind = read_control_key(record.key)
                if kind is not None and kind[1] == CONTROL_SNAPSHOT_HEADER:
                    _check_version(record.value)
                whole = kind is not None and kind[1] == CONTROL_SNAPSHOT_FOOTER
            position += header.size
    except (InvalidBatch, DecodeError) as error:
        raise SnapshotDamaged(f"at byte {position}: {error}") from None
    if not whole or position != len(data):
        raise SnapshotDamaged(f"cut short at byte {position}")


def _check_version(value: bytes | None) -> None:
    header, _ = decode(SnapshotHeaderRecord, 0, value or b"")
    if header.version != VERSION:
        raise SnapshotDamaged(f"version {header.version} is unknown")
