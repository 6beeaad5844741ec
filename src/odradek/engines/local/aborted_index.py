"""Kafka's `.txnindex` files: beside a segment, the aborted transactions whose markers are in it.

Role: write these files so that another broker that takes over the folder hides aborted records from its consumers. The
partition keeps the aborted transactions in its producer snapshots, and reads these files only where a snapshot lacks
them.

Invariant: a file is replaced whole, and only names transactions that the log durably holds: `AbortedIndex.write` is
called after a flush. Everything here blocks and runs in a thread.
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
    """The aborted transactions in the files of these segments (paths without a suffix), up to the first damaged entry
    of each file."""
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
    """The `.txnindex` files of one log. Remembers how many entries each has, to write only those that have changed."""

    __slots__ = ("_disk", "_written")

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        # The number of entries of each file, by stem; files that were not written or compared yet are missing.
        self._written: dict[str, int] = {}

    def write(self, stems: Sequence[tuple[int, str]], aborted: Sequence[AbortedTransaction]) -> None:
        """Writes the files of these segments: (base offset, path without a suffix), in order. `aborted` are all aborted
        transactions of the log, in the order of their markers."""
        bases = [base_offset for base_offset, _ in stems]
        entries: list[list[bytes]] = [[] for _ in stems]
        for one in aborted:
            index = bisect_right(bases, one.last_offset) - 1
            if index >= 0:
                # Kafka stops searching at an entry whose last stable offset is beyond the fetched range. The first
                # offset of the transaction is the lowest possible value, so no search stops too early.
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
