"""The local engine's files: names and formats as Kafka's, how many are open, when they come and go."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import errno
import gc
import os
import re
import struct
import uuid
from pathlib import Path

import pytest

from odradek.clock import SystemClock
from odradek.config import BrokerConfig, LogConfig
from odradek.engines.interface import LogIdentity, OffsetOutOfRange, StorageError, Unknown
from odradek.engines.local import LocalEngine
from odradek.engines.local.flushed_offsets import FLUSHED_OFFSETS
from odradek.engines.local.snapshots import parse_snapshot_name
from odradek.loop_scheduler import LoopScheduler
from odradek.records.batch import split_batches
from tests.batches import joined, make_batch
from tests.engines.contract import all_headers
from tests.engines.disks import WatchedDisk
from tests.engines.test_local_recovery import CONFIG, FIRST, LOG, SEGMENTS, engine_at, fill, read_all


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def test_an_idle_log_costs_no_file(tmp_path: Path) -> None:
    async with engine_at(tmp_path) as engine:
        before = names(tmp_path)
        for index in range(1_000):
            log = await engine.open(LogIdentity("idle", uuid.UUID(int=5).bytes, index), CONFIG)
            assert log.read(0, 100, 0) == []
        assert names(tmp_path) == before == {".lock", "meta.properties", FLUSHED_OFFSETS}
        assert engine.identities() == []


async def test_the_directory_is_laid_out_as_kafkas(tmp_path: Path) -> None:
    async with engine_at(tmp_path) as engine:
        log = await engine.open(LOG, SEGMENTS)
        await fill(log, 20)
        await log.truncate_before(15)
        await log.save_snapshot("producer", 200, b"p")
        await log.save_snapshot("metadata", 200, b"m")
        await log.save_snapshot("coordinator", 200, b"c")
    assert names(tmp_path) == {
        ".kafka_cleanshutdown",
        ".lock",
        "cleaner-offset-checkpoint",
        "log-start-offset-checkpoint",
        "meta.properties",
        FLUSHED_OFFSETS,
        "orders-0",
        "recovery-point-offset-checkpoint",
        "replication-offset-checkpoint",
    }
    assert (tmp_path / "recovery-point-offset-checkpoint").read_text() == "0\n1\norders 0 200\n"
    assert (tmp_path / "replication-offset-checkpoint").read_text() == "0\n1\norders 0 200\n"
    assert (tmp_path / "log-start-offset-checkpoint").read_text() == "0\n1\norders 0 15\n"
    assert (tmp_path / "cleaner-offset-checkpoint").read_text() == ""
    assert (tmp_path / ".kafka_cleanshutdown").read_text() == '{"version":0,"brokerEpoch":-1}'
    topic_id = base64.urlsafe_b64encode(LOG.topic_id).decode().rstrip("=")
    assert (tmp_path / "orders-0" / "partition.metadata").read_text() == f"version: 0\ntopic_id: {topic_id}"
    assert (tmp_path / "orders-0" / "leader-epoch-checkpoint").read_text() == "0\n1\n0 0\n"
    stems = sorted(path.stem for path in (tmp_path / "orders-0").glob("*.log"))
    assert names(tmp_path / "orders-0") == {
        "leader-epoch-checkpoint",
        "partition.metadata",
        "00000000000000000200.snapshot",
        "00000000000000000200-0000000000.checkpoint",
        "00000000000000000200.coordinator-snapshot",
        *(f"{stem}{suffix}" for stem in stems for suffix in (".log", ".index", ".timeindex")),
    }
    lines = (tmp_path / "meta.properties").read_text().splitlines()
    assert lines[0] == "#"
    assert re.fullmatch(r"#\w{3} \w{3} \d\d \d\d:\d\d:\d\d UTC \d{4}", lines[1])
    properties = dict(line.split("=") for line in lines[2:])
    assert properties.keys() == {"node.id", "directory.id", "version", "cluster.id"}
    assert (properties["node.id"], properties["version"]) == ("1", "1")
    for name in ("directory.id", "cluster.id"):
        assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{21}", properties[name])


async def test_index_entries_are_kafkas(tmp_path: Path) -> None:
    """What Apache Kafka 4.4 wrote for 200 batches of 570 bytes: an entry whenever more than 4096 bytes came since the
    last, with the batch's last offset."""
    async with engine_at(tmp_path) as engine:
        log = await engine.open(LOG, LogConfig())
        for index in range(200):
            log.append([make_batch(1, timestamp=7 + index, value=b"v" * 496)], 0)
        sizes = {header.size for header in await all_headers(log, 0)}
        (size,) = sizes
    index = (tmp_path / "orders-0" / f"{FIRST}.index").read_bytes()
    step = 4096 // size + 1
    expected = [(offset, offset * size) for offset in range(step, 200, step)]
    assert list(struct.iter_unpack(">ii", index)) == expected
    times = (tmp_path / "orders-0" / f"{FIRST}.timeindex").read_bytes()
    assert list(struct.iter_unpack(">qi", times)) == [(7 + offset, offset) for offset, _ in expected] + (
        [(7 + 199, 199)] if expected[-1][0] != 199 else []
    )


async def test_open_files_are_bounded(tmp_path: Path) -> None:
    disk = WatchedDisk()
    async with engine_at(tmp_path, disk, odradek__open__files__max="20") as engine:
        logs = [await engine.open(LogIdentity("many", uuid.UUID(int=5).bytes, index), SEGMENTS) for index in range(100)]
        kept = {log.identity: await fill(log, 9) for log in logs}
        for mode in ("os", "disk"):
            for log in logs:
                log.configure(dataclasses.replace(SEGMENTS, flush=mode))
                kept[log.identity] += await fill(log, 2)
                # In os mode nobody waits for a flush: files over the bound are flushed for their descriptors' sake.
                async with asyncio.timeout(10):
                    while disk.open_now > 30:  # noqa: ASYNC110 - a thread flushes
                        await asyncio.sleep(0)
            for log in logs:
                assert await read_all(log) == kept[log.identity]
            await asyncio.gather(*(log.flush() for log in logs))
        for log in logs:
            assert await read_all(log) == kept[log.identity]
        # A few more for the lock, reads in threads, and files just being written.
        assert disk.open_now <= 22
        assert disk.open_most <= 60
    assert disk.open_now == 0


async def test_dirty_files_are_no_reason_to_open_more(tmp_path: Path) -> None:
    """Appends to more logs than files may be open, without a turn of the loop in which they could be flushed."""
    disk = WatchedDisk()
    async with engine_at(tmp_path, disk, odradek__open__files__max="16") as engine:
        logs = [await engine.open(LogIdentity("many", uuid.UUID(int=5).bytes, index), SEGMENTS) for index in range(60)]
        for mode in ("disk", "os"):
            for log in logs:
                log.configure(dataclasses.replace(SEGMENTS, flush=mode))
            appended = [log.append([make_batch(1)], 0) for _ in range(2) for log in logs]
            # The lock's, that of the flushed offsets, and the limit with those that it may be exceeded by.
            assert disk.open_now <= 2 + 16 + 2
            await asyncio.gather(*(one.durable for one in appended))
        for log in logs:
            assert (log.durable_end, log.failed) == (4, None)
            assert len(await read_all(log)) == 4
    async with engine_at(tmp_path) as engine:
        for log in logs:
            assert len(await read_all(await engine.open(log.identity, SEGMENTS))) == 4


@pytest.mark.parametrize("mode", ["disk", "os"])
async def test_producers_wait_before_all_open_files_are_dirty(tmp_path: Path, mode: str) -> None:
    async with engine_at(tmp_path, odradek__open__files__max="20") as engine:
        config = dataclasses.replace(SEGMENTS, flush=mode)
        logs = [await engine.open(LogIdentity("many", uuid.UUID(int=5).bytes, index), config) for index in range(20)]
        for log in logs:
            await log.append([make_batch(1)], 0).durable  # the first of an opening is flushed in any mode
        for number, log in enumerate(logs):
            assert engine.has_room() == (number < 10)
            log.append([make_batch(1)], 0)
        async with asyncio.timeout(10):
            await engine.room()
        assert engine.has_room()


async def test_a_file_that_cannot_be_synced_to_be_closed_fails_its_log(tmp_path: Path) -> None:
    disk = WatchedDisk()
    async with engine_at(tmp_path, disk, odradek__open__files__max="16") as engine:
        logs = [await engine.open(LogIdentity("many", uuid.UUID(int=5).bytes, index), SEGMENTS) for index in range(30)]
        for log in logs:
            await log.append([make_batch(1)], 0).durable

        def refuse(operation: str, path: str) -> None:
            if operation == "sync" and "many-3/" in path:
                raise OSError(errno.EIO, "broken")

        disk.refuse = refuse
        appended = [log.append([make_batch(1)], 0) for log in logs]
        disk.heal()  # nobody else hears of what was lost
        results = await asyncio.gather(*(one.durable for one in appended), return_exceptions=True)
        assert [isinstance(result, Unknown) for result in results] == [index == 3 for index in range(30)]
        assert [log.durable_end for log in logs] == [1 if index == 3 else 2 for index in range(30)]
        again = await engine.open(logs[3].identity, SEGMENTS)
        assert len(await read_all(again)) == 1
        await again.append([make_batch(1)], again.epoch).durable


@pytest.mark.parametrize("operation", ["open", "create"])
async def test_files_make_room_where_others_took_the_descriptors(tmp_path: Path, operation: str) -> None:
    """Inside another program nobody knows how many there will be."""
    disk = WatchedDisk()
    async with engine_at(tmp_path, disk, odradek__open__files__max="30") as engine:
        logs = [await engine.open(LogIdentity("many", uuid.UUID(int=5).bytes, index), SEGMENTS) for index in range(40)]
        kept = {log.identity: await fill(log, 2) for log in logs}
        full_at = disk.open_now

        def refuse(what: str, path: str) -> None:
            if what == operation and path.endswith(".log") and disk.open_now >= full_at:
                raise OSError(errno.EMFILE, "no descriptor")

        disk.refuse = refuse
        for log in logs:
            kept[log.identity] += await fill(log, 9)  # rolls, too
        disk.heal()
        for log in logs:
            assert log.failed is None
            assert await read_all(log) == kept[log.identity]


async def test_descriptors_are_given_back(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        async with engine_at(tmp_path / "data") as engine:
            for index in range(20):
                log = await engine.open(LogIdentity("t", uuid.UUID(int=5).bytes, index), SEGMENTS)
                await fill(log, 8)
                await read_all(log)
            await engine.delete(LogIdentity("t", uuid.UUID(int=5).bytes, 3))
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before + 1


async def test_index_entries_in_memory_are_bounded(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, index_interval_bytes=0, segment_bytes=40_000)
    async with engine_at(tmp_path, odradek__index__cache__bytes="5000") as engine:
        logs = [await engine.open(LogIdentity("t", uuid.UUID(int=5).bytes, index), config) for index in range(4)]
        kept = {log.identity: await fill(log, 600) for log in logs}
        for log in logs:
            assert await read_all(log) == kept[log.identity]
            for offset in range(0, 6_000, 311):
                got = log.read(offset, 1, log.durable_end)
                data = joined(got if isinstance(got, list) else await got)
                assert next(split_batches(data))[0] == kept[log.identity][offset // 10]
        indexes = engine._shared.indexes
        assert 0 < indexes.bytes <= 5_000 + 600 * 8
        await asyncio.gather(*(log.close() for log in logs))
        assert indexes.bytes == 0


async def test_segments_roll_as_kafkas(tmp_path: Path) -> None:
    size = make_batch(10).size
    by_size = dataclasses.replace(CONFIG, segment_bytes=3 * size)
    by_time = dataclasses.replace(CONFIG, segment_ms=100)
    by_index = dataclasses.replace(CONFIG, index_interval_bytes=0, segment_index_bytes=24)
    async with engine_at(tmp_path) as engine:

        async def bases(name: str, config: LogConfig, times: list[int]) -> list[int]:
            log = await engine.open(LogIdentity(name, uuid.UUID(int=9).bytes, 0), config)
            for time_ms in times:
                log.append([make_batch(10, timestamp=time_ms)], 0)
            await log.flush()
            assert len(await read_all(log)) == len(times)
            return sorted(int(path.stem) for path in (tmp_path / f"{name}-0").glob("*.log"))

        assert await bases("size", by_size, [1] * 8) == [0, 30, 60]
        # By the records' own times, counted from a segment's first batch; older ones do not roll.
        assert await bases("time", by_time, [1_000, 1_100, 1_101, 900, 1_201, 1_202]) == [0, 20, 50]
        assert await bases("index", by_index, [1, 2, 3, 4, 5, 6, 7]) == [0, 20, 40, 60]
        log = await engine.open(LogIdentity("one", uuid.UUID(int=9).bytes, 0), by_size)
        log.append([make_batch(10, size=1000)], 0)
        log.append([make_batch(10, size=1000), make_batch(10, size=1000)], 0)
        await log.flush()
        assert sorted(int(path.stem) for path in (tmp_path / "one-0").glob("*.log")) == [0, 10]


async def test_batches_without_times_roll_by_the_clock(tmp_path: Path) -> None:
    class Clock(SystemClock):
        now = 1_000_000

        def now_ms(self) -> int:
            return self.now

    clock = Clock()
    engine = LocalEngine(tmp_path, BrokerConfig(), LoopScheduler(clock))
    await engine.start()
    log = await engine.open(LOG, dataclasses.replace(CONFIG, segment_ms=100))
    for now in (1_000_000, 1_000_100, 1_000_101, 1_000_150):
        clock.now = now
        log.append([make_batch(10, timestamp=-1)], 0)
    await engine.stop()
    assert sorted(int(path.stem) for path in (tmp_path / "orders-0").glob("*.log")) == [0, 20]


async def test_segment_jitter_spreads_the_rolls(tmp_path: Path) -> None:
    draws = iter([b"\0" * 16, b"\0" * 16, *[(30).to_bytes(8, "big")] * 9])
    engine = LocalEngine(tmp_path, BrokerConfig(), LoopScheduler(), entropy=lambda size: next(draws)[:size])
    await engine.start()
    log = await engine.open(LOG, dataclasses.replace(CONFIG, segment_ms=100, segment_jitter_ms=50))
    for time_ms in (1_000, 1_070, 1_071):
        log.append([make_batch(10, timestamp=time_ms)], 0)
    assert log.segments()[-1].base_offset == 20, "70 ms later still fits, 71 do not: 100 less 30"
    await engine.stop()


async def test_deleted_files_stay_renamed_for_a_while(tmp_path: Path) -> None:
    config = dataclasses.replace(SEGMENTS, file_delete_delay_ms=200)
    async with engine_at(tmp_path) as engine:
        log = await engine.open(LOG, config)
        await fill(log, 20)
        await log.truncate_before(155)
        gone = {name for name in names(tmp_path / "orders-0") if name.endswith(".deleted")}
        assert {name.split(".", 1)[1] for name in gone} == {"log.deleted", "index.deleted", "timeindex.deleted"}
        async with asyncio.timeout(10):
            while any(name.endswith(".deleted") for name in names(tmp_path / "orders-0")):  # noqa: ASYNC110 - a thread
                await asyncio.sleep(0.01)
        assert (await read_all(log))[0].base_offset <= 155
        await engine.delete(LOG)
        (folder,) = (tmp_path / name for name in names(tmp_path) if name.endswith("-delete"))
        assert re.fullmatch(r"orders-0\.[0-9a-f]{32}-delete", folder.name)
        async with asyncio.timeout(10):
            while folder.exists():  # noqa: ASYNC110 - a thread
                await asyncio.sleep(0.01)


async def test_a_topic_with_the_longest_name_can_be_deleted(tmp_path: Path) -> None:
    longest = LogIdentity("x" * 249, uuid.UUID(int=5).bytes, 0)
    async with engine_at(tmp_path) as engine:
        await fill(await engine.open(longest, dataclasses.replace(CONFIG, file_delete_delay_ms=10_000)), 1)
        await engine.delete(longest)
        (folder,) = (tmp_path / name for name in names(tmp_path) if name.endswith("-delete"))
        assert len(folder.name) == 255


async def test_a_deleted_name_leaves_the_checkpoints_before_it_is_used_again(tmp_path: Path) -> None:
    async with engine_at(tmp_path) as engine:
        log = await engine.open(LOG, CONFIG)
        await fill(log, 20)
        await log.truncate_before(100)
        assert "orders 0 100" in (tmp_path / "log-start-offset-checkpoint").read_text()
        await engine.delete(LOG)
        anew = LogIdentity(LOG.topic, uuid.UUID(int=6).bytes, 0)
        log = await engine.open(anew, CONFIG)
        for name in ("log-start-offset-checkpoint", "recovery-point-offset-checkpoint"):
            assert "orders" not in (tmp_path / name).read_text()
        await fill(log, 2)
        # The old log's deletion asked for again must not touch the new one.
        await engine.delete(LOG)
        assert len(await read_all(log)) == 2


async def test_a_reader_in_a_thread_survives_deletion(tmp_path: Path) -> None:
    disk = WatchedDisk()
    async with engine_at(tmp_path, disk, odradek__open__files__max="16") as engine:
        log = await engine.open(LOG, SEGMENTS)
        kept = await fill(log, 80)
        reads = []
        for offset in range(0, 400, 10):
            got = log.read(offset, 1, log.durable_end)
            if not isinstance(got, list):
                reads.append((offset, asyncio.ensure_future(got)))
        assert reads, "some files are closed by now, and reading them takes a thread"
        await asyncio.sleep(0)
        await log.truncate_before(400)
        await engine.delete(LOG)
        for offset, task in reads:
            try:
                data = joined(await task)
            except OffsetOutOfRange:
                continue
            assert next(split_batches(data))[0] == kept[offset // 10]
    assert disk.open_now == 0


async def test_two_engines_cannot_have_one_directory(tmp_path: Path) -> None:
    async with engine_at(tmp_path):
        with pytest.raises(StorageError, match="in use"):
            async with engine_at(tmp_path):
                pass
    async with engine_at(tmp_path) as engine:
        await fill(await engine.open(LOG, CONFIG), 1)


async def test_a_directory_belongs_to_a_node_and_a_cluster(tmp_path: Path) -> None:
    async def start(**more: object) -> LocalEngine:
        engine = LocalEngine(tmp_path, BrokerConfig(), LoopScheduler(), **more)
        await engine.start()
        await engine.stop()
        return engine

    first = await start(cluster_id="MkU3OEVBNTcwNTJENDM2Qg")
    again = await start()
    assert (again.cluster_id, again.directory_id) == ("MkU3OEVBNTcwNTJENDM2Qg", first.directory_id)
    with pytest.raises(StorageError, match="cluster"):
        await start(cluster_id="AAAAAAAAAAAAAAAAAAAAAA")
    with pytest.raises(StorageError, match="node"):
        await start(node_id=2)
    (tmp_path / "meta.properties").write_bytes(b"\xff\xfe")
    with pytest.raises(StorageError, match=r"meta\.properties"):
        await start()


async def test_a_log_of_another_topic_of_the_same_name_is_not_opened(tmp_path: Path) -> None:
    async with engine_at(tmp_path) as engine:
        await fill(await engine.open(LOG, CONFIG), 1)
    async with engine_at(tmp_path) as engine:
        with pytest.raises(StorageError, match="another topic"):
            await engine.open(LogIdentity(LOG.topic, uuid.UUID(int=(1 << 127) - 1).bytes, 0), CONFIG)
        assert len(await read_all(await engine.open(LOG, CONFIG))) == 1


async def test_a_folder_without_a_topic_id_is_taken_over(tmp_path: Path) -> None:
    async with engine_at(tmp_path) as engine:
        kept = await fill(await engine.open(LOG, CONFIG), 2)
    (tmp_path / "orders-0" / "partition.metadata").unlink()
    async with engine_at(tmp_path) as engine:
        assert engine.identities() == [LogIdentity(LOG.topic, bytes(16), 0)]
        log = await engine.open(LOG, CONFIG)
        assert await read_all(log) == kept
        kept += await fill(log, 1)
    async with engine_at(tmp_path) as engine:
        assert engine.identities() == [LOG]


async def test_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir(parents=True)
    (tmp_path / "a file-0").write_text("x")
    (tmp_path / "notes.txt").write_text("x")
    async with engine_at(tmp_path) as engine:
        assert engine.identities() == []
        await fill(await engine.open(LOG, CONFIG), 1)
        (tmp_path / "orders-0" / "quorum-state").write_text("{}")
    async with engine_at(tmp_path) as engine:
        await engine.open(LOG, CONFIG)
    assert {"lost+found", "a file-0", "notes.txt"} <= names(tmp_path)
    assert "quorum-state" in names(tmp_path / "orders-0")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("00000000000000000012.snapshot", ("producer", 12)),
        ("00000000000000000012-0000000003.checkpoint", ("metadata", 12)),
        ("00000000000000000012.coordinator-snapshot", ("coordinator", 12)),
        ("00000000000000000012.checkpoint", None),
        ("00000000000000000012-0000000003.snapshot", None),
        ("00000000000000000012.log", None),
        ("12.snapshot", None),
        ("00000000000000000012.snapshot.tmp", None),
    ],
)
def test_snapshot_names(name: str, expected: tuple[str, int] | None) -> None:
    parsed = parse_snapshot_name(name)
    assert (parsed[:2] if parsed else None) == expected


@pytest.mark.parametrize(
    "text", [b"", b"#\nversion=1\nnode.id=1\ncluster/id=x\n", b"#\nversion=1\nnode\xafid=1\ncluster.id=x\n", None]
)
async def test_a_directory_that_does_not_say_whose_it_is(tmp_path: Path, text: bytes | None) -> None:
    """A broker that goes on would be another cluster with each start."""
    async with engine_at(tmp_path) as engine:
        _, _, durable = (await engine.open(LOG, CONFIG)).append([make_batch(1)], 0)
        await durable
    (tmp_path / "meta.properties").unlink()
    if text is not None:
        (tmp_path / "meta.properties").write_bytes(text)
    before = names(tmp_path)
    with pytest.raises(StorageError, match=r"meta\.properties"):
        async with engine_at(tmp_path):
            pass
    assert names(tmp_path) == before
