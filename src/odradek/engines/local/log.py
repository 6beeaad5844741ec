"""One log in Kafka's files: append, read, roll, and delete segments.

Role: the `PartitionLog` of the local engine. An append only writes into the page cache, on the event loop; work that
waits for the disk goes through the flusher (`begin_flush`, `end_flush`) or runs in a thread. `flush_state` notes what
is not on the disk yet, `segments` holds the list of segments.

Invariants:
- When a flush has returned, `flushed_end` moves to the end that the log had when that flush began, never further.
- In disk mode (`odradek.flush=disk`) `durable_end` is `flushed_end`. In os mode it follows the write, except that an
  append which needs a flush (the first of an opening, for its leader epoch; one that reaches `flush.messages`) holds it
  back until that flush returns.
- A log without batches has no files; the folder, `partition.metadata` and the leader epoch become durable in the same
  flush round as the first batches.
- A failed log does not write to its files any more: the engine keeps the point at which it is truncated (`Cut`) when it
  is opened again. After a failed write or roll that is the end of the last good write, in either mode; after a failed
  flush it is the end of the last good flush, even if the page cache holds more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NoReturn

from odradek.clock import Clock, Scheduler, Timer
from odradek.config.bounds import INT_MAX, LONG_MAX
from odradek.config.topic import LogConfig
from odradek.engines.interface import (
    AbortedTransaction,
    Appended,
    EpochEnd,
    Found,
    LogFailure,
    LogIdentity,
    LogSegment,
    OffsetOutOfRange,
    PartitionLog,
    Refused,
    StorageFull,
    Unknown,
    Unread,
)
from odradek.engines.local import checkpoints, lookup
from odradek.engines.local.aborted_index import AbortedIndex, read_aborted
from odradek.engines.local.background import Background
from odradek.engines.local.cut import Cut, cut_at_flush, cut_at_write
from odradek.engines.local.deletions import Deletions
from odradek.engines.local.disk import NO_ROOM, Disk, Workers, WouldWait
from odradek.engines.local.files import NO_DESCRIPTOR, LoadedIndexes, LogFile, OpenFiles
from odradek.engines.local.flush_state import Captured, FlushState
from odradek.engines.local.flusher import Flusher, Job
from odradek.engines.local.indexes import (
    BLOCK_ENTRIES,
    ENTRY_BYTES,
    TIME_ENTRY_BYTES,
    OffsetIndex,
    write_tail,
)
from odradek.engines.local.leader_epochs import LeaderEpochs
from odradek.engines.local.lookup import View
from odradek.engines.local.reading import Reads
from odradek.engines.local.recovery import Loaded
from odradek.engines.local.segment import Segment
from odradek.engines.local.segments import Segments, remove_all, rename_deleted
from odradek.engines.local.snapshots import Snapshots
from odradek.logs import get_logger
from odradek.records.batch import LENGTH_OVERHEAD, Buffer, RecordBatch

warn = get_logger("odradek.engine").warning

_BUFFERS_MAX = 1000  # buffers of one write; Linux allows 1024


@dataclass(slots=True)
class SharedByLogs:
    """Objects and callbacks that the logs of one engine share."""

    disk: Disk
    clock: Clock
    """The scheduler's clock."""
    scheduler: Scheduler
    root: str
    files: OpenFiles
    indexes: LoadedIndexes
    flusher: Flusher[LocalLog]
    readers: Workers
    background: Workers
    random_below: Callable[[int], int]
    on_made: Callable[[LocalLog], None]
    """Called when a log has created its first file."""
    on_failed: Callable[[LocalLog, Cut | None], None]
    """Called with the cut of a failed log, and again where a later failed flush changes it."""
    on_closed: Callable[[LocalLog], None]
    on_damage: Callable[[LogIdentity, Sequence[str]], None]
    note_first: Callable[[LocalLog, int], Callable[[], None]]
    """Notes the base offset that a log's first segment will have. Returns a function that makes this durable, which
    blocks and raises `OSError`."""
    save_start: Callable[[LocalLog, int], Awaitable[None]]
    """Makes a log's start offset durable. Raises `OSError`."""
    deletions: Deletions
    writers: dict[LogFile, LocalLog]
    """The log of each dirty file that no flush round covers yet."""


class LocalLog(PartitionLog):
    """A log of the local engine; see `PartitionLog`."""

    def __init__(
        self,
        shared: SharedByLogs,
        identity: LogIdentity,
        config: LogConfig,
        folder: str,
        epoch: int,
        loaded: Loaded | None,
        *,
        adopt: bool = False,
        unclean: bool = False,
    ) -> None:
        self.identity = identity
        self.epoch = epoch
        self.failed = None
        self.established = False
        self.on_roll = lambda base_offset: None
        self.folder = folder
        self.named = loaded is not None and not adopt
        """Whether `partition.metadata` with the topic id is durable."""
        self._shared = shared
        self._disk = shared.disk
        self._write_at = shared.disk.write_at
        self._files = shared.files
        self._flusher = shared.flusher
        self._loop = asyncio.get_running_loop()
        self._segments = Segments(loaded.segments if loaded is not None else [])
        self.start_offset = loaded.start_offset if loaded is not None else 0
        self.end_offset = loaded.end_offset if loaded is not None else 0
        self.durable_end = self.flushed_end = self.end_offset
        self.epochs = loaded.epochs if loaded is not None else LeaderEpochs([])
        self._aborted_index = AbortedIndex(shared.disk)
        self._background = Background(shared.background, identity)
        self._snapshots = Snapshots(
            shared.disk, folder, self._background, loaded.snapshots if loaded is not None else []
        )
        self._roll_next = loaded is not None and loaded.roll
        self._accepts = True
        self._closed = False
        self._close_task: asyncio.Task[None] | None = None
        # The end of the last good flush, and the place of `durable_end`: (offset, segment, position).
        active = self._segments.active
        self._flushed_at = (self.end_offset, active, active.size if active is not None else 0)
        self.durable_at = self._flushed_at
        self._reads = Reads(self, self._segments, shared.disk, shared.files, shared.indexes, shared.readers)
        self._flush_state = FlushState(self, shared.flusher, shared.files, shared.writers)
        self._fresh = True
        self._index_block = (active.index.written if active is not None else 0) + BLOCK_ENTRIES
        """The number of entries in the active segment's index at which the unwritten ones are written."""
        self._touched = unclean
        """Whether `close` has to write index entries and flush."""
        self._sync_upto = 0
        self._flush_timer: Timer | None = None
        self._done: asyncio.Future[None] = self._loop.create_future()
        self._done.set_result(None)
        self._set_config(config)
        if active is not None:
            self._set_roll_time(active)
        if adopt:
            self._name_folder()
            self._flusher.request(self)

    # --- append --------------------------------------------------------------------------------------------------

    def append(self, batches: Sequence[RecordBatch], epoch: int, expected_end: int | None = None) -> Appended:
        # 2.8 us for one small batch, of which the write takes 1: see benchmarks/engine_append.py.
        if not self._accepts:
            self._refuse()
        base_offset = self.end_offset
        if epoch != self.epoch:
            raise Refused(f"epoch {epoch} is not the log's {self.epoch}")
        if expected_end is not None and expected_end != base_offset:
            raise Refused(f"the log ends at {base_offset}, not at {expected_end}")
        buffers: Sequence[Buffer]
        is_one = len(batches) == 1
        if is_one:
            batch = batches[0]
            header = batch.header
            buffers = batch.placed_at(base_offset, epoch)
            size = header.batch_length + LENGTH_OVERHEAD
            end_offset = base_offset + header.last_offset_delta + 1
            max_timestamp = header.max_timestamp
        else:
            assert batches
            placed: list[Buffer] = []
            size, end_offset, max_timestamp = 0, base_offset, -1
            for batch in batches:
                placed += batch.placed_at(end_offset, epoch)
                size += batch.size
                end_offset += batch.header.last_offset_delta + 1
                max_timestamp = max(max_timestamp, batch.header.max_timestamp)
            buffers = placed
        if len(buffers) > _BUFFERS_MAX:
            buffers = [b"".join(buffers)]

        active = self._segments.active
        if active is None or (
            (filled := active.size)
            and (
                filled + size > self._segment_bytes
                or max_timestamp > active.roll_above
                or end_offset - active.base_offset > INT_MAX
                or active.index.count >= self._index_entries_max
                or active.times.count >= self._time_entries_max
                or self._roll_next
                or (active.rolling_timestamp < 0 and self._is_old(active))
            )
        ):
            active = self._roll()
        position = active.size
        file = active.file
        try:
            fd = self._files.fd(file)
            written = self._write_at(fd, buffers, position)
            if written != size:
                self._write_rest(fd, buffers, written, size, position)
        except OSError as error:
            self._write_failed(active, error)
        if not file.dirty:
            self._flush_state.note_dirty(file)

        if position == 0:
            active.rolling_timestamp = max_timestamp
            self._set_roll_time(active)
        if is_one:
            active.note(size, end_offset - 1, max_timestamp, self.index_interval)
        else:
            offset = base_offset
            for batch in batches:
                offset += batch.header.last_offset_delta + 1
                active.note(batch.size, offset - 1, batch.header.max_timestamp, self.index_interval)
        self.end_offset = end_offset
        if active.index.count >= self._index_block:
            self._write_index_block(active)
        if self._fresh:
            self._begin_epoch(base_offset)

        if self._flushes:
            due = self._flush_state
            due.unflushed_bytes += size
            self._flusher.unflushed_bytes += size
            durable = due.next
            if durable is None:
                durable = due.next_flush()
            return Appended(base_offset, end_offset, durable)
        return Appended(base_offset, end_offset, self._append_in_os_mode(end_offset - base_offset))

    def _append_in_os_mode(self, records: int) -> asyncio.Future[None]:
        due = self._flush_state
        due.unflushed_records += records
        if due.unflushed_records >= self.config.flush_messages or (
            not self.established and self._sync_upto <= self.flushed_end
        ):
            self._sync_upto = self.end_offset
        if self._sync_upto > self.flushed_end:
            return due.next_flush()
        self.durable_end = self.end_offset
        if self._flush_timer is None and self.config.flush_ms < LONG_MAX:
            self._flush_timer = self._shared.scheduler.call_later(self.config.flush_ms / 1000, self._flush_now)
        return self._done

    def _flush_now(self) -> None:
        self._flush_timer = None
        if self._accepts and self.flushed_end < self.end_offset:
            self._flusher.request(self)

    def _refuse(self) -> NoReturn:
        raise self.failed if self.failed is not None else Refused("the log is closed")

    def _begin_epoch(self, base_offset: int) -> None:
        """Called by the first append of an opening: the leader epoch becomes durable with it."""
        self._fresh = False
        self._touched = True
        self._flush_state.epoch_due = self._flush_state.has_more_than_bytes = True
        self.epochs.begin(self.epoch, base_offset)

    def _write_index_block(self, segment: Segment) -> None:
        """Writes the active segment's new index entries: 20 us for every 2 MB of log. A failure does no harm: they are
        written with the next block, and after a crash they are rebuilt from the log."""
        self._index_block = segment.index.count + BLOCK_ENTRIES
        if self._flush_state.running is not None and self._flush_state.running.indexes:
            return  # the running flush round is writing index entries
        try:
            for index in (segment.index, segment.times):
                tail = index.tail()
                write_tail(self._disk, index.path, tail, sync=False)
                index.note_written(tail.written)
        except OSError as error:
            warn("index entries not written", log=str(self.identity), why=str(error))
            return
        self._shared.indexes.note(segment.index)

    def _write_rest(self, fd: int, buffers: Sequence[Buffer], written: int, size: int, position: int) -> None:
        """Writes the rest of a write that the system cut short, as it does when the disk gets full."""
        rest = memoryview(b"".join(buffers))
        assert len(rest) == size
        checkpoints.write_all(self._disk, fd, rest[written:], position + written)

    def _write_failed(self, active: Segment, error: OSError) -> NoReturn:
        """Truncates what a failed write left. Raises `StorageFull`, or `Unknown` after failing the log."""
        try:
            if active.file.fd >= 0:
                self._disk.truncate(active.file.fd, active.size)
                if not active.file.dirty:
                    # The next append may go to a new segment: this truncation must be on the disk before it.
                    self._flush_state.note_dirty(active.file)
        except OSError as second:
            error = second
        else:
            if error.errno in NO_ROOM:
                raise StorageFull(f"no room for {self.identity}: {error.strerror}") from error
        failure = Unknown(f"writing {active.file.path} failed: {error}")
        self.fail(failure, keeps_written=True)
        raise failure from error

    # --- segments ------------------------------------------------------------------------------------------------

    def _is_old(self, active: Segment) -> bool:
        """Whether `segment.ms` has passed for a segment whose batches have no timestamps."""
        return self._shared.clock.now_ms() - active.created_ms > self.config.segment_ms - self._jitter()

    def _jitter(self) -> int:
        limit = min(self.config.segment_jitter_ms, self.config.segment_ms)
        return self._shared.random_below(limit) if limit else 0

    def _set_roll_time(self, segment: Segment) -> None:
        if segment.rolling_timestamp >= 0:
            segment.roll_above = segment.rolling_timestamp + self.config.segment_ms - self._jitter()

    def _roll(self) -> Segment:
        """Begins a new segment at the log's end. Raises `StorageFull` or `Unknown`."""
        disk = self._disk
        sealed = self._segments.active
        segment = Segment(self.folder, self.end_offset, self._shared.clock.now_ms())
        try:
            if sealed is None:
                disk.make_folder(self.folder)
            elif self._flushes and self.flushed_end <= self._segments.bases[0]:
                # A power cut must not leave the second segment without the first: the log would begin at the second.
                disk.sync_folder(self.folder)
            self._files.create(segment.file)
        except OSError as error:
            if error.errno in NO_ROOM:
                raise StorageFull(f"no room for {self.identity}: {error.strerror}") from error
            failure = Unknown(f"making {segment.file.path} failed: {error}")
            self.fail(failure, keeps_written=True)
            raise failure from error
        self._touched = True
        if sealed is None:
            self._name_folder()
            self._shared.on_made(self)
        else:
            sealed.finish_times()
            self._flush_state.sealed.append(sealed)
            if not self._flushes:
                self._flusher.request(self)
        self._flush_state.folders_due.append(self.folder)
        self._flush_state.has_more_than_bytes = True
        self._index_block = BLOCK_ENTRIES
        self._segments.add(segment)
        self._roll_next = False
        if sealed is not None:
            self.on_roll(segment.base_offset)
        return segment

    def _name_folder(self) -> None:
        """Has `partition.metadata` with the topic id written by the next flush round."""
        metadata = checkpoints.format_partition_metadata(self.identity.topic_id)
        self._flush_state.replacements_due.append((f"{self.folder}/{checkpoints.PARTITION_METADATA}", metadata))
        self._flush_state.folders_due += (self.folder, self._shared.root)
        self._flush_state.has_more_than_bytes = True

    def _views(self) -> list[View]:
        return self._segments.views(self.end_offset)

    async def _delete_below(self, offset: int, at_once: bool = False) -> int:
        """Deletes the segments that end at or below `offset`, except the active one; returns their bytes. When it
        returns, a crash cannot bring them back. Their files are removed after `file.delete.delay.ms`, or with `at_once`
        before it returns."""
        gone = self._segments.take_below(offset)
        if not gone:
            return 0
        for segment in gone:
            self._files.discard(segment.file)
            self._shared.indexes.discard(segment.index)
            self._flush_state.forget(segment)
        self.start_offset = max(self.start_offset, self._segments.bases[0])
        self.epochs.clip(self.start_offset, self.end_offset)
        sync = self._shared.note_first(self, self._segments.bases[0])
        try:
            renamed: list[str] = await self._background.run(_sync_and_rename, sync, self._disk, self.folder, gone)
        except LogFailure as failure:
            # The segments still exist, and the log is opened again with them; the log start offset does not go back.
            with contextlib.suppress(OSError):
                await self._shared.save_start(self, self.start_offset)
            self.fail(Unknown(f"deleting segments of {self.identity} failed: {failure}"), keeps_written=True)
            raise
        if at_once:
            await self._background.run(remove_all, self._disk, renamed)
        else:
            self._shared.deletions.remove_files(renamed, self.config.file_delete_delay_ms)
        return sum(segment.size for segment in gone)

    # --- read ----------------------------------------------------------------------------------------------------

    def read(
        self, offset: int, max_bytes: int, upto: int, minimum_one: bool = True, spans: bool = False
    ) -> list[Buffer] | Awaitable[list[Buffer]]:
        if self._closed:
            self._refuse()
        if not self.start_offset <= offset <= self.end_offset:
            raise OffsetOutOfRange(f"offset {offset} is outside {self.start_offset} to {self.end_offset}")
        if offset >= upto or offset >= self.end_offset:
            return []
        return self._reads.read(offset, max_bytes, upto, minimum_one, spans)

    def read_aborted(self) -> list[AbortedTransaction]:
        return read_aborted(self._disk, [segment.stem for segment in self._segments.all])

    async def save_aborted(self, aborted: Sequence[AbortedTransaction]) -> None:
        if not self._accepts:
            self._refuse()
        await self.flush()
        stems = [(segment.base_offset, segment.stem) for segment in self._segments.all]
        await self._background.run(self._aborted_index.write, stems, aborted)

    def unread_from(self, offset: int) -> Unread | Awaitable[Unread | None] | None:
        offset = max(offset, self.start_offset)
        try:
            return self._reads.unread_in_memory(offset)
        except (WouldWait, OSError):
            # The search in the thread reports damage and errors.
            return self._shared.readers.run(lookup.unread_from, self._disk, self._views(), offset)

    async def find_by_timestamp(self, timestamp_ms: int, upto: int, from_offset: int = 0) -> Found | None:
        from_offset = max(from_offset, self.start_offset)
        return await self._shared.readers.run(
            lookup.find_by_timestamp, self._disk, self._views(), timestamp_ms, from_offset, upto
        )

    async def find_max_timestamp(self, upto: int) -> Found | None:
        return await self._shared.readers.run(
            lookup.find_max_timestamp, self._disk, self._views(), self.start_offset, upto
        )

    def look_for_holes(self) -> None:
        """Starts a check, in the background, that every segment ends where the next one begins; reports the offsets
        that are in no segment."""

        def told(looking: asyncio.Future[list[tuple[int, int]]]) -> None:
            if looking.exception() is None:
                self._shared.on_damage(
                    self.identity,
                    [f"offsets {first} to {end - 1} are in no segment" for first, end in looking.result()],
                )

        views = self._views()[:-1]
        if not views:
            return
        self._background.begin(lookup.find_holes, self._disk, views).add_done_callback(told)

    def rewrite_index(self, segment: Segment) -> None:
        if self.failed is None and not self._closed:
            due = self._flush_state
            if segment is not self._segments.active and segment not in due.sealed:
                due.sealed.append(segment)
            due.indexes_due = due.has_more_than_bytes = self._touched = True
            self._flusher.request(self)

    def epoch_end(self, epoch: int, upto: int) -> EpochEnd | None:
        return self.epochs.end_of(epoch, upto)

    def last_epoch(self) -> int | None:
        return self.epochs.newest()

    def size_bytes(self) -> int:
        return self._segments.size_bytes()

    # --- flush ---------------------------------------------------------------------------------------------------

    async def flush(self) -> None:
        if self.failed is not None:
            raise self.failed
        due = self._flush_state
        if due.has_work():
            await due.next_flush()
        elif due.running is not None:
            await due.quiet()
            if self.failed is not None:
                raise self.failed

    def begin_flush(self) -> Job | None:
        if self.failed is not None or self._closed:
            return None
        active, due = self._segments.active, self._flush_state
        job = due.begin((self.end_offset, active, active.size if active is not None else 0))
        if due.has_more_than_bytes:
            due.begin_the_rest(job, self.folder, self.epochs.entries, active)
        return job

    def end_flush(self, error: OSError | None, unwritten: Collection[str] = ()) -> None:
        due = self._flush_state
        due.release()
        if error is not None:
            self.flush_failed(error)
        elif self.failed is None and (ended := due.running) is not None:
            self._flusher.counters.flushed_bytes += ended.size
            for index, written in ended.indexes:
                if index.path in unwritten:
                    continue
                index.note_written(written)
                if isinstance(index, OffsetIndex):
                    self._shared.indexes.note(index)
            self._note_flushed(ended)
        due.end()

    def _note_flushed(self, ended: Captured) -> None:
        self._flushed_at = ended.at
        self.flushed_end = ended.at[0]
        if ended.epochs_crc is not None:
            self.epochs.written_crc = ended.epochs_crc
            self.established = True
        self.named = self.named or ended.has_name
        if self._flushes:
            if self.flushed_end > self.durable_end:
                self.durable_end = self.flushed_end
                self.durable_at = self._flushed_at
        elif self._sync_upto <= self.flushed_end:
            self.durable_end = self.end_offset
        if ended.durable is not None:
            ended.durable.set_result(None)

    def fail(self, failure: LogFailure, keeps_written: bool = False) -> None:
        """Ends this opening: nothing is written any more. Only flushed records are kept; with `keeps_written`, also
        those written before a failed write."""
        if self.failed is not None:
            return
        self.failed = failure
        self._accepts = False
        self._shared.on_failed(self, self._cut(keeps_written))
        self._flush_state.fail(failure)

    def flush_failed(self, error: OSError) -> None:
        """Ends this opening, and cuts the log at its last good flush, even where a failed write has ended it meanwhile:
        the written records are not on the disk. Where the flush failed only for want of a descriptor, no loss is
        known, and the cut is the last good write."""
        found_none = error.errno in NO_DESCRIPTOR
        self.fail(Unknown(f"flushing {self.identity} failed: {error}"), keeps_written=found_none)
        if not found_none:
            self._shared.on_failed(self, self._cut(keeps_written=False))

    def _cut(self, keeps_written: bool) -> Cut | None:
        segments = self._segments.all
        if keeps_written:
            return cut_at_write(segments, self.end_offset, self._flushed_at)
        return cut_at_flush(segments, self._flushed_at)

    # --- settings, retention, snapshots --------------------------------------------------------------------------

    def configure(self, config: LogConfig) -> None:
        had_flushes = self._flushes
        self._set_config(config)
        if (active := self._segments.active) is not None:
            self._set_roll_time(active)
        if self.failed is not None or self._closed or had_flushes == self._flushes:
            return
        if self._flushes:
            if self.end_offset > self.flushed_end:
                self._flush_state.next_flush()
        else:
            self._sync_upto = self.flushed_end if self.established else self.end_offset
            if self._sync_upto <= self.flushed_end:
                self.durable_end = self.end_offset

    def _set_config(self, config: LogConfig) -> None:
        self.config = config
        self._flushes = config.flush == "disk"
        self._segment_bytes = config.segment_bytes
        self.index_interval = config.index_interval_bytes
        self._index_entries_max = max(1, config.segment_index_bytes // ENTRY_BYTES)
        self._time_entries_max = max(1, config.segment_index_bytes // TIME_ENTRY_BYTES - 1)

    async def truncate_before(self, offset: int) -> None:
        if not self._accepts:
            self._refuse()
        assert offset <= self.durable_end, (offset, self.durable_end)
        if offset <= self.start_offset:
            return
        try:
            await self._shared.save_start(self, offset)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise Unknown(f"keeping the start offset of {self.identity} failed: {error}") from error
            # There is no room to store the start offset: deleting the segments below it makes room.
            await self._delete_before(offset, at_once=True)
            try:
                await self._shared.save_start(self, offset)
            except OSError as second:
                raise Unknown(f"keeping the start offset of {self.identity} failed: {second}") from second
        self.start_offset = max(self.start_offset, offset)
        self.epochs.clip(self.start_offset, self.end_offset)
        await self._delete_before(self.start_offset)

    async def _delete_before(self, offset: int, at_once: bool = False) -> None:
        """Deletes the segments that end at or below `offset`; where that is the log's end, the active one, too (Kafka
        keeps the active one, however large)."""
        if offset >= self.end_offset:
            await self.roll()
        await self._delete_below(offset, at_once)

    def segments(self) -> list[LogSegment]:
        return self._segments.told(self.end_offset)

    async def roll(self) -> None:
        if not self._accepts:
            self._refuse()
        if (active := self._segments.active) is not None and active.size:
            self._roll()
            await self.flush()

    async def delete_segments(self, upto: int) -> int:
        if not self._accepts:
            self._refuse()
        assert upto <= self.durable_end, (upto, self.durable_end)
        return await self._delete_below(upto)

    async def newest_timestamp(self, segment: LogSegment) -> int | None:
        asked = self._segments.beginning_at(segment.base_offset)
        if asked is None:
            return None
        if not asked.times_known:
            view = View.of(asked, self.end_offset)
            timestamp, offset = await self._background.run(lookup.read_times, self._disk, view)
            asked.max_timestamp, asked.max_timestamp_offset = timestamp, offset
            asked.times_known = True
        if asked.max_timestamp >= 0:
            return asked.max_timestamp
        modified_ms: int = await self._background.run(self._disk.modified_ms, asked.file.path)
        return modified_ms

    async def save_snapshot(self, kind: str, offset: int, data: bytes) -> None:
        if not self._accepts:
            self._refuse()
        if self._segments.active is None:
            self._roll()  # creates the log's folder and first segment
        await self.flush()
        await self._snapshots.save(kind, offset, self.epochs.before(offset), data)

    async def load_snapshot(self, kind: str, upto: int) -> tuple[int, bytes] | None:
        return await self._snapshots.load(kind, upto)

    # --- the end -------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        if self._close_task is None:
            self._close_task = asyncio.ensure_future(self._close())
        await asyncio.shield(self._close_task)

    async def _close(self) -> None:
        self._accepts = False
        if self._flush_timer is not None:
            self._flush_timer.cancel()
        if self.failed is None and self._touched:
            if (active := self._segments.active) is not None:
                active.finish_times()
            self._flush_state.indexes_due = self._flush_state.has_more_than_bytes = True
            try:
                await self._flush_state.next_flush()
            except LogFailure:
                assert self.failed is not None
        while self._flush_state.running is not None:
            await self._flush_state.quiet()
        await self._background.end()
        self._closed = True
        for segment in self._segments.all:
            self._files.discard(segment.file)
            self._shared.indexes.discard(segment.index)
        self._shared.on_closed(self)


def _sync_and_rename(sync: Callable[[], None], disk: Disk, folder: str, gone: list[Segment]) -> list[str]:
    """Calls `sync`, which makes the log's new first offset durable, so that a later start can tell a deleted segment
    from a lost one; then renames the segments. They are deleted even if `sync` fails: a deletion makes room."""
    with contextlib.suppress(OSError):
        sync()
    return rename_deleted(disk, folder, gone)
