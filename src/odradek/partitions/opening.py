"""One opening of a partition's log, and the producer state, which is made from that opening and never outlives it.

Role: load the producer state when the log is opened; save it as a snapshot when the log rolls, before records are
deleted, and when the log is closed. The state of a coordinator is also loaded and saved through an opening.

Invariants:
- The producer state is made from the newest sound snapshot and the batches after it, from nothing else.
- A snapshot holds the state at the moment of the call: batches appended while it is written are not in it.
- A producer snapshot that cannot be saved is no failure: the state can be made again from the log's batch headers.

The partition decides when a log is opened again, and answers requests meanwhile.
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

# Bytes read at a time where producer state is made from a log's batches.
REPLAY_BYTES = 1_048_576


class Opening:
    """One opening of a partition's log. A component that makes state from the log remembers the opening, and compares
    it with the partition's current one to know whether the state is still valid."""

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
        """Used only within `partitions`, as is `producers`: other code asks the partition."""
        self.producers = producers
        self.is_over = False
        """Whether this is no longer the partition's opening."""
        self._snapshot_offset = snapshot_offset
        self._scheduler = scheduler
        self._counters = counters
        self._run = run
        opened.on_roll = self._note_roll

    # --- state that coordinators make from the log ---------------------------------------------------------------

    async def load(self, kind: str, read_bytes: int, restore: Callable[[int, bytes], None], take: Take) -> None:
        """Flushes the log, then replays all of it as `replay.loading` does. Raises `LogFailure`, `OffsetOutOfRange`,
        `OSError`."""
        self._check()
        opened = self.log
        await opened.flush()
        oldest = opened.start_offset
        await load(opened, kind, self._scheduler.executor, self._counters, read_bytes, restore, take, oldest=oldest)

    async def save_snapshot(self, kind: str, offset: int, data: bytes) -> None:
        """Saves a snapshot of such a state, at an offset that is durable. Raises `LogFailure`, `OSError`."""
        self._check()
        await self.log.save_snapshot(kind, offset, data)

    def _check(self) -> None:
        if self.is_over:
            raise Refused("the log has been opened anew")

    # --- producer state ------------------------------------------------------------------------------------------

    def _note_roll(self, base_offset: int) -> None:
        """Called when the log rolls. Saves the present producer state, which is that at the new segment's base offset;
        Kafka saves the same."""
        if base_offset != self._snapshot_offset:
            self._run(self._save_or_warn(self._saving(base_offset)))

    @contextlib.asynccontextmanager
    async def keeping_producers(self, offset: int) -> AsyncIterator[None]:
        """A context in which records below `offset` are deleted. The producer state is saved first: else, after a
        crash, a retried batch would be taken for a new one. On a full disk it is saved after the deletion has made
        room. Raises `LogFailure` or `OSError` where it cannot be saved: then nothing is deleted."""
        end_offset = self.log.end_offset
        is_due = bool(self.producers.producers) and self._snapshot_offset < min(offset, end_offset)
        if is_due:
            try:
                await self._saving(end_offset)
                is_due = False
            except StorageFull as failure:
                log.warning(
                    "producer snapshot is saved only after the deletion",
                    partition=str(self.log.identity),
                    why=str(failure),
                )
        yield
        if is_due:
            await self._save_or_warn(self._saving(self.log.end_offset))

    async def close(self) -> None:
        """Flushes the log, saves the producer state, and closes the log."""
        opened = self.log
        try:
            await opened.flush()
            if opened.end_offset > 0 and opened.end_offset != self._snapshot_offset:
                await self._saving(opened.end_offset)
            await opened.close()
        except (LogFailure, OSError) as failure:
            log.error("log not closed cleanly", partition=str(opened.identity), why=str(failure))

    def _saving(self, offset: int) -> Awaitable[None]:
        """Captures the producer state now, as the state at `offset`; awaiting the result saves it."""
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
    """Opens a log and makes its producer state. `run` runs background work that must end before the log is closed.
    Raises `LogFailure`, `StorageError` or `OSError`."""
    opened = await engine.open(identity, config)
    try:
        producers, snapshot_offset = await _load_producers(opened, scheduler, counters)
    except BaseException:
        await opened.close()  # a failed read does not end the opening, and a log has only one at a time
        raise
    return Opening(opened, producers, snapshot_offset, scheduler, counters, run)


async def _load_producers(
    opened: PartitionLog, scheduler: Scheduler, counters: PartitionsCounters
) -> tuple[ProducerState, int]:
    """The producer state of a log, and the offset of the snapshot that it was made from, -1 without one. Raises
    `LogFailure`."""
    producers, now_ms = ProducerState(), scheduler.clock.now_ms()

    def restore(offset: int, data: bytes) -> None:
        nonlocal producers
        try:
            producers = ProducerState.from_snapshot(data)
        except SnapshotDamaged as damage:
            # The snapshot is the only source where the producers' records have been deleted.
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
