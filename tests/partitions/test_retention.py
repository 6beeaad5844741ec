"""Retention above the engines: its policy on a log that changes meanwhile, and what is kept of producers at a roll.

That segments go as the settings say is asked of every engine in `tests/engines/contract.py`."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from odradek.config import BrokerConfig, LogConfig
from odradek.engines.interface import LogIdentity, LogSegment
from odradek.engines.local import LocalEngine
from odradek.engines.memory import MemoryEngine
from odradek.engines.memory.engine import MemoryLog, _Kept
from odradek.loop_scheduler import LoopScheduler
from odradek.partitions import retention
from odradek.partitions.partition import AppendResult, Partition
from odradek.partitions.producer_state import ProducerState
from tests.batches import make_batch
from tests.partitions.test_partition import NOW_MS, StillClock
from tests.raw_client import batch

IDENTITY = LogIdentity("t", b"t" * 16, 0)


def test_a_segment_that_goes_while_it_is_asked_for_is_passed_over() -> None:
    class Deleting(MemoryLog):
        async def newest_timestamp(self, segment: LogSegment) -> int | None:
            if segment.base_offset == 10:
                await self.truncate_before(20)
            return await super().newest_timestamp(segment)

    async def main() -> None:
        log = Deleting(MemoryEngine(StillClock()), IDENTITY, LogConfig(retention_ms=100), _Kept())
        for time_ms in (1_000, 1_001, 1_002, 2_000):
            log.append([make_batch(10, timestamp=time_ms)], log.epoch)
        found = await retention.expendable(log, 1_200, 40)
        assert [(one.end_offset, one.overdue_ms) for one in found] == [(10, 100), (30, 98)]
        assert await retention.delete(log, 30) > 0
        assert log.start_offset == 30

    asyncio.run(main())


def test_a_roll_keeps_producers_as_they_are_before_the_batch_behind_it(tmp_path: Path) -> None:
    async def main() -> None:
        engine = LocalEngine(tmp_path, BrokerConfig(), LoopScheduler(StillClock()))
        await engine.start()
        config = LogConfig(segment_bytes=300, retention_ms=1_000)
        with ThreadPoolExecutor(2) as executor:
            partition = Partition(engine, IDENTITY, config, LoopScheduler(StillClock(), executor))
            await partition.open()
            log = partition.log
            assert log is not None

            async def kept() -> int:
                """Of what offset the newest snapshot is, which is that of its newest batch."""
                await asyncio.gather(*partition._background)
                found = await log.load_snapshot("producer", log.end_offset)
                assert found is not None
                assert ProducerState.from_snapshot(found[1]).producers[1].batches[-1].last_offset == found[0] - 1
                return found[0]

            rolls = 0
            for sequence in range(12):
                before = len(log.segments())
                data = batch(
                    b"v" * 50, timestamp_ms=NOW_MS - 5_000, producer_id=1, producer_epoch=0, base_sequence=sequence
                )
                result = partition.append(data)
                assert isinstance(result, AppendResult) and result.durable is not None
                await result.durable
                if before < len(log.segments()) > 1:
                    rolls += 1
                    assert await kept() == log.segments()[-1].base_offset == sequence
            assert rolls > 3
            # Retention's own roll, too.
            assert await partition.retain(NOW_MS) > 0
            assert log.start_offset == 12 == await kept()
            await partition.close()
        await engine.stop()

    asyncio.run(main())
