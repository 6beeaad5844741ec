"""Kafka's `.txnindex` files: beside a segment, the aborted transactions whose markers are in it.

Role: they are made from what the partition knows, which keeps it in its producers' snapshots; here only so that
another broker that takes over the folder does not show its consumers what was aborted. Read where a snapshot has none.

Invariant: a file is put in place whole, and says no more than what is in the log when it is: `AbortedIndex.write` is
called behind a flush. Everything here blocks and runs in a thread.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Sequence

from odradek.engines.interface import AbortedTransaction
from odradek.engines.local.checkpoints import read_file, replace_file
from odradek.engines.local.disk import Disk
from odradek.logs import get_logger

log = get_logger("odradek.engine")

SUFFIX = ".txnindex"
# Version, producer id, first and last offset, last stable offset afterwards.
ENTRY = struct.Struct(">hqqqq")
VERSION = 0


def read_aborted(disk: Disk, stems: Sequence[str]) -> list[AbortedTransaction]:
    """What the files of these segments (paths without a suffix) say, as far as they can be read."""
    found = []
    for stem in stems:
        try:
            data = read_file(disk, stem + SUFFIX)
        except FileNotFoundError:
            continue
        for position in range(0, len(data) - ENTRY.size + 1, ENTRY.size):
            version, producer_id, first_offset, last_offset, _ = ENTRY.unpack_from(data, position)
            if version != VERSION or not 0 <= first_offset <= last_offset:
                log.warning("an index of aborted transactions is damaged", path=stem + SUFFIX, at=position)
                break
            found.append(AbortedTransaction(producer_id, first_offset, last_offset))
    return found


class AbortedIndex:
    """The files of one log. Remembers what it wrote, so that only what has changed is written again."""

    __slots__ = ("_disk", "_written")

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        # How many entries each file has, by stem; those not looked at yet are missing.
        self._written: dict[str, int] = {}

    def write(self, stems: Sequence[tuple[int, str]], aborted: Sequence[AbortedTransaction]) -> None:
        """Puts in place what each segment (base offset, path without a suffix; in order) has to say. `aborted` is all
        that the log has, in the order of the markers."""
        bases = [base_offset for base_offset, _ in stems]
        entries: list[list[bytes]] = [[] for _ in stems]
        for one in aborted:
            index = bisect_right(bases, one.last_offset) - 1
            if index >= 0:
                # A reader may stop at an entry whose stable offset is beyond what it wants: the lowest is always right.
                entries[index].append(ENTRY.pack(VERSION, *one, one.first_offset))
        for (_, stem), wanted in zip(stems, entries, strict=True):
            if self._written.get(stem) != len(wanted):
                self._put(stem + SUFFIX, b"".join(wanted))
                self._written[stem] = len(wanted)
        self._written = {stem: self._written[stem] for _, stem in stems}

    def _put(self, path: str, data: bytes) -> None:
        try:
            before = bytes(read_file(self._disk, path))
        except FileNotFoundError:
            before = b""
        if before != data:
            replace_file(self._disk, path, data)
