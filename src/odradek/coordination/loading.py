"""Loads a shard's state from the newest sound snapshot and the records of the log after it.

Role: replay both into a new state machine, and try again after growing delays if the log fails. The runtime decides
when to load, and refuses requests meanwhile.

Invariant: the returned state was loaded from the opening of the log that the partition has at that moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from odradek.clock import Scheduler
from odradek.coordination.operation import StateMachine
from odradek.coordination.snapshots import read_snapshot
from odradek.engines.interface import LogFailure, OffsetOutOfRange
from odradek.logs import get_logger
from odradek.partitions.partition import Opening, Partition
from odradek.partitions.producer_state import read_marker
from odradek.protocol.errors import DecodeError
from odradek.records.batch import BatchHeader, Buffer, InvalidBatch
from odradek.records.iteration import iterate
from odradek.replay.delays import delays

log = get_logger("odradek.coordination")

SNAPSHOT_KIND = "coordinator"
S = TypeVar("S", bound=StateMachine)


class Loaded(NamedTuple, Generic[S]):
    """A loaded state machine, and the opening of the log that it was loaded from."""

    opening: Opening
    machine: S
    restored: int
    """Records of the snapshot."""
    replayed: int
    """Records of the log after the snapshot."""


async def load(partition: Partition, make: Callable[[], S], load_bytes: int, scheduler: Scheduler) -> Loaded[S]:
    """Makes the state of what the log holds, however often that must be tried."""
    has_prepared = False
    for delay_s in delays():
        opening = partition.opening
        if opening is not None:
            try:
                machine = make()
                replayed = Replayed(machine)
                await opening.load(SNAPSHOT_KIND, load_bytes, replayed.restore, replayed.take)
                if await _prepare(machine, opening, partition, at_once=has_prepared):
                    return Loaded(opening, machine, replayed.restored, replayed.records)
                has_prepared = True
                continue
            except (LogFailure, OffsetOutOfRange, OSError, InvalidBatch, DecodeError) as failure:
                log.error(
                    "a coordinator cannot be loaded, trying again",
                    partition=str(partition.identity),
                    why=str(failure),
                    retry_s=delay_s,
                )
        await scheduler.sleep(delay_s)
    raise AssertionError("there is always another delay")


async def _prepare(machine: StateMachine, opening: Opening, partition: Partition, at_once: bool) -> bool:
    """Prepares the machine in a thread; whether it is what the log says then. Others may write to the log meanwhile,
    and go on doing so: the second time it is prepared at once."""
    end_offset = opening.log.end_offset
    if at_once:
        machine.prepare()
    else:
        await asyncio.get_running_loop().run_in_executor(partition.executor, machine.prepare)
    return partition.opening is opening and opening.log.end_offset == end_offset


class Replayed:
    """Replays a snapshot and batches of a log into a state machine, and counts their records."""

    def __init__(self, machine: StateMachine) -> None:
        self.machine = machine
        self.restored = 0
        """Records of the snapshot."""
        self.records = 0
        """Records of the log after the snapshot."""

    def restore(self, offset: int, data: bytes) -> None:
        """Replays a snapshot. Raises `SnapshotDamaged`."""
        records = list(read_snapshot(data))
        for key, value in records:
            self.machine.replay(key, value)
        self.restored = len(records)

    def take(self, header: BatchHeader, piece: Buffer) -> None:
        """Replays one batch. Raises `InvalidBatch`."""
        machine = self.machine
        if header.is_control:
            if (end := read_marker(header, piece)) is not None:
                machine.end_transaction(header.producer_id, end[1])
            return
        for record in iterate(header, piece):
            if record.key is None:
                continue
            try:
                if header.is_transactional:
                    machine.replay_transactional(header.producer_id, record.key, record.value)
                else:
                    machine.replay(record.key, record.value)
            except DecodeError as error:
                log.warning("a coordinator's record is passed over", offset=record.offset, why=str(error))
            self.records += 1
