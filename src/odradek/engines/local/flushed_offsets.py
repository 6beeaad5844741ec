"""How far each log is flushed, written more often than Kafka's checkpoints and with a checksum:
`odradek-flushed-offsets`.

    header  magic "odrkflsh" | version int32 | slot size int32
    slot    topic id 16 bytes | partition int32 | flushed end int64 | start offset int64 | first segment's offset
            int64 | highest leader epoch int32 | CRC-32C of the log's leader-epoch-checkpoint uint32 | CRC-32C of
            the slot before it uint32

Kafka writes its recovery points once a minute, as text without a checksum. A slot is written at most 0.1 s after each
flush, into the page cache only: after a kill the flushed end is known, and after a power cut the slot is as old as the
system's last write-back, so that recovery checks more batches. A number in Kafka's text files that a slot contradicts
is not trusted.

Role: encode and decode the slots, and know which slot belongs to which log. Invariants: a slot never claims more than
was on the disk when it was written; a slot with a wrong checksum is ignored. Used on the event loop, except `read` and
`sync`. Everything works without the file, as in a directory from Apache Kafka.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from typing import NamedTuple

from crc32c import crc32c

from odradek.engines.local.checkpoints import read_file, write_all
from odradek.engines.local.disk import Disk

FLUSHED_OFFSETS = "odradek-flushed-offsets"
_MAGIC = b"odrkflsh"
_VERSION = 1
_HEADER = struct.Struct(">8sii")
_SLOT = struct.Struct(">16siqqqiI")
_CRC = struct.Struct(">I")
SLOT_BYTES = _SLOT.size + _CRC.size
# Slots closer together than this are written by one write, with the bytes between them.
_GAP_BYTES = 4096

Key = tuple[bytes, int]
"""Topic id and partition."""


class Flushed(NamedTuple):
    """The contents of one log's slot."""

    end_offset: int
    start_offset: int
    first_offset: int
    """The base offset of the first segment, or of the one that will be first when a running deletion has ended."""
    epoch: int
    """The highest leader epoch that was ever used."""
    epochs_crc: int


class FlushedOffsets:
    """The file of one data directory. `found` are its slots as read at the start, also those of missing logs."""

    def __init__(self, disk: Disk, path: str) -> None:
        self._disk = disk
        self._path = path
        self._image = bytearray(_HEADER.pack(_MAGIC, _VERSION, SLOT_BYTES))
        self._positions: dict[Key, int] = {}
        self._free: list[int] = []
        self._due: set[int] = {0}
        """Positions of the slots to be written; 0 is the header's."""
        self._fd = -1
        self.found: dict[Key, Flushed] = {}

    def read(self) -> list[str]:
        """Reads and opens the file; returns warnings about its contents. Runs in a thread. Raises `OSError` where the
        file can neither be opened nor created."""
        notes: list[str] = []
        try:
            data = read_file(self._disk, self._path)
        except FileNotFoundError:
            self._fd = self._disk.open(self._path, create=True)
            return notes
        self._fd = self._disk.open(self._path)
        if data[: _HEADER.size] != self._image:
            if data:
                notes.append(f"{FLUSHED_OFFSETS} is not used: its header is not that of version {_VERSION}")
            self._disk.truncate(self._fd, 0)
            return notes
        self._due.clear()
        self._image = data[: len(data) - (len(data) - _HEADER.size) % SLOT_BYTES]
        for position in range(_HEADER.size, len(self._image), SLOT_BYTES):
            body = self._image[position : position + _SLOT.size]
            topic_id, partition, *numbers = _SLOT.unpack(body)
            key = (topic_id, partition)
            is_sound = _CRC.unpack_from(self._image, position + _SLOT.size)[0] == crc32c(body)
            if not is_sound and any(body):
                notes.append(f"{FLUSHED_OFFSETS} is damaged at byte {position}: a log is checked as if it had no entry")
            if is_sound and key not in self.found:
                self.found[key] = Flushed(*numbers)
                self._positions[key] = position
            else:
                self._free.append(position)
        return notes

    def note(self, key: Key, flushed: Flushed) -> None:
        """Sets a log's slot to what is certainly on the disk; `write` writes it to the file."""
        position = self._positions.get(key)
        if position is None:
            if self._free:
                position = self._free.pop()
            else:
                position = len(self._image)
                self._image += bytes(SLOT_BYTES)
            self._positions[key] = position
        # Called ten times a second under load, so it makes no copy.
        _SLOT.pack_into(self._image, position, *key, *flushed)
        end = position + _SLOT.size
        _CRC.pack_into(self._image, end, crc32c(memoryview(self._image)[position:end]))
        self._due.add(position)

    def keep(self, keys: Collection[Key]) -> None:
        """Frees the slots of all logs but these, and clears `found`."""
        for key in self._positions.keys() - keys:
            self.forget(key)
        self.found = {}

    def forget(self, key: Key) -> None:
        """Frees the slot of a deleted log."""
        self.found.pop(key, None)
        position = self._positions.pop(key, None)
        if position is not None:
            self._image[position : position + SLOT_BYTES] = bytes(SLOT_BYTES)
            self._free.append(position)
            self._due.add(position)

    def write(self) -> None:
        """Writes changed slots into the page cache, which takes some microseconds. Raises `OSError`; the slots then
        stay due."""
        if len(self._due) == 1 and self._fd >= 0 and (position := next(iter(self._due))):
            slot = bytes(self._image[position : position + SLOT_BYTES])
            if self._disk.write_at(self._fd, (slot,), position) == SLOT_BYTES:
                self._due.clear()
                return
        if self._due and self._fd >= 0:
            for begin, end in self._pieces():
                write_all(self._disk, self._fd, bytes(self._image[begin:end]), begin)
            self._due.clear()

    def _pieces(self) -> list[tuple[int, int]]:
        pieces: list[tuple[int, int]] = []
        for position in sorted(self._due):
            end = position + (SLOT_BYTES if position else _HEADER.size)
            if pieces and position - pieces[-1][1] <= _GAP_BYTES:
                pieces[-1] = (pieces[-1][0], end)
            else:
                pieces.append((position, end))
        return pieces

    def sync(self) -> None:
        """Makes the written slots durable. Runs in a thread. Raises `OSError`."""
        if self._fd >= 0:
            self._disk.sync_data(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            self._disk.close(self._fd)
            self._fd = -1
