"""When a shard's state is saved as a snapshot beside its log, and how.

Invariants: a snapshot holds the state of the log below its offset, and is saved only when that part of the log is
durable. A snapshot is never needed: without one, or with a damaged one, the whole log is replayed. One is due after as
many records as the last one held plus a minimum, so that writing snapshots costs no more than writing the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from odradek.clock import Clock
from odradek.coordination.loading import SNAPSHOT_KIND
from odradek.coordination.operation import StateMachine
from odradek.coordination.snapshots import write_snapshot
from odradek.engines.interface import LogFailure
from odradek.logs import get_logger
from odradek.partitions.partition import Opening, Partition

log = get_logger("odradek.coordination")


class Saving:
    """The snapshots of one shard."""

    def __init__(self, partition: Partition, clock: Clock, min_records: int) -> None:
        self._partition = partition
        self._clock = clock
        self._min_records = min_records
        self.records = 0
        """Records of the log after the last snapshot."""
        self.due_above = min_records
        """A snapshot is due when `records` exceeds this."""
        self.task: asyncio.Task[None] | None = None
        """The task that saves a snapshot, while there is one."""

    def begin_behind(self, restored: int, replayed: int) -> None:
        """Starts the count: loading restored so many records from a snapshot and replayed so many after it."""
        self.due_above = self._min_records + restored
        self.records = replayed

    def begin(
        self, machine: StateMachine, opening: Opening, offset: int, durable: asyncio.Future[None] | None
    ) -> asyncio.Task[None]:
        """Copies the present state, which is that of the log below `offset`, and saves it once `durable`, the last
        append below that offset, is done. No other snapshot may be under way."""
        assert self.task is None
        # The copy is made here and not in the task, which starts later: records appended until then lie above `offset`.
        self.task = asyncio.ensure_future(self._save(machine.records(), self.records, opening, offset, durable))
        return self.task

    async def _save(
        self,
        encode: Callable[[], Iterable[tuple[bytes, bytes]]],
        counted: int,
        opening: Opening,
        offset: int,
        durable: asyncio.Future[None] | None,
    ) -> None:
        partition = self._partition
        try:
            now_ms = self._clock.now_ms()
            loop = asyncio.get_running_loop()
            records = await loop.run_in_executor(partition.executor, lambda: list(encode()))
            data = await loop.run_in_executor(partition.executor, write_snapshot, records, now_ms)
            if durable is not None:
                await asyncio.shield(durable)
            await opening.save_snapshot(SNAPSHOT_KIND, offset, data)
            self.due_above = self._min_records + len(records)
            self.records -= counted
        except (LogFailure, OSError) as failure:
            log.warning("snapshot not saved", partition=str(partition.identity), why=str(failure))
        finally:
            self.task = None
