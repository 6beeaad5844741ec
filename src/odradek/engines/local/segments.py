"""The list of a log's segments, and the functions that create, rename and remove their files.

Invariants:
- Segments are in order, and each ends where the next one begins; appends go to the last one, `active`.
- `all` and `bases` are only appended to or replaced as a whole, so that a thread may read them.
- The files of deleted segments are renamed before the deletion returns, one segment after the other, so that a crash
  cannot bring them back.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from odradek.engines.interface import LogSegment
from odradek.engines.local.checkpoints import remove_if_there
from odradek.engines.local.disk import Disk
from odradek.engines.local.lookup import View
from odradek.engines.local.segment import DELETED, Segment


class Segments:
    """See the module."""

    __slots__ = ("active", "all", "bases", "sealed_bytes")

    def __init__(self, found: list[Segment]) -> None:
        self.all = found
        self.bases = [segment.base_offset for segment in found]
        """The base offset of each segment."""
        self.active: Segment | None = found[-1] if found else None
        self.sealed_bytes = sum(segment.size for segment in found[:-1])
        """Bytes of all segments but the active one."""

    def add(self, segment: Segment) -> None:
        """Adds a new active segment."""
        if self.active is not None:
            self.sealed_bytes += self.active.size
        self.all.append(segment)
        self.bases.append(segment.base_offset)
        self.active = segment

    def take_below(self, offset: int) -> list[Segment]:
        """Takes out and returns the segments that end at or below `offset`, except the active one."""
        count = max(0, bisect_right(self.bases, offset) - 1)
        if count == 0:
            return []
        gone, self.all = self.all[:count], self.all[count:]
        self.bases = self.bases[count:]
        self.sealed_bytes -= sum(segment.size for segment in gone)
        return gone

    def beginning_at(self, base_offset: int) -> Segment | None:
        number = bisect_right(self.bases, base_offset) - 1
        return self.all[number] if number >= 0 and self.bases[number] == base_offset else None

    def size_bytes(self) -> int:
        return self.sealed_bytes + (self.active.size if self.active is not None else 0)

    def told(self, end_offset: int) -> list[LogSegment]:
        """The segments that hold batches, as the contract's `LogSegment`s; the log ends at `end_offset`."""
        ends = [*self.bases[1:], end_offset]
        return [
            LogSegment(segment.base_offset, end_offset, segment.size)
            for segment, end_offset in zip(self.all, ends, strict=False)
            if segment.size
        ]

    def views(self, end_offset: int) -> list[View]:
        """Views of the segments as they are now, for searches in a thread; the log ends at `end_offset`."""
        ends = [*self.bases[1:], end_offset]
        return [View.of(segment, end_offset) for segment, end_offset in zip(self.all, ends, strict=False)]


def rename_deleted(disk: Disk, folder: str, segments: list[Segment]) -> list[str]:
    """Renames the files of segments to their `.deleted` names, the `.log` file first; returns the new paths. The folder
    is synced after each segment: else a power cut could leave a hole in the log. Blocks."""
    renamed = []
    for segment in segments:
        for path in segment.paths():
            try:
                disk.rename(path, path + DELETED)
            except FileNotFoundError:
                continue
            renamed.append(path + DELETED)
        disk.sync_folder(folder)
    return renamed


def remove_all(disk: Disk, paths: Sequence[str]) -> None:
    """Removes files that may be gone already. Blocks."""
    for path in paths:
        remove_if_there(disk, path)


def make_segment(disk: Disk, folder: str, base_offset: int, now_ms: int) -> Segment:
    """Makes an empty segment's file, durably. Blocks."""
    segment = Segment(folder, base_offset, now_ms)
    disk.close(disk.open(segment.file.path, create=True))
    disk.sync_folder(folder)
    return segment


def remove_segments(disk: Disk, segments: Iterable[Segment]) -> None:
    """Removes the files of segments. Blocks."""
    for segment in segments:
        for path in segment.paths():
            remove_if_there(disk, path)
