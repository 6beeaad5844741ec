"""Reads of one log: at once from the page cache, or in a thread.

Role: find the first batch, bound the bytes, read them. Each read is tried first on the event loop, with reads that do
not wait (`RWF_NOWAIT`) and the index entries in memory; on `WouldWait` the same steps run in a thread.

Invariants: a read ends before the first batch that begins at or above `upto`. The bounds of a read (file size, durable
position) are taken on the loop, so that a thread never reads bytes that were written later. A file that a thread reads
is pinned. An index entry is trusted only if the batch it points to ends at its offset; otherwise the index is rebuilt
from the log.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Awaitable
from typing import NamedTuple, Protocol, cast

from odradek.engines.interface import SPAN_MIN_BYTES, DamagedBatch, OffsetOutOfRange, Unknown, Unread
from odradek.engines.local.checkpoints import read_file
from odradek.engines.local.disk import Disk, Workers, WouldWait
from odradek.engines.local.files import ARRIVING_MAX, LoadedIndexes, OpenFiles
from odradek.engines.local.indexes import (
    ENTRY_BYTES,
    Entries,
    InsaneIndex,
    OffsetIndex,
    floor_position,
    no_entries,
    unpack_entries,
)
from odradek.engines.local.segment import Damaged, Place, Read, Segment, locate, position_behind, reader, walk_on
from odradek.engines.local.segments import Segments
from odradek.records.batch import HEADER_BYTES, LENGTH_OVERHEAD, Buffer, read_header

# How many positions where reads ended are remembered: the next read of a consumer that keeps up begins there.
TAILS_KEPT = 32
_LENGTH_END = 12


class Readable(Protocol):
    """What reads need of a log."""

    end_offset: int
    durable_at: tuple[int, Segment | None, int]
    index_interval: int

    def rewrite_index(self, segment: Segment) -> None:
        """Has a segment's rebuilt index written."""


class Request(NamedTuple):
    """One read of one segment. `end` is the segment's size in bytes, `end_offset` the end of its offsets; `limit` is
    the position that belongs to `upto`, or -1 where it is not known."""

    segment: Segment
    offset: int
    max_bytes: int
    upto: int
    minimum_one: bool
    end: int
    end_offset: int
    limit: int


class Reads:
    """The reads of one opening of a log."""

    def __init__(
        self,
        log: Readable,
        segments: Segments,
        disk: Disk,
        files: OpenFiles,
        indexes: LoadedIndexes,
        readers: Workers,
    ) -> None:
        self._log = log
        self._segments = segments
        self._disk = disk
        self._files = files
        self._indexes = indexes
        self._readers = readers
        self._loop = asyncio.get_running_loop()
        self._tails: dict[int, tuple[Segment, int]] = {}

    def read(
        self, offset: int, max_bytes: int, upto: int, minimum_one: bool, spans: bool
    ) -> list[Buffer] | Awaitable[list[Buffer]]:
        """See `PartitionLog.read`; the caller has checked that `offset` is in the log and below `upto`."""
        bases = self._segments.bases
        number = bisect_right(bases, offset) - 1
        while number < len(bases) and bases[number] < upto:
            request = self._request(number, offset, max_bytes, upto, minimum_one)
            try:
                found = self._read_in_memory(request, spans)
            except WouldWait:
                return self._read_waiting(request)
            except OSError as error:
                raise Unknown(f"reading {request.segment.file.path} failed: {error}") from error
            if found is not None:
                return found
            number += 1  # the segment has no batch from `offset` on: compaction has removed it
        return []

    def _request(self, number: int, offset: int, max_bytes: int, upto: int, minimum_one: bool) -> Request:
        log, segments = self._log, self._segments
        segment, bases = segments.all[number], segments.bases
        end_offset = bases[number + 1] if number + 1 < len(bases) else log.end_offset
        durable_offset, durable_segment, durable_position = log.durable_at
        if upto >= end_offset:
            limit = segment.size
        elif upto == durable_offset and segment is durable_segment:
            limit = durable_position
        else:
            limit = -1
        return Request(segment, offset, max_bytes, upto, minimum_one, segment.size, end_offset, limit)

    def _read_in_memory(self, request: Request, spans: bool) -> list[Buffer] | None:
        segment = request.segment
        fd = segment.file.fd
        if fd < 0:
            raise WouldWait
        self._files.fd(segment.file)  # marks it as recently used
        read_at = self._disk.read_at

        def read(size: int, position: int) -> bytearray:
            return read_at(fd, size, position, False)

        tail = self._tails.get(request.offset)
        if tail is not None and tail[0] is segment:
            place = Place(tail[1], -1)
        else:
            place = self._place(read, request, request.offset, wait=False)
        limit = request.limit if request.limit >= 0 else self._bound(read, request, wait=False)
        take = read
        if spans:
            span_of = self._disk.span

            def take(size: int, position: int) -> bytearray:
                span = span_of(fd, size, position) if size >= SPAN_MIN_BYTES else None
                # The cast hides a span: only the code that writes to sockets gets it, and handles both.
                return read(size, position) if span is None else cast(bytearray, span)

        found = _read_between(read, take, request, place, limit)
        if found is not None and limit - place.position <= request.max_bytes:
            if len(self._tails) >= TAILS_KEPT:
                del self._tails[next(iter(self._tails))]
            self._tails[request.upto] = (segment, limit)
        return found

    def unread_in_memory(self, offset: int) -> Unread | None:
        """See `PartitionLog.unread_from`. On the event loop this costs a twentieth of a thread beside a busy loop.
        Raises `WouldWait` where bytes are not in the page cache, or are damaged."""
        segments = self._segments
        for number in range(max(0, bisect_right(segments.bases, offset) - 1), len(segments.bases)):
            request = self._request(number, offset, 0, self._log.end_offset, minimum_one=False)
            segment = request.segment
            if request.end == 0:
                continue
            fd = segment.file.fd
            if fd < 0:
                raise WouldWait

            def read(size: int, position: int, fd: int = fd) -> bytearray:
                return self._disk.read_at(fd, size, position, False)

            try:
                position = self._place(read, request, offset, wait=False).position
                while position < request.end:
                    header = read_header(read(HEADER_BYTES, position))
                    if not header.is_control:
                        later = sum(one.size for one in segments.all[number + 1 :])
                        return Unread(header.first_timestamp, request.end - position + later)
                    if header.size < HEADER_BYTES:
                        raise Damaged(f"no batch at position {position}")
                    position += header.size
            except Damaged:
                raise WouldWait from None
        return None

    async def _read_waiting(self, request: Request) -> list[Buffer]:
        while True:
            try:
                found = await self._read_in_thread(request)
            except OSError as error:
                raise Unknown(f"reading {request.segment.file.path} failed: {error}") from error
            if found is not None:
                return found
            bases = self._segments.bases
            number = bisect_right(bases, request.segment.base_offset)
            if number >= len(bases) or bases[number] >= request.upto:
                return []
            request = self._request(number, request.offset, request.max_bytes, request.upto, request.minimum_one)

    def _read_in_thread(self, request: Request) -> asyncio.Future[list[Buffer] | None]:
        file = request.segment.file
        opened: list[int] = []
        arriving = self._files.arriving

        def work() -> list[Buffer] | None:
            fd = file.fd
            if fd < 0:
                try:
                    fd = self._disk.open(file.path)
                except FileNotFoundError:
                    raise OffsetOutOfRange(f"offset {request.offset} was deleted") from None
                opened.append(fd)
                arriving.add(fd)
            try:
                read = reader(self._disk, fd)
                place = self._place(read, request, request.offset, wait=True)
                limit = request.limit if request.limit >= 0 else self._bound(read, request, wait=True)
                return _read_between(read, read, request, place, limit)
            finally:
                if opened and len(arriving) > ARRIVING_MAX:
                    # More descriptors wait for the loop to take them over than are allowed: close this one.
                    arriving.discard(fd)
                    self._disk.close(opened.pop())

        def after() -> None:
            for fd in opened:
                self._files.adopt(file, fd)
            self._files.unpin(file)

        self._files.pin(file)
        return self._readers.run(work, after=after)

    def _bound(self, read: Read, request: Request, wait: bool) -> int:
        """The position of the first batch that begins at or above `upto`."""
        position = self._place(read, request, request.upto, wait).position
        if position < request.end:
            head = read(_LENGTH_END, position)
            if int.from_bytes(head[:8], "big", signed=True) < request.upto:
                position += int.from_bytes(head[8:12], "big", signed=True) + LENGTH_OVERHEAD
        return position

    def _place(self, read: Read, request: Request, offset: int, wait: bool) -> Place:
        """The batch that contains `offset`, or the first after it; the end if there is none."""
        segment, end = request.segment, request.end
        relative = offset - segment.base_offset
        index = segment.index
        entries = index.entries
        floor = floor_position(entries, relative)
        if floor is None:
            if not wait:
                raise WouldWait
            try:
                entries = self._load_index(segment, index, entries, end)
            except (InsaneIndex, FileNotFoundError):
                entries = self._rebuild_index(read, request)
            floor = floor_position(entries, relative)
            assert floor is not None
        elif not wait and len(entries.offsets) > 0 and entries.first == 0:
            self._indexes.note(index)
        last, position = floor
        try:
            expected = segment.base_offset + last if last >= 0 else -1
            return locate(read, end, position, offset, request.end_offset, expected)
        except (InsaneIndex, Damaged) as error:
            if not wait:
                raise WouldWait from None
            if isinstance(error, Damaged):
                return _place_behind(read, request, offset, error)
        floor = floor_position(self._rebuild_index(read, request), relative)
        assert floor is not None
        try:
            return locate(read, end, floor[1], offset, request.end_offset)
        except Damaged as damage:
            return _place_behind(read, request, offset, damage)

    # --- indexes, in a thread ------------------------------------------------------------------------------------

    def _load_index(self, segment: Segment, index: OffsetIndex, held: Entries, end: int) -> Entries:
        """All entries of an index: those of its file, which stay in memory from now on, and those `held` already."""
        data = read_file(self._disk, index.path)
        if len(data) < held.first * ENTRY_BYTES:
            raise InsaneIndex("an index file is too short")
        loaded = unpack_entries(data[: held.first * ENTRY_BYTES], end)
        self._loop.call_soon_threadsafe(self._install, segment, index, loaded)
        return Entries(0, loaded.offsets + held.offsets, loaded.positions + held.positions)

    def _install(self, segment: Segment, index: OffsetIndex, loaded: Entries) -> None:
        if segment.index is index and not segment.file.doomed:
            index.install(loaded)
            self._indexes.note(index)

    def _rebuild_index(self, read: Read, request: Request) -> Entries:
        """Index entries made from the log by the rule of `Segment.note`, with one more after each damaged place."""
        entries = no_entries()
        interval, since = self._log.index_interval, 0
        offsets = range(request.segment.base_offset, request.end_offset)
        expected = 0
        for position, header in walk_on(read, 0, request.end, offsets, _pass_over):
            # An entry for the first batch after damage, so that batches there are found.
            if since > interval or position > expected:
                entries.offsets.append(header.last_offset - request.segment.base_offset)
                entries.positions.append(position)
                since = 0
            expected = position + header.size
            since += header.size
        self._loop.call_soon_threadsafe(self._install_rebuilt, request.segment, request.segment.index, entries)
        return entries

    def _install_rebuilt(self, segment: Segment, index: OffsetIndex, rebuilt: Entries) -> None:
        if segment.index is not index or segment.file.doomed:
            return
        # Entries that were added since the walk began follow those that it found.
        added = index.entries
        cut = bisect_right(added.offsets, rebuilt.offsets[-1] if rebuilt.offsets else -1)
        self._indexes.discard(index)
        segment.index = OffsetIndex(index.path)
        segment.index.entries = Entries(
            0, rebuilt.offsets + added.offsets[cut:], rebuilt.positions + added.positions[cut:]
        )
        segment.index.count = len(segment.index.entries.offsets)
        self._log.rewrite_index(segment)


def _pass_over(damage: Damaged) -> None:
    """Ignores damage: a read of the damaged batch raises it."""


def _place_behind(read: Read, request: Request, offset: int, damage: Damaged) -> Place:
    """The batch that contains `offset`, where it follows the damage. Raises `DamagedBatch` where `offset` is in the
    damaged range."""
    segment, end = request.segment, request.end
    offsets = range(segment.base_offset, request.end_offset)
    while True:
        position = position_behind(read, damage, end, offsets)
        if position < 0 or read_header(read(HEADER_BYTES, position)).base_offset > offset:
            first = damage.first(read, end)
            raise DamagedBatch(
                f"{segment.file.path} is damaged at byte {first}, and offset {offset} cannot be found",
                bytes(read(min(request.max_bytes, end - first), first)),
            )
        try:
            return locate(read, end, position, offset, request.end_offset)
        except Damaged as another:
            damage = another


def _read_between(read: Read, take: Read, request: Request, place: Place, limit: int) -> list[Buffer] | None:
    """The bytes from a batch's beginning on, up to `limit` and `max_bytes`, as `take` returns them; None where `place`
    is at the segment's end. The size in `place` is -1 where it is not known."""
    position, first = place
    if position >= request.end:
        return None
    size = min(request.max_bytes, limit - position)
    if size < limit - position:
        # `max_bytes` cuts the read short, but the first batch must be whole.
        if first < 0:
            first = int.from_bytes(read(_LENGTH_END, position)[8:12], "big", signed=True) + LENGTH_OVERHEAD
        if first > request.end - position:
            raise DamagedBatch(f"the batch at byte {position} of {request.segment.file.path} is longer than the file")
        if first > size:
            return [take(first, position)] if request.minimum_one else []
    return [take(size, position)] if size > 0 else []
