"""What of one log is not on the disk yet: the work due for its next flush round, and what the running round covers.

Role: the log notes here what it has written and what else is due (names, leader epochs, indexes). `begin` turns this
into the round's `Job`, and keeps what the round covers until the log has evaluated its result (`end`).

Invariants:
- A round covers everything that is due when it begins; what becomes due later is for the next round.
- A file that a round syncs is pinned until the round has ended.
- `has_more_than_bytes` is set wherever something other than bytes of segments becomes due: most rounds have nothing
  else to do, and skip the rest.
"""

from __future__ import annotations

import asyncio
from typing import Generic

from crc32c import crc32c

from odradek.engines.interface import LogFailure
from odradek.engines.local import checkpoints
from odradek.engines.local.files import LogFile, OpenFiles
from odradek.engines.local.flusher import Durable, Flusher, Job, L
from odradek.engines.local.indexes import OffsetIndex, TimeIndex
from odradek.engines.local.segment import Segment


class Captured:
    """What the running flush round covers."""

    __slots__ = ("at", "durable", "epochs_crc", "files", "has_name", "indexes", "quiet", "size")

    def __init__(
        self,
        at: tuple[int, Segment | None, int],
        size: int,
        durable: Durable | None,
        files: list[LogFile],
    ) -> None:
        self.at = at
        """The log's end when the round began: (offset, segment, position)."""
        self.size = size
        """Bytes that become durable with the round."""
        self.durable = durable
        self.files = files
        self.indexes: list[tuple[OffsetIndex | TimeIndex, int]] = []
        """The indexes that the round writes, each with the number of entries that its file has afterwards."""
        self.epochs_crc: int | None = None
        """The checksum of the leader epoch checkpoint, where the round writes it."""
        self.has_name = False
        """Whether the round writes `partition.metadata`, which has the topic id."""
        self.quiet: asyncio.Future[None] | None = None
        """Done when the round has ended for this log; made only where something waits for that."""


class FlushState(Generic[L]):
    """See the module."""

    __slots__ = (
        "_files",
        "_flusher",
        "_log",
        "_loop",
        "_writers",
        "dirty_files",
        "epoch_due",
        "folders_due",
        "has_more_than_bytes",
        "indexes_due",
        "next",
        "replacements_due",
        "running",
        "sealed",
        "unflushed_bytes",
        "unflushed_records",
    )

    def __init__(self, log: L, flusher: Flusher[L], files: OpenFiles, writers: dict[LogFile, L]) -> None:
        self._log = log
        self._flusher = flusher
        self._files = files
        self._writers = writers
        self._loop = asyncio.get_running_loop()
        self.next: Durable | None = None
        """The future of the appends that wait for the next round."""
        self.unflushed_bytes = 0
        self.unflushed_records = 0
        self.dirty_files: list[LogFile] = []
        self.sealed: list[Segment] = []
        """Segments whose unwritten index entries are due, except the active one."""
        self.indexes_due = False
        """Whether the active segment's index entries are due."""
        self.epoch_due = False
        self.folders_due: list[str] = []
        self.replacements_due: list[tuple[str, bytes]] = []
        self.has_more_than_bytes = True
        self.running: Captured | None = None

    # --- what is due ---------------------------------------------------------------------------------------------

    def next_flush(self) -> Durable:
        """Requests the next round; returns its future."""
        durable = self.next
        if durable is None:
            durable = self.next = Durable(loop=self._loop)
            self._flusher.request(self._log)
        return durable

    def note_dirty(self, file: LogFile) -> None:
        """Marks a file as dirty: the next round syncs it."""
        file.dirty = True
        self.dirty_files.append(file)
        self._writers[file] = self._log

    def forget(self, segment: Segment) -> None:
        """Drops all work due for a segment that is deleted."""
        self._writers.pop(segment.file, None)
        if segment.file in self.dirty_files:
            self.dirty_files.remove(segment.file)
        if segment in self.sealed:
            self.sealed.remove(segment)

    def has_work(self) -> bool:
        """Whether there is work that no round covers yet."""
        return bool(self.dirty_files) or (
            self.has_more_than_bytes
            and bool(self.epoch_due or self.replacements_due or self.folders_due or self.sealed or self.indexes_due)
        )

    # --- a round -------------------------------------------------------------------------------------------------

    def begin(self, at: tuple[int, Segment | None, int]) -> Job:
        """Begins a round; `at` is the log's end: (offset, segment, position). Returns the segment files to sync."""
        assert self.running is None
        job = Job()
        files, self.dirty_files = self.dirty_files, []
        self.running = Captured(at, self.unflushed_bytes, self.next, files)
        self.next = None
        self.unflushed_bytes = self.unflushed_records = 0
        for file in files:
            file.dirty = False
            self._writers.pop(file, None)
            self._files.pin(file)
            if file.fd >= 0:  # else it was synced and closed to free its descriptor
                job.fds.append(file.fd)
        return job

    def begin_the_rest(self, job: Job, folder: str, epochs: list[tuple[int, int]], active: Segment | None) -> None:
        """Adds everything to the job that is not bytes of segments: names, leader epochs, index entries."""
        running = self.running
        assert running is not None
        self.has_more_than_bytes = False
        if self.epoch_due:
            self.epoch_due = False
            data = checkpoints.format_epochs(epochs)
            running.epochs_crc = crc32c(data)
            job.replacements.append((f"{folder}/{checkpoints.LEADER_EPOCHS}", data))
            self.folders_due.append(folder)
        running.has_name = bool(self.replacements_due)
        job.replacements += self.replacements_due
        self.replacements_due = []
        job.folders = list(dict.fromkeys(self.folders_due))
        self.folders_due = []
        for segment in self.sealed:
            _add_tails(job, running, segment)
        self.sealed = []
        if self.indexes_due and active is not None:
            _add_tails(job, running, active)
        self.indexes_due = False

    def release(self) -> None:
        """Unpins the round's files and takes its bytes off the unflushed ones. Also called where no round began."""
        size = 0
        if (running := self.running) is not None:
            size = running.size
            for file in running.files:
                self._files.unpin(file)
        self._flusher.flushed(size)

    def end(self) -> None:
        """Ends the round: the log has evaluated its result."""
        if (running := self.running) is not None:
            self.running = None
            if running.quiet is not None:
                running.quiet.set_result(None)

    async def quiet(self) -> None:
        """Returns when the running round, if there is one, has ended for this log."""
        if (running := self.running) is not None:
            if running.quiet is None:
                running.quiet = self._loop.create_future()
            await running.quiet

    def fail(self, failure: LogFailure) -> None:
        """Drops all work that is due, and fails the futures that wait for it."""
        for file in self.dirty_files:
            self._writers.pop(file, None)
        self._flusher.flushed(self.unflushed_bytes)
        self.unflushed_bytes = 0
        waiting, self.next = [self.next], None
        if self.running is not None:
            waiting.insert(0, self.running.durable)
            self.running.durable = None
        for durable in waiting:
            if durable is not None:
                durable.set_exception(failure)
                durable.exception()  # marks it as retrieved: asyncio would warn where nothing awaits it


def _add_tails(job: Job, running: Captured, segment: Segment) -> None:
    for index in (segment.index, segment.times):
        tail = index.tail()
        job.tails.append((index.path, tail))
        running.indexes.append((index, tail.written))
