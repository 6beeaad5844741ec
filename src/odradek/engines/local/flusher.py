"""Group commit: appends made while a flush runs share the next one.

Role: collect the logs that request a flush, run one round of flushes after the other, and tell each log its result.
The work of a round for one log is a `Job`, which the log fills in on the loop before the round and reads after it.

Most rounds only sync a few segment files: the kernel does that (`kernel_syncs`) while the loop goes on. Others run in a
thread, in this order: index entries are written, small files are written under temporary names, everything is
synced; then the small files are renamed and the folders are synced. Above `odradek.flush.syncfs.files` one syncfs
syncs all files. It is quicker (64 files 0.35 ms, side by side 2.5, one by one 10.8), but it also waits for everything
else that is dirty on the file system, and cannot tell which file lost bytes.

Invariants:
- One round runs at a time, so that futures resolve in offset order.
- A round of many logs does not hold the loop: it takes `LOGS_AT_ONCE` logs in one turn, and tells as many in one turn
  how it ended. After a failed syncfs all logs are told in the same turn, so that nothing is written in between.
- Where one file failed, only its log fails. The kernel reports a lost write to syncfs once and does not say which file
  it was: so after a failed syncfs every log with unflushed bytes fails, also those that wait for the next round, and
  from then on each file is synced by itself.
- `unflushed_bytes` counts the bytes appended in disk mode that are not on the disk; those of failed logs do not count.
- Dirty files cannot be closed. Producers wait when there are too many of them (`has_room`): else the clean files would
  be closed and opened again all the time, until none was left to close.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from odradek.config.bounds import INT_MAX
from odradek.engines.interface import EngineCounters
from odradek.engines.local.checkpoints import TEMPORARY, remove_if_there, write_new
from odradek.engines.local.disk import NO_ROOM, Disk, Workers
from odradek.engines.local.indexes import Tail, write_tail

if TYPE_CHECKING:
    from odradek.engines.local.files import LogFile
    from odradek.engines.local.kernel_syncs import KernelSyncs


# The most fdatasyncs that the kernel is given at once, even where `odradek.flush.syncfs.files` is higher.
KERNEL_FILES_MAX = 64
# Logs that a round takes, or tells how it ended, in one turn of the loop: 2 to 4 ms.
LOGS_AT_ONCE = 128


class Durable(asyncio.Future[None]):
    """A future that several appends share. It cannot be cancelled: a task that is cancelled while awaiting it must not
    cancel it for the others, and is interrupted only when the flush has ended."""

    def cancel(self, msg: object = None) -> bool:
        return False


class Job:
    """The work of one round for one log."""

    __slots__ = ("error", "fds", "folders", "replacements", "tails", "unwritten")

    def __init__(self) -> None:
        self.fds: list[int] = []
        """Segment files to be synced; the log keeps them open."""
        self.tails: list[tuple[str, Tail]] = []
        """Index entries to be written and synced, by their files' paths."""
        self.replacements: list[tuple[str, bytes]] = []
        """Small files to be replaced."""
        self.folders: list[str] = []
        """Folders to be synced after the files, because files in them were created or renamed."""
        self.unwritten: set[str] = set()
        """Index files that were removed because the disk was full. That is no failure: a missing index is rebuilt from
        the log."""
        self.error: OSError | None = None

    def syncs(self) -> int:
        """How many files and folders are to be synced."""
        return len(self.fds) + len(self.tails) + len(self.replacements) + len(self.folders)


class Flushable(Protocol):
    """The methods of a log that the flusher calls."""

    def begin_flush(self) -> Job | None:
        """The log's work for the round that begins now; None for no work."""

    def end_flush(self, error: OSError | None, unwritten: Collection[str] = ()) -> None:
        """Called when the round has ended; `unwritten` are the index files that the full disk had no room for. Also
        called, with an error, for a log that waited for the next round when a syncfs failed."""


L = TypeVar("L", bound=Flushable)


class Flusher(Generic[L]):
    """Runs the flush rounds of one file system. Used on the event loop."""

    def __init__(
        self,
        disk: Disk,
        workers: Workers,
        any_fd: Callable[[], int],
        syncfs_files: int,
        unflushed_max_bytes: int,
        unflushed_max_files: int,
        writers: dict[LogFile, L],
        now: Callable[[], float],
        counters: EngineCounters,
        on_flushed: Callable[[Iterable[L]], None],
    ) -> None:
        """`on_flushed` is called after each round with the logs that it has flushed."""
        self._disk = disk
        self.workers = workers
        self._any_fd = any_fd
        """Returns any open descriptor on the file system, for syncfs."""
        self._syncfs_files = syncfs_files
        self._unflushed_max_bytes = unflushed_max_bytes
        self._unflushed_max_files = unflushed_max_files
        self._writers = writers
        """The dirty files that no round covers yet, each with its log."""
        self._running_files = 0
        self._loop = asyncio.get_running_loop()
        self._wanted: dict[L, None] = {}
        """The logs of the next round."""
        self._running: dict[L, Job] = {}
        self._scheduled = False
        self._room: list[asyncio.Future[None]] = []
        self.unflushed_bytes = 0
        self.counters = counters
        self._on_flushed = on_flushed
        self._now = now
        self._began = 0.0
        self._kernel_files = min(syncfs_files, KERNEL_FILES_MAX)
        self._kernel: KernelSyncs | None = None
        self._uses_kernel = True

    def request(self, log: L) -> None:
        """Adds a log to the next round. Where no round runs, it begins in the event loop's next iteration, so that all
        appends of this iteration share it."""
        self._wanted[log] = None
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._begin)

    def has_room(self) -> bool:
        return (
            self.unflushed_bytes < self._unflushed_max_bytes
            and len(self._writers) + self._running_files < self._unflushed_max_files
        )

    async def room(self) -> None:
        """Returns when both unflushed bytes and dirty files are below their bounds."""
        while not self.has_room():
            if not self._room:
                for log in self._writers.values():  # in os mode nothing else requests their flush
                    self.request(log)
            waiter = self._loop.create_future()
            self._room.append(waiter)
            await waiter

    def flushed(self, size: int) -> None:
        """Notes that `size` bytes are on the disk, or that their log has failed."""
        self.unflushed_bytes -= size
        assert self.unflushed_bytes >= 0
        if self._room and self.has_room():
            waiters, self._room = self._room, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def _begin(self) -> None:
        wanted, self._wanted = self._wanted, {}
        if len(wanted) > LOGS_AT_ONCE:
            self._take_in_turns(list(wanted))
            return
        self._take(wanted)

    def _take_in_turns(self, left: list[L]) -> None:
        is_last = len(left) <= LOGS_AT_ONCE
        self._take(left[:LOGS_AT_ONCE], is_last)
        if not is_last:
            self._loop.call_soon(self._take_in_turns, left[LOGS_AT_ONCE:])

    def _take(self, logs: Iterable[L], is_last: bool = True) -> None:
        """Takes logs into the round, and starts it with the last ones."""
        jobs = self._running
        files = 0
        for log in logs:
            job = log.begin_flush()
            if job is not None:
                jobs[log] = job
                files += len(job.fds)
        self._running_files += files
        if not is_last:
            return
        if not jobs:
            self._scheduled = bool(self._wanted)
            if self._scheduled:
                self._loop.call_soon(self._begin)
            return
        self._began = self._now()
        if self._begin_in_kernel(jobs):
            return
        round_ = self.workers.run(run_round, self._disk, list(jobs.values()), self._any_fd(), self._syncfs_files)
        round_.add_done_callback(self._end_of_thread)

    def _begin_in_kernel(self, jobs: dict[L, Job]) -> bool:
        """Begins the round in the kernel, if it only syncs files and few enough of them; else returns False."""
        if not self._uses_kernel:
            return False
        fds: list[int] = []
        for job in jobs.values():
            if job.tails or job.replacements or job.folders:
                return False
            fds += job.fds
            if len(fds) > self._kernel_files:
                return False
        if not fds:
            return False
        if self._kernel is None:
            self._kernel = self._disk.kernel_syncs(self._kernel_files)
            if self._kernel is None:
                self._uses_kernel = False
                return False
        try:
            self._kernel.start(fds, self._end_of_kernel)
        except OSError:
            self._uses_kernel = False
            return False
        return True

    def _end_of_kernel(self, errors: list[OSError | None]) -> None:
        first = 0
        for job in self._running.values():
            last = first + len(job.fds)
            job.error = next((error for error in errors[first:last] if error is not None), None)
            first = last
        self._end(None)

    def _end_of_thread(self, round_: asyncio.Future[None]) -> None:
        failure = round_.exception()
        if failure is None or isinstance(failure, OSError):
            self._end(failure)
        else:  # a defect in this code; the logs still must not wait for ever
            self._end(OSError(f"the flush broke: {failure!r}"))
            raise failure

    def _end(self, failure: OSError | None) -> None:
        """Tells the logs how their jobs ended, and begins the next round. `failure` is the error of a syncfs."""
        self.counters.flush_durations.add(self._now() - self._began)
        jobs = self._running
        if failure is None and len(jobs) > LOGS_AT_ONCE:
            self._tell_in_turns(list(jobs.items()), False)
        else:
            self._tell_last(jobs.items(), failure, failure is not None)

    def _tell_in_turns(self, left: list[tuple[L, Job]], failed: bool) -> None:
        if len(left) <= LOGS_AT_ONCE:
            self._tell_last(left, None, failed)
            return
        for log, job in left[:LOGS_AT_ONCE]:
            self._running_files -= len(job.fds)
            failed = failed or job.error is not None
            log.end_flush(job.error, job.unwritten)
        self._loop.call_soon(self._tell_in_turns, left[LOGS_AT_ONCE:], failed)

    def _tell_last(self, ended: Iterable[tuple[L, Job]], failure: OSError | None, failed: bool) -> None:
        """Tells the last logs of a round, and does in the same turn what comes at its end: whoever waited for the last
        log may close the flusher."""
        jobs, self._running = self._running, {}
        self._running_files = 0
        for log, job in ended:
            error = failure or job.error
            if error is not None:
                failed = True
            log.end_flush(error, job.unwritten)
        self.counters.flush_failures += failed
        if not failed:
            self._on_flushed(jobs)
        elif failure is None:
            self._on_flushed([log for log, job in jobs.items() if job.error is None])
        if failure is not None:
            for log in list(self._wanted):
                log.end_flush(failure)
            # syncfs has reported its error and would not report it again; the files' descriptors still will.
            self._syncfs_files = INT_MAX
        if self._wanted:
            self._begin()
        else:
            self._scheduled = False

    def close(self) -> None:
        """Closes the thread and the io_uring. No round may be running."""
        assert not self._running
        if self._kernel is not None:
            self._kernel.close()
        self.workers.close()


def run_round(disk: Disk, jobs: list[Job], any_fd: int, syncfs_files: int) -> None:
    """Runs one round in the flush thread. Raises `OSError` where a syncfs failed; the error of a single file is stored
    in its job."""
    together = sum(job.syncs() for job in jobs) > syncfs_files
    for job in jobs:
        try:
            for path, tail in job.tails:
                try:
                    write_tail(disk, path, tail, sync=not together)
                except OSError as error:
                    if error.errno not in NO_ROOM:
                        raise
                    remove_if_there(disk, path)
                    job.unwritten.add(path)
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
    """Syncs each file of the jobs, on systems without syncfs."""
    for job in jobs:
        try:
            tails = [path for path, _ in job.tails if path not in job.unwritten]
            for path in tails + [path + TEMPORARY for path, _ in job.replacements]:
                fd = disk.open(path)
                try:
                    disk.sync_data(fd)
                finally:
                    disk.close(fd)
            for fd in job.fds:
                disk.sync_data(fd)
        except OSError as error:
            job.error = job.error or error
