"""A disk that fails under the local engine: what callers are told, and what is there afterwards."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import os
import threading
import uuid
from pathlib import Path

import pytest

from odradek.config import LogConfig
from odradek.engines.interface import LogFailure, LogIdentity, PartitionLog, StorageError, StorageFull, Unknown
from odradek.records.batch import BatchHeader
from tests.batches import make_batch
from tests.engines.contract import retain
from tests.engines.disks import WatchedDisk
from tests.engines.test_local_recovery import CONFIG, FIRST, LOG, SEGMENTS, engine_at, fill, read_all

OTHER = LogIdentity("other", uuid.UUID(int=78).bytes, 0)
OS = dataclasses.replace(CONFIG, flush="os")


class Gate:
    """Holds the flush thread before its next sync."""

    def __init__(self, disk: WatchedDisk) -> None:
        self.reached = threading.Event()
        self.leave = threading.Event()
        self.error: OSError | None = None
        disk.refuse = self._refuse

    def _refuse(self, operation: str, path: str) -> None:
        if operation in ("sync", "syncfs") and path.endswith((".log", "")) and not self.leave.is_set():
            self.reached.set()
            assert self.leave.wait(30)
            if self.error is not None:
                raise self.error

    async def wait(self) -> None:
        assert await asyncio.get_running_loop().run_in_executor(None, self.reached.wait, 30)


async def after_restart(folder: Path, expected: list[BatchHeader]) -> None:
    async with engine_at(folder) as engine:
        assert await read_all(await engine.open(LOG, CONFIG)) == expected


async def test_a_failed_flush_fails_every_open_append_and_the_log(tmp_path: Path) -> None:
    disk = WatchedDisk()
    async with engine_at(tmp_path, disk) as engine:
        log = await engine.open(LOG, CONFIG)
        other = await engine.open(OTHER, CONFIG)
        kept = await fill(log, 3)
        kept_other = await fill(other, 2)
        gate = Gate(disk)
        flushing = log.append([make_batch(10)], 0)
        await gate.wait()
        waiting = log.append([make_batch(10)], 0)
        gate.error = OSError(errno.EIO, "broken")
        gate.leave.set()
        for appended in (flushing, waiting):
            with pytest.raises(Unknown):
                await appended.durable
        disk.heal()
        assert isinstance(log.failed, Unknown)
        assert log.durable_end == 30
        with pytest.raises(Unknown):
            log.append([make_batch(10)], 0)
        with pytest.raises(Unknown):
            await log.flush()
        assert engine.unflushed_bytes() == 0
        assert other.failed is None
        kept_other += await fill(other, 1)

        # The page cache shows the lost batches; the log does not.
        again = await engine.open(LOG, CONFIG)
        assert (again.end_offset, again.durable_end, again.epoch) == (30, 30, 1)
        assert await read_all(again) == kept
        before = again.segments()[-1].base_offset
        added = await fill(again, 2)
        assert again.segments()[-1].base_offset == 30 > before == 0, "it continues in a new file"
        assert [header.leader_epoch for header in added] == [1, 1]
        assert await read_all(again) == kept + added
        assert await read_all(other) == kept_other
        assert again.epoch_end(0, 50) == (0, 30)
    assert (tmp_path / ".kafka_cleanshutdown").exists()
    await after_restart(tmp_path, kept + added)


async def test_a_failed_first_flush_leaves_an_empty_log(tmp_path: Path) -> None:
    disk = WatchedDisk()
    async with engine_at(tmp_path, disk) as engine:
        log = await engine.open(LOG, CONFIG)
        disk.fail("sync", where=".log")
        with pytest.raises(Unknown):
            await log.append([make_batch(10)], 0).durable
        assert not log.established
        disk.heal()
        again = await engine.open(LOG, CONFIG)
        assert (again.start_offset, again.end_offset, again.epoch) == (0, 0, 1)
        added = await fill(again, 2)
    await after_restart(tmp_path, added)


async def test_segments_rolled_since_the_last_good_flush_go(tmp_path: Path) -> None:
    disk = WatchedDisk()
    async with engine_at(tmp_path, disk) as engine:
        log = await engine.open(LOG, SEGMENTS)
        kept = await fill(log, 14)
        gate = Gate(disk)
        first = log.append([make_batch(10)], 0)
        await gate.wait()
        later = [log.append([make_batch(10)], 0) for _ in range(20)]
        assert log.segments()[-1].base_offset > 200
        gate.error = OSError(errno.EIO, "broken")
        gate.leave.set()
        for appended in (first, *later):
            with pytest.raises(Unknown):
                await appended.durable
        disk.heal()
        again = await engine.open(LOG, SEGMENTS)
        assert await read_all(again) == kept
        added = await fill(again, 10)
        assert await read_all(again) == kept + added
    await after_restart(tmp_path, kept + added)


@pytest.mark.parametrize("mode", ["disk", "os"])
async def test_a_failed_flush_after_what_was_flushed_is_deleted(tmp_path: Path, mode: str) -> None:
    """The log goes on at its start, not at offset 0."""
    disk = WatchedDisk()
    config = dataclasses.replace(SEGMENTS, retention_ms=0)
    async with engine_at(tmp_path, disk) as engine:
        log = await engine.open(LOG, config)
        await fill(log, 2)
        log.configure(dataclasses.replace(config, flush=mode))
        while log.size_bytes() + make_batch(10).size <= config.segment_bytes:
            await fill(log, 1)
        gate = Gate(disk)
        appended = [log.append([make_batch(10)], 0)]
        await gate.wait()
        appended += [log.append([make_batch(10)], 0) for _ in range(4)]
        freed = asyncio.ensure_future(retain(log, 1 << 50, log.segments()[1].base_offset))
        async with asyncio.timeout(10):
            while log.start_offset == 0:  # noqa: ASYNC110 - no thread is needed, but a few turns of the loop
                await asyncio.sleep(0)
        start = log.start_offset
        gate.error = OSError(errno.EIO, "broken")
        gate.leave.set()
        await asyncio.wait([freed])
        async with asyncio.timeout(10):
            while log.failed is None:  # noqa: ASYNC110 - a thread fails
                await asyncio.sleep(0)
        disk.heal()
        again = await engine.open(LOG, SEGMENTS)
        assert (again.start_offset, again.end_offset, again.epoch) == (start, start, 1)
        kept = await fill(again, 2)
        assert kept[0].base_offset == start > 0
    async with engine_at(tmp_path) as engine:
        log = await engine.open(LOG, SEGMENTS)
        assert log.start_offset == start
        assert await read_all(log) == kept


async def test_retention_spares_what_was_appended_while_it_looked(tmp_path: Path) -> None:
    disk = WatchedDisk()
    async with engine_at(tmp_path, disk) as engine:
        log = await engine.open(LOG, dataclasses.replace(CONFIG, retention_ms=0))
        _, _, durable = log.append([make_batch(10, timestamp=-1)], 0)
        await durable
        looking = asyncio.ensure_future(retain(log, 1 << 50, log.durable_end))
        await asyncio.sleep(0)  # its file's time of change is being asked for, in a thread
        appended = log.append([make_batch(10, timestamp=-1)], 0)
        assert await looking == 0
        await appended.durable
        assert [header.base_offset for header in await read_all(log)] == [0, 10]


async def test_a_failed_syncfs_fails_all_that_were_not_flushed(tmp_path: Path) -> None:
    disk = WatchedDisk()
    async with engine_at(tmp_path, disk, odradek__flush__syncfs__files="1") as engine:
        logs = [
            await engine.open(LogIdentity(f"t{index}", uuid.UUID(int=index + 1).bytes, 0), CONFIG) for index in range(4)
        ]
        kept = [await fill(log, 2) for log in logs]
        quiet = logs[3]
        gate = Gate(disk)
        flushing = [log.append([make_batch(10)], 0) for log in logs[:2]]
        await gate.wait()
        waiting = logs[2].append([make_batch(10)], 0)
        gate.error = OSError(errno.EIO, "broken")
        gate.leave.set()
        for appended in (*flushing, waiting):
            with pytest.raises(Unknown):
                await appended.durable
        disk.heal()
        assert quiet.failed is None
        kept[3] += await fill(quiet, 1)
        for index, log in enumerate(logs):
            again = log if log is quiet else await engine.open(log.identity, CONFIG)
            assert await read_all(again) == kept[index]
            await fill(again, 1)
        # From now on each file is asked for itself.
        before = disk.counts["syncfs"]
        disk.fail("sync", where="t1-0", times=1)
        reopened = [engine._states.open[log.identity.topic, 0] for log in logs]
        durables = [log.append([make_batch(10)], log.epoch).durable for log in reopened]
        results = await asyncio.gather(*durables, return_exceptions=True)
        assert [isinstance(result, Unknown) for result in results] == [False, True, False, False]
        assert disk.counts["syncfs"] == before
        disk.heal()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
async def test_a_full_disk_refuses_an_append_and_the_log_goes_on(tmp_path: Path, code: int) -> None:
    disk = WatchedDisk()
    async with engine_at(tmp_path, disk) as engine:
        log = await engine.open(LOG, CONFIG)
        disk.fail("write", code, where=".log")
        with pytest.raises(StorageFull):
            log.append([make_batch(10)], 0)
        disk.heal()
        kept = await fill(log, 3)
        disk.fail("write", code, where=".log")
        for _ in range(3):
            with pytest.raises(StorageFull):
                log.append([make_batch(10)], 0)
        disk.heal()
        assert log.failed is None
        assert (log.end_offset, engine.unflushed_bytes()) == (30, 0)
        kept += await fill(log, 2)
        assert await read_all(log) == kept
    await after_restart(tmp_path, kept)


async def test_a_disk_that_gets_full_in_the_middle_of_a_write(tmp_path: Path) -> None:
    disk = WatchedDisk()
    async with engine_at(tmp_path, disk) as engine:
        log = await engine.open(LOG, CONFIG)
        kept = await fill(log, 3)
        path = tmp_path / "orders-0" / f"{FIRST}.log"
        size = path.stat().st_size
        disk.short_writes = True
        seen = 0

        def refuse(operation: str, _: str) -> None:
            nonlocal seen
            if operation == "write":
                seen += 1
                if seen == 3:
                    raise OSError(errno.ENOSPC, "full")

        disk.refuse = refuse
        with pytest.raises(StorageFull):
            log.append([make_batch(10, size=500)], 0)
        assert path.stat().st_size == size, "the torn tail is taken back"
        disk.heal()
        disk.short_writes = False
        kept += await fill(log, 2)
        assert await read_all(log) == kept
    await after_restart(tmp_path, kept)


async def test_short_writes_are_completed(tmp_path: Path) -> None:
    disk = WatchedDisk()
    disk.short_writes = True
    async with engine_at(tmp_path, disk) as engine:
        kept = await fill(await engine.open(LOG, SEGMENTS), 20)
    await after_restart(tmp_path, kept)


async def test_a_failed_write_fails_the_log_and_its_open_appends(tmp_path: Path) -> None:
    disk = WatchedDisk()
    async with engine_at(tmp_path, disk) as engine:
        log = await engine.open(LOG, CONFIG)
        kept = await fill(log, 3)
        gate = Gate(disk)
        batch = make_batch(10)
        open_append = log.append([batch], 0)
        await gate.wait()
        disk.fail("write", where=".log")
        with pytest.raises(Unknown):
            log.append([make_batch(10)], 0)
        with pytest.raises(Unknown):
            await open_append.durable
        gate.leave.set()
        disk.heal()
        again = await engine.open(LOG, CONFIG)
        # What was written before may have been acknowledged (acks=1): only what could not be written is gone.
        kept.append(batch.header._replace(base_offset=30, leader_epoch=0))
        assert await read_all(again) == kept
        kept += await fill(again, 1)
    await after_restart(tmp_path, kept)


def write(log: PartitionLog, count: int, kept: list[BatchHeader]) -> None:
    """Appends batches without waiting for a flush, and notes their headers."""
    for index in range(count):
        batch = make_batch(10, timestamp=1_000 + index)
        base_offset = log.append([batch], log.epoch).base_offset
        kept.append(batch.header._replace(base_offset=base_offset, leader_epoch=log.epoch))


def refuse_segments(disk: WatchedDisk, operation: str, code: int) -> None:
    """From now on this fails for segment files; what made other operations fail goes on."""
    before = disk.refuse

    def refuse(seen: str, path: str) -> None:
        if seen == operation and path.endswith(".log"):
            raise OSError(code, os.strerror(code))
        before(seen, path)

    disk.refuse = refuse


@pytest.mark.parametrize("mode", ["os", "disk"])
@pytest.mark.parametrize("code", [errno.EIO, errno.EFBIG, errno.EMFILE])
@pytest.mark.parametrize(("operation", "config"), [("write", CONFIG), ("write", SEGMENTS), ("create", SEGMENTS)])
async def test_a_failed_write_or_roll_loses_nothing_that_was_written(
    tmp_path: Path, mode: str, code: int, operation: str, config: LogConfig
) -> None:
    """Acknowledged (in os mode, or with acks=1) while it is only in the page cache."""
    disk = WatchedDisk()
    config = dataclasses.replace(config, flush=mode)
    async with engine_at(tmp_path, disk) as engine:
        log = await engine.open(LOG, config)
        kept = await fill(log, 1)
        write(log, 12, kept)
        if mode == "os":
            assert await read_all(log) == kept
        refuse_segments(disk, operation, code)
        with pytest.raises(Unknown):
            write(log, 12, kept)
        disk.heal()
        again = await engine.open(LOG, config)
        assert await read_all(again) == kept
        assert again.end_offset == again.durable_end == kept[-1].next_offset
        added = await fill(again, 2)
        assert added[-1].leader_epoch == again.epoch == 1
    await after_restart(tmp_path, kept + added)


@pytest.mark.parametrize("mode", ["os", "disk"])
async def test_a_flush_that_fails_after_a_failed_write_counts(tmp_path: Path, mode: str) -> None:
    """The round that ran when the write failed tells later that what was written is not on the disk."""
    disk = WatchedDisk()
    config = dataclasses.replace(CONFIG, flush=mode)
    async with engine_at(tmp_path, disk) as engine:
        log = await engine.open(LOG, config)
        kept = await fill(log, 3)
        await log.flush()
        gate = Gate(disk)
        write(log, 3, [])
        flushing = asyncio.ensure_future(log.flush())
        await gate.wait()
        refuse_segments(disk, "write", errno.EIO)
        with pytest.raises(Unknown):
            write(log, 1, [])
        gate.error = OSError(errno.EIO, "broken")
        gate.leave.set()
        await asyncio.wait([flushing])
        await log.close()
        disk.heal()
        again = await engine.open(LOG, config)
        assert await read_all(again) == kept
        added = await fill(again, 2)
    await after_restart(tmp_path, kept + added)


async def test_what_cannot_be_flushed_after_a_failed_write_is_not_trusted(tmp_path: Path) -> None:
    disk = WatchedDisk()
    config = dataclasses.replace(CONFIG, flush="os")
    async with engine_at(tmp_path, disk) as engine:
        log = await engine.open(LOG, config)
        kept = await fill(log, 3)
        await log.flush()
        write(log, 3, [])
        refuse_segments(disk, "write", errno.EIO)
        with pytest.raises(Unknown):
            write(log, 1, [])
        disk.fail("sync", where=".log", times=1)
        with pytest.raises(Unknown, match="opening orders-0 failed"):
            await engine.open(LOG, config)
        again = await engine.open(LOG, config)
        assert await read_all(again) == kept
        added = await fill(again, 2)
    await after_restart(tmp_path, kept + added)


@pytest.mark.parametrize("operation", ["rename", "sync_folder"])
async def test_a_start_never_goes_back_because_a_deletion_failed(tmp_path: Path, operation: str) -> None:
    """The segments are still there; the next deletion takes them."""
    disk = WatchedDisk()
    async with engine_at(tmp_path, disk) as engine:
        log = await engine.open(LOG, SEGMENTS)
        headers = await fill(log, 20)
        disk.fail(operation, where="orders-0", times=1)
        with pytest.raises(Unknown):
            await log.delete_segments(90)
        assert isinstance(log.failed, Unknown) and log.start_offset == 90
        disk.heal()
        again = await engine.open(LOG, SEGMENTS)
        assert await read_all(again) == headers[9:]
        assert again.start_offset == 90
    async with engine_at(tmp_path) as engine:
        log = await engine.open(LOG, SEGMENTS)
        assert log.start_offset == 90
        assert await log.delete_segments(120) > 0
        assert sorted(int(path.stem) for path in (tmp_path / "orders-0").glob("*.log"))[0] == 120
        assert await read_all(log) == headers[12:]


async def test_a_flush_that_nobody_waited_for_is_waited_for(tmp_path: Path) -> None:
    """A roll in os mode begins one; a snapshot may not be written ahead of it."""
    disk = WatchedDisk()
    config = dataclasses.replace(SEGMENTS, flush="os")
    async with engine_at(tmp_path, disk) as engine:
        log = await engine.open(LOG, config)
        await fill(log, 1)
        gate = Gate(disk)
        write(log, 4, [])
        assert log.segments()[-1].base_offset > 0
        await gate.wait()
        flushing = asyncio.ensure_future(log.flush())
        await asyncio.sleep(0)
        assert not flushing.done()
        gate.leave.set()
        await flushing
        assert log.flushed_end == log.end_offset


async def test_a_name_can_be_used_again_where_its_deletion_was_not_synced(tmp_path: Path) -> None:
    disk = WatchedDisk()
    async with engine_at(tmp_path, disk) as engine:
        await fill(await engine.open(LOG, CONFIG), 1)
        disk.fail("sync_folder", times=1)
        with pytest.raises(Unknown):
            await engine.delete(LOG)
        disk.heal()
        again = LOG._replace(topic_id=uuid.UUID(int=79).bytes)
        log = await engine.open(again, CONFIG)
        assert (log.start_offset, log.end_offset) == (0, 0)
        await fill(log, 1)


async def test_a_start_that_could_not_be_kept_is_taken_back_whole(tmp_path: Path) -> None:
    """Two deletions that fail together leave the start where it was, not where the first wanted it."""
    disk = WatchedDisk()
    async with engine_at(tmp_path, disk) as engine:
        log = await engine.open(LOG, CONFIG)
        headers = await fill(log, 5)
        disk.fail("create", where="checkpoint")
        failed = await asyncio.gather(log.truncate_before(10), log.truncate_before(20), return_exceptions=True)
        assert all(isinstance(one, Unknown) for one in failed)
        disk.heal()
    async with engine_at(tmp_path) as engine:
        log = await engine.open(LOG, CONFIG)
        assert log.start_offset == 0
        assert await read_all(log) == headers


@pytest.mark.parametrize("operation", ["create", "make_folder"])
@pytest.mark.parametrize(("code", "failure"), [(errno.ENOSPC, StorageFull), (errno.EIO, Unknown)])
async def test_a_log_whose_files_cannot_be_made(
    tmp_path: Path, operation: str, code: int, failure: type[LogFailure]
) -> None:
    disk = WatchedDisk()
    async with engine_at(tmp_path, disk) as engine:
        log = await engine.open(LOG, CONFIG)
        disk.fail(operation, code, where="orders-0")
        with pytest.raises(failure):
            log.append([make_batch(10)], 0)
        disk.heal()
        if failure is Unknown:
            assert log.failed is not None
            log = await engine.open(LOG, CONFIG)
        kept = await fill(log, 2)
    await after_restart(tmp_path, kept)


@pytest.mark.parametrize(("code", "failure"), [(errno.ENOSPC, StorageFull), (errno.EIO, Unknown)])
async def test_a_segment_that_cannot_be_rolled(tmp_path: Path, code: int, failure: type[LogFailure]) -> None:
    disk = WatchedDisk()
    async with engine_at(tmp_path, disk) as engine:
        log = await engine.open(LOG, SEGMENTS)
        disk.fail("create", code, where=".log")
        kept: list[BatchHeader] = []
        disk.refuse("create", "")
        disk.heal()
        kept += await fill(log, 1)
        disk.fail("create", code, where=".log")
        with pytest.raises(failure):
            for index in range(20):
                kept += await fill(log, 1, first=index)
        disk.heal()
        if failure is Unknown:
            log = await engine.open(LOG, SEGMENTS)
        kept += await fill(log, 10)
        assert await read_all(log) == kept
    await after_restart(tmp_path, kept)


@pytest.mark.parametrize("operation", ["rename", "sync_folder", "create"])
@pytest.mark.parametrize("where", ["leader-epoch-checkpoint", "partition.metadata", "orders-0"])
async def test_what_establishes_a_log_fails(tmp_path: Path, operation: str, where: str) -> None:
    """The first flush of an opening also makes the epoch and the names durable: without them nothing is
    acknowledged."""
    disk = WatchedDisk()
    async with engine_at(tmp_path, disk) as engine:
        log = await engine.open(LOG, CONFIG)
        failed = 0

        def refuse(seen: str, path: str) -> None:
            nonlocal failed
            if seen == operation and where in path and not path.endswith(".log"):
                failed += 1
                raise OSError(errno.EIO, "broken")

        disk.refuse = refuse
        durable = log.append([make_batch(10)], 0).durable
        await asyncio.wait([durable])
        disk.heal()
        assert bool(failed) == (durable.exception() is not None)
        assert log.established == (not failed)
        assert log.durable_end == (0 if failed else 10)
        if failed:
            log = await engine.open(LOG, CONFIG)
            assert (log.end_offset, log.epoch) == (0, 1)
        kept = await fill(log, 2, first=5)
    async with engine_at(tmp_path) as engine:
        assert engine.identities() == [LOG]
        assert (await read_all(await engine.open(LOG, CONFIG)))[-2:] == kept


async def test_opening_again_fails_while_the_disk_does(tmp_path: Path) -> None:
    disk = WatchedDisk()
    async with engine_at(tmp_path, disk) as engine:
        log = await engine.open(LOG, CONFIG)
        kept = await fill(log, 3)
        disk.fail("sync")
        with pytest.raises(Unknown):
            await log.append([make_batch(10)], 0).durable
        for _ in range(3):
            with pytest.raises(LogFailure):
                await engine.open(LOG, CONFIG)
        disk.fail("open")
        with pytest.raises(LogFailure):
            await engine.open(LOG, CONFIG)
        disk.heal()
        again = await engine.open(LOG, CONFIG)
        assert await read_all(again) == kept
        kept += await fill(again, 1)
    await after_restart(tmp_path, kept)


async def test_a_stop_with_a_failed_log_is_not_clean_and_nothing_comes_back(tmp_path: Path) -> None:
    disk = WatchedDisk()
    async with engine_at(tmp_path, disk) as engine:
        log = await engine.open(LOG, CONFIG)
        kept = await fill(log, 3)
        disk.fail("sync", where=".log")
        with pytest.raises(Unknown):
            await log.append([make_batch(10)], 0).durable
        disk.heal()
    assert not (tmp_path / ".kafka_cleanshutdown").exists()
    async with engine_at(tmp_path) as engine:
        # The unacknowledged batch was whole on the disk after all: it may be there, what was acknowledged must.
        assert (await read_all(await engine.open(LOG, CONFIG)))[:3] == kept


async def test_in_os_mode_a_failed_flush_cuts_to_the_last_good_one(tmp_path: Path) -> None:
    disk = WatchedDisk()
    async with engine_at(tmp_path, disk) as engine:
        log = await engine.open(LOG, OS)
        kept = await fill(log, 3)
        await log.flush()
        await fill(log, 3)
        assert log.durable_end == 60
        disk.fail("sync", where=".log")
        with pytest.raises(Unknown):
            await log.flush()
        disk.heal()
        again = await engine.open(LOG, OS)
        assert (again.end_offset, again.epoch) == (30, 1)
        assert await read_all(again) == kept
        kept += await fill(again, 1)
    await after_restart(tmp_path, kept)


async def test_in_os_mode_the_epoch_is_durable_before_anything_is_acknowledged(tmp_path: Path) -> None:
    disk = WatchedDisk()
    async with engine_at(tmp_path, disk) as engine:
        log = await engine.open(LOG, OS)
        gate = Gate(disk)
        first = log.append([make_batch(10)], 0)
        second = log.append([make_batch(10)], 0)
        assert not first.durable.done()
        await gate.wait()
        third = log.append([make_batch(10)], 0)
        assert (log.durable_end, log.established) == (0, False)
        gate.leave.set()
        for appended in (first, second, third):
            await appended.durable
        assert (log.durable_end, log.established) == (30, True)
        syncs = disk.counts["sync"]
        assert log.append([make_batch(10)], 0).durable.done()
        assert (log.durable_end, disk.counts["sync"]) == (40, syncs)


async def test_flush_messages_and_flush_ms_in_os_mode(tmp_path: Path) -> None:
    disk = WatchedDisk()
    async with engine_at(tmp_path, disk) as engine:
        log = await engine.open(LOG, dataclasses.replace(OS, flush_messages=25))
        await fill(log, 1)
        syncs = disk.counts["sync"]
        assert log.append([make_batch(10)], 0).durable.done()
        assert log.append([make_batch(10)], 0).durable.done()
        reaching = log.append([make_batch(10)], 0)
        assert not reaching.durable.done(), "as in Kafka, whoever reaches flush.messages waits for the flush"
        assert log.durable_end == 30
        await reaching.durable
        assert (log.durable_end, disk.counts["sync"]) == (40, syncs + 1)
        log.configure(dataclasses.replace(OS, flush_ms=10))
        assert log.append([make_batch(10)], 0).durable.done()
        async with asyncio.timeout(10):
            while log.flushed_end < 50:  # noqa: ASYNC110 - a timer and a thread
                await asyncio.sleep(0.005)


async def test_a_failed_read_is_a_failure_of_the_log(tmp_path: Path) -> None:
    disk = WatchedDisk()
    async with engine_at(tmp_path, disk) as engine:
        log = await engine.open(LOG, CONFIG)
        kept = await fill(log, 3)
        disk.fail("read", where=".log")
        with pytest.raises(LogFailure):
            await read_all(log)
        disk.heal()
        assert await read_all(log) == kept


async def test_a_start_offset_that_cannot_be_kept_does_not_move(tmp_path: Path) -> None:
    disk = WatchedDisk()
    async with engine_at(tmp_path, disk) as engine:
        log = await engine.open(LOG, SEGMENTS)
        kept = await fill(log, 20)
        disk.fail("rename", where="checkpoint")
        with pytest.raises(LogFailure):
            await log.truncate_before(100)
        disk.heal()
        assert log.start_offset == 0
        assert await read_all(log) == kept
    await after_restart(tmp_path, kept)


@pytest.mark.parametrize("operation", ["create", "write", "sync", "rename", "sync_folder"])
async def test_a_snapshot_is_there_whole_or_not_at_all(tmp_path: Path, operation: str) -> None:
    disk = WatchedDisk()
    async with engine_at(tmp_path, disk) as engine:
        log = await engine.open(LOG, CONFIG)
        await fill(log, 3)
        await log.save_snapshot("producer", 10, b"first")
        disk.fail(operation, errno.ENOSPC)
        with pytest.raises(StorageFull):
            await log.save_snapshot("producer", 20, b"second")
        disk.heal()
        assert log.failed is None
        assert await log.load_snapshot("producer", 30) == (10, b"first")
        await log.save_snapshot("producer", 30, b"third")
        assert await log.load_snapshot("producer", 30) == (30, b"third")


async def test_a_deletion_that_fails_can_be_tried_again(tmp_path: Path) -> None:
    disk = WatchedDisk()
    async with engine_at(tmp_path, disk) as engine:
        await fill(await engine.open(LOG, CONFIG), 3)
        disk.fail("rename", where="orders-0")
        with pytest.raises(LogFailure):
            await engine.delete(LOG)
        disk.heal()
        assert engine.identities() == [LOG]
        await engine.delete(LOG)
        assert engine.identities() == []
    assert not (tmp_path / "orders-0").exists()


@pytest.mark.parametrize("operation", ["create", "rename", "sync_folder"])
async def test_a_directory_that_cannot_be_used_says_so(tmp_path: Path, operation: str) -> None:
    disk = WatchedDisk()
    disk.fail(operation)
    with pytest.raises(StorageError, match=str(tmp_path)):
        async with engine_at(tmp_path, disk):
            pass
    disk.heal()
    async with engine_at(tmp_path, disk) as engine:
        await fill(await engine.open(LOG, CONFIG), 1)


async def test_checkpoints_that_cannot_be_written_do_not_stop_a_broker(tmp_path: Path) -> None:
    disk = WatchedDisk()
    async with engine_at(tmp_path, disk, log__flush__offset__checkpoint__interval__ms="5") as engine:
        log = await engine.open(LOG, CONFIG)
        disk.fail("rename", where="recovery-point")
        kept = await fill(log, 3)
        before = disk.counts["rename"]
        async with asyncio.timeout(10):
            while disk.counts["rename"] < before + 3:  # noqa: ASYNC110 - a timer and a thread
                await asyncio.sleep(0.005)
    assert not (tmp_path / ".kafka_cleanshutdown").exists()
    await after_restart(tmp_path, kept)


async def test_a_cancelled_waiter_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    disk = WatchedDisk()
    async with engine_at(tmp_path, disk) as engine:
        log = await engine.open(LOG, CONFIG)
        gate = Gate(disk)
        durable = log.append([make_batch(10)], 0).durable

        async def wait() -> None:
            await durable

        first, second = asyncio.ensure_future(wait()), asyncio.ensure_future(wait())
        await gate.wait()
        first.cancel()
        await asyncio.sleep(0)
        gate.leave.set()
        await second
        await durable
        with pytest.raises(asyncio.CancelledError):
            await first


async def test_producers_wait_while_too_much_is_not_flushed(tmp_path: Path) -> None:
    disk = WatchedDisk()
    async with engine_at(tmp_path, disk, odradek__unflushed__max__bytes="2000") as engine:
        log = await engine.open(LOG, CONFIG)
        gate = Gate(disk)
        durables = [log.append([make_batch(1, size=700)], 0).durable]
        await gate.wait()
        await asyncio.wait_for(engine.room(), 5)
        durables += [log.append([make_batch(1, size=700)], 0).durable for _ in range(3)]
        assert engine.unflushed_bytes() > 2_000
        waiting = [asyncio.ensure_future(engine.room()) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        waiting[0].cancel()
        gate.leave.set()
        await asyncio.wait_for(asyncio.gather(*waiting[1:]), 5)
        await asyncio.gather(*durables)
        assert engine.unflushed_bytes() == 0
