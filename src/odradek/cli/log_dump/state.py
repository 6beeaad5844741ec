"""The small files of a data directory in `odradek log dump`: their content, in plain words.

    *.snapshot                    producers of a partition
    leader-epoch-checkpoint       the first offset of each leader epoch; also checked against the batches
    *-offset-checkpoint           an offset for each partition
    odradek-flushed-offsets       how far each log is flushed, with checksums
    partition.metadata, meta.properties, .kafka_cleanshutdown, quorum-state

Role: read each file whole (up to `STATE_MAX_BYTES`), show it, and report deviations from its format. The engine's code
is not used.
"""

from __future__ import annotations

import base64
import json
import struct
from bisect import bisect_right
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from crc32c import crc32c

from odradek.cli.log_dump.report import Report
from odradek.partitions.producer_state import ProducerState
from odradek.records.batch import BatchHeader
from odradek.replay.snapshots import SnapshotDamaged

STATE_MAX_BYTES = 67_108_864
CLEANER_OFFSETS = "cleaner-offset-checkpoint"
_FLUSHED_HEADER = struct.Struct(">8sii")
# Topic id, partition, flushed end, start, first segment, epoch, CRC of the epochs, CRC of the entry.
_FLUSHED = struct.Struct(">16siqqqiII")


class _Odd(ValueError):
    """Raised for a file that does not have its format; the text says why."""


def _read(report: Report, path: Path, what: str) -> bytes:
    size = path.stat().st_size
    report.file(str(path), path.name, what, size)
    if size > STATE_MAX_BYTES:
        raise _Odd(f"a file of {size} bytes is not one")
    return path.read_bytes()


def _lines(data: bytes, fields: int) -> list[list[str]]:
    """The entries of a checkpoint file, which has the version 0, the number of entries, and a line for each."""
    try:
        version, count, *lines = data.decode().splitlines()
        found = [line.split() for line in lines if line]
        expected = int(count)
    except ValueError:
        raise _Odd("it does not begin with a version and a number of lines") from None
    if version.strip() != "0":
        raise _Odd(f"version {version} is unknown")
    if expected != len(found):
        raise _Odd(f"it says that it has {expected} lines, but has {len(found)}")
    for line in found:
        if len(line) != fields or not all(_is_number(one) for one in line[fields - 2 :]):
            raise _Odd(f"the line {' '.join(line)!r} does not have its {fields} fields")
    return found


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isdecimal() and text.isascii()


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise _Odd("it is not text") from None


class EpochCheck:
    """The check of a partition's `leader-epoch-checkpoint` against its whole log."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.epochs: list[tuple[int, int]] = []
        self.problems: list[str] = []
        try:
            size = path.stat().st_size
            if size > STATE_MAX_BYTES:
                raise _Odd(f"a file of {size} bytes is not one")
            self.epochs = [(int(epoch), int(start)) for epoch, start in _lines(path.read_bytes(), 2)]
        except _Odd as error:
            self.problems.append(str(error))
        for (epoch, start), (later, later_start) in pairwise(self.epochs):
            if later <= epoch or later_start < start:
                self.problems.append(f"leader epoch {later} at {later_start} comes after {epoch} at {start}")
        self._starts = [start for _, start in self.epochs]
        self._told: set[int] = set()

    def on_batch(self, position: int, header: BatchHeader) -> None:
        """Compares only batches from the first epoch's start on: Kafka drops epochs that end before the log's start."""
        if not self.epochs or header.leader_epoch < 0 or header.base_offset < self._starts[0]:
            return
        epoch = self.epochs[bisect_right(self._starts, header.base_offset) - 1][0]
        if epoch != header.leader_epoch and header.leader_epoch not in self._told:
            self._told.add(header.leader_epoch)
            self.problems.append(
                f"offset {header.base_offset} would have leader epoch {epoch}, but its batch says {header.leader_epoch}"
            )

    def on_end(self, position: int, end_offset: int, whole: bool) -> None:
        """Accepts epochs that begin at or after the end: the epoch rises at each start, before anything is written."""

    def show(self, report: Report) -> None:
        report.file(str(self.path), self.path.name, "where leader epochs began", self.path.stat().st_size)
        for epoch, start in self.epochs:
            report.item("epoch", {"epoch": epoch, "start_offset": start})
        for problem in self.problems:
            report.damage(None, problem)
        report.total("entries", {"entries": len(self.epochs)})


def producers(report: Report, path: Path, offset: int) -> None:
    """Shows a `.snapshot`."""
    data = _read(report, path, f"what is known of producers, from all before offset {offset}")
    try:
        state = ProducerState.from_snapshot(data)
    except SnapshotDamaged as error:
        raise _Odd(str(error)) from None
    for producer in state.producers.values():
        transaction = producer.current_txn_first_offset
        report.item(
            "producer",
            {
                "producer_id": producer.producer_id,
                "producer_epoch": producer.epoch,
                "coordinator_epoch": producer.coordinator_epoch,
                "last_timestamp": producer.last_timestamp_ms,
                "transaction_first_offset": transaction if transaction >= 0 else None,
                "batches": [
                    {
                        "first_sequence": kept.first_sequence,
                        "last_sequence": kept.last_sequence,
                        "last_offset": kept.last_offset,
                    }
                    for kept in producer.batches
                ],
            },
        )
    report.total("producers", {"producers": len(state.producers), "offset": offset})


def _offsets(report: Report, path: Path) -> None:
    what = {
        "recovery-point-offset-checkpoint": "up to where each log is known to be on disk",
        "replication-offset-checkpoint": "the high watermark of each log",
        "log-start-offset-checkpoint": "where logs begin that do not begin with a segment",
        "cleaner-offset-checkpoint": "up to where each log is compacted",
    }[path.name]
    data = _read(report, path, what)
    found = _lines(data, 3) if data else []
    for topic, partition, offset in found:
        report.item("checkpoint", {"topic": topic, "partition": int(partition), "offset": int(offset)})
    report.total("entries", {"entries": len(found)})


def _flushed_offsets(report: Report, path: Path) -> None:
    data = _read(report, path, "how far each log is flushed, with checksums")
    if not data:
        return
    if len(data) < _FLUSHED_HEADER.size:
        raise _Odd("it is cut short")
    magic, version, size = _FLUSHED_HEADER.unpack_from(data)
    if (magic, version, size) != (b"odrkflsh", 1, _FLUSHED.size):
        raise _Odd("it has another header")
    count = 0
    for position in range(_FLUSHED_HEADER.size, len(data) - _FLUSHED.size + 1, _FLUSHED.size):
        topic_id, partition, end_offset, start_offset, _, _, _, crc = _FLUSHED.unpack_from(data, position)
        entry = data[position : position + _FLUSHED.size - 4]
        if not any(entry):
            continue  # the log was deleted
        if crc32c(entry) != crc:
            report.damage(position, "the checksum (CRC-32C) is not that of the entry")
            continue
        count += 1
        topic = base64.urlsafe_b64encode(topic_id).rstrip(b"=").decode()
        fields = {"topic_id": topic, "partition": partition, "flushed_end": end_offset, "start_offset": start_offset}
        report.item("flushed", fields)
    report.total("entries", {"entries": count})


def _properties(separator: str, what: str, *needed: str) -> Callable[[Report, Path], None]:
    def show(report: Report, path: Path) -> None:
        found = {}
        for line in _text(_read(report, path, what)).splitlines():
            if line.strip() and line.strip()[0] not in "#!":
                name, there, value = line.partition(separator)
                if not there:
                    raise _Odd(f"the line {line!r} is not NAME{separator.strip()}VALUE")
                found[name.strip()] = value.strip()
        for name, value in found.items():
            report.item("property", {"name": name, "value": value})
        for name in needed:
            if name not in found:
                raise _Odd(f"it has no {name}")

    return show


def _json(what: str) -> Callable[[Report, Path], None]:
    def show(report: Report, path: Path) -> None:
        try:
            found = json.loads(_text(_read(report, path, what)) or "{}")
        except ValueError:
            raise _Odd("it is not JSON") from None
        for name, value in found.items() if isinstance(found, dict) else ():
            report.item("property", {"name": name, "value": value})

    return show


def _lock(report: Report, path: Path) -> None:
    _read(report, path, "held by a broker while it runs")


_SHOW: dict[str, Callable[[Report, Path], None]] = {
    "recovery-point-offset-checkpoint": _offsets,
    "replication-offset-checkpoint": _offsets,
    "log-start-offset-checkpoint": _offsets,
    CLEANER_OFFSETS: _offsets,
    "partition.metadata": _properties(": ", "which topic this is", "version", "topic_id"),
    "meta.properties": _properties("=", "whose data directory this is", "version", "cluster.id"),
    ".kafka_cleanshutdown": _json("the last stop was clean"),
    "quorum-state": _json("what is known of the quorum of controllers"),
    ".lock": _lock,
    "odradek-flushed-offsets": _flushed_offsets,
}
LEADER_EPOCHS = "leader-epoch-checkpoint"


def show_state(report: Report, path: Path, offset: int | None = None) -> bool:
    """Shows one of these files; returns False for any other file. `offset` is that of a `.snapshot`. Raises
    `OSError`."""
    try:
        if offset is not None:
            producers(report, path, offset)
        elif path.name in _SHOW:
            _SHOW[path.name](report, path)
        else:
            return False
    except _Odd as error:
        report.damage(None, str(error))
    return True
