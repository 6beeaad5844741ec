"""Disks that fail, count, or lose what was not synced: what the tests put under the local engine."""

from __future__ import annotations

import errno
import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from odradek.engines.local import Disk
from odradek.records.batch import Buffer


class WatchedDisk(Disk):
    """Counts operations by name, and lets `refuse` make them fail.

    `refuse` is called with the operation and the path of its file, before it happens, from any thread; what it
    raises is what the disk did."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.bytes_read = 0
        self.paths: dict[int, str] = {}
        self.refuse: Callable[[str, str], None] = lambda operation, path: None
        self.refused = 0
        self.short_writes = False
        self.open_now = 0
        self.open_most = 0

    def _see(self, operation: str, path: str) -> None:
        self.counts[operation] += 1
        self.refuse(operation, path)

    def open(self, path: str, create: bool = False, writable: bool = True) -> int:
        self._see("create" if create else "open", path)
        fd = super().open(path, create, writable)
        self.paths[fd] = path
        self.open_now += 1
        self.open_most = max(self.open_most, self.open_now)
        return fd

    def close(self, fd: int) -> None:
        self.open_now -= 1
        super().close(fd)

    def write_at(self, fd: int, buffers: Sequence[Buffer], position: int) -> int:
        self._see("write", self.paths[fd])
        if self.short_writes:
            whole = b"".join(buffers)
            return super().write_at(fd, [whole[: max(1, len(whole) // 2)]], position)
        return super().write_at(fd, buffers, position)

    def read_at(self, fd: int, size: int, position: int, wait: bool = True) -> bytearray:
        self._see("read", self.paths[fd])
        data = super().read_at(fd, size, position, wait)
        self.bytes_read += len(data)
        return data

    def truncate(self, fd: int, size: int) -> None:
        self._see("truncate", self.paths[fd])
        super().truncate(fd, size)

    def rename(self, path: str, to: str) -> None:
        self._see("rename", path)
        super().rename(path, to)

    def remove(self, path: str) -> None:
        self._see("remove", path)
        super().remove(path)

    def sync_data(self, fd: int) -> None:
        self._see("sync", self.paths[fd])
        super().sync_data(fd)

    def kernel_syncs(self, limit: int) -> None:
        """Syncs are to pass through `sync_data`."""

    def sync_folder(self, path: str) -> None:
        self._see("sync_folder", path)
        super().sync_folder(path)

    def sync_file_system(self, fd: int) -> bool:
        self._see("syncfs", "")
        return super().sync_file_system(fd)

    def make_folder(self, path: str) -> None:
        self._see("make_folder", path)
        super().make_folder(path)

    def lock(self, path: str) -> int:
        fd = super().lock(path)
        self.paths[fd] = path
        self.open_now += 1
        return fd

    def fail(self, operation: str, code: int = errno.EIO, where: str = "", times: int = 1 << 30) -> None:
        """The next `times` such operations on paths that contain `where` fail; `refused` counts them."""
        self.refused = 0

        def refuse(seen: str, path: str) -> None:
            if seen == operation and where in path and self.refused < times:
                self.refused += 1
                raise OSError(code, os.strerror(code))

        self.refuse = refuse

    def heal(self) -> None:
        self.refuse = lambda operation, path: None


class ForgetfulDisk(Disk):
    """Knows what a power cut would leave: bytes as of their last sync, names as of their folder's.

    `power_cut` builds that directory elsewhere. What was written later may be there in part: the disk chooses. `killed`
    makes every operation fail, as if the process were gone: what it wrote stays in memory for the next disk made with
    `previous`."""

    def __init__(self, root: Path, previous: ForgetfulDisk | None = None) -> None:
        super().__init__()
        self.root = str(root)
        self.killed = False
        self._synced: dict[int, bytes] = {} if previous is None else previous._synced
        self._names: dict[str, dict[str, int]] = {} if previous is None else previous._names
        self._kept: list[int] = [] if previous is None else previous._kept
        if previous is None:
            self.sync_file_system(-1)  # what is there now survived

    def _check(self) -> None:
        if self.killed:
            raise OSError(errno.EIO, "killed")

    def open(self, path: str, create: bool = False, writable: bool = True) -> int:
        self._check()
        return super().open(path, create, writable)

    def write_at(self, fd: int, buffers: Sequence[Buffer], position: int) -> int:
        self._check()
        return super().write_at(fd, buffers, position)

    def truncate(self, fd: int, size: int) -> None:
        self._check()
        super().truncate(fd, size)

    def sync_data(self, fd: int) -> None:
        self._check()
        super().sync_data(fd)
        self._keep(fd)

    def kernel_syncs(self, limit: int) -> None:
        """Syncs are to pass through `sync_data`."""

    def _keep(self, fd: int) -> None:
        size = os.fstat(fd).st_size
        self._synced[os.fstat(fd).st_ino] = os.pread(fd, size, 0)

    def sync_folder(self, path: str) -> None:
        self._check()
        super().sync_folder(path)
        self._names[path] = {entry.name: entry.inode() for entry in os.scandir(path)}

    def sync_file_system(self, fd: int) -> bool:
        self._check()
        for folder, _, files in os.walk(self.root):
            for name in files:
                try:
                    file = os.open(f"{folder}/{name}", os.O_RDONLY)
                except FileNotFoundError:
                    continue
                self._keep(file)
                os.close(file)
            self.sync_folder(folder)
        return True

    def remove(self, path: str) -> None:
        self._check()
        self._kept.append(os.open(path, os.O_RDONLY))  # its inode's number is not to be given to another file
        super().remove(path)

    def rename(self, path: str, to: str) -> None:
        self._check()
        if os.path.isfile(to):
            self._kept.append(os.open(to, os.O_RDONLY))
        super().rename(path, to)

    def remove_folder(self, path: str) -> None:
        """Left alone, for the inodes' sake."""

    def forget(self) -> None:
        for fd in self._kept:
            os.close(fd)
        self._kept.clear()

    def power_cut(self, to: Path, chance: random.Random) -> None:
        """Makes in `to` what a power cut now could leave. Folders keep their paths: only their contents may be lost."""
        self._restore(self.root, str(to), chance)

    def _restore(self, folder: str, to: str, chance: random.Random) -> None:
        os.makedirs(to)
        now = {entry.inode(): entry for entry in os.scandir(folder)} if os.path.isdir(folder) else {}
        for name, inode in self._names.get(folder, {}).items():
            entry = now.get(inode)
            if entry is not None and entry.is_dir():
                self._restore(f"{folder}/{name}" if entry.name == name else entry.path, f"{to}/{name}", chance)
                continue
            data = self._synced.get(inode, b"")
            if entry is not None and entry.name == name and name.endswith((".log", "index")):
                written = Path(entry.path).read_bytes()
                if len(written) > len(data):
                    more = bytearray(written[len(data) : chance.randint(len(data), len(written))])
                    if more and chance.random() < 0.3:
                        start = chance.randrange(len(more))
                        more[start:] = bytes(len(more) - start)  # a size that came before its bytes
                    data += bytes(more)
            Path(f"{to}/{name}").write_bytes(data)
