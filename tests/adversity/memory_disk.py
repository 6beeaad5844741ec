"""A file system in memory, and an event loop with time of its own: thousands of recoveries a minute, each the same
every time.

Role: `MemoryDisk` is a `Disk` whose files are bytes in dictionaries and whose threads are turns of the loop. `run` runs
a coroutine on a loop that does not wait: when nothing is to be done, time jumps to the next timer.

Invariants: one thread. What an engine gives to its threads is run later on the loop, in the order given; `interleave`
is called at every step of that work that touches the disk, so that a test can do there what the loop would do beside a
real thread.
"""

from __future__ import annotations

import asyncio
import errno
import os
import selectors
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

from odradek.clock import Scheduler
from odradek.engines.local import Disk
from odradek.engines.local.disk import Workers
from odradek.records.batch import Buffer

T = TypeVar("T")
FIRST_FD = 1000
SPACE_BYTES = 1 << 40
START_MS = 1_700_000_000_000


def _error(code: int, path: str) -> OSError:
    return OSError(code, os.strerror(code), path)


class MemoryFile:
    """A file's bytes; they are copied when they are first written to."""

    __slots__ = ("data", "locked")

    def __init__(self, data: bytes = b"") -> None:
        self.data: bytes | bytearray = data
        self.locked = False

    def own(self) -> bytearray:
        if not isinstance(self.data, bytearray):
            self.data = bytearray(self.data)
        return self.data


Folder = dict[str, Any]
"""Names to `MemoryFile`s and other folders."""


class InlineWorkers(Workers):
    """Threads that are turns of the loop."""

    def __init__(self, disk: MemoryDisk) -> None:
        self._disk = disk
        self._loop = asyncio.get_running_loop()

    def run(self, work: Callable[..., T], *args: Any, after: Callable[[], None] | None = None) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self._loop.create_future()

        def begin() -> None:
            if self._disk.dead:
                return
            result, failure = None, None
            self._disk.working += 1
            try:
                result = work(*args)
            except BaseException as error:  # noqa: BLE001 - handed to whoever awaits the future
                failure = error
            finally:
                self._disk.working -= 1
            self._loop.call_soon(end, result, failure)

        def end(result: Any, failure: BaseException | None) -> None:
            if self._disk.dead:
                return
            if after is not None:
                after()
            if future.done():
                return
            if failure is None:
                future.set_result(result)
            else:
                future.set_exception(failure)

        self._loop.call_soon(begin)
        return future

    def close(self) -> None:
        """There are no threads to end."""


class MemoryDisk(Disk):
    """Files in memory. `root` is what `/` holds."""

    def __init__(self, root: Folder | None = None) -> None:
        super().__init__()
        self.root: Folder = {} if root is None else root
        self.working = 0
        """Whether a thread's work is being done."""
        self.interleave: Callable[[], None] = lambda: None
        self.dead = False
        """The process is gone: nothing of its work goes on."""
        self._open: dict[int, MemoryFile] = {}
        self._next_fd = FIRST_FD

    def span(self, fd: int, size: int, position: int) -> None:
        """These files are in no system's memory."""

    def copy(self) -> MemoryDisk:
        """Another disk with the same files."""
        return MemoryDisk(copy_folder(self.root))

    def _folder(self, path: str) -> Folder:
        found: Any = self.root
        for name in path.split("/")[1:]:
            if name:
                found = found.get(name) if isinstance(found, dict) else None
                if found is None:
                    raise _error(errno.ENOENT, path)
        if not isinstance(found, dict):
            raise _error(errno.ENOTDIR, path)
        return found

    def _place(self, path: str) -> tuple[Folder, str]:
        folder, _, name = path.rpartition("/")
        return self._folder(folder), name

    def _file(self, path: str) -> MemoryFile:
        folder, name = self._place(path)
        found = folder.get(name)
        if found is None:
            raise _error(errno.ENOENT, path)
        if not isinstance(found, MemoryFile):
            raise _error(errno.EISDIR, path)
        return found

    def _descriptor(self, file: MemoryFile) -> int:
        fd, self._next_fd = self._next_fd, self._next_fd + 1
        self._open[fd] = file
        return fd

    def step(self) -> None:
        """Between two steps of a thread the loop may have its turn."""
        if self.working:
            working, self.working = self.working, 0
            self.interleave()
            self.working = working

    # --- files ---------------------------------------------------------------------------------------------------

    def open(self, path: str, create: bool = False, writable: bool = True) -> int:
        folder, name = self._place(path)
        if create:
            if name in folder:
                raise _error(errno.EEXIST, path)
            folder[name] = MemoryFile()
        return self._descriptor(self._file(path))

    def close(self, fd: int) -> None:
        file = self._open.pop(fd)
        file.locked = False

    def write_at(self, fd: int, buffers: Sequence[Buffer], position: int) -> int:
        data = self._open[fd].own()
        new = b"".join(buffers)
        if len(data) < position:
            data += bytes(position - len(data))
        data[position : position + len(new)] = new
        return len(new)

    def read_at(self, fd: int, size: int, position: int, wait: bool = True) -> bytearray:
        return bytearray(memoryview(self._open[fd].data)[position : position + size])

    def truncate(self, fd: int, size: int) -> None:
        data = self._open[fd].own()
        if len(data) > size:
            del data[size:]
        else:
            data += bytes(size - len(data))

    def size(self, path: str) -> int:
        return len(self._file(path).data)

    def modified_ms(self, path: str) -> int:
        self._file(path)
        return START_MS

    def rename(self, path: str, to: str) -> None:
        folder, name = self._place(path)
        to_folder, to_name = self._place(to)
        if name not in folder:
            raise _error(errno.ENOENT, path)
        to_folder[to_name] = folder.pop(name)

    def remove(self, path: str) -> None:
        self._file(path)
        folder, name = self._place(path)
        del folder[name]

    # --- durability: all is kept, `RecordedDisk` knows what is durable -------------------------------------------

    def sync_data(self, fd: int) -> None:
        assert fd in self._open

    def kernel_syncs(self, limit: int) -> None:
        """Syncs pass through `sync_data`."""

    def sync_folder(self, path: str) -> None:
        self._folder(path)

    def sync_file_system(self, fd: int) -> bool:
        return True

    def drop_cache(self, fd: int, position: int) -> None:
        """There is no cache."""

    # --- folders -------------------------------------------------------------------------------------------------

    def make_folder(self, path: str) -> None:
        found = self.root
        for name in path.split("/")[1:]:
            found = found.setdefault(name, {})

    def list_folder(self, path: str) -> list[str]:
        return list(self._folder(path))

    def is_folder(self, path: str) -> bool:
        try:
            self._folder(path)
        except OSError:
            return False
        return True

    def remove_folder(self, path: str) -> None:
        self._folder(path)
        folder, name = self._place(path)
        del folder[name]

    def space(self, path: str) -> tuple[int, int]:
        return SPACE_BYTES, SPACE_BYTES

    def descriptors(self, wanted: int) -> int:
        return wanted

    def lock(self, path: str) -> int:
        folder, name = self._place(path)
        file = folder.setdefault(name, MemoryFile())
        if file.locked:
            raise BlockingIOError(errno.EAGAIN, "locked")
        file.locked = True
        return self._descriptor(file)

    def workers(self, name: str, threads: int, scheduler: Scheduler) -> Workers:
        return InlineWorkers(self)


def copy_folder(folder: Mapping[str, Any]) -> Folder:
    """A folder with all in it."""
    return {
        name: copy_folder(found) if isinstance(found, dict) else MemoryFile(bytes(found.data))
        for name, found in folder.items()
    }


def contents(folder: Mapping[str, Any], path: str = "") -> dict[str, bytes]:
    """The files below a folder, by path."""
    found: dict[str, bytes] = {}
    for name, entry in folder.items():
        if isinstance(entry, dict):
            found.update(contents(entry, f"{path}/{name}"))
        else:
            found[f"{path}/{name}"] = bytes(entry.data)
    return found


class InlineExecutor(Executor):
    """Does the work at once."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - handed to whoever awaits the future
            future.set_exception(error)
        return future


class Stuck(AssertionError):
    """Nothing will ever happen again."""


class _Selector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Does not wait: time passes instead."""

    passed_s = 0.0

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if not found:
            if timeout is None:
                raise Stuck("the loop would wait for ever")
            if timeout > 0:
                self.passed_s += timeout
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose time passes only when there is nothing to do."""

    def __init__(self) -> None:
        self._time = _Selector()
        super().__init__(self._time)

    def time(self) -> float:
        return self._time.passed_s


class VirtualClock:
    """The loop's time, as a `Clock`."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now_ms(self) -> int:
        return START_MS + int(self._loop.time() * 1000)

    def monotonic(self) -> float:
        return self._loop.time()

    ageing = monotonic


_loop: VirtualLoop | None = None


def virtual_loop() -> VirtualLoop:
    """The loop that all share: making one costs more than a recovery."""
    global _loop
    if _loop is None or _loop.is_closed():
        _loop = VirtualLoop()
    return _loop


def run(work: Coroutine[Any, Any, T], limit_s: float = 3600.0) -> T:
    """Runs a coroutine on the virtual loop; at most `limit_s` of its time."""

    async def bounded() -> T:
        async with asyncio.timeout(limit_s):
            return await work

    return virtual_loop().run_until_complete(bounded())
