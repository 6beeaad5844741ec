"""What is known of producers outlives their records: a batch that is sent again after its records were deleted, and the
broker was killed, is a repetition all the same."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import shutil
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from odradek.clock import SystemClock
from odradek.config import LogConfig
from odradek.engines.interface import LogFailure, LogIdentity
from odradek.engines.local import Disk
from odradek.errors import ErrorCode, KafkaError
from odradek.loop_scheduler import LoopScheduler
from odradek.partitions.partition import AppendResult, Partition
from odradek.records.builder import NewRecord, batch_bytes, build_batch
from tests.engines.disks import WatchedDisk
from tests.engines.test_local_recovery import engine_at

ORDERS = LogIdentity("orders", uuid.UUID(int=77).bytes, 0)
CONFIG = LogConfig(segment_bytes=1000, file_delete_delay_ms=0, retention_ms=1000)


@asynccontextmanager
async def opened(folder: Path, config: LogConfig = CONFIG, disk: Disk | None = None):
    with ThreadPoolExecutor(1) as executor:
        async with engine_at(folder, disk) as engine:
            partition = Partition(engine, ORDERS, config, LoopScheduler(SystemClock(), executor))
            await partition.open()
            yield partition
            await partition.close()


def sequenced(sequence: int, producer_id: int = 7) -> bytes:
    records = [NewRecord(b"k", b"v" * 300, SystemClock().now_ms())]
    return batch_bytes(build_batch(records, producer_id=producer_id, producer_epoch=0, base_sequence=sequence))


async def sent(partition: Partition, data: bytes) -> AppendResult:
    result = partition.append(data)
    result = result if isinstance(result, AppendResult) else await result
    assert result.error == ErrorCode.NONE, result
    assert result.durable is not None
    await result.durable
    return result


@pytest.mark.parametrize("flush", ["disk", "os"])
@pytest.mark.parametrize("how", ["all records", "some records", "retention by time", "retention by size"])
async def test_a_repetition_is_known_after_its_records_are_gone_and_a_kill(
    tmp_path: Path, how: str, flush: str
) -> None:
    config = dataclasses.replace(CONFIG, flush=flush)
    batches = [sequenced(sequence) for sequence in range(8)]
    async with opened(tmp_path / "running", config) as partition:
        for data in batches:
            await sent(partition, data)
        for sequence in range(2):
            await sent(partition, sequenced(sequence, producer_id=8))
        if how == "retention by time":
            assert await partition.retain(SystemClock().now_ms() + 10**9) > 0
        elif how == "retention by size":
            partition.configure(dataclasses.replace(config, retention_bytes=1, retention_ms=-1))
            assert await partition.retain(SystemClock().now_ms()) > 0
        else:
            await partition.delete_records(-1 if how == "all records" else 8)
        start, end = partition.offsets().log_start_offset, partition.offsets().high_watermark
        assert start >= 8 and end == 10
        shutil.copytree(tmp_path / "running", tmp_path / "killed")
    async with opened(tmp_path / "killed", config) as partition:
        assert partition.offsets().log_start_offset == start
        assert (await sent(partition, batches[7])).base_offset == 7
        assert (await sent(partition, sequenced(1, producer_id=8))).base_offset == 9
        assert partition.offsets().high_watermark == end, "nothing was appended"
        assert (await sent(partition, sequenced(8))).base_offset == end
        refused = partition.append(sequenced(12))
        assert isinstance(refused, AppendResult) and refused.error == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


async def test_on_a_full_disk_records_go_first(tmp_path: Path) -> None:
    disk = WatchedDisk()
    async with opened(tmp_path / "running", disk=disk) as partition:
        for sequence in range(3):
            await sent(partition, sequenced(sequence))
        disk.fail("create", errno.ENOSPC, where=".snapshot", times=1)
        await partition.delete_records(-1)
        assert disk.refused == 1
        shutil.copytree(tmp_path / "running", tmp_path / "killed")
    async with opened(tmp_path / "killed") as partition:
        assert (await sent(partition, sequenced(2))).base_offset == 2


async def test_nothing_is_deleted_where_producers_cannot_be_kept(tmp_path: Path) -> None:
    disk = WatchedDisk()
    async with opened(tmp_path, disk=disk) as partition:
        for sequence in range(3):
            await sent(partition, sequenced(sequence))
        disk.fail("create", errno.EIO, where=".snapshot")
        with pytest.raises(KafkaError) as refused:
            await partition.delete_records(-1)
        assert refused.value.code == ErrorCode.KAFKA_STORAGE_ERROR
        assert partition.offsets().log_start_offset == 0
        disk.heal()
        assert await partition.delete_records(-1) == 3


async def test_deletions_without_producers_write_no_snapshot(tmp_path: Path) -> None:
    async with opened(tmp_path) as partition:
        data = batch_bytes(build_batch([NewRecord(None, b"v", SystemClock().now_ms())]))
        await sent(partition, data)
        await sent(partition, data)
        await partition.delete_records(1)
        assert not list(await asyncio.to_thread(lambda: list(tmp_path.rglob("*.snapshot"))))


async def test_a_partition_opens_again_where_its_producers_could_not_be_loaded(tmp_path: Path) -> None:
    """Reading them fails once: the log that was opened for it must not stand in the way of the next try."""
    disk = WatchedDisk()
    async with opened(tmp_path) as partition:
        await sent(partition, sequenced(0))
        await partition.delete_records(-1)
    with ThreadPoolExecutor(1) as executor:
        async with engine_at(tmp_path, disk) as engine:
            again = Partition(engine, ORDERS, CONFIG, LoopScheduler(executor=executor))
            disk.fail("open", where=".snapshot", times=1)
            with pytest.raises((LogFailure, OSError)):
                await again.open()
            await again.open()
            assert (await sent(again, sequenced(0))).base_offset == 0
            await again.close()
