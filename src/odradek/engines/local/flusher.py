"""Group commit: appends made while a flush runs share the next one.

Role: collect the logs that want to be on the disk, run one round after the other in a thread, and tell the logs how
it ended. What a round does for one log is a `Job`, which the log fills in on the loop before the round and reads
after it.

A round, in this order: new index entries are written, small files are written under temporary names, everything is
synced; then the small files get their names and the folders are synced. Few files are synced one by one; above
`odradek.flush.syncfs.files` one syncfs does for all of them (100 dirty files: 20 ms one by one, 2.1 ms by syncfs).

Invariants:
- One round runs at a time, so that futures resolve in offset order.
- A job's error is its log's alone where one file failed. A failed syncfs does not tell whose bytes were lost and its
  news are told once: then every log with unflushed bytes fails, also those that wait for the next round.
- `unflushed_bytes` counts what was appended in disk mode and is not on the disk; failed logs count no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from odradek.config import INT_MAX
from odradek.engines.local.checkpoints import TEMPORARY, write_new
from odradek.engines.local.disk import Disk, Workers
from odradek.engines.local.indexes import Tail, write_tail

if TYPE_CHECKING:
    from odradek.engines.local.log import LocalLog


class Durable(asyncio.Future[None]):
    """A future that several appends share: one who awaits it and is cancelled must not cancel it for the others. His
    cancellation waits for the flush."""

    def cancel(self, msg: object = None) -> bool:
        return False


class Job:
    """What one round does for one log."""

    __slots__ = ("error", "fds", "folders", "replacements", "tails")

    def __init__(self) -> None:
        self.fds: list[int] = []
        """Segment files to be synced; the log keeps them open."""
        self.tails: list[tuple[str, Tail, bool]] = []
        """Index entries to be written: path, entries, and whether they must be synced."""
        self.replacements: list[tuple[str, bytes]] = []
        """Small files to be replaced."""
        self.folders: list[str] = []
        """Folders with new names in them, after the files."""
        self.error: OSError | None = None

    def syncs(self) -> int:
        """How many files and folders are to be synced."""
        tails = sum(1 for tail in self.tails if tail[2])
        return len(self.fds) + tails + len(self.replacements) + len(self.folders)


class Flusher:
    """The rounds of one file system. Used on the event loop."""

    def __init__(
        self,
        disk: Disk,
        workers: Workers,
        any_fd: Callable[[], int],
        syncfs_files: int,
        unflushed_max_bytes: int,
    ) -> None:
        self._disk = disk
        self.workers = workers
        self._any_fd = any_fd
        """A descriptor on the file system."""
        self._syncfs_files = syncfs_files
        self._unflushed_max_bytes = unflushed_max_bytes
        self._loop = asyncio.get_running_loop()
        self._wanted: dict[LocalLog, bool] = {}
        """The logs of the next round, and whether their bytes are to be synced (else only index entries written)."""
        self._running: dict[LocalLog, Job] = {}
        self._scheduled = False
        self._room: list[asyncio.Future[None]] = []
        self.unflushed_bytes = 0
        self.rounds = 0

    def request(self, log: LocalLog, sync: bool = True) -> None:
        """Takes a log into the next round. The round begins in the loop's next turn, so that all that this turn appends
        shares it."""
        self._wanted[log] = sync or self._wanted.get(log, False)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._begin)

    def has_room(self) -> bool:
        return self.unflushed_bytes < self._unflushed_max_bytes

    async def room(self) -> None:
        """Returns when there are fewer unflushed bytes than the bound."""
        while not self.has_room():
            waiter = self._loop.create_future()
            self._room.append(waiter)
            await waiter

    def is_flushing(self, log: LocalLog) -> bool:
        return log in self._running

    def flushed(self, size: int) -> None:
        """`size` bytes are on the disk, or given up."""
        self.unflushed_bytes -= size
        assert self.unflushed_bytes >= 0
        if self._room and self.has_room():
            waiters, self._room = self._room, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def _begin(self) -> None:
        wanted, self._wanted = self._wanted, {}
        jobs: dict[LocalLog, Job] = {}
        for log, sync in wanted.items():
            job = log.begin_flush(sync)
            if job is not None:
                jobs[log] = job
        if not jobs:
            self._scheduled = False
            return
        self._running = jobs
        self.rounds += 1
        round_ = self.workers.run(run_round, self._disk, list(jobs.values()), self._any_fd(), self._syncfs_files)
        round_.add_done_callback(self._end)

    def _end(self, round_: asyncio.Future[None]) -> None:
        """Tells the logs how their jobs ended, and begins the next round."""
        jobs, self._running = self._running, {}
        failure = round_.exception()
        if failure is not None and not isinstance(failure, OSError):
            raise failure
        for log, job in jobs.items():
            log.end_flush(failure or job.error)
        if failure is not None:
            for log in [log for log, sync in self._wanted.items() if sync]:
                log.end_flush(failure)
            # The other news of what the disk lost are in the files' own descriptors: from now on ask those.
            self._syncfs_files = INT_MAX
        if self._wanted:
            self._begin()
        else:
            self._scheduled = False


def run_round(disk: Disk, jobs: list[Job], any_fd: int, syncfs_files: int) -> None:
    """One round, in the flush thread. Raises `OSError` where a syncfs failed; the errors of single files are left in
    their jobs."""
    together = sum(job.syncs() for job in jobs) > syncfs_files
    for job in jobs:
        try:
            for path, tail, sync in job.tails:
                write_tail(disk, path, tail, sync and not together)
            for path, data in job.replacements:
                write_new(disk, path + TEMPORARY, data, sync=not together)
            if not together:
                for fd in job.fds:
                    disk.sync_data(fd)
        except OSError as error:
            job.error = error
    if together and not disk.sync_file_system(any_fd):
        together = False
        _sync_each(disk, jobs)
    renamed = False
    for job in jobs:
        if job.error is None and (job.replacements or job.folders):
            renamed = True
            try:
                for path, _ in job.replacements:
                    disk.rename(path + TEMPORARY, path)
                if not together:
                    for folder in job.folders:
                        disk.sync_folder(folder)
            except OSError as error:
                job.error = error
    if together and renamed:
        disk.sync_file_system(any_fd)


def _sync_each(disk: Disk, jobs: Iterable[Job]) -> None:
    """What syncfs would have done, where there is none."""
    for job in jobs:
        try:
            for path in [path for path, _, sync in job.tails if sync] + [
                path + TEMPORARY for path, _ in job.replacements
            ]:
                fd = disk.open(path)
                try:
                    disk.sync_data(fd)
                finally:
                    disk.close(fd)
            for fd in job.fds:
                disk.sync_data(fd)
        except OSError as error:
            job.error = job.error or error
