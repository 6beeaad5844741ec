"""What follows the failure of a partition's log: it is opened again, for as long as that takes; and what is made of the
log at every opening, the state of its producers.

Role: the loop with its delays, and the loading. What is taken back while the log is closed, and what is said of it, is
the partition's business.

Invariants: nothing of an earlier opening is used in a later one: the state of producers is the newest sound snapshot
and the batches behind it, whatever was known before. Only the partition's deletion ends the trying.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor

from odradek.clock import Clock
from odradek.engines.interface import LogFailure, LogIdentity, PartitionLog, StorageError
from odradek.logs import get_logger
from odradek.partitions.counters import PartitionsCounters
from odradek.partitions.producer_state import ProducerState, SnapshotDamaged
from odradek.partitions.replay import Replay

log = get_logger("odradek.partition")

# A log that failed is opened again after this long, doubled each time up to the maximum, for as long as it takes.
REOPEN_FIRST_DELAY_S = 0.05
REOPEN_MAX_DELAY_S = 10.0
# Read at a time where producer state is made from a log's batches.
REPLAY_BYTES = 1_048_576


async def reopen(
    identity: LogIdentity,
    failed: PartitionLog | None,
    open_log: Callable[[], Awaitable[None]],
    deletion: asyncio.Event,
) -> bool:
    """Closes the opening that has failed, if there is one, and calls `open_log` until it succeeds; False where the
    partition is deleted before."""
    delay_s = REOPEN_FIRST_DELAY_S
    while not deletion.is_set():
        try:
            if failed is not None:
                await failed.close()
            await open_log()
            return True
        except (LogFailure, StorageError, OSError) as failure:
            log.error("log still offline", partition=str(identity), why=str(failure), retry_s=delay_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(deletion.wait(), delay_s)
            delay_s = min(delay_s * 2, REOPEN_MAX_DELAY_S)
    return False


async def load_producers(
    opened: PartitionLog, clock: Clock, executor: Executor, counters: PartitionsCounters
) -> tuple[ProducerState, int]:
    """The state of a log's producers, and the offset of the snapshot that it was made from, -1 without one. Raises
    `LogFailure`."""
    upto = opened.end_offset
    producers, start = ProducerState(), opened.start_offset
    snapshot_offset = -1
    while (found := await opened.load_snapshot("producer", upto)) is not None:
        try:
            producers = ProducerState.from_snapshot(found[1])
        except SnapshotDamaged as damage:
            log.warning("producer snapshot ignored", partition=str(opened.identity), offset=found[0], why=str(damage))
            upto = found[0] - 1
            continue
        snapshot_offset = found[0]
        start = max(start, snapshot_offset)
        break
    if not producers.knows_aborted:
        noted = await asyncio.get_running_loop().run_in_executor(executor, opened.read_aborted)
        producers.transactions.aborted = [one for one in noted if one.last_offset < start]
    if start < opened.end_offset:
        now_ms = clock.now_ms()
        await Replay(
            opened,
            "producers",
            executor,
            counters,
            REPLAY_BYTES,
            lambda header, batch: producers.replay(header, batch, now_ms),
            lambda header: producers.replay_damaged(header, now_ms),
        ).run(start, opened.end_offset)
    return producers, snapshot_offset
