"""A disk that does what it is told, through another disk, and writes down everything that alters it.

Role: make a `Recording`: every file made, written, truncated, renamed and removed, every folder made, every sync with
its beginning and its end, in the order in which they happened, and marks that the test sets between them ("this was
acknowledged"). What a power cut could leave of it, `power_cut.py` says.

Invariants: a file and a folder have a number for their whole life, whatever their names; an operation is written down
when it has been done, and a sync's beginning before it begins. A sync that fails is written down as such. Works over
the real disk with the engine's real threads and io_uring, and over a disk in memory.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from odradek.clock import Scheduler
from odradek.engines.interface import FileSpan
from odradek.engines.local import Disk
from odradek.engines.local.disk import Workers
from odradek.records.batch import Buffer
from tests.adversity.memory_disk import MemoryDisk

if TYPE_CHECKING:
    from odradek.engines.local.kernel_syncs import KernelSyncs

ROOT = 0
EVERYTHING = -1


class Made(NamedTuple):
    """A name for a new file, or for a new folder."""

    folder: int
    name: str
    number: int
    is_folder: bool


class Wrote(NamedTuple):
    file: int
    position: int
    data: bytes


class Truncated(NamedTuple):
    file: int
    size: int


class Renamed(NamedTuple):
    """Within one folder, as all renames of a data directory are."""

    folder: int
    name: str
    to: str
    number: int


class Removed(NamedTuple):
    folder: int
    name: str
    number: int


class SyncBegun(NamedTuple):
    """`what` is a file's or a folder's number, or `EVERYTHING`."""

    sync: int
    what: int


class SyncEnded(NamedTuple):
    sync: int
    succeeded: bool


class Mark(NamedTuple):
    """What the test knows at this point."""

    what: Any


Event = Made | Wrote | Truncated | Renamed | Removed | SyncBegun | SyncEnded | Mark
Tree = dict[str, Any]
"""Names to numbers of files (as ints), and to (number, Tree) of folders."""


@dataclass
class Recording:
    """What happened to a disk that at first held `base` (a folder of a `MemoryDisk`, all of it durable)."""

    base: dict[str, Any]
    events: list[Event] = field(default_factory=list)

    def mark(self, what: Any) -> None:
        self.events.append(Mark(what))


@dataclass
class _Node:
    number: int
    entries: dict[str, _Node] | None = None
    """A folder's names; None for a file."""


def number_tree(folder: dict[str, Any], first: int = ROOT) -> tuple[_Node, int]:
    """Numbers what a folder holds, in its order, the folder itself first; the next number free."""
    node, following = _Node(first, {}), first + 1
    assert node.entries is not None
    for name, entry in folder.items():
        if isinstance(entry, dict):
            node.entries[name], following = number_tree(entry, following)
        else:
            node.entries[name], following = _Node(following), following + 1
    return node, following


class RecordedDisk(Disk):
    """Records what happens to `inner`. A `MemoryDisk` may hold something already, another disk's `root` must be empty.

    `refuse` is called with an operation's name and path before it is done; what it raises is what the disk did."""

    def __init__(self, inner: Disk, root: str = "/") -> None:
        super().__init__()
        self.inner = inner
        self.recording = Recording(inner.copy().root if isinstance(inner, MemoryDisk) else {})
        self.refuse: Callable[[str, str], None] = lambda operation, path: None
        self._base_path = root.rstrip("/")
        self._tree, self._next = number_tree(self.recording.base)
        self._open: dict[int, tuple[int, str]] = {}
        self._syncs = 0
        self._lock = threading.RLock()

    def span(self, fd: int, size: int, position: int) -> FileSpan | None:
        return self.inner.span(fd, size, position)

    # --- names ---------------------------------------------------------------------------------------------------

    def _node(self, path: str) -> _Node:
        assert path.startswith(self._base_path), path
        node = self._tree
        for name in path[len(self._base_path) :].split("/"):
            if name:
                assert node.entries is not None
                node = node.entries[name]
        return node

    def _place(self, path: str) -> tuple[_Node, str]:
        folder, _, name = path.rpartition("/")
        return self._node(folder), name

    def _step(self) -> None:
        if isinstance(self.inner, MemoryDisk):
            self.inner.step()

    def _note_made(self, path: str, is_folder: bool) -> None:
        folder, name = self._place(path)
        assert folder.entries is not None
        node = folder.entries[name] = _Node(self._next, {} if is_folder else None)
        self._next += 1
        self.recording.events.append(Made(folder.number, name, node.number, is_folder))

    # --- files ---------------------------------------------------------------------------------------------------

    def open(self, path: str, create: bool = False, writable: bool = True) -> int:
        self._step()
        if create:
            self.refuse("create", path)
        with self._lock:
            fd = self.inner.open(path, create, writable)
            if create:
                self._note_made(path, False)
            self._open[fd] = (self._node(path).number, path)
            return fd

    def close(self, fd: int) -> None:
        self._open.pop(fd)
        self.inner.close(fd)

    def write_at(self, fd: int, buffers: Sequence[Buffer], position: int) -> int:
        self._step()
        file, path = self._open[fd]
        data = b"".join(buffers)
        try:
            self.refuse("write", path)
        except OSError as error:
            if error.errno == errno.ENOSPC and len(data) > 1:
                data = data[: len(data) // 2]  # part of it found room
                self.refuse = lambda operation, path: None
                with self._lock:
                    self.inner.write_at(fd, [data], position)
                    self.recording.events.append(Wrote(file, position, data))
            raise
        with self._lock:
            count = self.inner.write_at(fd, [data], position)
            self.recording.events.append(Wrote(file, position, data[:count]))
        return count

    def read_at(self, fd: int, size: int, position: int, wait: bool = True) -> bytearray:
        return self.inner.read_at(fd, size, position, wait)

    def truncate(self, fd: int, size: int) -> None:
        self._step()
        file, path = self._open[fd]
        self.refuse("truncate", path)
        with self._lock:
            self.inner.truncate(fd, size)
            self.recording.events.append(Truncated(file, size))

    def size(self, path: str) -> int:
        return self.inner.size(path)

    def modified_ms(self, path: str) -> int:
        return self.inner.modified_ms(path)

    def rename(self, path: str, to: str) -> None:
        self._step()
        self.refuse("rename", path)
        with self._lock:
            self.inner.rename(path, to)
            (folder, name), (to_folder, to_name) = self._place(path), self._place(to)
            assert folder is to_folder and folder.entries is not None
            node = folder.entries[to_name] = folder.entries.pop(name)
            self.recording.events.append(Renamed(folder.number, name, to_name, node.number))

    def remove(self, path: str) -> None:
        self._step()
        self.refuse("remove", path)
        with self._lock:
            self.inner.remove(path)
            self._note_removed(path)

    def _note_removed(self, path: str) -> None:
        folder, name = self._place(path)
        assert folder.entries is not None
        node = folder.entries.pop(name)
        self.recording.events.append(Removed(folder.number, name, node.number))

    # --- durability ----------------------------------------------------------------------------------------------

    def _begin(self, what: int) -> int:
        with self._lock:
            self._syncs += 1
            self.recording.events.append(SyncBegun(self._syncs, what))
            return self._syncs

    def _end(self, sync: int, succeeded: bool) -> None:
        with self._lock:
            self.recording.events.append(SyncEnded(sync, succeeded))

    def _sync(self, operation: str, path: str, what: int, work: Callable[[], Any]) -> Any:
        sync = self._begin(what)
        try:
            self._step()
            self.refuse(operation, path)
            result = work()
        except OSError:
            self._end(sync, False)
            raise
        self._end(sync, True)
        return result

    def sync_data(self, fd: int) -> None:
        file, path = self._open[fd]
        self._sync("sync", path, file, lambda: self.inner.sync_data(fd))

    def sync_folder(self, path: str) -> None:
        with self._lock:
            number = self._node(path).number
        self._sync("sync_folder", path, number, lambda: self.inner.sync_folder(path))

    def sync_file_system(self, fd: int) -> bool:
        return bool(self._sync("syncfs", "", EVERYTHING, lambda: self.inner.sync_file_system(fd)))

    def kernel_syncs(self, limit: int) -> KernelSyncs | None:
        found = self.inner.kernel_syncs(limit)
        return None if found is None else RecordedKernelSyncs(self, found)  # type: ignore[return-value]

    def drop_cache(self, fd: int, position: int) -> None:
        self.inner.drop_cache(fd, position)

    # --- folders -------------------------------------------------------------------------------------------------

    def make_folder(self, path: str) -> None:
        self._step()
        self.refuse("make_folder", path)
        with self._lock:
            missing = []
            while path != self._base_path and not self.inner.is_folder(path):
                missing.append(path)
                path = path.rpartition("/")[0]
            for folder in reversed(missing):
                self.inner.make_folder(folder)
                self._note_made(folder, True)

    def list_folder(self, path: str) -> list[str]:
        return self.inner.list_folder(path)

    def is_folder(self, path: str) -> bool:
        return self.inner.is_folder(path)

    def remove_folder(self, path: str) -> None:
        for name in self.inner.list_folder(path):
            inside = f"{path}/{name}"
            if self.inner.is_folder(inside):
                self.remove_folder(inside)
            else:
                self.remove(inside)
        with self._lock:
            self.inner.remove_folder(path)
            self._note_removed(path)

    def space(self, path: str) -> tuple[int, int]:
        return self.inner.space(path)

    def descriptors(self, wanted: int) -> int:
        return self.inner.descriptors(wanted)

    def lock(self, path: str) -> int:
        with self._lock:
            folder, name = self._place(path)
            assert folder.entries is not None
            is_new = name not in folder.entries
            fd = self.inner.lock(path)
            if is_new:
                self._note_made(path, False)
            self._open[fd] = (self._node(path).number, path)
            return fd

    def workers(self, name: str, threads: int, scheduler: Scheduler) -> Workers:
        return self.inner.workers(name, threads, scheduler)


class RecordedKernelSyncs:
    """The kernel's own syncs, written down."""

    def __init__(self, disk: RecordedDisk, inner: KernelSyncs) -> None:
        self._disk = disk
        self._inner = inner

    def start(self, fds: Sequence[int], done: Callable[[list[OSError | None]], None]) -> None:
        disk = self._disk
        syncs = [disk._begin(disk._open[fd][0]) for fd in fds]

        def ended(errors: list[OSError | None]) -> None:
            for sync, error in zip(syncs, errors, strict=True):
                disk._end(sync, error is None)
            done(errors)

        try:
            self._inner.start(fds, ended)
        except OSError:
            for sync in syncs:
                disk._end(sync, False)
            raise

    def close(self) -> None:
        self._inner.close()


def failing(operation: str, where: str = "", code: int = errno.EIO, after: int = 0) -> Callable[[str, str], None]:
    """A `refuse` that lets `after` such operations on paths with `where` pass, and refuses one."""
    left = after

    def refuse(seen: str, path: str) -> None:
        nonlocal left
        if seen == operation and where in path:
            left -= 1
            if left == -1:
                raise OSError(code, os.strerror(code))

    return refuse
