"""The engine's open segment files and loaded indexes: two bounded sets, from which the least recently used go first.

Role: `OpenFiles` bounds the descriptors of segment files (10,000 partitions must not need 10,000 descriptors);
`LoadedIndexes` bounds the bytes of index entries held in memory.

Invariants:
- A file that is being read in a thread or flushed (`pins`) is never closed; one with bytes that no flush has covered
  (`dirty`) only after a sync of its own: closing the last descriptor of a file loses the news of its failed writes.
- At most `limit` files are open, where pins and dirt allow it; and never more than `most` because of dirt.
- A file in use is found once, not by every look for one that may be closed: it is set aside until its last pin goes (a
  flush pins what it cleans). So what a look takes does not grow with the files that are open.

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

# Files that one `trim` looks at beyond the surplus, when some of the oldest are in use.
LOOK_FURTHER = 16
# The most files opened by reads in threads that the event loop has not taken over; further reads close their own.
ARRIVING_MAX = 32
NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)


class LogFile:
    """One segment's file, open or not. `fd` is -1 while closed."""

    __slots__ = ("among", "dirty", "doomed", "fd", "path", "pins")

    among: OrderedDict[LogFile, None]
    """Where `OpenFiles` has it while it is open."""

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
        self._count = 0
        self._unused: OrderedDict[LogFile, None] = OrderedDict()
        """Open files that may be closed, as far as anybody has looked; least recently used first, as in the others."""
        self._dirty: OrderedDict[LogFile, None] = OrderedDict()
        self._pinned: OrderedDict[LogFile, None] = OrderedDict()
        """Open files that a look found pinned, or dirty; when their last pin goes, they are unused again."""
        self.arriving: set[int] = set()
        """Descriptors that reads in threads have opened and `adopt` has not taken over."""

    def __len__(self) -> int:
        return self._count

    def fd(self, file: LogFile) -> int:
        """The file's descriptor, opened if it has none. Raises `OSError`."""
        if file.fd < 0:
            self._open_for_writing(file, create=False)
        else:
            file.among.move_to_end(file)
        return file.fd

    def create(self, file: LogFile) -> None:
        """Makes the file, which does not exist yet. Raises `OSError`."""
        self._open_for_writing(file, create=True)

    def _open_for_writing(self, file: LogFile, create: bool) -> None:
        assert not file.doomed, file.path
        self.trim(room_for=1)
        while self._count >= self.most and self._close_one():
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
        self._add(file, fd)

    def _add(self, file: LogFile, fd: int) -> None:
        file.fd, file.among = fd, self._unused
        self._unused[file] = None
        self._count += 1

    def adopt(self, file: LogFile, fd: int) -> None:
        """Takes over a descriptor that a read in a thread has opened; closes it where there is no room."""
        self.arriving.discard(fd)
        if not file.doomed and file.fd < 0:
            self.trim(room_for=1)
            if self._count < self.most:
                self._add(file, fd)
                return
        self.disk.close(fd)

    def trim(self, room_for: int = 0) -> None:
        """Closes the oldest files down to the limit less `room_for`; those that are dirty are flushed first, and closed
        then, unless others are older by then."""
        most = self.limit - room_for
        for _ in range(self._count - most + LOOK_FURTHER):
            if self._count <= most or not self._unused:
                return
            self._close_or_set_aside(next(iter(self._unused)))

    def _close_or_set_aside(self, file: LogFile) -> None:
        """Closes the file, or takes it out of those that are unused, and has it flushed if it is dirty."""
        if not file.dirty and not file.pins:
            self._close(file)
            return
        self._move(file, self._pinned if file.pins else self._dirty)
        if file.dirty:
            self._want_clean(file)

    def _move(self, file: LogFile, among: OrderedDict[LogFile, None]) -> None:
        del file.among[file]
        among[file] = None
        file.among = among

    def _close_one(self) -> bool:
        """Closes the oldest clean file, or where there is none syncs a dirty one and closes that; False where all are
        in use. The sync keeps the event loop waiting: it is for requests that write to more files than may be open.
        """
        count = self._count
        while self._unused:
            self._close_or_set_aside(next(iter(self._unused)))
            if self._count < count:
                return True
        while self._dirty:
            file = next(iter(self._dirty))
            if file.pins:
                self._move(file, self._pinned)
                continue
            try:
                self.disk.sync_data(file.fd)
            except OSError as error:
                self._on_lost(file, error)
            self._want_clean(file)
            self._close(file)
            return True
        return False

    def pin(self, file: LogFile) -> None:
        file.pins += 1

    def unpin(self, file: LogFile) -> None:
        file.pins -= 1
        assert file.pins >= 0
        if file.pins == 0 and file.fd >= 0:
            if file.doomed:
                self._close(file)
                return
            if file.among is not self._unused:
                self._move(file, self._unused)
            if self._count > self.limit:
                self.trim()

    def discard(self, file: LogFile) -> None:
        """The file is gone or will not be used again: closes it, now or with the last pin."""
        file.doomed = True
        if file.pins == 0 and file.fd >= 0:
            self._close(file)

    def _close(self, file: LogFile) -> None:
        del file.among[file]
        self._count -= 1
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
