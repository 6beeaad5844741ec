"""What of one log is not on the disk yet: what its next round is to do, and what the one that runs has taken.

Role: the log notes here what it wrote and what else is due (names, epochs, indexes); `begin` makes a round's `Job` of
it, and keeps what the round has taken until the log has drawn its conclusions (`end`).

Invariants:
- What is due when a round begins is in that round, whole; what comes later is in the next.
- A file that a round syncs is pinned until the round has ended.
- `has_more_than_bytes` is set wherever something other than bytes of segments becomes due: most rounds look no further.
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
    """What the round that runs has taken."""

    __slots__ = ("at", "durable", "epochs_crc", "files", "has_name", "indexes", "quiet", "size")

    def __init__(
        self,
        at: tuple[int, Segment | None, int],
        size: int,
        durable: Durable | None,
        files: list[LogFile],
    ) -> None:
        self.at = at
        """Where the log ended: (offset, segment, position)."""
        self.size = size
        """Bytes whose durability waits for it."""
        self.durable = durable
        self.files = files
        self.indexes: list[tuple[OffsetIndex | TimeIndex, int]] = []
        """Each with how many entries its file has afterwards."""
        self.epochs_crc: int | None = None
        """Of the leader epochs' file, where the round writes it."""
        self.has_name = False
        """Whether the topic's id is written into the folder."""
        self.quiet: asyncio.Future[None] | None = None
        """Of those who wait until the round has ended for this log; few do."""


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
        """What those await who want the next round."""
        self.unflushed_bytes = 0
        self.unflushed_records = 0
        self.dirty_files: list[LogFile] = []
        self.sealed: list[Segment] = []
        """Segments whose indexes are to be written whole."""
        self.indexes_due = False
        """The active segment's, too."""
        self.epoch_due = False
        self.folders_due: list[str] = []
        self.replacements_due: list[tuple[str, bytes]] = []
        self.has_more_than_bytes = True
        self.running: Captured | None = None

    # --- what is due ---------------------------------------------------------------------------------------------

    def next_flush(self) -> Durable:
        """The future of the next round, which is asked for."""
        durable = self.next
        if durable is None:
            durable = self.next = Durable(loop=self._loop)
            self._flusher.request(self._log)
        return durable

    def note_dirty(self, file: LogFile) -> None:
        """The next round syncs it."""
        file.dirty = True
        self.dirty_files.append(file)
        self._writers[file] = self._log

    def forget(self, segment: Segment) -> None:
        """A segment that is deleted needs nothing any more."""
        self._writers.pop(segment.file, None)
        if segment.file in self.dirty_files:
            self.dirty_files.remove(segment.file)
        if segment in self.sealed:
            self.sealed.remove(segment)

    def has_work(self) -> bool:
        """Whether something was written, or is to be, that no round has taken."""
        return bool(self.dirty_files) or (
            self.has_more_than_bytes
            and bool(self.epoch_due or self.replacements_due or self.folders_due or self.sealed or self.indexes_due)
        )

    # --- a round -------------------------------------------------------------------------------------------------

    def begin(self, at: tuple[int, Segment | None, int]) -> Job:
        """A round begins; the log ends `at`."""
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
            if file.fd >= 0:  # else it was synced, and closed for the descriptor's sake
                job.fds.append(file.fd)
        return job

    def begin_the_rest(self, job: Job, folder: str, epochs: list[tuple[int, int]], active: Segment | None) -> None:
        """What is not only bytes of segments: names, epochs, indexes."""
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
        """What the round had taken is free again. Called also where it never began."""
        size = 0
        if (running := self.running) is not None:
            size = running.size
            for file in running.files:
                self._files.unpin(file)
        self._flusher.flushed(size)

    def end(self) -> None:
        """All conclusions have been drawn from the round."""
        if (running := self.running) is not None:
            self.running = None
            if running.quiet is not None:
                running.quiet.set_result(None)

    async def quiet(self) -> None:
        """Returns when the round that runs has ended for this log, if one does."""
        if (running := self.running) is not None:
            if running.quiet is None:
                running.quiet = self._loop.create_future()
            await running.quiet

    def fail(self, failure: LogFailure) -> None:
        """Nothing that is due is done any more, and whoever waits is told so."""
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
                durable.exception()  # whoever cares awaits it; nobody may


def _add_tails(job: Job, running: Captured, segment: Segment) -> None:
    for index in (segment.index, segment.times):
        tail = index.tail()
        job.tails.append((index.path, tail))
        running.indexes.append((index, tail.written))
