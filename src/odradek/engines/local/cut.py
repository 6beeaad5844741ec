"""Where a failed log goes on: worked out when it fails, put into force when it is opened again.

After a failed flush that is the end of the last good one, whatever memory shows; after a failed write or roll the end
of what had been written, if that can be flushed, else the end of the last good flush.

Invariant: nothing at or behind a cut is ever served again: its offsets go to other records, under a higher epoch.
"""

from __future__ import annotations

from dataclasses import dataclass

from odradek.engines.local.disk import Disk
from odradek.engines.local.segment import Segment
from odradek.engines.local.segments import make_segment, remove_segments


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a failed log goes on: at the end of its last good flush, or of its last good write."""

    offset: int
    base_offset: int
    """The segment that was active then."""
    position: int
    fallback: Cut | None = None
    """The end of the last good flush, where this is that of a write: it counts when what was written cannot be
    flushed."""

    @property
    def is_flushed(self) -> bool:
        return self.fallback is None


class SyncFailed(OSError):
    """What was written could not be flushed: memory may show what the disk does not have."""


def cut_at_flush(segments: list[Segment], flushed_at: tuple[int, Segment | None, int]) -> Cut | None:
    """The end of the last good flush, which is `flushed_at`: (offset, segment, position). None for a log without
    files."""
    if not segments:
        return None
    offset, segment, position = flushed_at
    if segment is not None and segment in segments:
        return Cut(offset, segment.base_offset, position)
    # Nothing was flushed yet, or what was is deleted: nothing that is left is on the disk for certain.
    base_offset = segments[0].base_offset
    return Cut(base_offset, base_offset, 0)


def cut_at_write(segments: list[Segment], end_offset: int, flushed_at: tuple[int, Segment | None, int]) -> Cut | None:
    """The end of the last good write, which is the log's `end_offset`."""
    fallback = cut_at_flush(segments, flushed_at)
    if fallback is None:
        return None
    active = segments[-1]
    return Cut(end_offset, active.base_offset, active.size, fallback)


def cut_off(disk: Disk, folder: str, segments: list[Segment], cut: Cut) -> bool:
    """Takes away what a failed flush left behind. Returns whether the next append needs a new segment."""
    kept = [segment for segment in segments if segment.base_offset <= cut.base_offset]
    if len(kept) < len(segments):
        remove_segments(disk, segments[len(kept) :])
        disk.sync_folder(folder)  # before the last that is kept may go: a power cut could leave these without it
    segments[:] = kept
    if not kept:
        return False
    last = kept[-1]
    if cut.position == 0 or last.base_offset != cut.base_offset:
        if last.base_offset == cut.base_offset:
            # Nothing of it is on the disk for certain: a new file in its place.
            remove_segments(disk, [last])
            segments[-1] = make_segment(disk, folder, cut.base_offset, last.created_ms)
            return False
        return True
    fd = disk.open(last.file.path)
    try:
        disk.truncate(fd, cut.position)
        sync_segment(disk, fd)
    finally:
        disk.close(fd)
    disk.sync_folder(folder)
    return True


def sync_segment(disk: Disk, fd: int) -> None:
    """Flushes a segment. Raises `SyncFailed`."""
    try:
        disk.sync_data(fd)
    except OSError as error:
        raise SyncFailed(error.errno, error.strerror) from error
