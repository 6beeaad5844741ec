"""Loads a log from its folder when it is opened, after a clean stop, a crash, or a failure.

Role: remove leftovers (`leftovers`), find the segments, and apply a cut (`cut`); then read the batches that cannot be
trusted, check them, truncate the log where they are bad, and report damage. The leader epochs are compared with those
of the batches read (`leader_epochs`). Everything here blocks and runs in a thread.

What is trusted:
- After a clean stop, everything: only the files' sizes, and the batches from the last index entry on, are read.
- After a crash, everything below the recovery point, because a flush had returned. From there on the file is synced,
  then dropped from the page cache (which need not hold what the disk holds), and every batch is read back and its CRC
  checked. The log is truncated before the first bad batch, or where a segment ends before the next one begins (in a
  compacted log that is no sign of a loss); later segments are removed.
- After a failed flush, everything below the end of the last good flush. The rest is truncated without being read.
- After a failed write or roll, everything written before it, which is treated as after a crash. If it cannot be
  flushed, the log is treated as after a failed flush.
- Flushed batches that are damaged all the same are not truncated: a flipped bit must not cost the batches after it. The
  damage is reported, and the scan goes on with the next sound batch. A read of the damaged batch fails, or the
  consumer's CRC check does.
- Indexes are never trusted: entries must be in order and point to batches, else they are rebuilt from the log.
- A number in a text checkpoint is trusted only if the log, or the checksummed slot in `flushed_offsets`, agrees with
  it: nothing is deleted and no end is moved because of such a number alone.

Corruption below the recovery point is not searched for: a read of the batch finds it.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

from odradek.engines.local import checkpoints
from odradek.engines.local.checkpoints import remove_if_there
from odradek.engines.local.cut import Cut, cut_off, sync_segment
from odradek.engines.local.disk import Disk
from odradek.engines.local.indexes import (
    ENTRY_BYTES,
    TIME_ENTRY_BYTES,
    InsaneIndex,
    floor_position,
    no_entries,
    unpack_entries,
    unpack_time_entries,
    write_tail,
)
from odradek.engines.local.leader_epochs import LeaderEpochs, load_epochs
from odradek.engines.local.leftovers import remove_leftovers
from odradek.engines.local.segment import (
    INDEX,
    INT_MAX,
    LOG,
    OFFSET_MAX,
    SEGMENT_SUFFIXES,
    TIME_INDEX,
    Damaged,
    Read,
    Scanned,
    Segment,
    locate,
    position_behind,
    reader,
    scan,
)
from odradek.engines.local.segments import make_segment, remove_segments
from odradek.engines.local.snapshots import SnapshotName, load_snapshots
from odradek.records.batch import HEADER_BYTES, read_header

NOTHING = OFFSET_MAX


@dataclass(slots=True)
class Loaded:
    """A log as loaded from its folder."""

    segments: list[Segment]
    start_offset: int
    end_offset: int
    epochs: LeaderEpochs
    highest_epoch: int
    """The highest leader epoch that was ever used, -1 for none."""
    snapshots: list[SnapshotName]
    roll: bool = False
    """Whether the next append must go into a new segment."""
    notes: list[str] = field(default_factory=list)
    """Warnings for the broker's own log."""
    damages: list[str] = field(default_factory=list)
    """Errors for the broker's own log: which flushed data is damaged or missing."""


def load_log(
    disk: Disk,
    folder: str,
    *,
    recovery_point: int,
    flushed_end: int,
    start_offset: int,
    is_vouched: bool,
    epochs_crc: int | None,
    cut: Cut | None,
    interval: int,
    compacted: bool,
    now_ms: int,
) -> Loaded:
    """Loads the log in `folder`, which exists. `recovery_point` is `NOTHING` after a clean stop. All records below
    `flushed_end` were on the disk. With `is_vouched`, `flushed_end` and `start_offset` are certain; else they come from
    a text file. `epochs_crc` is the checksum of the leader epoch checkpoint, where it is known. Raises `OSError`."""
    notes: list[str] = []
    damages: list[str] = []
    names = remove_leftovers(disk, folder, set(disk.list_folder(folder)), notes)
    bases = sorted(int(name[: -len(LOG)]) for name in names if _is_segment_name(name, LOG))
    for name in names:
        stem, dot, suffix = name.partition(".")
        if dot + suffix in SEGMENT_SUFFIXES and stem.isdigit() and int(stem) not in bases:
            disk.remove(f"{folder}/{name}")
    segments = [Segment(folder, base, now_ms) for base in bases]
    if recovery_point != NOTHING or cut is not None:
        disk.sync_folder(folder)  # files may have been created and renamed in the page cache only
    roll = False
    if cut is not None:
        roll = cut_off(disk, folder, segments, cut)
    if not segments:
        segments.append(make_segment(disk, folder, start_offset, now_ms))
    whole_from = NOTHING if cut is not None and cut.is_flushed else recovery_point
    end_offset, found_epochs, is_rotten = _load_segments(
        disk, folder, segments, names, whole_from, flushed_end, is_vouched, cut, interval, compacted, notes, damages
    )
    roll = roll or is_rotten
    if start_offset > end_offset and not is_vouched:
        notes.append(f"{checkpoints.LOG_STARTS} says {start_offset}, but the log ends at {end_offset}: not believed")
        start_offset = 0
    if start_offset > end_offset:
        # The disk has lost records, but all of them had been deleted by moving the log start offset.
        notes.append(f"the log ended at {end_offset}, before its start {start_offset}: it is empty now")
        remove_segments(disk, segments)
        segments[:] = [make_segment(disk, folder, start_offset, now_ms)]
        end_offset = start_offset
    start_offset = max(start_offset, segments[0].base_offset)
    epochs = load_epochs(disk, folder, segments, end_offset, found_epochs, epochs_crc, compacted, notes, damages)
    highest_epoch = epochs.newest()
    epochs.clip(start_offset, end_offset)
    return Loaded(
        segments=segments,
        start_offset=start_offset,
        end_offset=end_offset,
        epochs=epochs,
        highest_epoch=-1 if highest_epoch is None else highest_epoch,
        snapshots=load_snapshots(disk, folder, names, end_offset),
        roll=roll,
        notes=notes,
        damages=damages,
    )


def _is_segment_name(name: str, suffix: str) -> bool:
    return name.endswith(suffix) and len(name) == 20 + len(suffix) and name[:20].isdigit()


# --- segments -----------------------------------------------------------------------------------------------------


def _load_segments(
    disk: Disk,
    folder: str,
    segments: list[Segment],
    names: set[str],
    recovery_point: int,
    flushed_end: int,
    is_vouched: bool,
    cut: Cut | None,
    interval: int,
    compacted: bool,
    notes: list[str],
    damages: list[str],
) -> tuple[int, list[tuple[int, int]], bool]:
    """Fills in the segments, and truncates the log before the first bad batch. Where that batch was flushed, the disk
    has damaged it since: the log is not truncated there. Returns the end offset, the leader epochs found, and whether
    flushed data is missing at the log's end."""
    epochs: list[tuple[int, int]] = []
    is_rotten = False
    end_offset = segments[0].base_offset
    for number, segment in enumerate(segments):
        is_last = number == len(segments) - 1
        segment_end = NOTHING if is_last else segments[number + 1].base_offset
        size = disk.size(segment.file.path)
        stem = segment.stem.rpartition("/")[2]
        has_indexes = stem + INDEX in names and stem + TIME_INDEX in names
        if (
            not is_last
            and segment_end < recovery_point  # not <=: the truncation after a failed write may not be flushed
            and (size == 0 or (has_indexes and _open_indexes(disk, segment)))
        ):
            if size == 0:
                damages.append(
                    f"{segment.file.path} is empty: offsets {segment.base_offset} to {segment_end - 1} are lost"
                )
            segment.size = size
            segment.times_known = size == 0
            end_offset = segment_end
            continue
        from_offset = recovery_point if has_indexes else -1
        torn, next_offset, found = _recover(
            disk, segment, segment_end, size, from_offset, recovery_point, flushed_end, interval, compacted, damages
        )
        epochs += found
        end_offset = next_offset
        if is_last and next_offset < flushed_end and torn is None and not is_vouched:
            notes.append(
                f"{checkpoints.RECOVERY_POINTS} says {flushed_end}, but {segment.file.path} ends at offset "
                f"{next_offset}: not believed"
            )
        elif is_last and next_offset < flushed_end:
            damages.append(
                f"{segment.file.path} ends at byte {segment.size}, offset {next_offset} "
                f"({torn or 'the file ends there'}), but was flushed up to offset {flushed_end}: the rest is lost"
            )
            # Consumers may have read these offsets, so no other records get them. The file is not truncated.
            segment.size, end_offset, is_rotten = size, flushed_end, True
            break
        if torn is not None and next_offset < min(segment_end, flushed_end):
            damages.append(
                f"{segment.file.path} is damaged from byte {segment.size}, offset {next_offset}, to its end ({torn}): "
                "what was there cannot be found"
            )
            segment.size, end_offset = size, segment_end
            torn = None
        if torn is not None and next_offset == segment_end:
            notes.append(f"cut {size - segment.size} bytes between offsets {next_offset - 1} and {next_offset}: {torn}")
            torn = None  # the bytes were left by a failed write: nothing is missing
        if torn is None and not compacted and end_offset < segment_end and recovery_point < segment_end != NOTHING:
            torn = f"the next segment begins at {segment_end}"
        if torn is not None:
            lost = size - segment.size + sum(disk.size(later.file.path) for later in segments[number + 1 :])
            notes.append(f"cut {lost} bytes from offset {next_offset} on: {torn}")
            remove_segments(disk, segments[number + 1 :])
            del segments[number + 1 :]
            disk.sync_folder(folder)
            break
        if not is_last:
            _complete_indexes(disk, segment)
            end_offset = segment_end
    if cut is not None and cut.is_flushed and len(segments) and end_offset < cut.offset:
        raise Damaged(f"the log ends at {end_offset}, but was flushed up to {cut.offset}")
    return end_offset, epochs, is_rotten


def _complete_indexes(disk: Disk, segment: Segment) -> None:
    """Writes all index entries of a segment that is not the last one. An index that cannot be written is removed: the
    log can be read without it, and the next start tries again."""
    segment.finish_times()
    for index in (segment.index, segment.times):
        tail = index.tail()
        try:
            write_tail(disk, index.path, tail, sync=True)
        except OSError:
            remove_if_there(disk, index.path)
        else:
            index.note_written(tail.written)


def _open_indexes(disk: Disk, segment: Segment) -> bool:
    """Counts the entries in a complete segment's index files; False where the indexes must be rebuilt."""
    index_bytes, time_bytes = disk.size(segment.index.path), disk.size(segment.times.path)
    if index_bytes % ENTRY_BYTES or time_bytes % TIME_ENTRY_BYTES:
        return False
    segment.index.written = segment.index.count = index_bytes // ENTRY_BYTES
    segment.index.entries = no_entries(segment.index.count)
    segment.times.written = segment.times.count = time_bytes // TIME_ENTRY_BYTES
    return True


def _recover(
    disk: Disk,
    segment: Segment,
    segment_end: int,
    size: int,
    from_offset: int,
    recovery_point: int,
    flushed_end: int,
    interval: int,
    compacted: bool,
    damages: list[str],
) -> tuple[str | None, int, list[tuple[int, int]]]:
    """Reads a segment's batches from the last index entry at or below `from_offset` to its end, or to the next
    segment's base offset (`segment_end`), and checks CRCs from `recovery_point` on. Damaged flushed data with a sound
    batch after it is skipped. Bytes after the last good batch are truncated, unless they were flushed. Returns (why the
    scan ended early or None, next offset, leader epochs)."""
    is_clean = recovery_point == NOTHING
    fd = disk.open(segment.file.path)
    try:
        if not is_clean:
            sync_segment(disk, fd)
        read = reader(disk, fd)
        _trim_indexes(disk, segment, size, from_offset, read, keep_times=is_clean)
        if not is_clean:
            disk.drop_cache(fd, segment.size)
        next_offset = segment.base_offset
        if segment.size:
            next_offset = read_header(read(HEADER_BYTES, segment.size), 0).base_offset
            segment.rolling_timestamp = read_header(read(HEADER_BYTES, 0), 0).least_max_timestamp

        def scan_on(next_offset: int) -> Scanned:
            return scan(read, segment, size, interval, next_offset, recovery_point, flushed_end, segment_end, compacted)

        scanned = scan_on(next_offset)
        epochs = scanned.epochs
        while scanned.torn is not None and scanned.next_offset < min(segment_end, flushed_end):
            is_doubtful = scanned.missing >= 0
            first = scanned.missing if is_doubtful else scanned.next_offset
            damage = Damaged(scanned.torn, segment.size, scanned.last_position, is_doubtful)
            behind = position_behind(read, damage, size, range(first, segment_end))
            if behind < 0:
                break
            next_offset = read_header(read(HEADER_BYTES, behind), 0).base_offset
            damages.append(
                f"{segment.file.path} is damaged before byte {behind} ({scanned.torn}): of what was flushed, offsets "
                f"{first} to {next_offset - 1} cannot be served"
            )
            segment.pass_over(behind)
            scanned = scan_on(next_offset)
            epochs += scanned.epochs
        segment.times_known = True
        if scanned.torn is not None and scanned.next_offset >= min(segment_end, flushed_end):
            disk.truncate(fd, segment.size)
        if not is_clean or scanned.torn is not None:
            sync_segment(disk, fd)
    finally:
        disk.close(fd)
    return scanned.torn, scanned.next_offset, epochs


def _trim_indexes(disk: Disk, segment: Segment, size: int, from_offset: int, read: Read, *, keep_times: bool) -> None:
    """Keeps the valid index entries up to `from_offset`, and sets the segment's `size` to the position of the last
    entry kept; the scan adds the entries after it."""
    base_offset = segment.base_offset
    try:
        index_data = checkpoints.read_file(disk, segment.index.path)
        time_data = checkpoints.read_file(disk, segment.times.path)
        entries = unpack_entries(index_data, size)
        times = unpack_time_entries(time_data)
        floor = floor_position(entries, max(-1, min(from_offset - base_offset, INT_MAX)))
        assert floor is not None
        last, position = floor
        if last >= 0:
            locate(read, size, position, base_offset + last, NOTHING, expected_last=base_offset + last)
    except (InsaneIndex, Damaged, FileNotFoundError):
        index_data = time_data = bytearray(1)  # a length that never matches, so that both files are truncated below
        entries, times, last, position = no_entries(), [], -1, 0
    count = bisect_right(entries.offsets, last)
    if not keep_times:
        times = [(timestamp, offset) for timestamp, offset in times if offset <= last]
    if len(index_data) != count * ENTRY_BYTES:
        _resize(disk, segment.index.path, count * ENTRY_BYTES)
    if len(time_data) != len(times) * TIME_ENTRY_BYTES:
        _resize(disk, segment.times.path, len(times) * TIME_ENTRY_BYTES)
    segment.index.written = segment.index.count = count
    segment.index.entries = no_entries(count)
    segment.times.written = segment.times.count = len(times)
    if times:
        segment.max_timestamp = segment.times.last_timestamp = times[-1][0]
        segment.max_timestamp_offset = base_offset + times[-1][1]
    segment.size = position


def _resize(disk: Disk, path: str, size: int) -> None:
    """Truncates an index file; a missing one is created by its next write."""
    try:
        fd = disk.open(path)
    except FileNotFoundError:
        return
    try:
        disk.truncate(fd, size)
    finally:
        disk.close(fd)
