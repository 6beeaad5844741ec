"""Group commit: appends made while a flush runs share the next one.

Role: collect the logs that want to be on the disk, run one round after the other, and tell the logs how it ended.
What a round does for one log is a `Job`, which the log fills in on the loop before the round and reads after it.

Most rounds only sync a few segment files: the kernel does that (`kernel_syncs`) while the loop goes on. Others run in a
thread, in this order: index entries are written, small files are written under temporary names, everything is
synced; then the small files get their names and the folders are synced. Above `odradek.flush.syncfs.files` one
syncfs does for all files. It is quicker (64 files 0.35 ms, side by side 2.5, one by one 10.8), but it also waits for
whatever else is dirty on the file system, and cannot say whose bytes were lost.

Invariants:
- One round runs at a time, so that futures resolve in offset order.
- A round of many logs keeps the loop no longer than one of `LOGS_AT_ONCE`: it takes them, and tells them how it ended,
  in several turns. One that cannot say whose bytes were lost tells all in one: nothing is written in between.
- A job's error is its log's alone where one file failed. After a failed syncfs, whose news are told once, every log
  with unflushed bytes fails, also those that wait for the next round, and each file is asked for itself from then on.
- `unflushed_bytes` counts what was appended in disk mode and is not on the disk; failed logs count no more.
- Dirty files cannot be closed. Producers wait when they are too many (`has_room`): else those that are clean would be
  closed and opened again all the time, and then none would be left to close.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from odradek.config.bounds import INT_MAX
from odradek.engines.interface import EngineCounters
from odradek.engines.local.checkpoints import TEMPORARY, remove_if_there, write_new
from odradek.engines.local.disk import NO_ROOM, Disk, Workers
from odradek.engines.local.indexes import Tail, write_tail

if TYPE_CHECKING:
    from odradek.engines.local.files import LogFile
    from odradek.engines.local.kernel_syncs import KernelSyncs


# fdatasyncs that the kernel is given at once, whatever the setting says.
KERNEL_FILES_MAX = 64
# Logs that a round takes, or tells of its end, in one turn of the loop: 2 to 4 ms.
LOGS_AT_ONCE = 128


class Durable(asyncio.Future[None]):
    """A future that several appends share: one who awaits it and is cancelled must not cancel it for the others. His
    cancellation waits for the flush."""

    def cancel(self, msg: object = None) -> bool:
        return False


class Job:
    """What one round does for one log."""

    __slots__ = ("error", "fds", "folders", "replacements", "tails", "unwritten")

    def __init__(self) -> None:
        self.fds: list[int] = []
        """Segment files to be synced; the log keeps them open."""
        self.tails: list[tuple[str, Tail]] = []
        """Index entries to be written and synced, by their files' paths."""
        self.replacements: list[tuple[str, bytes]] = []
        """Small files to be replaced."""
        self.folders: list[str] = []
        """Folders with new names in them, after the files."""
        self.unwritten: set[str] = set()
        """Index files that found no room, and were removed: whoever misses them makes them again from the log, which is
        why that is no failure."""
        self.error: OSError | None = None

    def syncs(self) -> int:
        """How many files and folders are to be synced."""
        return len(self.fds) + len(self.tails) + len(self.replacements) + len(self.folders)


class Flushable(Protocol):
    """A log, as far as the flusher knows it."""

    def begin_flush(self) -> Job | None:
        """What the round that begins now is to do for it; None for nothing."""

    def end_flush(self, error: OSError | None, unwritten: Collection[str] = ()) -> None:
        """The round has ended; `unwritten` are the index files that found no room. Called with an error also where its
        round never began."""


L = TypeVar("L", bound=Flushable)


class Flusher(Generic[L]):
    """The rounds of one file system. Used on the event loop."""

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
        """`on_flushed` is told of the logs that each round has flushed."""
        self._disk = disk
        self.workers = workers
        self._any_fd = any_fd
        """A descriptor on the file system."""
        self._syncfs_files = syncfs_files
        self._unflushed_max_bytes = unflushed_max_bytes
        self._unflushed_max_files = unflushed_max_files
        self._writers = writers
        """The dirty files that no round has taken yet, each with its log."""
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
        """Takes a log into the next round. The round begins in the loop's next turn, so that all that this turn appends
        shares it."""
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
        """Returns when there are fewer unflushed bytes, and files, than the bounds."""
        while not self.has_room():
            if not self._room:
                for log in self._writers.values():  # in os mode nobody else asks for their flush
                    self.request(log)
            waiter = self._loop.create_future()
            self._room.append(waiter)
            await waiter

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
        if len(wanted) <= LOGS_AT_ONCE:
            self._take(wanted)
            self._start()
        else:
            self._take_in_turns(iter(wanted))

    def _take_in_turns(self, wanted: Iterator[L]) -> None:
        taken = list(islice(wanted, LOGS_AT_ONCE))
        self._take(taken)
        if taken:
            self._loop.call_soon(self._take_in_turns, wanted)
        else:
            self._start()

    def _take(self, logs: Iterable[L]) -> None:
        """Takes logs into the round that begins."""
        jobs = self._running
        for log in logs:
            job = log.begin_flush()
            if job is not None:
                jobs[log] = job
                self._running_files += len(job.fds)

    def _start(self) -> None:
        jobs = self._running
        if not jobs:
            self._begin_next()
            return
        self._began = self._now()
        if self._begin_in_kernel(jobs):
            return
        round_ = self.workers.run(run_round, self._disk, list(jobs.values()), self._any_fd(), self._syncfs_files)
        round_.add_done_callback(self._end_of_thread)

    def _begin_next(self) -> None:
        if self._wanted:
            self._begin()
        else:
            self._scheduled = False

    def _begin_in_kernel(self, jobs: dict[L, Job]) -> bool:
        """Begins a round that only syncs files, few enough; False where it is another kind of round."""
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
        else:  # our own mistake: nobody may wait for ever because of it
            self._end(OSError(f"the flush broke: {failure!r}"))
            raise failure

    def _end(self, failure: OSError | None) -> None:
        """Tells the logs how their jobs ended, and begins the next round. `failure` is that of a syncfs."""
        self.counters.flush_durations.add(self._now() - self._began)
        jobs = self._running
        if failure is None and len(jobs) > LOGS_AT_ONCE:
            self._tell_in_turns(iter(jobs.items()))
            return
        self._tell(jobs.items(), failure)
        if failure is not None:
            for log in list(self._wanted):
                log.end_flush(failure)
            # The other news of what the disk lost are in the files' own descriptors: from now on ask those.
            self._syncfs_files = INT_MAX
        self._conclude(failure)

    def _tell_in_turns(self, ended: Iterator[tuple[L, Job]]) -> None:
        told = list(islice(ended, LOGS_AT_ONCE))
        if told:
            self._tell(told)
            self._loop.call_soon(self._tell_in_turns, ended)
        else:
            self._conclude()

    def _tell(self, ended: Iterable[tuple[L, Job]], failure: OSError | None = None) -> None:
        for log, job in ended:
            self._running_files -= len(job.fds)
            log.end_flush(failure or job.error, job.unwritten)

    def _conclude(self, failure: OSError | None = None) -> None:
        """All logs know how the round has ended."""
        jobs, self._running = self._running, {}
        if failure is not None:
            self.counters.flush_failures += 1
        elif any(job.error is not None for job in jobs.values()):
            self.counters.flush_failures += 1
            self._on_flushed([log for log, job in jobs.items() if job.error is None])
        else:
            self._on_flushed(jobs)
        self._begin_next()

    def close(self) -> None:
        """Gives back the thread and what the kernel lent. No round may run."""
        assert not self._running
        if self._kernel is not None:
            self._kernel.close()
        self.workers.close()


def run_round(disk: Disk, jobs: list[Job], any_fd: int, syncfs_files: int) -> None:
    """One round, in the flush thread. Raises `OSError` where a syncfs failed; the errors of single files are left in
    their jobs."""
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
    """What syncfs would have done, where there is none."""
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
