"""Snapshots beside a log: each holds, as opaque bytes, a state made from every record below an offset.

    producer     <offset>.snapshot               Kafka's producer state
    metadata     <offset>-<epoch>.checkpoint     KRaft's snapshots
    coordinator  <offset>.coordinator-snapshot   Odradek's own, which Kafka ignores

Role: name the files, know which snapshots a log has, and write one atomically. Their contents are not interpreted here.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from odradek.engines.local.background import Background
from odradek.engines.local.checkpoints import read_file, remove_if_there, replace_file
from odradek.engines.local.disk import Disk

PRODUCER = "producer"
METADATA = "metadata"
COORDINATOR = "coordinator"
_SUFFIXES = {PRODUCER: ".snapshot", METADATA: ".checkpoint", COORDINATOR: ".coordinator-snapshot"}
_KINDS = {suffix: kind for kind, suffix in _SUFFIXES.items()}
_NAME = re.compile(r"(\d{20})(?:-(\d{10}))?(\.[a-z-]+)")
KEPT = 2


class SnapshotName(NamedTuple):
    """A snapshot's kind, offset and file name; sorts by kind and offset."""

    kind: str
    offset: int
    name: str


def parse_snapshot_name(name: str) -> SnapshotName | None:
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    kind = _KINDS.get(match[3])
    if kind is None or (kind == METADATA) != (match[2] is not None):
        return None
    return SnapshotName(kind, int(match[1]), name)


def snapshot_name(kind: str, offset: int, epoch: int) -> SnapshotName:
    """The name under which a snapshot is kept; `epoch` is that of the last record in it."""
    stem = f"{offset:020d}-{max(epoch, 0):010d}" if kind == METADATA else f"{offset:020d}"
    return SnapshotName(kind, offset, stem + _SUFFIXES[kind])


class Snapshots:
    """The snapshots of one log that is open."""

    __slots__ = ("_background", "_disk", "_folder", "_kept")

    def __init__(self, disk: Disk, folder: str, background: Background, found: list[SnapshotName]) -> None:
        self._disk = disk
        self._folder = folder
        self._background = background
        self._kept = found

    async def save(self, kind: str, offset: int, epoch: int, data: bytes) -> None:
        """See `PartitionLog.save_snapshot`; `epoch` is that of the last record in it. Raises as `Background.run`."""
        snapshot = snapshot_name(kind, offset, epoch)
        kept = sorted(
            {other for other in self._kept if other.kind == kind and other.name != snapshot.name} | {snapshot}
        )
        older = [other for other in kept[:-KEPT] if other != snapshot]
        await self._background.run(
            _write, self._disk, self._folder, snapshot.name, bytes(data), [other.name for other in older]
        )
        gone = set(older) | {snapshot}
        self._kept = sorted([other for other in self._kept if other not in gone] + [snapshot])

    async def load(self, kind: str, upto: int) -> tuple[int, bytes] | None:
        """See `PartitionLog.load_snapshot`."""
        while True:
            found = [snapshot for snapshot in self._kept if snapshot.kind == kind and snapshot.offset <= upto]
            if not found:
                return None
            newest = found[-1]
            try:
                data = await self._background.workers.run(read_file, self._disk, f"{self._folder}/{newest.name}")
            except FileNotFoundError:
                self._kept = [snapshot for snapshot in self._kept if snapshot != newest]
                continue
            return newest.offset, bytes(data)


def _write(disk: Disk, folder: str, name: str, data: bytes, older: list[str]) -> None:
    """Writes a snapshot, then removes `older` ones. Durable when it returns. Blocks. Raises `OSError`."""
    replace_file(disk, f"{folder}/{name}", data)
    disk.sync_folder(folder)
    for old in older:
        remove_if_there(disk, f"{folder}/{old}")


def load_snapshots(disk: Disk, folder: str, names: set[str], end_offset: int) -> list[SnapshotName]:
    """The snapshots, by kind and offset. Producer snapshots above the log's end are removed: their records are gone.
    Blocks."""
    found = [parsed for name in names if (parsed := parse_snapshot_name(name)) is not None]
    for snapshot in found:
        if snapshot.kind == PRODUCER and snapshot.offset > end_offset:
            remove_if_there(disk, f"{folder}/{snapshot.name}")
    return sorted(snapshot for snapshot in found if snapshot.kind != PRODUCER or snapshot.offset <= end_offset)
