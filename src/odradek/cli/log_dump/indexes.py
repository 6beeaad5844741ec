"""Indexes in `odradek log dump`: each is checked by itself and against the batches of its segment.

    .index      offset relative to the segment's base int32 | position of a batch int32
    .timeindex  timestamp int64 | relative offset int32
    .txnindex   version int16 | producer id int64 | first, last, and last stable offset int64 each

An offset entry says that a batch begins at its position, and that this or a later batch ends with its offset. A time
entry says that no record up to its offset is later than its time. Apache Kafka allocates entries in advance: zeros at
the end are no entries.

Role: `read_...` returns a checker, whose `on_batch` is called with each batch of the segment in order; `show` reports
the findings when the index is dumped. Memory is bounded by `INDEX_MAX_BYTES`. The engine's code is not used, so that
its mistakes are found.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Protocol

from odradek.cli.log_dump.report import Report
from odradek.cli.record_format import moment
from odradek.records.batch import BatchHeader

OFFSET_ENTRY = struct.Struct(">ii")
TIME_ENTRY = struct.Struct(">qi")
TRANSACTION_ENTRY = struct.Struct(">hqqqq")
INDEX_MAX_BYTES = 134_217_728

Problem = tuple[int, str]


class Check(Protocol):
    """A check of an index, during the walk through its segment."""

    def on_batch(self, position: int, header: BatchHeader) -> None:
        """Called with the next batch of the segment."""

    def on_end(self, position: int, end_offset: int, whole: bool) -> None:
        """Called when the walk ends at `position`; `whole` says whether the end of the segment was reached."""

    def show(self, report: Report) -> None:
        """Reports the entries, the damage found, and the number of entries."""


class _Entries:
    """The entries of an index, and the damage found in them."""

    what = ""
    layout = OFFSET_ENTRY

    def __init__(self, path: Path, base_offset: int) -> None:
        self.path = path
        self.base_offset = base_offset
        self.problems: list[Problem] = []
        self.size = path.stat().st_size
        self.room = 0
        self.checked = False
        self.entries: list[tuple[int, ...]] = []
        width = self.layout.size
        if self.size > INDEX_MAX_BYTES:
            self.problems.append((0, f"an index of {self.size} bytes is not one"))
            return
        data = path.read_bytes()
        used = len(data.rstrip(b"\0"))
        used += -used % width
        if len(data) % width:
            self.problems.append(
                (len(data) // width * width, f"the last entry is cut short: {len(data) % width} bytes")
            )
            used = min(used, len(data) // width * width)
        self.room = (len(data) - used) // width
        self.entries = [*self.layout.iter_unpack(data[:used])]

    def problem(self, number: int, text: str) -> None:
        self.problems.append((number * self.layout.size, text))

    def show(self, report: Report) -> None:
        report.file(str(self.path), self.path.name, self.what, self.size)
        for number, entry in enumerate(self.entries):
            self.show_entry(report, number, entry)
        if self.room:
            report.note(f"room for {self.room} more, made in advance")
        if self.entries and not self.checked:
            report.note("there is no log beside it: its entries are checked in themselves only")
        for position, text in self.problems:
            report.damage(position, text)
        report.total("entries", {"entries": len(self.entries)})

    def show_entry(self, report: Report, number: int, entry: tuple[int, ...]) -> None:
        raise NotImplementedError


class OffsetIndexCheck(_Entries):
    """The check of a segment's `.index`."""

    what = "offset index"
    layout = OFFSET_ENTRY

    def __init__(self, path: Path, base_offset: int) -> None:
        super().__init__(path, base_offset)
        before = (-1, -1)
        for number, entry in enumerate(self.entries):
            if entry[0] <= before[0] or entry[1] <= before[1]:
                self.problem(
                    number, f"entry {number} is out of order: {self._named(entry)} after {self._named(before)}"
                )
            before = entry[0], entry[1]
        self._next = 0
        self._awaited: list[tuple[int, int]] = []

    def _named(self, entry: tuple[int, ...]) -> str:
        return f"offset {self.base_offset + entry[0]} at byte {entry[1]}"

    def on_batch(self, position: int, header: BatchHeader) -> None:
        for number, offset in self._awaited:
            if header.last_offset > offset:
                self.problem(number, f"entry {number} names offset {offset}, with which no batch ends")
        self._awaited = [one for one in self._awaited if header.last_offset < one[1]]
        while self._next < len(self.entries):
            relative, expected = self.entries[self._next]
            if expected > position:
                return
            offset = self.base_offset + relative
            if expected < position:
                self.problem(self._next, f"entry {self._next} points to byte {expected}, where no batch begins")
            elif offset < header.base_offset:
                self.problem(
                    self._next,
                    f"entry {self._next} names offset {offset}, but the batch at byte {expected} begins after it, at "
                    f"{header.base_offset}",
                )
            elif offset > header.last_offset:
                self._awaited.append((self._next, offset))
            elif offset < header.last_offset:
                self.problem(
                    self._next,
                    f"entry {self._next} names offset {offset}, but the batch at byte {expected} ends with "
                    f"{header.last_offset}",
                )
            self._next += 1

    def on_end(self, position: int, end_offset: int, whole: bool) -> None:
        self.checked = True
        if not whole:
            return
        for number, offset in self._awaited:
            self.problem(number, f"entry {number} names offset {offset}, but the log ends at {end_offset}")
        for number in range(self._next, len(self.entries)):
            self.problem(
                number, f"entry {number} points to byte {self.entries[number][1]}, but the log ends at byte {position}"
            )

    def show_entry(self, report: Report, number: int, entry: tuple[int, ...]) -> None:
        fields = {"number": number, "offset": self.base_offset + entry[0], "log_position": entry[1]}
        report.item("offset_entry", fields)


class TimeIndexCheck(_Entries):
    """The check of a segment's `.timeindex`."""

    what = "time index"
    layout = TIME_ENTRY

    def __init__(self, path: Path, base_offset: int) -> None:
        super().__init__(path, base_offset)
        before = (-1, -1)
        for number, entry in enumerate(self.entries):
            if entry[0] <= before[0] or entry[1] < before[1]:
                self.problem(
                    number, f"entry {number} is out of order: {self._named(entry)} after {self._named(before)}"
                )
            before = entry[0], entry[1]
        self._next = 0
        self._latest = -1

    def _named(self, entry: tuple[int, ...]) -> str:
        return f"time {moment(entry[0]) or entry[0]} at offset {self.base_offset + entry[1]}"

    def on_batch(self, position: int, header: BatchHeader) -> None:
        later = max(self._latest, header.max_timestamp)
        while self._next < len(self.entries):
            timestamp, relative = self.entries[self._next]
            offset = self.base_offset + relative
            if offset > header.last_offset:
                break
            latest = later if offset >= header.base_offset else self._latest
            if latest > timestamp:
                self.problem(
                    self._next,
                    f"entry {self._next} says that nothing up to offset {offset} is later than "
                    f"{moment(timestamp) or timestamp}, but there is {moment(latest)}",
                )
            self._next += 1
        self._latest = later

    def on_end(self, position: int, end_offset: int, whole: bool) -> None:
        self.checked = True
        for number in range(self._next, len(self.entries) if whole else 0):
            offset = self.base_offset + self.entries[number][1]
            self.problem(number, f"entry {number} names offset {offset}, but the log ends at {end_offset}")

    def show_entry(self, report: Report, number: int, entry: tuple[int, ...]) -> None:
        fields = {"number": number, "timestamp": entry[0], "offset": self.base_offset + entry[1]}
        report.item("time_entry", fields)


class TransactionIndexCheck(_Entries):
    """The check of a segment's `.txnindex`: the aborted transactions whose markers are in the segment."""

    what = "index of aborted transactions"
    layout = TRANSACTION_ENTRY

    def __init__(self, path: Path, base_offset: int) -> None:
        super().__init__(path, base_offset)
        before = -1
        for number, (version, _, first, last, _) in enumerate(self.entries):
            if version != 0:
                self.problem(number, f"entry {number} has version {version}, which is unknown")
            elif last < first:
                self.problem(
                    number, f"entry {number} has a transaction that ends at {last}, before its begin at {first}"
                )
            elif last <= before:
                self.problem(number, f"entry {number} is out of order: it ends at {last}, the one before at {before}")
            before = max(before, last)

    def on_batch(self, position: int, header: BatchHeader) -> None:
        """Compares nothing: a batch's header does not say whether its transaction was aborted."""

    def on_end(self, position: int, end_offset: int, whole: bool) -> None:
        self.checked = True
        for number, (_, _, _, last, _) in enumerate(self.entries if whole else ()):
            if not self.base_offset <= last < end_offset:
                self.problem(
                    number,
                    f"entry {number} ends at offset {last}, but the segment has {self.base_offset} to {end_offset - 1}",
                )

    def show_entry(self, report: Report, number: int, entry: tuple[int, ...]) -> None:
        names = ("version", "producer_id", "first_offset", "last_offset", "last_stable_offset")
        report.item("transaction", {"number": number, **dict(zip(names, entry, strict=True))})


CHECKS: dict[str, type[OffsetIndexCheck] | type[TimeIndexCheck] | type[TransactionIndexCheck]] = {
    ".index": OffsetIndexCheck,
    ".timeindex": TimeIndexCheck,
    ".txnindex": TransactionIndexCheck,
}
