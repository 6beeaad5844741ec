"""What an interrupted deletion or compaction left in a log's folder is removed or completed before the log is opened.

Role: decide by the files' names, as Kafka does. Blocks, and runs in a thread. What the remaining segments hold is
`recovery`'s business.
"""

from __future__ import annotations

from odradek.engines.local.checkpoints import TEMPORARY, remove_if_there
from odradek.engines.local.disk import Disk
from odradek.engines.local.segment import CLEANED, DELETED, LOG, OFFSET_MAX, SEGMENT_SUFFIXES, SWAP, reader, walk


def remove_leftovers(disk: Disk, folder: str, names: set[str], notes: list[str]) -> set[str]:
    """Finishes what was interrupted; returns the names that are left.

    Compaction writes `.cleaned` files, syncs them, renames them to `.swap` (now the new segment is complete),
    renames the old ones to `.deleted`, and the `.swap` ones to their last names. So: `.cleaned` files are incomplete
    and go, and with them the `.swap` files from the same offset on, whose group is not complete; other `.swap` files
    replace what they cover. Kafka decides alike."""
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
