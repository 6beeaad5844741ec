"""What a power cut could leave of a disk: from a `Recording` and a point in it, states that the disk may be in then.

The model of the file system, weaker than what ext4, XFS and btrfs promise in their defaults, so that what survives it
survives them (and others that POSIX allows). It follows what "All file systems are not created equal: on the complexity
of crafting crash-consistent applications" (Pillai and others, OSDI 2014) found them to do:

- **A sync that has returned** covers what was done to its file (bytes, size) before it began: that is there. A folder's
  sync covers the names in that folder, syncfs everything. A file's sync promises nothing about its name, and a
  folder's nothing about the bytes of its files or its own name in the folder above.
- **Later writes** reach the disk in any order, also after the kernel's own pleasure: each whole, not at all, or torn:
  its first part, its last, or any of its sectors, at sector boundaries and at bytes. Where a write made the file
  longer, the new size may be there and the bytes not: they are zeros then (delayed allocation, XFS). A write that did
  not happen before one that did leaves zeros, too. Writes to the same bytes keep their order.
- **Later truncations** have happened or not, whatever came after them.
- **Later names**: of every folder's creations, renames and removals any part may be there, whatever their order (btrfs
  and file systems without a journal), but each as a whole: a rename never leaves two names or none.
- **A sync that failed** promises nothing, and takes away: what was unsynced of a file at its beginning counts as clean
  for the kernel ("fsyncgate"), so no later sync of that file covers it; a truncation that cuts it off makes it moot.
  Names are not taken away: they are in the file system's journal, and one that cannot write its journal stops.

Not in the model: what was durable rots (see `test_bit_rot.py`), and disks that lie about their syncs.

Role: keep, point by point, what is certain and what is not (`Model`), and make states of it: all of them where there
are few, by seed where there are many. The states are folders for a `MemoryDisk`.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any, NamedTuple

from tests.adversity.memory_disk import MemoryFile
from tests.adversity.recorded_disk import (
    EVERYTHING,
    ROOT,
    Event,
    Made,
    Removed,
    Renamed,
    SyncBegun,
    SyncEnded,
    Truncated,
    Wrote,
)

SECTOR_BYTES = 512
# All combinations of up to this many uncertain operations are tried.
SYSTEMATIC_MAX = 5


class Torn(NamedTuple):
    """A part of a write: the pieces (from, to) that were written; and whether the size is that of the whole."""

    pieces: tuple[tuple[int, int], ...]
    whole_size: bool


DROPPED = Torn((), False)
WHOLE = Torn(((0, 1 << 62),), True)
ZEROS = Torn((), True)
Fate = Torn
"""What becomes of an uncertain operation; those that are not writes are `DROPPED` or `WHOLE`."""


@dataclass(eq=False)
class Item:
    """An operation that is not certain, or comes after one that is not."""

    operation: Made | Wrote | Truncated | Renamed | Removed
    certain: bool = False
    lost: bool = False
    """A sync of it failed: no other will cover it."""


@dataclass
class _File:
    base: bytes = b""
    items: list[Item] = field(default_factory=list)


@dataclass
class _Folder:
    base: dict[str, int] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)


class Model:
    """What is certain and what is not at one point of a recording."""

    def __init__(self, base: dict[str, Any]) -> None:
        self._files: dict[int, _File] = {}
        self._folders: dict[int, _Folder] = {}
        self._syncs: dict[int, list[Item]] = {}
        self._next = ROOT
        self._take(base)

    def _take(self, base: dict[str, Any]) -> int:
        """Numbers as `number_tree` does."""
        number, self._next = self._next, self._next + 1
        folder = self._folders[number] = _Folder()
        for name, entry in base.items():
            if isinstance(entry, dict):
                folder.base[name] = self._take(entry)
            else:
                folder.base[name] = self._next
                self._files[self._next] = _File(bytes(entry.data))
                self._next += 1
        return number

    def _holder(self, number: int) -> _File | _Folder:
        found = self._files.get(number)
        return found if found is not None else self._folders[number]

    def apply(self, event: Event) -> None:
        """The next event of the recording (marks are not for the model)."""
        if isinstance(event, SyncBegun):
            holders: list[_File | _Folder]
            if event.what == EVERYTHING:
                holders = [*self._files.values(), *self._folders.values()]
            else:
                holders = [self._holder(event.what)]
            self._syncs[event.sync] = [
                item for holder in holders for item in holder.items if not item.certain and not item.lost
            ]
        elif isinstance(event, SyncEnded):
            for item in self._syncs.pop(event.sync):
                item.lost = item.lost or (not event.succeeded and not _is_name(item))
                item.certain = item.certain or not item.lost
            if event.succeeded:
                self._fold()
        elif isinstance(event, Wrote | Truncated):
            self._files[event.file].items.append(Item(event))
        elif isinstance(event, Made | Renamed | Removed):
            if isinstance(event, Made):
                if event.is_folder:
                    self._folders[event.number] = _Folder()
                else:
                    self._files[event.number] = _File()
            self._folders[event.folder].items.append(Item(event))

    def _fold(self) -> None:
        """What is certain goes into the bases."""
        for file in self._files.values():
            if file.items:
                _drop_moot(file.items)
                count = _certain(file.items)
                if count:
                    file.base = _written(file.base, [(item, WHOLE) for item in file.items[:count]])
                    del file.items[:count]
        for folder in self._folders.values():
            count = _certain(folder.items)
            if count:
                folder.base = _named(folder.base, [(item, WHOLE) for item in folder.items[:count]])
                del folder.items[:count]

    def uncertain(self) -> list[Item]:
        """Files' and folders' operations that may have happened or not. Those of one file, and of one folder, are in
        their order."""
        holders: list[_File | _Folder] = [*self._folders.values(), *self._files.values()]
        return [item for holder in holders for item in holder.items if not item.certain]

    def state(self, fates: dict[Item, Fate]) -> dict[str, Any]:
        """The folder that is left when the uncertain operations have these fates."""
        return self._restore(ROOT, fates)

    def _restore(self, number: int, fates: dict[Item, Fate]) -> dict[str, Any]:
        folder = self._folders[number]
        names = folder.base
        if folder.items:
            names = _named(names, [(item, WHOLE if item.certain else fates[item]) for item in folder.items])
        found: dict[str, Any] = {}
        for name, entry in names.items():
            if entry in self._folders:
                found[name] = self._restore(entry, fates)
                continue
            file = self._files[entry]
            data = file.base
            if file.items:
                data = _written(data, [(item, WHOLE if item.certain else fates[item]) for item in file.items])
            found[name] = MemoryFile(data)
        return found


def _certain(items: list[Item]) -> int:
    """How many of the first ones are certain."""
    for number, item in enumerate(items):
        if not item.certain:
            return number
    return len(items)


def _drop_moot(items: list[Item]) -> None:
    """Forgets lost writes that a certain truncation has cut off."""
    for number, item in enumerate(items):
        if item.certain and isinstance(item.operation, Truncated):
            size = item.operation.size
            for other in items[:number]:
                operation = other.operation
                if other.lost and isinstance(operation, Wrote) and operation.position >= size:
                    other.certain = True  # whether it happened can no longer be seen


def _written(base: bytes, items: list[tuple[Item, Fate]]) -> bytes:
    data = bytearray(base)
    for item, fate in items:
        operation = item.operation
        if isinstance(operation, Truncated):
            if fate is WHOLE:
                if operation.size <= len(data):
                    del data[operation.size :]
                else:
                    data += bytes(operation.size - len(data))
            continue
        assert isinstance(operation, Wrote)
        position, new = operation.position, operation.data
        end = position + len(new) if fate.whole_size else 0
        for _, last in fate.pieces:
            end = max(end, position + min(last, len(new)))
        if len(data) < end:
            data += bytes(end - len(data))
        for first, last in fate.pieces:
            last = min(last, len(new))
            data[position + first : position + last] = new[first:last]
    return bytes(data)


def _named(base: dict[str, int], items: list[tuple[Item, Fate]]) -> dict[str, int]:
    names = dict(base)
    for item, fate in items:
        if fate is not WHOLE:
            continue
        operation = item.operation
        if isinstance(operation, Made):
            names[operation.name] = operation.number
        elif isinstance(operation, Renamed):
            if names.get(operation.name) == operation.number:
                del names[operation.name]
            names[operation.to] = operation.number
        elif isinstance(operation, Removed) and names.get(operation.name) == operation.number:
            del names[operation.name]
    return names


# --- which states -----------------------------------------------------------------------------------------------------


def _tears(operation: Wrote, chance: random.Random) -> Fate:
    """A write that happened in part."""
    size, whole_size = len(operation.data), chance.random() < 0.5
    kind = chance.randrange(4)
    if kind == 0 or size < 2:
        return ZEROS
    boundary = chance.randrange(1, size)
    if chance.random() < 0.5:  # where the disk's sectors end
        boundary = min(size, boundary + -(operation.position + boundary) % SECTOR_BYTES)
    if kind == 1:
        return Torn(((0, boundary),), whole_size)
    if kind == 2:
        return Torn(((boundary, size),), True)
    pieces = []
    first = 0
    while first < size:
        last = min(size, first + SECTOR_BYTES - (operation.position + first) % SECTOR_BYTES)
        if chance.random() < 0.5:
            pieces.append((first, last))
        first = last
    return Torn(tuple(pieces), whole_size)


def _is_name(item: Item) -> bool:
    return not isinstance(item.operation, Wrote | Truncated)


_STYLES: list[Callable[[Item, int, int, random.Random], Fate]] = [
    # a prefix of everything: the disk did all in order
    lambda item, number, bound, chance: WHOLE if number < bound else DROPPED,
    # the last first
    lambda item, number, bound, chance: WHOLE if number >= bound else DROPPED,
    # every one for itself
    lambda item, number, bound, chance: WHOLE if chance.random() < 0.5 else DROPPED,
    # all but one
    lambda item, number, bound, chance: WHOLE if number != bound else DROPPED,
    # one alone
    lambda item, number, bound, chance: WHOLE if number == bound else DROPPED,
    # names without bytes, and bytes without names
    lambda item, number, bound, chance: WHOLE if _is_name(item) else DROPPED,
    lambda item, number, bound, chance: DROPPED if _is_name(item) else WHOLE,
    lambda item, number, bound, chance: WHOLE if _is_name(item) else ZEROS,
    # names, and some of the bytes
    lambda item, number, bound, chance: WHOLE if _is_name(item) or chance.random() < 0.5 else DROPPED,
]


def states(model: Model, chance: random.Random, count: int) -> Iterator[dict[str, Any]]:
    """Up to `count` states that the disk may be in now: where few operations are uncertain all combinations of done and
    not done, the rest by chance, with torn writes."""
    items = model.uncertain()
    if not items:
        yield model.state({})
        return
    left = count
    if 2 ** len(items) <= min(count, 2**SYSTEMATIC_MAX):
        for fates in product((DROPPED, WHOLE), repeat=len(items)):
            yield model.state(dict(zip(items, fates, strict=True)))
            left -= 1
    for _ in range(left):
        bound = chance.randrange(len(items) + 1)
        style = chance.choice(_STYLES)
        chosen = {item: style(item, number, bound, chance) for number, item in enumerate(items)}
        tear = chance.random()
        for item in items:
            if isinstance(item.operation, Wrote) and chance.random() < tear * tear:
                chosen[item] = _tears(item.operation, chance)
            elif isinstance(item.operation, Truncated) and chosen[item] is not WHOLE:
                chosen[item] = DROPPED
        yield model.state(chosen)


def fingerprint(folder: dict[str, Any]) -> bytes:
    """The same for folders with the same names and bytes."""
    digest = hashlib.blake2b(digest_size=16)

    def add(folder: dict[str, Any]) -> None:
        for name in sorted(folder):
            entry = folder[name]
            digest.update(name.encode() + b"\0")
            if isinstance(entry, dict):
                digest.update(b"(")
                add(entry)
                digest.update(b")")
            else:
                digest.update(len(entry.data).to_bytes(8, "big"))
                digest.update(entry.data)

    add(folder)
    return digest.digest()
