"""Snapshots beside a log: state made from every record below an offset, kept as the bytes that were given.

    producer     <offset>.snapshot               Kafka's producer state
    metadata     <offset>-<epoch>.checkpoint     KRaft's snapshots
    coordinator  <offset>.coordinator-snapshot   a name of ours, which Kafka passes over

Role: names, and writing one so that it is there whole or not at all. What is inside is its owner's business.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from odradek.engines.local.checkpoints import replace_file
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


def write_snapshot(disk: Disk, folder: str, name: str, data: bytes, older: list[str]) -> None:
    """Writes a snapshot, then removes `older` ones. Durable when it returns. Blocks. Raises `OSError`."""
    replace_file(disk, f"{folder}/{name}", data)
    disk.sync_folder(folder)
    for old in older:
        try:
            disk.remove(f"{folder}/{old}")
        except FileNotFoundError:
            continue
