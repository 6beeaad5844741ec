"""The engine's open segment files and loaded indexes: two bounded sets, from which the least recently used go first.

Role: `OpenFiles` bounds the descriptors of segment files (10,000 partitions must not need 10,000 descriptors);
`LoadedIndexes` bounds the bytes of index entries held in memory.

Invariants:
- A file that is being read in a thread or flushed (`pins`) is never closed; a file with unflushed bytes (`dirty`) only
  after a sync: closing the last descriptor of a file loses the error of a failed write-back.
- At most `limit` files are open, unless they are pinned or dirty; dirty files never make it more than `most`.

Used on the event loop only, except `arriving`.
"""

from __future__ import annotations

import errno
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from odradek.descriptors import with_surplus
from odradek.engines.local.disk import Disk

if TYPE_CHECKING:
    from odradek.engines.local.indexes import OffsetIndex

# Files looked at beyond the surplus, when some of the oldest are in use.
LOOK_FURTHER = 16
# The most files opened by reads in threads that the event loop has not taken over; further reads close their own.
ARRIVING_MAX = 32
NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)


class LogFile:
    """One segment's file, open or not. `fd` is -1 while closed."""

    __slots__ = ("dirty", "doomed", "fd", "path", "pins")

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = -1
        self.pins = 0
        self.dirty = False
        self.doomed = False
        """Whether the file must not be opened again; it is closed with its last pin."""


class OpenFiles:
    """The open segment files."""

    def __init__(
        self,
        disk: Disk,
        limit: int,
        want_clean: Callable[[LogFile], None],
        on_lost: Callable[[LogFile, OSError], None],
    ) -> None:
        self.disk = disk
        self.limit = limit
        self.most = with_surplus(limit)
        self._want_clean = want_clean
        """Called with a dirty file that should be closed: its log then requests a flush."""
        self._on_lost = on_lost
        """Called with a file whose sync failed here."""
        self._open: OrderedDict[LogFile, None] = OrderedDict()
        self.arriving: set[int] = set()
        """Descriptors that reads in threads have opened and `adopt` has not taken over."""

    def __len__(self) -> int:
        return len(self._open)

    def fd(self, file: LogFile) -> int:
        """The file's descriptor, opened if it has none. Raises `OSError`."""
        if file.fd < 0:
            self._open_for_writing(file, create=False)
        else:
            self._open.move_to_end(file)
        return file.fd

    def create(self, file: LogFile) -> None:
        """Makes the file, which does not exist yet. Raises `OSError`."""
        self._open_for_writing(file, create=True)

    def _open_for_writing(self, file: LogFile, create: bool) -> None:
        assert not file.doomed, file.path
        self.trim(room_for=1)
        while len(self._open) >= self.most and self._close_one():
            pass
        while True:
            try:
                fd = self.disk.open(file.path, create)
            except OSError as error:
                # Other parts of this process have used more descriptors than their share.
                if error.errno not in NO_DESCRIPTOR or not self._close_one():
                    raise
            else:
                break
        file.fd = fd
        self._open[file] = None

    def adopt(self, file: LogFile, fd: int) -> None:
        """Takes over a descriptor that a read in a thread has opened; closes it where there is no room."""
        self.arriving.discard(fd)
        if not file.doomed and file.fd < 0:
            self.trim(room_for=1)
            if len(self._open) < self.most:
                file.fd = fd
                self._open[file] = None
                return
        self.disk.close(fd)

    def trim(self, room_for: int = 0) -> None:
        """Closes the oldest files down to the limit less `room_for`; those that are dirty are flushed first, and closed
        then. Those that cannot be closed now come last: the next look begins behind them."""
        most = self.limit - room_for
        for _ in range(len(self._open) - most + LOOK_FURTHER):
            if len(self._open) <= most:
                return
            file = next(iter(self._open))
            if not file.dirty and not file.pins:
                self._close(file)
                continue
            if file.dirty:
                self._want_clean(file)
            self._open.move_to_end(file)

    def _close_one(self) -> bool:
        """Closes the oldest clean file, or where there is none syncs a dirty one and closes that; False where all are
        in use. The sync keeps the event loop waiting: it is for requests that write to more files than may be open.
        """
        unused = [file for file in self._open if not file.pins]
        if not unused:
            return False
        file = next((file for file in unused if not file.dirty), unused[0])
        if file.dirty:
            try:
                self.disk.sync_data(file.fd)
            except OSError as error:
                self._on_lost(file, error)
            self._want_clean(file)
        self._close(file)
        return True

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
