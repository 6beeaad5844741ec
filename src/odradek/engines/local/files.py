"""What the engine keeps open and in memory: two bounded sets, least recently used first out.

Role: `OpenFiles` bounds the descriptors of segment files (10,000 partitions must not need 10,000 descriptors);
`LoadedIndexes` bounds the bytes of index entries held in memory.

Invariants: a file that is being read in a thread (`pins`) or has bytes that no flush has covered (`dirty`) is never
closed: closing the last descriptor of a file loses the news of its failed writes. Used on the event loop only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING

from odradek.engines.local.disk import Disk

if TYPE_CHECKING:
    from odradek.engines.local.indexes import OffsetIndex

# Files looked at beyond the surplus, when some of the oldest are in use.
LOOK_FURTHER = 16


class LogFile:
    """One segment's file, open or not. `fd` is -1 while closed."""

    __slots__ = ("dirty", "doomed", "fd", "path", "pins")

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = -1
        self.pins = 0
        self.dirty = False
        self.doomed = False
        """Nobody may open it again; it closes when the last pin goes."""


class OpenFiles:
    """The open segment files, at most `limit` of them where pins and dirt allow it."""

    def __init__(self, disk: Disk, limit: int, want_clean: Callable[[LogFile], None]) -> None:
        self.disk = disk
        self.limit = limit
        self._want_clean = want_clean
        """Called with a dirty file that should be closed: whoever wrote it has it flushed."""
        self._open: OrderedDict[LogFile, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def fd(self, file: LogFile) -> int:
        """The file's descriptor, opened if it has none. Raises `OSError`."""
        if file.fd < 0:
            assert not file.doomed, file.path
            self.adopt(file, self.disk.open(file.path))
        else:
            self._open.move_to_end(file)
        return file.fd

    def adopt(self, file: LogFile, fd: int) -> None:
        """Takes over a descriptor that was opened elsewhere (a new file, a read in a thread)."""
        if file.doomed or file.fd >= 0:
            self.disk.close(fd)
            return
        file.fd = fd
        self._open[file] = None
        if len(self._open) > self.limit:
            self.trim()

    def trim(self) -> None:
        """Closes the oldest files down to the limit; those that are dirty are flushed first, and closed then."""
        surplus = len(self._open) - self.limit
        looked_at = list(islice(self._open, max(surplus, 0) + LOOK_FURTHER))
        for file in looked_at:
            if len(self._open) <= self.limit:
                return
            if file.dirty:
                self._want_clean(file)
            elif not file.pins:
                self._close(file)

    def pin(self, file: LogFile) -> None:
        file.pins += 1

    def unpin(self, file: LogFile) -> None:
        file.pins -= 1
        assert file.pins >= 0
        if file.pins == 0 and file.fd >= 0:
            if file.doomed:
                self._close(file)
            elif len(self._open) > self.limit:
                self.trim()

    def discard(self, file: LogFile) -> None:
        """The file is gone or will not be used again: closes it, now or with the last pin."""
        file.doomed = True
        if file.pins == 0 and file.fd >= 0:
            self._close(file)

    def _close(self, file: LogFile) -> None:
        del self._open[file]
        fd, file.fd = file.fd, -1
        self.disk.close(fd)


class LoadedIndexes:
    """The indexes with entries in memory, at most `limit` bytes of them beyond what is not yet written."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = 0
        self._loaded: OrderedDict[OffsetIndex, int] = OrderedDict()

    def note(self, index: OffsetIndex) -> None:
        """An index was used, or has grown."""
        held = index.held_bytes()
        self.bytes += held - self._loaded.get(index, 0)
        self._loaded[index] = held
        self._loaded.move_to_end(index)
        while self.bytes > self.limit and len(self._loaded) > 1:
            oldest, held = self._loaded.popitem(last=False)
            oldest.evict()
            self.bytes -= held

    def discard(self, index: OffsetIndex) -> None:
        self.bytes -= self._loaded.pop(index, 0)
