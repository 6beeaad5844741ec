"""The offset at which a failed log is truncated (the cut): computed when it fails, applied when it is opened again.

After a failed flush the cut is the end of the last good flush, even if the page cache holds more. After a failed write
or roll it is the end of the last good write, if that can still be flushed, else the end of the last good flush.

Invariant: records at or above a cut are never served again: later records get their offsets, under a higher leader
epoch.
"""

from __future__ import annotations

from dataclasses import dataclass

from odradek.engines.local.disk import Disk
from odradek.engines.local.segment import Segment
from odradek.engines.local.segments import make_segment, remove_segments


@dataclass(frozen=True, slots=True)
class Cut:
    """The point at which a failed log is truncated: the end of its last good flush, or of its last good write."""

    offset: int
    base_offset: int
    """The base offset of the segment that was active then."""
    position: int
    fallback: Cut | None = None
    """For a cut at the last good write, the cut at the last good flush: it is used where the written bytes cannot be
    flushed."""

    @property
    def is_flushed(self) -> bool:
        return self.fallback is None


class SyncFailed(OSError):
    """Written bytes could not be flushed: the page cache may hold bytes that the disk does not have."""


def cut_at_flush(segments: list[Segment], flushed_at: tuple[int, Segment | None, int]) -> Cut | None:
    """The cut at the end of the last good flush, `flushed_at`: (offset, segment, position). None for a log without
    files."""
    if not segments:
        return None
    offset, segment, position = flushed_at
    if segment is not None and segment in segments:
        return Cut(offset, segment.base_offset, position)
    # No flush has covered any of the remaining segments, so none of their bytes is on the disk for certain.
    base_offset = segments[0].base_offset
    return Cut(base_offset, base_offset, 0)


def cut_at_write(segments: list[Segment], end_offset: int, flushed_at: tuple[int, Segment | None, int]) -> Cut | None:
    """The cut at the end of the last good write, which is the log's `end_offset`; None for a log without files."""
    fallback = cut_at_flush(segments, flushed_at)
    if fallback is None:
        return None
    active = segments[-1]
    return Cut(end_offset, active.base_offset, active.size, fallback)


def cut_off(disk: Disk, folder: str, segments: list[Segment], cut: Cut) -> bool:
    """Truncates the log at `cut`. Returns whether the next append needs a new segment."""
    kept = [segment for segment in segments if segment.base_offset <= cut.base_offset]
    if len(kept) < len(segments):
        remove_segments(disk, segments[len(kept) :])
        # Synced before the last kept segment may be replaced: a power cut could leave the later ones without it.
        disk.sync_folder(folder)
    segments[:] = kept
    if not kept:
        return False
    last = kept[-1]
    if cut.position == 0 or last.base_offset != cut.base_offset:
        if last.base_offset == cut.base_offset:
            # None of its bytes is on the disk for certain: replace it by an empty file.
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
