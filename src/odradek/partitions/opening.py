"""One opening of a partition's log, and the state of its producers, which is made of that opening and never outlives
it.

Role: load the state of producers when the log is opened; keep it as a snapshot when the log rolls, before records are
deleted, and when the log is closed. A coordinator's state is loaded and kept through an opening, too.

Invariants:
- The state of producers is the newest sound snapshot and the batches behind it, whatever was known before.
- A snapshot is of the moment at which it was asked for: what is appended while it is written is not in it.
- A snapshot of producers that cannot be kept ends nothing: the state is made again from the log's headers.

When a log is opened again, and what is answered meanwhile, is the partition's business.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from odradek.clock import Scheduler
from odradek.config.topic import LogConfig
from odradek.engines.interface import Engine, LogFailure, LogIdentity, PartitionLog, Refused, StorageFull
from odradek.logs import get_logger
from odradek.partitions.counters import PartitionsCounters
from odradek.partitions.producer_state import ProducerState, mended_snapshot
from odradek.replay.batches import Take
from odradek.replay.loading import load
from odradek.replay.snapshots import SnapshotDamaged

log = get_logger("odradek.partition")

# Read at a time where producer state is made from a log's batches.
REPLAY_BYTES = 1_048_576


class Opening:
    """One opening of a partition's log. Who makes state of the log keeps the opening that it was made of, and compares
    it with the partition's."""

    __slots__ = ("_counters", "_run", "_scheduler", "_snapshot_offset", "is_over", "log", "producers")

    def __init__(
        self,
        opened: PartitionLog,
        producers: ProducerState,
        snapshot_offset: int,
        scheduler: Scheduler,
        counters: PartitionsCounters,
        run: Callable[[Awaitable[None]], None],
    ) -> None:
        self.log = opened
        """For this room alone, as `producers` is: others ask the partition."""
        self.producers = producers
        self.is_over = False
        """Whether the partition has another opening by now, or none."""
        self._snapshot_offset = snapshot_offset
        self._scheduler = scheduler
        self._counters = counters
        self._run = run
        opened.on_roll = self._note_roll

    # --- state that others make of the log -----------------------------------------------------------------------

    async def load(self, kind: str, read_bytes: int, restore: Callable[[int, bytes], None], take: Take) -> None:
        """Has a state made of all that is in the log, as `replay.loading` does, when that is on the storage. Raises
        `LogFailure`, `OffsetOutOfRange`, `OSError`."""
        self._check()
        opened = self.log
        await opened.flush()
        oldest = opened.start_offset
        await load(opened, kind, self._scheduler.executor, self._counters, read_bytes, restore, take, oldest=oldest)

    async def save_snapshot(self, kind: str, offset: int, data: bytes) -> None:
        """Keeps what such a state is at an offset that is durable. Raises `LogFailure`, `OSError`."""
        self._check()
        await self.log.save_snapshot(kind, offset, data)

    def _check(self) -> None:
        if self.is_over:
            raise Refused("the log has been opened anew")

    # --- the state of producers ----------------------------------------------------------------------------------

    def _note_roll(self, base_offset: int) -> None:
        """The log rolls before its next batch: Kafka keeps the producer state of a segment's beginning, which is as it
        is now."""
        if base_offset != self._snapshot_offset:
            self._run(self._save_or_warn(self._saving(base_offset)))

    @contextlib.asynccontextmanager
    async def keeping_producers(self, offset: int) -> AsyncIterator[None]:
        """For deleting the records below `offset`: what is known of their producers is kept first, else a batch that is
        sent again after a crash would be taken for a new one. On a full disk it is kept when the deletion has made
        room. Raises `LogFailure` or `OSError` where it cannot be kept: then nothing is deleted."""
        end_offset = self.log.end_offset
        is_due = bool(self.producers.producers) and self._snapshot_offset < min(offset, end_offset)
        if is_due:
            try:
                await self._saving(end_offset)
                is_due = False
            except StorageFull as failure:
                log.warning("producers are kept after a deletion", partition=str(self.log.identity), why=str(failure))
        yield
        if is_due:
            await self._save_or_warn(self._saving(self.log.end_offset))

    async def close(self) -> None:
        """Lets open appends become durable, keeps the state of producers, closes the log."""
        opened = self.log
        try:
            await opened.flush()
            if opened.end_offset > 0 and opened.end_offset != self._snapshot_offset:
                await self._saving(opened.end_offset)
            await opened.close()
        except (LogFailure, OSError) as failure:
            log.error("log not closed cleanly", partition=str(opened.identity), why=str(failure))

    def _saving(self, offset: int) -> Awaitable[None]:
        """Keeps what is known of producers at the moment of the call, which is that at `offset`."""
        snapshot, aborted = self.producers.to_snapshot(), list(self.producers.transactions.aborted)

        async def save() -> None:
            await self.log.save_aborted(aborted)
            await self.log.save_snapshot("producer", offset, snapshot)
            self._snapshot_offset = max(self._snapshot_offset, offset)

        return save()

    async def _save_or_warn(self, saving: Awaitable[None]) -> None:
        try:
            await saving
        except (LogFailure, OSError) as failure:
            log.warning("producer snapshot not saved", partition=str(self.log.identity), why=str(failure))


async def open_log(
    engine: Engine,
    identity: LogIdentity,
    config: LogConfig,
    scheduler: Scheduler,
    counters: PartitionsCounters,
    run: Callable[[Awaitable[None]], None],
) -> Opening:
    """Opens a log and makes the state of its producers. `run` runs what nobody waits for, and what is to end before the
    log is closed. Raises `LogFailure`, `StorageError` or `OSError`."""
    opened = await engine.open(identity, config)
    try:
        producers, snapshot_offset = await _load_producers(opened, scheduler, counters)
    except BaseException:
        await opened.close()  # a read that fails does not end an opening, and there is one at a time
        raise
    return Opening(opened, producers, snapshot_offset, scheduler, counters, run)


async def _load_producers(
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
            producers.transactions.restore([one for one in opened.read_aborted() if one.last_offset < start])

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
