"""What follows the failure of a partition's log: it is opened again, for as long as that takes; and what is made of the
log at every opening, the state of its producers.

Role: the loop with its delays, and the loading. What is taken back while the log is closed, and what is said of it, is
the partition's business.

Invariants: nothing of an earlier opening is used in a later one: the state of producers is the newest sound snapshot
and the batches behind it, whatever was known before. Only the partition's deletion ends the trying.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from odradek.clock import Scheduler
from odradek.engines.interface import LogFailure, LogIdentity, PartitionLog, StorageError
from odradek.logs import get_logger
from odradek.partitions.counters import PartitionsCounters
from odradek.partitions.producer_state import ProducerState, mended_snapshot
from odradek.replay.delays import delays
from odradek.replay.loading import load
from odradek.replay.snapshots import SnapshotDamaged

log = get_logger("odradek.partition")

# Read at a time where producer state is made from a log's batches.
REPLAY_BYTES = 1_048_576


async def reopen(
    identity: LogIdentity,
    scheduler: Scheduler,
    failed: PartitionLog | None,
    open_log: Callable[[], Awaitable[None]],
    deletion: asyncio.Event,
) -> bool:
    """Closes the opening that has failed, if there is one, and calls `open_log` until it succeeds; False where the
    partition is deleted before."""
    for delay_s in delays():
        if deletion.is_set():
            break
        try:
            if failed is not None:
                await failed.close()
            await open_log()
            return True
        except (LogFailure, StorageError, OSError) as failure:
            log.error("log still offline", partition=str(identity), why=str(failure), retry_s=delay_s)
            deleted = asyncio.ensure_future(deletion.wait())
            try:
                await scheduler.wait(deleted, delay_s)
            finally:
                deleted.cancel()
    return False


async def load_producers(
    opened: PartitionLog, scheduler: Scheduler, counters: PartitionsCounters
) -> tuple[ProducerState, int]:
    """The state of a log's producers, and the offset of the snapshot that it was made from, -1 without one. Raises
    `LogFailure`."""
    producers, now_ms = ProducerState(), scheduler.clock.now_ms()

    def restore(offset: int, data: bytes) -> None:
        nonlocal producers
        try:
            producers = ProducerState.from_snapshot(data)
        except SnapshotDamaged as damage:
            # Where the records have been deleted, nothing else knows their producers.
            whole = mended_snapshot(data)
            if whole is None:
                raise
            log.warning(
                "one bit of a producer snapshot has flipped, and is turned back",
                partition=str(opened.identity),
                offset=offset,
                why=str(damage),
            )
            producers = ProducerState.from_snapshot(whole)
        if not producers.knows_aborted:
            start = max(opened.start_offset, offset)
            producers.transactions.aborted = [one for one in opened.read_aborted() if one.last_offset < start]

    snapshot_offset = await load(
        opened,
        "producer",
        scheduler.executor,
        counters,
        REPLAY_BYTES,
        restore,
        lambda header, batch: producers.replay(header, batch, now_ms),
        lambda header: producers.replay_damaged(header, now_ms),
    )
    return producers, snapshot_offset
