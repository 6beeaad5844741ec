"""The table of partitions: many are opened, configured and deleted in turns, each at its place."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor

from odradek.clock import SystemClock
from odradek.config.topic import LogConfig
from odradek.engines.interface import LogIdentity, PartitionLog, Unknown
from odradek.engines.memory.engine import MemoryEngine
from odradek.loop_scheduler import LoopScheduler
from odradek.pace import PACE_S
from odradek.partitions.registry import OPEN_AT_ONCE, Partitions

TOPIC_ID = (7).to_bytes(16, "big")
COUNT = 500


class PassingClock(SystemClock):
    """Each look at it takes a tenth of what one turn of the loop may."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        self.now_s += PACE_S / 10
        return self.now_s


class Watched(MemoryEngine):
    """Counts what is opened and deleted; fails to open one."""

    def __init__(self) -> None:
        super().__init__()
        self.done = 0
        self.fails_once = -1

    async def open(self, identity: LogIdentity, config: LogConfig) -> PartitionLog:
        self.done += 1
        if identity.partition == self.fails_once:
            self.fails_once = -1
            raise Unknown("the disk failed")
        return await super().open(identity, config)

    async def delete(self, identity: LogIdentity) -> None:
        self.done += 1
        await super().delete(identity)


async def most_at_once(engine: Watched, work: Awaitable[None]) -> int:
    """The most that one turn of the loop did."""
    doing = asyncio.ensure_future(work)
    most, before = 0, engine.done
    while not doing.done():
        await asyncio.sleep(0)
        most, before = max(most, engine.done - before), engine.done
    await doing
    return most


async def test_many_partitions_are_opened_and_deleted_in_turns() -> None:
    engine = Watched()
    await engine.start()
    with ThreadPoolExecutor(1) as executor:
        partitions = Partitions(engine, LoopScheduler(PassingClock(), executor))
        # Each of the tasks begins with one; then they have turns together.
        assert await most_at_once(engine, partitions.add("t", TOPIC_ID, COUNT, LogConfig())) <= OPEN_AT_ONCE + 12
        engine.fails_once = COUNT + 3
        assert await most_at_once(engine, partitions.add("t", TOPIC_ID, 2 * COUNT, LogConfig())) <= OPEN_AT_ONCE + 12
        topic = partitions.topics["t"]
        assert [one.identity.partition for one in topic.partitions] == list(range(2 * COUNT))
        assert engine.done >= 2 * COUNT
        await asyncio.gather(*topic.partitions[COUNT + 3]._background)
        assert all(one.opening is not None for one in topic.partitions)
        assert await most_at_once(engine, partitions.remove("t")) <= 12
        assert not partitions.topics and not engine.identities()
        await engine.stop()


async def test_settings_of_many_partitions_change_in_turns() -> None:
    engine = Watched()
    await engine.start()
    with ThreadPoolExecutor(1) as executor:
        partitions = Partitions(engine, LoopScheduler(PassingClock(), executor))
        await partitions.add("t", TOPIC_ID, COUNT, LogConfig())
        config = dataclasses.replace(LogConfig(), retention_ms=5)
        changing = asyncio.ensure_future(partitions.configure("t", config))
        turns = []
        while not changing.done():
            await asyncio.sleep(0)
            turns.append(sum(one.config is config for one in partitions))
        assert turns[-1] == COUNT
        assert all(after - before <= 12 for before, after in zip([0, *turns], turns, strict=False))
        await partitions.close()
        await engine.stop()
