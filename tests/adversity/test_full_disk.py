"""A disk without room: first under one log, then under a broker with clients, of a counted size and on a real tmpfs."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest

from odradek.engines.interface import LogFailure, PartitionLog, StorageFull
from odradek.records.batch import BatchHeader
from tests.adversity.quota_disk import QuotaDisk
from tests.batches import make_batch
from tests.engines.test_local_recovery import LOG, SEGMENTS, engine_at, fill, read_all

# --- one log ---------------------------------------------------------------------------------------------------------

LARGE = dataclasses.replace(SEGMENTS, segment_bytes=50_000, file_delete_delay_ms=3_600_000)
PIECE_BYTES = 10_000


async def fill_up(log: PartitionLog) -> list[BatchHeader]:
    """Appends until there is no room; the headers of what was kept."""
    kept = []
    while True:
        batch = make_batch(1, size=PIECE_BYTES)
        try:
            base_offset, _, durable = log.append([batch], log.epoch)
        except StorageFull:
            return kept
        await durable
        kept.append(batch.header._replace(base_offset=base_offset, leader_epoch=log.epoch))


async def test_deleting_records_needs_no_room(tmp_path: Path) -> None:
    """The new start is kept in a file that has to be written: on a disk without a byte left, segments go first."""
    disk = QuotaDisk(tmp_path, 500_000)
    async with engine_at(tmp_path, disk) as engine:
        log = await engine.open(LOG, LARGE)
        kept = await fill_up(log)
        disk.fill()
        assert disk.space("")[1] == 0
        start = kept[len(kept) // 2].base_offset
        await log.truncate_before(start)
        assert log.start_offset == start
        assert [header for header in await read_all(log) if header.base_offset >= start] == kept[len(kept) // 2 :]
        assert disk.space("")[1] > 0, "on a full disk what is deleted goes at once"
        added = await fill(log, 1)
        assert (await read_all(log))[-1:] == added
        # Where nothing goes there is nothing to be had.
        disk.fill()
        with pytest.raises(LogFailure):
            await log.truncate_before(start + 1)
        assert log.failed is None and log.start_offset == start
    async with engine_at(tmp_path) as engine:
        assert (await engine.open(LOG, LARGE)).start_offset == start


async def test_deleting_all_records_gives_the_last_segment_back_too(tmp_path: Path) -> None:
    disk = QuotaDisk(tmp_path, 500_000)
    async with engine_at(tmp_path, disk) as engine:
        log = await engine.open(LOG, dataclasses.replace(LARGE, segment_bytes=1_000_000))
        kept = await fill_up(log)
        end = kept[-1].next_offset
        await log.truncate_before(end)
        engine.free_now()
        async with asyncio.timeout(10):
            while disk.space("")[1] < 450_000:  # noqa: ASYNC110 - a thread removes the files
                await asyncio.sleep(0)
        assert (log.start_offset, log.end_offset, log.durable_end) == (end, end, end)
        (added,) = await fill(log, 1)
        assert added.base_offset == end


@pytest.mark.parametrize("pieces", [1, 3, 33, 35])
@pytest.mark.parametrize("retention", [{"retention_ms": 0}, {"retention_bytes": 0, "retention_ms": -1}])
async def test_retention_needs_no_room(tmp_path: Path, retention: dict[str, int], pieces: int) -> None:
    disk = QuotaDisk(tmp_path, 500_000)
    async with engine_at(tmp_path, disk) as engine:
        log = await engine.open(LOG, dataclasses.replace(LARGE, **retention))
        for _ in range(pieces):
            await log.append([make_batch(1, size=PIECE_BYTES)], log.epoch).durable
        disk.fill()
        assert disk.space("")[1] == 0
        assert await log.retain(1 << 50, log.durable_end) >= pieces * PIECE_BYTES
        assert log.failed is None
        assert log.start_offset == log.durable_end == log.end_offset == pieces
        engine.free_now()
        async with asyncio.timeout(10):
            while disk.space("")[1] < pieces * PIECE_BYTES:  # noqa: ASYNC110 - a thread removes the files
                await asyncio.sleep(0)
        added = await fill(log, 1)
        assert (await read_all(log))[-1:] == added


async def test_what_was_kept_is_read_while_there_is_no_room(tmp_path: Path) -> None:
    disk = QuotaDisk(tmp_path, 500_000)
    async with engine_at(tmp_path, disk) as engine:
        log = await engine.open(LOG, LARGE)
        kept = await fill_up(log)
        disk.fill()
        for _ in range(3):
            assert await fill_up(log) == []
        assert log.failed is None and disk.refused > 3
        assert await read_all(log) == kept
    # The stop and the next start find no room either.
    async with engine_at(tmp_path, disk) as engine:
        again = await engine.open(LOG, LARGE)
        assert await read_all(again) == kept
        with pytest.raises(StorageFull):
            again.append([make_batch(1, size=PIECE_BYTES)], again.epoch)
        disk.quota_bytes += 200_000
        added = await fill(again, 1)
        assert await read_all(again) == kept + added
