"""Finds batches by offset or timestamp in a thread, in the segments that the log had when the search began.

Role: `View`s are made on the event loop; everything else here blocks and runs in a thread, with descriptors of its
own. A segment that retention deletes meanwhile is skipped.

Invariants: an index only tells where to begin. Its entries are checked against the log, and without an index a search
reads the segment from its start. Nothing here changes a log.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from odradek.engines.interface import Found, Unread
from odradek.engines.local.checkpoints import read_file
from odradek.engines.local.disk import Disk
from odradek.engines.local.indexes import (
    TIME_ENTRY,
    TIME_ENTRY_BYTES,
    InsaneIndex,
    floor_position,
    unpack_entries,
)
from odradek.engines.local.segment import Damaged, Read, Segment, locate, max_timestamp_at, reader, walk_on
from odradek.logs import get_logger
from odradek.records.batch import HEADER_BYTES, BatchHeader, read_header

log = get_logger("odradek.engine")


# Some batch headers contradict themselves, because producers left the max timestamp unset. A search reads the records
# of at most this many such batches before the first header that has the timestamp sought: the batches of such producers
# span little time.
LOOKED_INTO = 16


class View(NamedTuple):
    """A segment as it was when the view was made. `pending_times` are its time index entries not written yet."""

    segment: Segment
    size: int
    end_offset: int
    pending_times: Sequence[tuple[int, int]]

    @classmethod
    def of(cls, segment: Segment, end_offset: int) -> View:
        return cls(segment, segment.size, end_offset, tuple(segment.times.pending))


@contextmanager
def opened(disk: Disk, view: View) -> Iterator[Read]:
    """Opens a view's file for reading. Raises `FileNotFoundError` where it was deleted."""
    fd = disk.open(view.segment.file.path, writable=False)
    try:
        yield reader(disk, fd)
    finally:
        disk.close(fd)


def start_position(disk: Disk, read: Read, view: View, offset: int) -> int:
    """A position at or before the first batch that ends at or above `offset`, from a checked index entry; 0 where the
    index has none."""
    segment = view.segment
    relative = offset - segment.base_offset
    if relative <= 0:
        return 0
    try:
        floor = floor_position(segment.index.entries, relative)
        if floor is None:
            floor = floor_position(unpack_entries(read_file(disk, segment.index.path), view.size), relative)
        if floor is None or floor[0] < 0:
            return 0
        return locate(read, view.size, floor[1], offset, view.end_offset, segment.base_offset + floor[0]).position
    except (InsaneIndex, FileNotFoundError):
        return 0
    except Damaged as damage:
        # A walk from there on skips the damage.
        return damage.position if damage.previous < 0 else damage.previous


def _walk(read: Read, view: View, position: int) -> Iterator[tuple[int, BatchHeader]]:
    """The batches from `position` on. Damaged ones are logged and skipped."""
    segment = view.segment

    def say(damage: Damaged) -> None:
        log.warning("a log is damaged", path=segment.file.path, why=str(damage))

    return walk_on(read, position, view.size, range(segment.base_offset, view.end_offset), say)


def unread_from(disk: Disk, views: Sequence[View], offset: int) -> Unread | None:
    """See `PartitionLog.unread_from`."""
    for number, view in enumerate(views):
        if view.end_offset <= offset or view.size == 0:
            continue
        try:
            with opened(disk, view) as read:
                for position, header in _walk(read, view, start_position(disk, read, view, offset)):
                    if header.last_offset >= offset and not header.is_control:
                        later = sum(one.size for one in views[number + 1 :])
                        return Unread(header.first_timestamp, view.size - position + later)
        except FileNotFoundError:
            continue
    return None


def find_by_timestamp(
    disk: Disk, views: Sequence[View], timestamp_ms: int, from_offset: int, upto: int
) -> Found | None:
    """The first batch below `upto`, ending above `from_offset`, whose max timestamp is at or above `timestamp_ms`."""
    for view in views:
        if view.end_offset <= from_offset or view.size == 0:
            continue
        if view.segment.base_offset >= upto:
            break
        if view.segment.times_known and view.segment.max_timestamp < timestamp_ms:
            continue
        try:
            with opened(disk, view) as read:
                before = _time_floor(disk, read, view, timestamp_ms)
                begin = start_position(disk, read, view, max(from_offset, before))
                doubtful: deque[tuple[int, BatchHeader]] = deque(maxlen=LOOKED_INTO)
                later: Found | None = None
                for position, header in _walk(read, view, begin):
                    if header.base_offset >= upto:
                        break
                    if header.last_offset < from_offset:
                        continue
                    max_timestamp = header.max_timestamp
                    if header.contradicts_its_times:
                        doubtful.append((position, header))
                        max_timestamp = header.base_timestamp
                    if max_timestamp >= timestamp_ms:
                        later = Found(header.base_offset, max_timestamp)
                        break
                for position, header in doubtful:
                    max_timestamp = max_timestamp_at(read, position, header)
                    if max_timestamp >= timestamp_ms:
                        return Found(header.base_offset, max_timestamp)
                if later is not None:
                    return later
        except FileNotFoundError:
            continue
    return None


def find_max_timestamp(disk: Disk, views: Sequence[View], from_offset: int, upto: int) -> Found | None:
    """The first batch with the highest max timestamp among those below `upto` that end above `from_offset`."""
    found: Found | None = None
    for view in views:
        segment = view.segment
        if view.end_offset <= from_offset or view.size == 0:
            continue
        if segment.base_offset >= upto:
            break
        if found is not None and segment.times_known and segment.max_timestamp <= found.max_timestamp:
            continue
        try:
            with opened(disk, view) as read:
                # No earlier batch of the segment has this timestamp. Where the batch is outside the range, all others
                # are searched.
                known = segment.times_known and from_offset <= segment.max_timestamp_offset < upto
                begin = segment.max_timestamp_offset if known else from_offset
                for _, header in _walk(read, view, start_position(disk, read, view, begin)):
                    if header.base_offset >= upto:
                        break
                    if header.last_offset < begin:
                        continue
                    if found is None or header.least_max_timestamp > found.max_timestamp:
                        found = Found(header.base_offset, header.least_max_timestamp)
                    if known:
                        break
        except FileNotFoundError:
            continue
    return found


def find_holes(disk: Disk, views: Sequence[View]) -> list[tuple[int, int]]:
    """The ranges of offsets, (first, last + 1), that are missing between the last batch of a view's file and the view's
    `end_offset`: the file is missing or empty, or has lost its end. For logs that are not compacted."""
    holes: list[tuple[int, int]] = []
    for view in views:
        segment, end_offset = view.segment, view.segment.base_offset
        try:
            with opened(disk, view) as read:
                for _, header in _walk(read, view, _last_entry(disk, view)):
                    end_offset = header.next_offset
                if end_offset == segment.base_offset:
                    # There is no whole batch where the index entry points.
                    for _, header in _walk(read, view, 0):
                        end_offset = header.next_offset
        except FileNotFoundError:
            if not segment.file.doomed:
                holes.append((segment.base_offset, view.end_offset))
            continue
        if end_offset < view.end_offset:
            holes.append((end_offset, view.end_offset))
    return holes


def _last_entry(disk: Disk, view: View) -> int:
    """The position of the last batch with an index entry; 0 without one."""
    try:
        positions = unpack_entries(read_file(disk, view.segment.index.path), view.size).positions
    except (InsaneIndex, FileNotFoundError):
        return 0
    return positions[-1] if positions else 0


def read_times(disk: Disk, view: View) -> tuple[int, int]:
    """(highest max timestamp, last offset of the first batch that has it) of a segment, from the last entry of its time
    index if that is true of its batch, else from all batches."""
    segment = view.segment
    try:
        data = read_file(disk, segment.times.path)
    except FileNotFoundError:
        data = bytearray()
    try:
        with opened(disk, view) as read:
            if len(data) >= TIME_ENTRY_BYTES:
                entry = TIME_ENTRY.unpack_from(data, len(data) - len(data) % TIME_ENTRY_BYTES - TIME_ENTRY_BYTES)
                if _holds(disk, read, view, entry):
                    return entry[0], segment.base_offset + entry[1]
            return _walk_times(read, view)
    except FileNotFoundError:
        return -1, segment.base_offset


def _walk_times(read: Read, view: View) -> tuple[int, int]:
    highest, offset = -1, view.segment.base_offset
    doubtful: tuple[int, BatchHeader] | None = None
    for position, header in _walk(read, view, 0):
        if header.least_max_timestamp > highest:
            highest, offset = header.least_max_timestamp, header.last_offset
            doubtful = (position, header) if header.contradicts_its_times else None
    return highest if doubtful is None else max_timestamp_at(read, *doubtful), offset


def _time_floor(disk: Disk, read: Read, view: View, timestamp_ms: int) -> int:
    """An offset below which no batch of the segment has a timestamp at or above `timestamp_ms`."""
    segment = view.segment
    for timestamp, offset in reversed(view.pending_times):
        if timestamp <= timestamp_ms:
            return segment.base_offset + offset
    try:
        data = read_file(disk, segment.times.path)
    except FileNotFoundError:
        return segment.base_offset
    low, high = 0, len(data) // TIME_ENTRY_BYTES
    while low < high:
        middle = (low + high) // 2
        if TIME_ENTRY.unpack_from(data, middle * TIME_ENTRY_BYTES)[0] <= timestamp_ms:
            low = middle + 1
        else:
            high = middle
    if low == 0:
        return segment.base_offset
    entry = TIME_ENTRY.unpack_from(data, (low - 1) * TIME_ENTRY_BYTES)
    return segment.base_offset + entry[1] if _holds(disk, read, view, entry) else segment.base_offset


def _holds(disk: Disk, read: Read, view: View, entry: tuple[int, int]) -> bool:
    """Whether a time index entry agrees with the batch that it points to."""
    timestamp, relative = entry
    offset = view.segment.base_offset + relative
    if relative < 0 or offset >= view.end_offset:
        return False
    try:
        place = locate(read, view.size, start_position(disk, read, view, offset), offset, view.end_offset)
    except Damaged:
        return False
    if place.size == 0:
        return False
    header = read_header(read(HEADER_BYTES, place.position), 0)
    return header.last_offset == offset and max_timestamp_at(read, place.position, header) == timestamp
