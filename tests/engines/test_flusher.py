"""Rounds of many logs: how many of them the event loop takes and tells at a time, and what comes between."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import pytest

from odradek.engines.interface import EngineCounters, LogIdentity
from odradek.engines.local import log_states
from odradek.engines.local.disk import Disk
from odradek.engines.local.flushed_offsets import FlushedOffsets
from odradek.engines.local.flusher import LOGS_AT_ONCE, Flusher, Job
from odradek.loop_scheduler import LoopScheduler

LOGS = 5 * LOGS_AT_ONCE + 3


class FakeLog:
    """Notes what happens to it; its round fails where its file cannot be synced."""

    def __init__(self, fd: int = -1) -> None:
        self.fd = fd
        self.begun = 0
        self.ended: list[OSError | None] = []
        self.has_failed = False

    def begin_flush(self) -> Job | None:
        if self.has_failed:
            return None
        self.begun += 1
        assert self.begun == len(self.ended) + 1, "one round at a time"
        job = Job()
        if self.fd >= 0:
            job.fds.append(self.fd)
        return job

    def end_flush(self, error: OSError | None, unwritten: Collection[str] = ()) -> None:
        self.ended.append(error)


class FakeDisk(Disk):
    def __init__(self) -> None:
        super().__init__()
        self.broken: set[int] = set()
        self.is_broken = False

    def sync_data(self, fd: int) -> None:
        if fd in self.broken:
            raise OSError(5, "broken")

    def sync_file_system(self, fd: int) -> bool:
        if self.is_broken:
            raise OSError(5, "broken")
        return True

    def kernel_syncs(self, limit: int) -> None:
        """Rounds are in the thread."""


class Flushing:
    def __init__(self, syncfs_files: int) -> None:
        self.disk = FakeDisk()
        self.counters = EngineCounters()
        self.told: list[FakeLog] = []
        self.scheduler = LoopScheduler()
        workers = self.disk.workers("flush", 1, self.scheduler)
        self.flusher: Flusher[FakeLog] = Flusher(
            self.disk,
            workers,
            lambda: -1,
            syncfs_files,
            1 << 30,
            1 << 30,
            {},
            self.scheduler.clock.monotonic,
            self.counters,
            self.told.extend,
        )

    async def turns(self, logs: list[FakeLog]) -> list[tuple[int, int]]:
        """Until all of the logs' rounds have ended: how many began and ended in each turn of the loop."""
        begun, ended = sum(log.begun for log in logs), sum(len(log.ended) for log in logs)
        turns = []
        while not all(log.ended for log in logs):
            await asyncio.sleep(0)
            now_begun, now_ended = sum(log.begun for log in logs), sum(len(log.ended) for log in logs)
            turns.append((now_begun - begun, now_ended - ended))
            begun, ended = now_begun, now_ended
        return turns


@contextlib.asynccontextmanager
async def flushing(syncfs_files: int = 1 << 30) -> AsyncIterator[Flushing]:
    one = Flushing(syncfs_files)
    try:
        yield one
        for _ in range(3):
            await asyncio.sleep(0)
    finally:
        one.flusher.close()
        one.scheduler.executor.shutdown()


async def test_a_round_of_many_logs_takes_and_tells_some_in_a_turn() -> None:
    async with flushing() as one:
        logs = [FakeLog() for _ in range(LOGS)]
        for log in logs:
            one.flusher.request(log)
        turns = await one.turns(logs)
        assert max(begun for begun, _ in turns) == LOGS_AT_ONCE
        assert max(ended for _, ended in turns) == LOGS_AT_ONCE
        assert {tuple(log.ended) for log in logs} == {(None,)}
    assert one.counters.flush_durations.count == 1, "they are one round"
    assert one.told == logs


async def test_a_round_of_few_logs_is_taken_and_told_at_once() -> None:
    async with flushing() as one:
        logs = [FakeLog() for _ in range(LOGS_AT_ONCE)]
        for log in logs:
            one.flusher.request(log)
        turns = await one.turns(logs)
        assert turns[0] == (LOGS_AT_ONCE, 0) and turns[-1] == (0, LOGS_AT_ONCE)


async def test_who_asks_while_a_round_is_taken_or_told_is_in_the_next() -> None:
    async with flushing() as one:
        logs = [FakeLog() for _ in range(LOGS)]
        late, again = FakeLog(), logs[0]
        for log in logs:
            one.flusher.request(log)
        await asyncio.sleep(0)
        one.flusher.request(late)
        one.flusher.request(again)
        await one.turns([again])
        assert not logs[-1].ended and not late.begun and again.begun == 1
        one.flusher.request(again)
        await one.turns([late])
        assert all(log.ended == [None] for log in logs[1:]) and again.ended == [None, None]


async def test_a_log_that_fails_before_it_is_taken_is_left_out() -> None:
    async with flushing() as one:
        logs = [FakeLog() for _ in range(LOGS)]
        for log in logs:
            one.flusher.request(log)
        await asyncio.sleep(0)
        logs[-1].has_failed = True
        await one.turns(logs[:-1])
        assert not logs[-1].begun and not logs[-1].ended


async def test_a_file_that_fails_is_its_logs_alone() -> None:
    async with flushing() as one:
        logs = [FakeLog(fd=1000 + number) for number in range(LOGS)]
        one.disk.broken = {1000, 1000 + LOGS - 1}
        for log in logs:
            one.flusher.request(log)
        await one.turns(logs)
        assert [log.ended[0] is None for log in logs] == [False, *[True] * (LOGS - 2), False]
    assert one.counters.flush_failures == 1
    assert one.told == logs[1:-1]


async def test_a_failed_syncfs_is_told_to_all_before_anything_else_happens() -> None:
    async with flushing(syncfs_files=10) as one:
        logs, late = [FakeLog(fd=1000 + number) for number in range(LOGS)], FakeLog()
        one.disk.is_broken = True
        for log in logs:
            one.flusher.request(log)
        await asyncio.sleep(0)
        one.flusher.request(late)
        turns = await one.turns(logs)
        assert turns[-1] == (0, LOGS)
        assert all(log.ended[0] is not None for log in logs) and late.ended[0] is not None
    assert one.counters.flush_failures == 1 and not one.told


async def test_files_of_a_round_that_is_taken_or_told_count_as_dirty() -> None:
    async with flushing() as one:
        flusher = one.flusher
        logs = [FakeLog(fd=1000 + number) for number in range(LOGS)]
        flusher._unflushed_max_files = LOGS_AT_ONCE
        for log in logs:
            flusher.request(log)
        assert flusher.has_room()  # those that write have noted nothing
        await asyncio.sleep(0)
        assert not flusher.has_room()
        while not all(log.ended for log in logs):
            running = sum(log.begun - len(log.ended) for log in logs)
            assert flusher.has_room() == (running < LOGS_AT_ONCE)
            await asyncio.sleep(0)
        assert flusher.has_room()


@pytest.mark.parametrize("logs", [1, LOGS])
async def test_the_flushed_ends_of_many_logs_are_written_some_in_a_turn(tmp_path: Path, logs: int) -> None:
    class Log:
        """As far as its state goes."""

        def __init__(self, partition: int) -> None:
            self.identity = LogIdentity("t", bytes(16), partition)
            self.flushed_end = partition
            self.epochs = self
            self.written_crc = 0

    class Noting(FlushedOffsets):
        noted = 0

        def note(self, *arguments: object) -> None:
            self.noted += 1

    scheduler = LoopScheduler()
    flushed = Noting(Disk(), str(tmp_path / "flushed"))
    states = log_states.LogStates(scheduler, flushed)
    flushed_logs: list[object] = [Log(number) for number in range(10 * logs)]
    for log in flushed_logs:
        assert isinstance(log, Log)
        key = (log.identity.topic, log.identity.partition)
        states.open[key] = log  # type: ignore[assignment]
        states.all[key] = log_states.LogState(log.identity, "", has_files=True, clean=False)
    states.write_soon(flushed_logs)  # type: ignore[arg-type]
    most = flushed.noted
    while states.timer is not None:
        before = flushed.noted
        await asyncio.sleep(0)
        most = max(most, flushed.noted - before)
    assert most <= log_states.LOGS_AT_ONCE
    assert flushed.noted == len(flushed_logs)
    assert {one.recovery_point for one in states.all.values()} == set(range(10 * logs))
    scheduler.executor.shutdown()
