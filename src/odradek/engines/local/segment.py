"""One segment of a log: its file names, its state in memory, and functions that read the headers of its batches.

Role: the state that an append keeps up to date (`note`), and reading headers out of a segment: `locate` for one batch,
`walk` for all, `scan` for the check that recovery makes. `log` decides when a segment is read and written.

Invariants: `size` is the position of the next batch. Index entries follow Kafka's rule (an entry, with the last offset
of its batch, for a batch that begins more than `index.interval.bytes` after the last indexed one began), so that the
distance from an entry to any batch is bounded by that interval and one batch. Walks end on any bytes: an impossible
length raises `Damaged`, and never loops.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from crc32c import crc32c

from odradek.engines.interface import Unknown
from odradek.engines.local import aborted_index
from odradek.engines.local.disk import Disk
from odradek.engines.local.files import LogFile
from odradek.engines.local.indexes import InsaneIndex, OffsetIndex, TimeIndex
from odradek.records.batch import HEADER_BYTES, LENGTH_OVERHEAD, PREFIX_BYTES, BatchHeader, read_header
from odradek.records.iteration import DECOMPRESSED_MAX_BYTES, max_timestamp_inside

LOG = ".log"
INDEX = ".index"
TIME_INDEX = ".timeindex"
SEGMENT_SUFFIXES = (LOG, INDEX, TIME_INDEX, aborted_index.SUFFIX)
DELETED = ".deleted"
CLEANED = ".cleaned"
SWAP = ".swap"
INT_MAX = 2**31 - 1
OFFSET_MAX = 2**63 - 1

_PLACE = struct.Struct(">qi11xi")  # base_offset, batch_length, last_offset_delta
_PLACE_CHECKED = struct.Struct(">qi4xb6xi")  # with the magic
_PLACE_BYTES = _PLACE.size
_CRC_START = 21
# `locate` reads this much at a time from an index entry on: with the default index.interval.bytes one read finds the
# batch.
LOCATE_BYTES = 4224
# A walk over a segment reads this much at a time.
WALK_BYTES = 1 << 20

Read = Callable[[int, int], bytearray]
"""(size, position) -> bytes, fewer at the end of the file."""


class Damaged(Unknown):
    """There is no valid batch at `position` of a segment's file. The fault may also lie in the batch before it, at
    `previous` (-1 if unknown): in its length, or, where offsets are missing before it (`is_doubtful`), in its base
    offset, which no checksum covers."""

    def __init__(self, message: str, position: int = -1, previous: int = -1, is_doubtful: bool = False) -> None:
        super().__init__(message)
        self.position = position
        self.previous = previous
        self.is_doubtful = is_doubtful

    def first(self, read: Read, end: int) -> int:
        """The position of the first batch that may be damaged. Blocks."""
        if self.previous >= 0 and (self.is_doubtful or not is_sound(read, self.previous, end)):
            return self.previous
        return self.position


class Segment:
    """The state of a segment."""

    __slots__ = (
        "base_offset",
        "bytes_since_index",
        "created_ms",
        "file",
        "index",
        "max_timestamp",
        "max_timestamp_offset",
        "roll_above",
        "rolling_timestamp",
        "size",
        "stem",
        "times",
        "times_known",
    )

    def __init__(self, folder: str, base_offset: int, created_ms: int, size: int = 0) -> None:
        self.base_offset = base_offset
        self.stem = f"{folder}/{base_offset:020d}"
        self.file = LogFile(self.stem + LOG)
        self.size = size
        self.index = OffsetIndex(self.stem + INDEX)
        self.times = TimeIndex(self.stem + TIME_INDEX)
        self.max_timestamp = -1
        self.max_timestamp_offset = base_offset
        """The last offset of the first batch with `max_timestamp`."""
        self.times_known = size == 0
        """Whether `max_timestamp` is known. It is read from the file only when needed, for a segment that this process
        has not written."""
        self.rolling_timestamp = -1
        """The first batch's max timestamp: `segment.ms` counts from it."""
        self.roll_above = INT_MAX << 32
        """Batches with a later timestamp go into a new segment."""
        self.created_ms = created_ms
        self.bytes_since_index = 0

    def note(self, size: int, last_offset: int, max_timestamp: int, interval: int) -> None:
        """Notes a batch of `size` bytes that was written at the segment's end."""
        if max_timestamp > self.max_timestamp:
            self.max_timestamp = max_timestamp
            self.max_timestamp_offset = last_offset
        if self.bytes_since_index > interval:
            base_offset = self.base_offset
            self.index.add(last_offset - base_offset, self.size)
            self.times.add(self.max_timestamp, self.max_timestamp_offset - base_offset)
            self.bytes_since_index = 0
        self.bytes_since_index += size
        self.size += size

    def pass_over(self, position: int) -> None:
        """Skips damaged bytes before `position`: the batch there gets an index entry, so that it can be found."""
        self.size = position
        self.bytes_since_index = INT_MAX

    def finish_times(self) -> None:
        """Adds the time index's last entry, when the segment is rolled or closed."""
        if self.times_known and self.size:
            self.times.add(self.max_timestamp, self.max_timestamp_offset - self.base_offset)

    def paths(self) -> list[str]:
        return [self.stem + suffix for suffix in SEGMENT_SUFFIXES]


class Place(NamedTuple):
    """Where a batch begins and its size in bytes. With `size` 0 there is no batch, and `position` is the end."""

    position: int
    size: int


def locate(read: Read, end: int, position: int, offset: int, end_offset: int, expected_last: int = -1) -> Place:
    """The first batch at or after `position` whose last offset is at or above `offset`. `end` is the position where the
    batches end, and `end_offset` the end of their offsets.

    `expected_last` is the last offset of the batch at `position` according to an index entry. Raises `InsaneIndex`
    where the batch has another last offset, `Damaged` where there are no batches. Headers are checked fully only where
    something looks wrong: forty small batches may follow an entry, and each comparison here makes a read of 1 KB 0.5 %
    slower."""
    begin = position
    place_at = _PLACE.unpack_from
    while position < end:
        chunk = read(min(LOCATE_BYTES, end - position), position)
        at, last = 0, len(chunk) - _PLACE_BYTES
        if last < 0:
            return _locate_checked(read, end, begin, offset, end_offset)
        if expected_last >= 0 and position == begin:
            base_offset, _, delta = place_at(chunk)
            if base_offset + delta != expected_last:
                raise InsaneIndex("an entry's offset is not that of its batch")
        while at <= last:
            base_offset, length, delta = place_at(chunk, at)
            size = length + LENGTH_OVERHEAD
            if size < HEADER_BYTES:
                return _locate_checked(read, end, begin, offset, end_offset)
            # A negative offset delta is not checked here: the batches that follow then look wrong, too.
            if base_offset + delta >= offset:
                if base_offset > offset or chunk[at + PREFIX_BYTES] != 2 or position + at + size > end:
                    return _locate_checked(read, end, begin, offset, end_offset)
                return Place(position + at, size)
            at += size
        position += at
    return Place(end, 0) if position == end else _locate_checked(read, end, begin, offset, end_offset)


def _locate_checked(read: Read, end: int, position: int, offset: int, end_offset: int) -> Place:
    """`locate` with full checks of each header against the batches around it. Raises `Damaged`."""
    previous, next_offset, jumps = -1, 0, False
    while position < end:
        chunk = read(min(LOCATE_BYTES, end - position), position)
        at, last = 0, len(chunk) - _PLACE_BYTES
        if last < 0:
            raise Damaged(f"the batch at position {position} is cut short", position, previous, jumps)
        while at <= last:
            base_offset, length, magic, delta = _PLACE_CHECKED.unpack_from(chunk, at)
            size = length + LENGTH_OVERHEAD
            if (
                magic != 2
                or size < HEADER_BYTES
                or delta < 0
                or position + at + size > end
                or not next_offset <= base_offset < end_offset
            ):
                raise Damaged(f"no batch at position {position + at}", position + at, previous, jumps)
            if base_offset + delta >= offset:
                return Place(position + at, size)
            jumps = previous >= 0 and base_offset > next_offset
            previous, next_offset = position + at, base_offset + delta + 1
            at += size
        position += at
    return Place(end, 0)


def reader(disk: Disk, fd: int) -> Read:
    """A function that reads from the file, and may wait for the disk."""
    return lambda size, position: disk.read_at(fd, size, position)


def walk(read: Read, position: int, end: int, offsets: range) -> Iterator[tuple[int, BatchHeader]]:
    """(position, header) of all batches from `position` to `end`. Blocks. Raises `Damaged`, also for a base offset
    outside `offsets`."""
    previous, next_offset, jumps = -1, offsets.start, False
    while position < end:
        chunk = read(min(WALK_BYTES, end - position), position)
        at, last = 0, len(chunk) - HEADER_BYTES
        if last < 0:
            raise Damaged(f"the batch at position {position} is cut short", position, previous, jumps)
        while at <= last:
            header = read_header(chunk, at)
            size = header.size
            if (
                header.magic != 2
                or size < HEADER_BYTES
                or header.last_offset_delta < 0
                or position + at + size > end
                or not next_offset <= header.base_offset < offsets.stop
            ):
                raise Damaged(f"no batch at position {position + at}", position + at, previous, jumps)
            yield position + at, header
            jumps = previous >= 0 and header.base_offset > next_offset
            previous, next_offset = position + at, header.next_offset
            at += size
        position += at


def walk_on(
    read: Read, position: int, end: int, offsets: range, on_damage: Callable[[Damaged], None]
) -> Iterator[tuple[int, BatchHeader]]:
    """`walk` that calls `on_damage` where it meets damage, and goes on with the next sound batch."""
    while True:
        try:
            yield from walk(read, position, end, offsets)
            return
        except Damaged as damage:
            on_damage(damage)
            position = position_behind(read, damage, end, offsets)
            if position < 0:
                return


def position_behind(read: Read, damage: Damaged, end: int, offsets: range) -> int:
    """The position of the first sound batch after the damage with offsets among `offsets`; -1 where there is none.
    Blocks, and reads all bytes up to there."""
    return find_batch(read, damage.first(read, end) + 1, end, offsets.start, offsets.stop)


def is_sound(read: Read, position: int, end: int) -> bool:
    """Whether there is a whole batch with a correct CRC at `position`. Blocks."""
    head = read(HEADER_BYTES, position)
    if len(head) < HEADER_BYTES:
        return False
    header = read_header(head)
    return (
        HEADER_BYTES <= header.size <= end - position
        and _crc_of(read, position + _CRC_START, header.size - _CRC_START) == header.crc
    )


def max_timestamp_at(read: Read, position: int, header: BatchHeader) -> int:
    """The max timestamp of the batch at `position`, from its records where the header contradicts itself. Blocks."""
    if not header.contradicts_its_times:
        return header.max_timestamp
    if header.size > DECOMPRESSED_MAX_BYTES:
        return header.least_max_timestamp
    return max_timestamp_inside(header, read(header.size, position))


class Scanned(NamedTuple):
    """The result of a scan: the offset after the last good batch; the leader epochs, (epoch, start offset), in order;
    why the scan stopped before the end of the file (None if it did not); the position of the last good batch; and the
    first offset that is missing before that batch (-1 for none)."""

    next_offset: int
    epochs: list[tuple[int, int]]
    torn: str | None
    last_position: int
    missing: int


def scan(
    read: Read,
    segment: Segment,
    end: int,
    interval: int,
    next_offset: int,
    check_from: int,
    flushed_end: int,
    end_offset: int,
    compacted: bool,
) -> Scanned:
    """Reads a segment's batches from its `size` to the file's `end`, and notes every good one in the segment. Stops at
    the first bad batch: one that is cut short, out of order, at or above `end_offset`, not of magic 2, or has a wrong
    CRC (checked from offset `check_from` on). In a log that is not compacted, a batch at or above `flushed_end` with
    offsets missing before it is bad, too, because no CRC covers its base offset. Blocks."""
    epochs: list[tuple[int, int]] = []
    epoch = last_position = missing = -1
    limit = min(segment.base_offset + INT_MAX, end_offset - 1)

    def done(torn: str | None) -> Scanned:
        return Scanned(next_offset, epochs, torn, last_position, missing)

    while segment.size < end:
        position = segment.size
        chunk = read(min(WALK_BYTES, end - position), position)
        at, last = 0, len(chunk) - HEADER_BYTES
        if last < 0:
            return done("a batch's header is cut short")
        view = memoryview(chunk)
        while at <= last:
            header = read_header(chunk, at)
            size = header.batch_length + LENGTH_OVERHEAD
            if header.magic != 2 or size < HEADER_BYTES or header.last_offset_delta < 0:
                return done("no batch")
            if header.base_offset < next_offset or header.last_offset > limit:
                return done("offsets out of order")
            if position + at + size > end:
                return done("a batch is cut short")
            jumps = header.base_offset > next_offset
            if jumps and header.last_offset >= flushed_end and not compacted:
                return done(f"offsets jump to {header.base_offset}")
            if header.last_offset >= check_from:
                if at + size <= len(chunk):
                    crc = crc32c(view[at + _CRC_START : at + size])
                else:
                    crc = _crc_of(read, position + at + _CRC_START, size - _CRC_START)
                if crc != header.crc:
                    return done("a batch's checksum does not match")
            if header.leader_epoch != epoch:
                epoch = header.leader_epoch
                epochs.append((epoch, header.base_offset))
            max_timestamp = max_timestamp_at(read, position + at, header)
            if segment.size == 0:
                segment.rolling_timestamp = max_timestamp
            last_position = position + at
            missing = next_offset if jumps else -1
            segment.note(size, header.last_offset, max_timestamp, interval)
            next_offset = header.last_offset + 1
            at += size
    return done(None)


def find_batch(read: Read, position: int, end: int, next_offset: int, end_offset: int) -> int:
    """The position of the first sound batch at or after `position`, which need not be a batch's beginning, with offsets
    from `next_offset` to below `end_offset`; -1 where there is none. Blocks, and reads all bytes up to there."""
    while position + HEADER_BYTES <= end:
        chunk = read(min(WALK_BYTES, end - position), position)
        magic = chunk.find(2, PREFIX_BYTES)
        while magic >= 0 and (at := magic - PREFIX_BYTES) + HEADER_BYTES <= len(chunk):
            header = read_header(chunk, at)
            if (
                next_offset <= header.base_offset < end_offset
                and 0 <= header.last_offset_delta < end_offset - header.base_offset
                and HEADER_BYTES <= header.size <= end - position - at
                and _crc_of(read, position + at + _CRC_START, header.size - _CRC_START) == header.crc
            ):
                return position + at
            magic = chunk.find(2, magic + 1)
        position += max(1, len(chunk) - HEADER_BYTES + 1)
    return -1


def _crc_of(read: Read, position: int, size: int) -> int:
    """The CRC-32C of a range of the file, read in pieces; -1 where the file ends within it."""
    crc = 0
    while size:
        piece = read(min(size, WALK_BYTES), position)
        if not piece:
            return -1
        crc = crc32c(piece, crc)
        size -= len(piece)
        position += len(piece)
    return crc
