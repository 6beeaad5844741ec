"""Segments in `odradek log dump`: walks through the batches of a file and checks them.

Role: walk a file of record batches (a segment, or a snapshot of metadata or groups), report each batch and, if wanted,
its records, and pass each header to the checks of the indexes beside the file.

The checks: length and magic; the CRC; offsets and leader epochs rise, within a segment and to the next one; no offset
is missing (unless the log is compacted); no batch begins before the offset in the segment's name. If records are shown,
the inside of each batch is checked too. A batch with a wrong CRC is reported and skipped. After an impossible length or
magic the next batch cannot be found, so the walk ends.

Memory holds one batch, decompressed only for its records. Batches above `BATCH_MAX_BYTES` are only checked.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from crc32c import crc32c

from odradek.cli.log_dump.indexes import Check
from odradek.cli.log_dump.records import Decoder, Unreadable, control_record
from odradek.cli.log_dump.report import Report, counted, span
from odradek.cli.record_format import codec_name, timestamp_type
from odradek.cli.record_lines import put_text, record_fields
from odradek.records.batch import (
    DELETE_HORIZON_BIT,
    HEADER_BYTES,
    KNOWN_ATTRIBUTES,
    LENGTH_OVERHEAD,
    PREFIX_BYTES,
    BatchHeader,
    InvalidBatch,
    read_header,
)
from odradek.records.iteration import Record, iterate

BATCH_MAX_BYTES = 268_435_456
_PIECE_BYTES = 1_048_576
_CRC_START = 21
_FOOTER = "SNAPSHOT_FOOTER"


class RecordPosition(NamedTuple):
    """The offset and leader epoch that the next segment must not be below; -1 before the first segment of a log."""

    next_offset: int = -1
    leader_epoch: int = -1


class WantedPart(NamedTuple):
    """The part of a file that is shown: with or without records, and the range of offsets. All of it is checked."""

    records: bool = False
    from_offset: int = 0
    to_offset: int = 2**63 - 1

    def has(self, header: BatchHeader) -> bool:
        return header.last_offset >= self.from_offset and header.base_offset < self.to_offset


class SegmentWalk:
    """One walk through one file. Without a `report`, batches are only passed to the checks."""

    def __init__(
        self,
        path: Path,
        base_offset: int,
        what: str,
        report: Report | None,
        *,
        decode: Decoder | None = None,
        checks: Sequence[Check] = (),
        wanted: WantedPart | None = None,
        is_snapshot: bool = False,
        is_compacted: bool = False,
    ) -> None:
        """`is_compacted` says that offsets may be missing."""
        self.path = path
        self.base_offset = base_offset
        self.what = what
        self._report = report
        self._decode = decode
        self._checks = checks
        self._wanted = wanted or WantedPart()
        self._is_snapshot = is_snapshot
        self._is_compacted = is_compacted
        self._last_control = ""
        self._position = 0
        self._size = 0
        self._totals: dict[str, Any] = {"batches": 0, "records": 0, "bytes": 0}
        self._codecs: set[int] = set()

    def walk(self, place: RecordPosition) -> RecordPosition:
        """Walks through the whole file; returns where the next segment must go on. Raises `OSError`."""
        with open(self.path, "rb", buffering=_PIECE_BYTES) as file:
            self._size = os.fstat(file.fileno()).st_size
            if self._report is not None:
                self._report.file(str(self.path), self.path.name, self.what, self._size)
            if not self._is_snapshot and self.base_offset < place.next_offset:
                self._damage(0, f"the segment begins at {self.base_offset}, but the one before ends at {place[0] - 1}")
            elif not self._is_snapshot and place.next_offset >= 0:
                self._check_gap(place.next_offset, self.base_offset, "between this segment and the one before")
            place = RecordPosition(max(place.next_offset, self.base_offset), place.leader_epoch)
            whole = True
            while self._position < self._size:
                header = self._header(file)
                if header is None:
                    whole = False
                    break
                place = self._batch(file, header, place)
                self._position += header.size
        for check in self._checks:
            check.on_end(self._position, place.next_offset, whole)
        if self._is_snapshot and whole and self._last_control != _FOOTER:
            self._damage(self._position, "the snapshot has no footer: its end is missing")
        if self._report is not None:
            self._totals["compression"] = [codec_name(codec) for codec in sorted(self._codecs)]
            self._report.total("segment", self._totals)
        return place

    def _damage(self, position: int, text: str) -> None:
        if self._report is not None:
            self._report.damage(position, text)

    def _header(self, file: BinaryIO) -> BatchHeader | None:
        """The header of the next batch; None if no whole batch follows, which is then reported."""
        left = self._size - self._position
        head = file.read(min(HEADER_BYTES, left))
        if not any(head) and self._is_zero_to_the_end(file):
            self._damage(self._position, f"{left} bytes of zeros to the end: room made in advance, or a torn end")
            return None
        if len(head) > PREFIX_BYTES and head[PREFIX_BYTES] != 2:
            magic = head[PREFIX_BYTES]
            if magic in (0, 1) and self._report is not None:
                self._report.note(
                    f"from byte {self._position} on: messages of magic {magic}, from before Kafka 0.11; not read here"
                )
            elif magic not in (0, 1):
                self._damage(self._position, f"no batch begins here (magic {magic}); {left} bytes cannot be read")
            return None
        if len(head) < HEADER_BYTES:
            self._damage(self._position, f"the last batch is cut short: {len(head)} bytes of its header are here")
            return None
        header = read_header(head)
        if header.size < HEADER_BYTES:
            self._damage(
                self._position,
                f"no batch has a length of {header.size} bytes; the {left} bytes from here on cannot be read",
            )
            return None
        if header.size > left:
            self._damage(self._position, f"the last batch is cut short: {left} of its {header.size} bytes are here")
            return None
        file.seek(self._position)
        return header

    def _is_zero_to_the_end(self, file: BinaryIO) -> bool:
        while piece := file.read(_PIECE_BYTES):
            if any(piece):
                return False
        return True

    def _batch(self, file: BinaryIO, header: BatchHeader, place: RecordPosition) -> RecordPosition:
        data = b""
        if header.size <= BATCH_MAX_BYTES:
            data = file.read(header.size)
            crc = crc32c(memoryview(data)[_CRC_START:])
        else:
            crc = _checksum(file, header.size)
        good = crc == header.crc
        report = self._report
        shown = report is not None and report.details and self._wanted.has(header)
        if report is not None and shown:
            report.item("batch", batch_fields(header, self._position, good))
        for check in self._checks:
            check.on_batch(self._position, header)
        place = self._check_batch(header, place, good)
        self._count(header)
        if report is not None and good and (self._wanted.records or self._is_snapshot):
            if data:
                self._records(report, header, data, shown and self._wanted.records)
            else:
                report.note(f"the batch at byte {self._position} is too large to show its records: {header.size} bytes")
        return place

    def _check_batch(self, header: BatchHeader, place: RecordPosition, good: bool) -> RecordPosition:
        if not good:
            self._damage(self._position, "the checksum (CRC-32C) is not that of the batch")
        elif header.codec > 4 or header.attributes & ~KNOWN_ATTRIBUTES & 0xFFFF:
            self._damage(self._position, f"attributes {header.attributes & 0xFFFF:#x} are unknown")
        if header.last_offset_delta < 0 or header.record_count < 0:
            self._damage(
                self._position,
                f"{counted(header.record_count, 'record')} with a last offset delta of {header.last_offset_delta}",
            )
            return place
        if self._is_snapshot:
            return place
        if header.base_offset < place.next_offset:
            before = "what is before it ends" if self._totals["batches"] else "the segment begins"
            at = place.next_offset - 1 if self._totals["batches"] else self.base_offset
            self._damage(self._position, f"the batch begins at offset {header.base_offset}, but {before} at {at}")
        else:
            self._check_gap(place.next_offset, header.base_offset, "before this batch")
        if 0 <= header.leader_epoch < place.leader_epoch:
            self._damage(
                self._position, f"leader epoch {header.leader_epoch} comes after leader epoch {place.leader_epoch}"
            )
        return RecordPosition(max(place.next_offset, header.next_offset), max(place.leader_epoch, header.leader_epoch))

    def _check_gap(self, expected: int, found: int, where: str) -> None:
        if found > expected and not self._is_compacted:
            self._damage(self._position, f"offsets {span(expected, found - 1)} are missing {where}")

    def _count(self, header: BatchHeader) -> None:
        totals = self._totals
        first, epoch = header.base_timestamp, header.leader_epoch
        if not totals["batches"]:
            has_horizon = header.attributes & DELETE_HORIZON_BIT
            totals |= {
                "first_offset": header.base_offset,
                "first_timestamp": None if has_horizon or first < 0 else first,
                "max_timestamp": header.max_timestamp,
                "leader_epochs": [epoch, epoch],
            }
        totals["batches"] += 1
        totals["records"] += header.record_count
        totals["bytes"] += header.size
        totals["last_offset"] = header.last_offset
        totals["max_timestamp"] = max(totals["max_timestamp"], header.max_timestamp)
        totals["leader_epochs"] = [min(totals["leader_epochs"][0], epoch), max(totals["leader_epochs"][1], epoch)]
        self._codecs.add(header.codec)

    def _records(self, report: Report, header: BatchHeader, data: bytes, shown: bool) -> None:
        try:
            for record in iterate(header, data):
                wanted = shown and self._wanted.from_offset <= record.offset < self._wanted.to_offset
                if wanted or header.is_control:
                    fields = self._record(header, record)
                    if wanted:
                        report.item("record", fields)
        except InvalidBatch as error:
            self._damage(self._position, f"the batch's inside: {error}")

    def _record(self, header: BatchHeader, record: Record) -> dict[str, Any]:
        fields: dict[str, Any] = {"offset": record.offset, "timestamp": record.timestamp}
        decode = control_record if header.is_control else self._decode
        if decode is not None:
            try:
                decoded = decode(record)
            except Unreadable as error:
                fields["problem"] = str(error)
            else:
                if header.is_control:
                    self._last_control = decoded.fields["type"]
                return {**fields, "decoded": decoded.fields, "words": decoded.words}
        return {**fields, **record_fields(put_text, record)}


def _checksum(file: BinaryIO, size: int) -> int:
    """The CRC-32C of a batch too large for memory, read in pieces up to the batch's end."""
    file.seek(_CRC_START, os.SEEK_CUR)
    crc, left = 0, size - _CRC_START
    while left and (piece := file.read(min(_PIECE_BYTES, left))):
        crc = crc32c(piece, crc)
        left -= len(piece)
    return crc


def batch_fields(header: BatchHeader, position: int, good: bool) -> dict[str, Any]:
    """All fields of a batch's header, with the meaning of its attributes."""
    has_producer, has_sequence = header.has_producer_id, header.base_sequence >= 0
    return {
        "position": position,
        "bytes": header.batch_length + LENGTH_OVERHEAD,
        "base_offset": header.base_offset,
        "last_offset": header.last_offset,
        "count": header.record_count,
        "leader_epoch": header.leader_epoch,
        "magic": header.magic,
        "crc": header.crc,
        "crc_good": good,
        "attributes": header.attributes,
        "compression": codec_name(header.codec),
        "timestamp_type": timestamp_type(header),
        "base_timestamp": header.base_timestamp,
        "max_timestamp": header.max_timestamp,
        "producer_id": header.producer_id if has_producer else None,
        "producer_epoch": header.producer_epoch if has_producer else None,
        "base_sequence": header.base_sequence if has_sequence else None,
        "last_sequence": header.last_sequence if has_sequence else None,
        "transactional": header.is_transactional,
        "control": header.is_control,
        "delete_horizon": header.base_timestamp if header.attributes & DELETE_HORIZON_BIT else None,
    }
