"""The disk under the local engine: every file operation and every thread passes through here.

Role: the file operations that the engine needs, made with the operating system's calls. Tests and the simulation
replace it by a subclass whose methods fail.

Invariants: nothing here interprets the files. Failures are the system's `OSError`s; the one addition is `WouldWait`,
raised by a read that must not wait but would have to. Methods may be called from any thread, unless they say otherwise.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import mmap
import os
import struct
import sys
from _thread import allocate_lock
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

from odradek.clock import Scheduler, Timer
from odradek.descriptors import SPANS_MAX
from odradek.engines.interface import FileSpan
from odradek.records.batch import Buffer

if TYPE_CHECKING:
    from odradek.engines.local.kernel_syncs import KernelSyncs

_FLOCK = struct.Struct("hhqqi4x")  # Linux's struct flock on 64 bits: type, whence, start, length, pid
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
"""The error codes of a write when the file system, or the user's quota, is full."""
CACHESTAT = 451  # Linux 6.5, the same number on every architecture
PAGE_BYTES = mmap.PAGESIZE
_NO_NOWAIT = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


_Work = tuple[asyncio.Future[Any], Callable[..., Any], tuple[Any, ...], Callable[[], None] | None]
T = TypeVar("T")


class WouldWait(Exception):
    """The bytes are not in memory: read them in a thread."""


class Disk:
    """The operating system's files."""

    def __init__(self) -> None:
        self.spans_max = SPANS_MAX
        self._spans: set[int] = set()
        """Descriptors of the open spans."""
        self._nowait = getattr(os, "RWF_NOWAIT", 0)
        self._syncfs: Callable[[int], int] | None = None
        self._has_syncfs = True
        # The system call, and the buffers of its arguments and its answer; used on the event loop only.
        self._cachestat: tuple[Callable[..., int], Any, Any] | None = None
        self._has_cachestat = sys.platform == "linux"

    # --- files ---------------------------------------------------------------------------------------------------

    def open(self, path: str, create: bool = False, writable: bool = True) -> int:
        """Opens an existing file, for reading and writing unless `writable` is false, or with `create` creates one that
        does not exist yet."""
        flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC
        if create:
            flags |= os.O_CREAT | os.O_EXCL
        return os.open(path, flags, 0o644)

    def close(self, fd: int) -> None:
        os.close(fd)

    def write_at(self, fd: int, buffers: Sequence[Buffer], position: int) -> int:
        """Writes at most `IOV_MAX` buffers into the page cache; returns how many bytes were written, maybe not all."""
        return os.pwritev(fd, buffers, position)

    def read_at(self, fd: int, size: int, position: int, wait: bool = True) -> bytearray:
        """The `size` bytes from `position`; fewer at the end of the file. With `wait` false, raises `WouldWait` unless
        all of them are in the page cache; where the file system cannot tell, it reads them."""
        buffer = bytearray(size)
        if not wait and self._nowait:
            try:
                count = os.preadv(fd, [buffer], position, self._nowait)
            except BlockingIOError:
                raise WouldWait from None
            except OSError as error:
                if error.errno not in _NO_NOWAIT:
                    raise
                self._nowait = 0  # tmpfs and others, whose files are in memory anyway
            else:
                if count < size:
                    raise WouldWait
                return buffer
        count = 0
        while count < size:
            got = os.preadv(fd, [memoryview(buffer)[count:]], position + count)
            if got == 0:
                del buffer[count:]
                break
            count += got
        return buffer

    def span(self, fd: int, size: int, position: int) -> FileSpan | None:
        """A span of the `size` bytes from `position`; None where they are not all in the page cache, `spans_max` spans
        are open, or the system cannot tell."""
        if not self._has_cachestat or len(self._spans) >= self.spans_max:
            return None
        if self._cachestat is None:
            import ctypes  # takes 2-5 ms, and few brokers need it in their first second

            syscall: Callable[..., int] = ctypes.CDLL(None).syscall
            asked, told = (ctypes.c_uint64 * 2)(), (ctypes.c_uint64 * 5)()
            if syscall(CACHESTAT, fd, asked, told, 0) != 0:
                self._has_cachestat = False
                return None
            self._cachestat = syscall, asked, told
        syscall, asked, told = self._cachestat
        asked[0], asked[1] = position, size
        pages = (position + size - 1) // PAGE_BYTES - position // PAGE_BYTES + 1
        if syscall(CACHESTAT, fd, asked, told, 0) != 0 or told[0] < pages:
            return None
        try:
            return FileSpan(os.dup(fd), position, size, self._spans)
        except OSError:
            return None  # no descriptor is left for this

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def size(self, path: str) -> int:
        return os.stat(path).st_size

    def modified_ms(self, path: str) -> int:
        return os.stat(path).st_mtime_ns // 1_000_000

    def rename(self, path: str, to: str) -> None:
        os.replace(path, to)

    def remove(self, path: str) -> None:
        os.unlink(path)

    # --- durability ----------------------------------------------------------------------------------------------

    def sync_data(self, fd: int) -> None:
        """Returns when the file's bytes and its size are on the disk."""
        if hasattr(os, "fdatasync"):
            os.fdatasync(fd)
        else:  # macOS, where fsync alone leaves the bytes in the drive's cache
            fcntl.fcntl(fd, getattr(fcntl, "F_FULLFSYNC"))  # noqa: B009 - the name is macOS's alone

    def kernel_syncs(self, limit: int) -> KernelSyncs | None:
        """A `KernelSyncs` for at most `limit` files at a time; None where the system does not offer it. Call on the
        event loop."""
        from odradek.engines.local.kernel_syncs import KernelSyncs  # imports ctypes: 2-5 ms

        try:
            return KernelSyncs(limit)
        except OSError:
            return None

    def sync_folder(self, path: str) -> None:
        """Returns when a folder's entries (created, renamed and removed files) are on the disk."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def sync_file_system(self, fd: int) -> bool:
        """Returns True when everything written to the file system of `fd` is on the disk; False where the system has no
        syncfs."""
        if not self._has_syncfs:
            return False
        import ctypes  # takes 2-5 ms, and few brokers need it in their first second

        if self._syncfs is None:
            self._syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
            self._has_syncfs = self._syncfs is not None
            if self._syncfs is None:
                return False
        if self._syncfs(fd) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return True

    def drop_cache(self, fd: int, position: int) -> None:
        """Drops a file's pages from `position` on from the page cache, so that the next read comes from the disk. Only
        clean pages are dropped: sync first."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(fd, position, 0, os.POSIX_FADV_DONTNEED)

    # --- folders -------------------------------------------------------------------------------------------------

    def make_folder(self, path: str) -> None:
        """Creates a folder, if it does not exist."""
        os.makedirs(path, exist_ok=True)

    def list_folder(self, path: str) -> list[str]:
        return os.listdir(path)

    def is_folder(self, path: str) -> bool:
        return os.path.isdir(path)

    def remove_folder(self, path: str) -> None:
        """Removes a folder and what is in it."""
        import shutil

        shutil.rmtree(path)

    def space(self, path: str) -> tuple[int, int]:
        """Total and usable bytes of the file system."""
        found = os.statvfs(path)
        return found.f_frsize * found.f_blocks, found.f_frsize * found.f_bavail

    def lock(self, path: str) -> int:
        """Locks a lock file; returns its descriptor, and closing that releases the lock. Raises `BlockingIOError` where
        another engine or an Apache Kafka holds the lock.

        Java uses fcntl's record locks. Open-file-description locks conflict with those, and unlike them also with
        locks of another engine in this process."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            if hasattr(fcntl, "F_OFD_SETLK"):
                fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
            else:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise BlockingIOError(error.errno, "locked") from None
            raise
        return fd

    # --- threads -------------------------------------------------------------------------------------------------

    def workers(self, name: str, threads: int, scheduler: Scheduler) -> Workers:
        """Up to `threads` threads for work that waits for the disk. Call on the event loop."""
        return Workers(name, threads, scheduler)


# While threads have work, the event loop pauses this often, for at most this long, so that they get the interpreter
# lock even if the loop is never idle.
GIVE_WAY_EVERY_S = 0.002
GIVE_WAY_S = 0.0002


class Workers:
    """A few threads for blocking work. They are started when there is work.

    A thread needs the interpreter lock to begin and to end. An event loop that is never idle releases the lock only for
    the few microseconds of a system call, and each time the wait after which a thread may demand the lock
    (`sys.setswitchinterval`) starts anew: measured, a thread waited 1.5 s beside a loop with callbacks of 0.1 ms,
    whether the interval was 5 ms or 0.2. So the loop pauses regularly while there is work: the same thread then makes
    250 flushes a second with p99 6 ms, and the loop loses nothing measurable. The switch interval is not changed.

    The queue is bounded by its callers: one round of the flusher, and the requests that are open at one time.
    """

    def __init__(self, name: str, threads: int, scheduler: Scheduler) -> None:
        self._name = name
        self._limit = threads
        self._scheduler = scheduler
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._threads: list[Thread] = []
        self._open = 0
        self._giving_way: Timer | None = None
        self._bell = allocate_lock()
        self._bell.acquire()

    def run(self, work: Callable[..., T], *args: Any, after: Callable[[], None] | None = None) -> asyncio.Future[T]:
        """Runs `work(*args)` in a thread; the future gets its result. `after` is called on the event loop when the work
        has ended, even where the future was cancelled before."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._open += 1
        if self._open > len(self._threads) and len(self._threads) < self._limit:
            # Daemon threads: a disk that never answers must not keep the process from ending.
            thread = Thread(target=self._serve, name=f"{self._name}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._queue.put((future, work, args, after))
        if self._giving_way is None:
            self._giving_way = self._scheduler.call_later(GIVE_WAY_EVERY_S, self._give_way)
        return future

    def _give_way(self) -> None:
        """Releases the interpreter lock until a thread rings the bell, or for `GIVE_WAY_S`."""
        if self._open == 0:
            self._giving_way = None
            return
        self._bell.acquire(timeout=GIVE_WAY_S)
        self._giving_way = self._scheduler.call_later(GIVE_WAY_EVERY_S, self._give_way)

    def _ring(self) -> None:
        try:
            self._bell.release()
        except RuntimeError:
            return  # the bell has been rung already, and the loop has not acquired it yet

    def close(self) -> None:
        """Ends the threads after all queued work. Blocks until then."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        if self._giving_way is not None:
            self._giving_way.cancel()

    def _serve(self) -> None:
        while (item := self._queue.get()) is not None:
            future, work, args, after = item
            result, failure = None, None
            self._ring()
            try:
                result = work(*args)
            except BaseException as error:  # noqa: BLE001 - raised where the future is awaited
                failure = error
            try:
                self._loop.call_soon_threadsafe(self._complete, future, result, failure, after)
            except RuntimeError:
                return  # the loop is closed: nothing awaits the future any more
            self._ring()
            del item, future, work, args, after, result, failure  # so that they are not kept alive while waiting

    def _complete(
        self,
        future: asyncio.Future[Any],
        result: Any,
        failure: BaseException | None,
        after: Callable[[], None] | None,
    ) -> None:
        self._open -= 1
        if after is not None:
            after()
        if future.done():
            return
        if failure is None:
            future.set_result(result)
        else:
            future.set_exception(failure)
