"""The leader epochs of one log that have batches, each with the offset at which it begins: `leader-epoch-checkpoint`.

Role: keep the epochs while the log is open; when it is opened, read them and compare them with the log, from whose
batches they can be rebuilt. `flush_state` writes them.

Invariants: entries ascend in both numbers; the first begins at or before the log start offset, the last before the
log's end.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from crc32c import crc32c

from odradek.engines.interface import EpochEnd
from odradek.engines.local import checkpoints
from odradek.engines.local.disk import NO_ROOM, Disk
from odradek.engines.local.indexes import InsaneIndex, floor_position, unpack_entries
from odradek.engines.local.segment import OFFSET_MAX, Damaged, Segment, locate, reader, walk_on
from odradek.records.batch import HEADER_BYTES, BatchHeader, read_header


class LeaderEpochs:
    """See the module."""

    __slots__ = ("entries", "written_crc")

    def __init__(self, entries: list[tuple[int, int]], written_crc: int = 0) -> None:
        self.entries = entries
        """(epoch, start offset) of each epoch."""
        self.written_crc = written_crc
        """The checksum of the checkpoint file on the disk; 0 where it is missing or unreadable."""

    def begin(self, epoch: int, offset: int) -> None:
        """Adds an epoch whose first batch will be at `offset`."""
        entries = self.entries
        while entries and entries[-1][1] >= offset:
            entries.pop()  # this epoch has no batches any more
        entries.append((epoch, offset))

    def newest(self) -> int | None:
        return self.entries[-1][0] if self.entries else None

    def end_of(self, epoch: int, upto: int) -> EpochEnd | None:
        """The largest epoch not above `epoch` and its end, `upto` for the newest; see `PartitionLog.epoch_end`."""
        entries = self.entries
        if not entries or epoch < 0:
            return None
        index = bisect_right(entries, epoch, key=_epoch)
        if index == len(entries):
            return EpochEnd(entries[-1][0], upto)
        return EpochEnd(entries[index - 1][0] if index else epoch, entries[index][1])

    def before(self, offset: int) -> int:
        """The epoch of the last record below `offset`, 0 where none is known."""
        index = bisect_right(self.entries, offset - 1, key=_start)
        return self.entries[index - 1][0] if index else 0

    def clip(self, start_offset: int, end_offset: int) -> None:
        """Drops the epochs that begin at or above `end_offset`, and those that end at or below `start_offset`; the
        first one left then begins at `start_offset`."""
        kept = [
            (epoch, start) for epoch, start in self.entries if start < end_offset or start == end_offset == start_offset
        ]
        while len(kept) > 1 and kept[1][1] <= start_offset:
            del kept[0]
        if kept and kept[0][1] < start_offset:
            kept[0] = (kept[0][0], start_offset)
        self.entries = kept


def _epoch(entry: tuple[int, int]) -> int:
    return entry[0]


def _start(entry: tuple[int, int]) -> int:
    return entry[1]


# --- when the log is opened, in a thread --------------------------------------------------------------------------


def load_epochs(
    disk: Disk,
    folder: str,
    segments: list[Segment],
    end_offset: int,
    found: list[tuple[int, int]],
    expected_crc: int | None,
    compacted: bool,
    notes: list[str],
    damages: list[str],
) -> LeaderEpochs:
    """The leader epochs of a log that is being opened. They are those of the checkpoint, if its checksum is the
    expected one or the log's batches agree with it, and the newer ones that the scan has `found`. Without a usable
    checkpoint they are those of all batches. Epochs that the checkpoint lacks are written to it before this returns:
    the next start may not scan as far back, and would use an epoch twice."""
    epochs: list[tuple[int, int]] = []
    known, crc = 0, 0
    path = f"{folder}/{checkpoints.LEADER_EPOCHS}"
    try:
        data = checkpoints.read_file(disk, path)
        epochs = checkpoints.parse_epochs(data)
        known, crc = len(epochs), crc32c(data)
        if crc != expected_crc and not compacted:
            _check_epochs(disk, segments, end_offset, epochs)
    except (FileNotFoundError, checkpoints.Garbled) as error:
        epochs, known = [], 0
        if any(segment.size for segment in segments):
            notes.append(f"leader epochs made again from the batches: {error}")
            found = []
            for segment in segments:
                for _, header in _batches(disk, segment, end_offset, damages):
                    if not found or header.leader_epoch > found[-1][0]:
                        found.append((header.leader_epoch, header.base_offset))
    for epoch, start in found:
        if epoch >= 0 and (not epochs or (epoch > epochs[-1][0] and start >= epochs[-1][1])):
            epochs.append((epoch, start))
    if len(epochs) > known:
        written = checkpoints.format_epochs(epochs)
        try:
            checkpoints.replace_file(disk, path, written)
            disk.sync_folder(folder)
            crc = crc32c(written)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
    return LeaderEpochs(epochs, crc)


def _batches(
    disk: Disk, segment: Segment, end_offset: int, damages: list[str], position: int = 0
) -> Iterator[tuple[int, BatchHeader]]:
    """The batches of a segment from `position` on, without damaged ones."""
    fd = disk.open(segment.file.path)
    try:
        offsets = range(segment.base_offset, end_offset)
        yield from walk_on(
            reader(disk, fd), position, segment.size, offsets, lambda damage: damages.append(str(damage))
        )
    finally:
        disk.close(fd)


def _check_epochs(disk: Disk, segments: list[Segment], end_offset: int, epochs: list[tuple[int, int]]) -> None:
    """Compares each epoch's start offset with the batch there. Raises `Garbled` where they differ. Not for a compacted
    log: the batch that began an epoch may be gone."""
    bases = [segment.base_offset for segment in segments]
    for number, (epoch, start) in enumerate(epochs):
        offset = max(start, bases[0])
        if offset >= end_offset:
            continue
        later = epochs[number + 1][1] if number + 1 < len(epochs) else end_offset
        if later <= offset:
            continue  # the log has no batches of this epoch any more
        header = _batch_at(disk, segments[bisect_right(bases, offset) - 1], offset)
        if header is None:
            continue
        begins = header.base_offset == start or start <= bases[0] or number == 0
        if header.leader_epoch != epoch or not begins:
            raise checkpoints.Garbled(f"epoch {epoch} is said to begin at offset {start}, and the log says otherwise")


def _batch_at(disk: Disk, segment: Segment, offset: int) -> BatchHeader | None:
    """The header of the batch that contains `offset`, None where it cannot be found."""
    try:
        index = checkpoints.read_file(disk, segment.index.path)
        floor = floor_position(unpack_entries(index, segment.size), offset - segment.base_offset)
        position = floor[1] if floor is not None else 0
    except (InsaneIndex, FileNotFoundError):
        position = 0
    fd = disk.open(segment.file.path)
    try:
        read = reader(disk, fd)
        place = locate(read, segment.size, position, offset, OFFSET_MAX)
        return read_header(read(HEADER_BYTES, place.position)) if place.size else None
    except Damaged:
        return None
    finally:
        disk.close(fd)
