"""Removes or completes what an interrupted deletion or compaction left in a log's folder, before the log is opened.

Role: decide by the files' names, as Kafka does. Blocks, and runs in a thread. `recovery` reads the segments that
remain.
"""

from __future__ import annotations

from odradek.engines.local.checkpoints import TEMPORARY, remove_if_there
from odradek.engines.local.disk import Disk
from odradek.engines.local.segment import CLEANED, DELETED, LOG, OFFSET_MAX, SEGMENT_SUFFIXES, SWAP, reader, walk


def remove_leftovers(disk: Disk, folder: str, names: set[str], notes: list[str]) -> set[str]:
    """Finishes an interrupted deletion or compaction; returns the file names that are left.

    Kafka's compaction writes `.cleaned` files, syncs them, renames them to `.swap` (now the new segment is complete),
    renames the old files to `.deleted`, and the `.swap` files to their final names. So `.cleaned` files are incomplete
    and are removed, as are the `.swap` files from the same offset on, whose group is not complete. Other `.swap` files
    replace the segments whose offsets they cover. Kafka does the same."""
    unfinished = OFFSET_MAX
    for name in sorted(names):
        if name.endswith((DELETED, CLEANED, TEMPORARY)):
            if name.endswith(CLEANED) and name[:20].isdigit():
                unfinished = min(unfinished, int(name[:20]))
            remove_if_there(disk, f"{folder}/{name}")
            names.discard(name)
    for name in sorted(names):
        if name.endswith(LOG + SWAP) and name[:20].isdigit() and int(name[:20]) < unfinished:
            _complete_swap(disk, folder, names, int(name[:20]))
            notes.append(f"completed the replacement of segments from {int(name[:20])}")
    for name in sorted(names):
        if name.endswith(SWAP):
            remove_if_there(disk, f"{folder}/{name}")
            names.discard(name)
    return names


def _complete_swap(disk: Disk, folder: str, names: set[str], base_offset: int) -> None:
    path = f"{folder}/{base_offset:020d}"
    fd = disk.open(path + LOG + SWAP)
    try:
        end_offset = base_offset
        for _, header in walk(reader(disk, fd), 0, disk.size(path + LOG + SWAP), range(base_offset, OFFSET_MAX)):
            end_offset = header.next_offset
    finally:
        disk.close(fd)
    for name in sorted(names):
        stem, dot, suffix = name.partition(".")
        if (
            dot + suffix in SEGMENT_SUFFIXES
            and stem.isdigit()
            and base_offset <= int(stem) < max(end_offset, base_offset + 1)
        ):
            disk.remove(f"{folder}/{name}")
            names.discard(name)
    for suffix in SEGMENT_SUFFIXES:
        name = f"{base_offset:020d}{suffix}"
        if name + SWAP in names:
            disk.rename(f"{folder}/{name}{SWAP}", f"{folder}/{name}")
            names.discard(name + SWAP)
            names.add(name)
    disk.sync_folder(folder)
