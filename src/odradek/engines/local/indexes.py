"""A segment's two indexes: offset to position (`.index`) and time to offset (`.timeindex`), in Kafka's formats.

    .index      8-byte entries: offset relative to the segment's base int32 | position int32
    .timeindex 12-byte entries: timestamp int64 | relative offset int32

An index entry names the last offset of a batch and where that batch begins. A time entry holds the highest timestamp so
far and the last offset of the batch that has it. Both are sparse: an entry about every `index.interval.bytes`.

Role: keep the entries that are not written yet; load and look up those that are. `log` decides when entries are written
(Kafka maps the files into memory; here they are written in blocks, and when a segment is rolled or closed).

Invariants: offsets and positions rise strictly. A file is never trusted: loading checks the order of its entries, and
the caller checks a lookup's result against the log itself. A thread reads `entries` once and uses that tuple: appends
change its arrays in place, positions before offsets; all other changes replace the tuple.
"""

from __future__ import annotations

import operator
import struct
import sys
from array import array
from bisect import bisect_left, bisect_right
from itertools import pairwise, starmap
from typing import NamedTuple

from odradek.engines.local.checkpoints import write_all
from odradek.engines.local.disk import Disk

ENTRY_BYTES = 8
TIME_ENTRY = struct.Struct(">qi")
TIME_ENTRY_BYTES = TIME_ENTRY.size
# Entries collected before they are written: 4 KB of index, about 2 MB of log.
BLOCK_ENTRIES = 512
_SWAP = sys.byteorder == "little"


class InsaneIndex(Exception):
    """An index file is invalid and must be rebuilt."""


class Entries(NamedTuple):
    """The index entries in memory, from the index's entry number `first` on. `offsets` are relative to the segment's
    base offset."""

    first: int
    offsets: array[int]
    positions: array[int]


def no_entries(first: int = 0) -> Entries:
    """No entries in memory, of an index whose file has `first` entries."""
    return Entries(first, array("i"), array("i"))


class Tail(NamedTuple):
    """Entries to be written: their position in the file, their bytes, and the file's number of entries afterwards."""

    position: int
    data: bytes
    written: int


class OffsetIndex:
    """The offset index of one segment."""

    __slots__ = ("count", "entries", "path", "written")

    def __init__(self, path: str, written: int = 0) -> None:
        self.path = path
        self.written = written
        self.count = written
        self.entries = no_entries(written)

    def add(self, offset: int, position: int) -> None:
        """Adds the entry of a batch: its last offset (relative) and its position."""
        entries = self.entries
        entries.positions.append(position)
        entries.offsets.append(offset)
        self.count += 1

    def tail(self) -> Tail:
        """The entries that are not written yet."""
        start = self.written - self.entries.first
        return Tail(
            self.written * ENTRY_BYTES,
            pack_entries(self.entries.offsets[start:], self.entries.positions[start:]),
            self.count,
        )

    def note_written(self, written: int) -> None:
        """Notes that the file has `written` entries."""
        self.written = max(self.written, written)

    def held_bytes(self) -> int:
        return ENTRY_BYTES * len(self.entries.offsets)

    def evict(self) -> None:
        """Drops the entries from memory that the file has."""
        kept = self.written - self.entries.first
        if kept > 0:
            self.entries = Entries(self.written, self.entries.offsets[kept:], self.entries.positions[kept:])

    def install(self, loaded: Entries) -> None:
        """Adds entries loaded from the file (from number 0 on) before those in memory, unless there is a gap between
        them."""
        entries = self.entries
        if loaded.first == 0 and 0 < entries.first <= len(loaded.offsets):
            cut = entries.first
            self.entries = Entries(
                0, loaded.offsets[:cut] + entries.offsets, loaded.positions[:cut] + entries.positions
            )

    def replace(self, rebuilt: Entries) -> None:
        """Replaces all entries of the file by rebuilt ones, which are then due to be written from the file's start."""
        entries = self.entries
        unwritten = self.written - entries.first
        self.entries = Entries(
            0,
            rebuilt.offsets + entries.offsets[unwritten:],
            rebuilt.positions + entries.positions[unwritten:],
        )
        self.count = len(self.entries.offsets)
        self.written = 0


def floor_position(entries: Entries, offset: int) -> tuple[int, int] | None:
    """(relative last offset, position) of the last entry at or below a relative offset: (-1, 0) where there is none,
    None where only the file may have it."""
    index = bisect_right(entries.offsets, offset) - 1
    if index >= 0:
        return entries.offsets[index], entries.positions[index]
    return (-1, 0) if entries.first == 0 else None


def pack_entries(offsets: array[int], positions: array[int]) -> bytes:
    pairs = array("i", bytes(ENTRY_BYTES * len(offsets)))
    pairs[0::2] = offsets
    pairs[1::2] = positions
    if _SWAP:
        pairs.byteswap()
    return pairs.tobytes()


def unpack_entries(data: bytes | bytearray, log_bytes: int) -> Entries:
    """The entries of an index file. Those that point at or above `log_bytes`, the segment's size, are left out: a crash
    lost their batches. Raises `InsaneIndex`."""
    if len(data) % ENTRY_BYTES:
        raise InsaneIndex(f"{len(data)} bytes are no multiple of {ENTRY_BYTES}")
    pairs = array("i")
    pairs.frombytes(data)
    if _SWAP:
        pairs.byteswap()
    offsets, positions = pairs[0::2], pairs[1::2]
    if offsets:
        if offsets[0] < 0 or positions[0] < 0:
            raise InsaneIndex("entries below zero")
        if not all(starmap(operator.lt, pairwise(offsets))) or not all(starmap(operator.lt, pairwise(positions))):
            raise InsaneIndex("entries out of order")
    inside = bisect_left(positions, log_bytes)
    return Entries(0, offsets[:inside], positions[:inside])


class TimeIndex:
    """The time index of one segment. Memory holds only the entries not written yet, and the last timestamp."""

    __slots__ = ("count", "last_timestamp", "path", "pending", "written")

    def __init__(self, path: str, written: int = 0, last_timestamp: int = -1) -> None:
        self.path = path
        self.written = written
        self.count = written
        self.pending: list[tuple[int, int]] = []
        self.last_timestamp = last_timestamp

    def add(self, timestamp: int, offset: int) -> None:
        """Adds an entry if its timestamp is higher than the last one's, as Kafka does."""
        if timestamp > self.last_timestamp:
            self.pending.append((timestamp, offset))
            self.last_timestamp = timestamp
            self.count += 1

    def tail(self) -> Tail:
        data = b"".join(TIME_ENTRY.pack(*entry) for entry in self.pending)
        return Tail(self.written * TIME_ENTRY_BYTES, data, self.count)

    def note_written(self, written: int) -> None:
        if written > self.written:
            del self.pending[: written - self.written]
            self.written = written


def unpack_time_entries(data: bytes | bytearray) -> list[tuple[int, int]]:
    """The entries (timestamp, relative offset) of a time index file. Raises `InsaneIndex`."""
    if len(data) % TIME_ENTRY_BYTES:
        raise InsaneIndex(f"{len(data)} bytes are no multiple of {TIME_ENTRY_BYTES}")
    entries = [(timestamp, offset) for timestamp, offset in TIME_ENTRY.iter_unpack(data)]
    for (timestamp, offset), (later_timestamp, later_offset) in pairwise(entries):
        if timestamp >= later_timestamp or offset > later_offset:
            raise InsaneIndex("time entries out of order")
    if entries and (entries[0][0] < 0 or entries[0][1] < 0):
        raise InsaneIndex("time entries below zero")
    return entries


def write_tail(disk: Disk, path: str, tail: Tail, sync: bool) -> None:
    """Writes entries to an index file, which is created if it is missing. Blocks. Raises `OSError`."""
    try:
        fd = disk.open(path)
    except FileNotFoundError:
        fd = disk.open(path, create=True)
    try:
        if tail.position == 0:
            disk.truncate(fd, 0)
        write_all(disk, fd, tail.data, tail.position)
        if sync:
            disk.sync_data(fd)
    finally:
        disk.close(fd)
