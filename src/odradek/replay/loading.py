"""Loads a state from a log: the newest sound snapshot, then the batches after it, skipping damaged ones."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor

from odradek.engines.interface import PartitionLog
from odradek.replay.batches import DamageCounters, PassOver, Replay, Take, nothing
from odradek.replay.snapshots import newest_sound


async def load(
    opened: PartitionLog,
    kind: str,
    executor: Executor,
    counters: DamageCounters,
    read_bytes: int,
    restore: Callable[[int, bytes], None],
    take: Take,
    pass_over: PassOver = nothing,
    oldest: int = 0,
) -> int:
    """Calls `restore` with the newest sound snapshot of `kind` at offset `oldest` or above, then `take` with every
    batch after it up to the log's present end; both run in `executor`. `restore` must raise `SnapshotDamaged` before it
    changes the state. Returns the snapshot's offset, -1 without one. Raises `LogFailure`, `OffsetOutOfRange`,
    `OSError`."""
    found = await newest_sound(opened, kind, opened.durable_end, restore, oldest, executor)
    snapshot_offset = found[0] if found is not None else -1
    offset = max(opened.start_offset, snapshot_offset)
    replay = Replay(opened, kind, executor, counters, read_bytes, take, pass_over)
    # Batches may be appended during this loop; it ends when it has reached the log's end.
    while offset < opened.end_offset:
        end = opened.durable_end
        if offset >= end:
            await opened.flush()
            continue
        await replay.run(offset, end)
        offset = end
    return snapshot_offset
