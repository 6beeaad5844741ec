"""What the local engine makes of a data directory after a crash: nothing acknowledged is lost, nothing torn is
served."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import random
import shutil
import uuid
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from odradek.config import BrokerConfig, LogConfig
from odradek.engines.interface import LogIdentity, PartitionLog, Unknown
from odradek.engines.local import Disk, LocalEngine
from odradek.engines.local.flushed_offsets import FLUSHED_OFFSETS, FlushedOffsets
from odradek.loop_scheduler import LoopScheduler
from odradek.records.batch import BatchHeader, check_batch, split_batches
from odradek.records.builder import NewRecord, build_batch
from odradek.records.compression import Codec
from tests.batches import joined, make_batch
from tests.engines.contract import all_headers, retain
from tests.engines.disks import ForgetfulDisk, WatchedDisk

LOG = LogIdentity("orders", uuid.UUID(int=77).bytes, 0)
CONFIG = LogConfig(index_interval_bytes=100, file_delete_delay_ms=0)
SEGMENTS = dataclasses.replace(CONFIG, segment_bytes=1000)
FIRST = "00000000000000000000"


@asynccontextmanager
async def engine_at(folder: Path, disk: Disk | None = None, **settings: str):
    given = {name.replace("__", "."): value for name, value in settings.items()}
    engine = LocalEngine(folder, BrokerConfig(given), LoopScheduler(), disk)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


async def fill(log: PartitionLog, count: int, first: int = 0) -> list[BatchHeader]:
    """Appends batches of ten records; returns their headers as kept."""
    headers = []
    for index in range(first, first + count):
        batch = make_batch(10, timestamp=1_000 + index)
        base_offset, _, durable = log.append([batch], log.epoch)
        await durable
        headers.append(batch.header._replace(base_offset=base_offset, leader_epoch=log.epoch))
    return headers


async def read_all(log: PartitionLog, whole: bool = True) -> list[BatchHeader]:
    """The headers of all that can be read; every batch must be `whole`."""
    offset, found = log.start_offset, []
    while offset < log.durable_end:
        got = log.read(offset, 1 << 20, log.durable_end)
        data = joined(got if isinstance(got, list) else await got)
        some = [check_batch(batch).header if whole else header for header, batch in split_batches(data)]
        assert some
        found += some
        offset = some[-1].next_offset
    return found


async def crashed(
    tmp_path: Path, config: LogConfig = CONFIG, batches: int = 12, killed: bool = False
) -> tuple[Path, list[BatchHeader]]:
    """A directory as a power cut leaves it, or the process being `killed`, and what was in its log. What only memory
    had goes with the power: how far each log was flushed."""
    async with engine_at(tmp_path / "running") as engine:
        log = await engine.open(LOG, config)
        headers = await fill(log, batches)
        engine._states.write_flushed()  # as some milliseconds later
        shutil.copytree(tmp_path / "running", tmp_path / "crashed")
    if not killed:
        (tmp_path / "crashed" / FLUSHED_OFFSETS).unlink()
    return tmp_path / "crashed", headers


async def reopened(folder: Path, config: LogConfig = CONFIG) -> list[BatchHeader]:
    """What a new engine finds in the log; it goes on, and a further restart finds the same and what was added."""
    async with engine_at(folder) as engine:
        log = await engine.open(LOG, config)
        found = await read_all(log)
        assert log.durable_end == log.end_offset == (found[-1].next_offset if found else 0)
        assert log.epoch > max((header.leader_epoch for header in found), default=-1)
        added = await fill(log, 3)
        assert await read_all(log) == found + added
    async with engine_at(folder) as engine:
        assert await read_all(await engine.open(LOG, config)) == found + added
    return found


async def test_a_killed_process_loses_nothing(tmp_path: Path) -> None:
    folder, headers = await crashed(tmp_path, SEGMENTS, 40)
    assert await reopened(folder, SEGMENTS) == headers


async def test_a_torn_tail_is_cut_wherever_it_tears(tmp_path: Path) -> None:
    folder, headers = await crashed(tmp_path)
    path = folder / "orders-0" / f"{FIRST}.log"
    whole = path.read_bytes()
    size = headers[0].size
    for length in range(len(whole) - 2 * size, len(whole)):
        work = tmp_path / "work"
        shutil.copytree(folder, work)
        (work / "orders-0" / f"{FIRST}.log").write_bytes(whole[:length])
        async with engine_at(work) as engine:
            log = await engine.open(LOG, CONFIG)
            assert await read_all(log) == headers[: length // size], length
            assert log.end_offset == length // size * 10
            assert (work / "orders-0" / f"{FIRST}.log").stat().st_size == length // size * size
        shutil.rmtree(work)


@pytest.mark.parametrize("tail", [b"\0" * 500, b"\xff" * 500, b"\0" * 7, bytes(range(256))])
async def test_garbage_after_the_last_batch_is_cut(tmp_path: Path, tail: bytes) -> None:
    folder, headers = await crashed(tmp_path)
    path = folder / "orders-0" / f"{FIRST}.log"
    path.write_bytes(path.read_bytes() + tail)
    assert await reopened(folder) == headers


@pytest.mark.parametrize("position", [17, 21, 40, 61, 100, 8, 16, 0])
async def test_the_log_ends_before_the_first_batch_that_is_not_whole(tmp_path: Path, position: int) -> None:
    folder, headers = await crashed(tmp_path)
    path = folder / "orders-0" / f"{FIRST}.log"
    data = bytearray(path.read_bytes())
    data[5 * headers[0].size + position] ^= 0x55
    path.write_bytes(data)
    assert await reopened(folder) == headers[:5]


async def test_segments_after_a_torn_one_go(tmp_path: Path) -> None:
    folder, headers = await crashed(tmp_path, SEGMENTS, 40)
    names = sorted(path.name for path in (folder / "orders-0").glob("*.log"))
    middle = folder / "orders-0" / names[len(names) // 2]
    data = bytearray(middle.read_bytes())
    data[70:74] = b"torn"
    middle.write_bytes(data)
    base_offset = int(middle.stem)
    assert await reopened(folder, SEGMENTS) == [header for header in headers if header.base_offset < base_offset]


async def test_epochs_that_a_scan_found_are_kept(tmp_path: Path) -> None:
    """The next start may not scan as far back: without them it would use an epoch twice."""
    folder, _ = await crashed(tmp_path, SEGMENTS)
    checkpoint = folder / "orders-0" / "leader-epoch-checkpoint"
    text = checkpoint.read_text()
    checkpoint.unlink()
    async with engine_at(folder) as engine:
        await engine.open(LOG, SEGMENTS)
        assert checkpoint.read_text() == text


@pytest.mark.parametrize("batches", [0, 1])
async def test_segments_after_one_that_lost_its_end_go(tmp_path: Path, batches: int) -> None:
    """A power cut may keep a segment and lose whole batches, or all, of the one before."""
    folder, headers = await crashed(tmp_path, SEGMENTS)
    names = sorted(path.name for path in (folder / "orders-0").glob("*.log"))
    second = int(names[1].partition(".")[0])
    first = [header for header in headers if header.base_offset < second]
    assert len(names) > 2 and len(first) > 1
    kept = first[:batches]
    os.truncate(folder / "orders-0" / names[0], sum(header.size for header in kept))
    assert await reopened(folder, SEGMENTS) == kept


async def test_below_the_recovery_point_nothing_is_checked(tmp_path: Path) -> None:
    """Damage to what was flushed long ago is not a torn tail: cutting there would lose all that follows."""
    folder, headers = await crashed(tmp_path, SEGMENTS, 40)
    (folder / "recovery-point-offset-checkpoint").write_text("0\n1\norders 0 400\n")
    path = folder / "orders-0" / f"{FIRST}.log"
    data = bytearray(path.read_bytes())
    data[70] ^= 1
    path.write_bytes(data)
    disk = WatchedDisk()
    async with engine_at(folder, disk) as engine:
        log = await engine.open(LOG, SEGMENTS)
        assert log.end_offset == 400
        assert disk.bytes_read < 4_000
        assert await read_all(log, whole=False) == headers


async def test_the_recovery_point_may_lie_inside_a_segment(tmp_path: Path) -> None:
    for point in (0, 10, 55, 60, 119, 120):
        folder, headers = await crashed(tmp_path / str(point))
        (folder / "recovery-point-offset-checkpoint").write_text(f"0\n1\norders 0 {point}\n")
        data = bytearray((folder / "orders-0" / f"{FIRST}.log").read_bytes())
        damaged = 8
        data[damaged * headers[0].size + 70] ^= 1
        (folder / "orders-0" / f"{FIRST}.log").write_bytes(data)
        async with engine_at(folder) as engine:
            log = await engine.open(LOG, CONFIG)
            assert log.end_offset == (120 if point >= (damaged + 1) * 10 else damaged * 10)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "missing": lambda path: path.unlink(missing_ok=True),
    "empty": lambda path: path.write_bytes(b""),
    "odd": lambda path: path.write_bytes(b"\x01" * 13),
    "zeros": lambda path: path.write_bytes(bytes(240)),
    "ones": lambda path: path.write_bytes(b"\xff" * 240),
    "random": lambda path: path.write_bytes(random.Random(3).randbytes(240)),
    "shifted": lambda path: path.write_bytes(
        b"".join(
            (i * 7 + 3).to_bytes(4, "big") + (i * 55 + 9).to_bytes(4, "big") + bytes(4 * (i % 1)) for i in range(30)
        )
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("suffix", [".index", ".timeindex"])
@pytest.mark.parametrize("stop", ["clean", "crash"])
async def test_a_damaged_index_is_never_trusted(tmp_path: Path, damage: str, suffix: str, stop: str) -> None:
    if stop == "crash":
        folder, headers = await crashed(tmp_path, SEGMENTS, 40)
    else:
        folder = tmp_path / "clean"
        async with engine_at(folder) as engine:
            headers = await fill(await engine.open(LOG, SEGMENTS), 40)
    for path in (folder / "orders-0").glob("*.log"):
        DAMAGES[damage](path.with_suffix(suffix))
    async with engine_at(folder) as engine:
        log = await engine.open(LOG, SEGMENTS)
        assert await read_all(log) == headers
        for offset in range(0, 400, 7):
            got = log.read(offset, 1, log.durable_end)
            data = joined(got if isinstance(got, list) else await got)
            assert [header for header, _ in split_batches(data)] == [headers[offset // 10]]
        for index in range(40):
            found = await log.find_by_timestamp(1_000 + index, log.durable_end)
            assert found == (index * 10, 1_000 + index)
        assert await log.find_max_timestamp(log.durable_end) == (390, 1_039)
        for offset in (0, 55, 399):
            assert await all_headers(log, offset) == headers[offset // 10 :]
    assert await reopened(folder, SEGMENTS) == headers


@pytest.mark.parametrize("max_timestamp", [-1, 0])
@pytest.mark.parametrize("stop", ["clean", "crash"])
async def test_times_that_headers_leave_unset_are_read_from_the_records(
    tmp_path: Path, stop: str, max_timestamp: int
) -> None:
    async with engine_at(tmp_path / "clean") as engine:
        log = await engine.open(LOG, SEGMENTS)
        for index in range(40):
            records = [NewRecord(b"k", b"v" * 50, 10_000 + 100 * index + time) for time in (0, 70, 30)]
            header = (batch := build_batch(records, codec=Codec.GZIP)).header
            log.append([batch.with_header(header._replace(max_timestamp=max_timestamp))], log.epoch)
        await log.flush()
        shutil.copytree(tmp_path / "clean", tmp_path / "crash")
    async with engine_at(tmp_path / stop) as engine:
        log = await engine.open(LOG, dataclasses.replace(SEGMENTS, retention_ms=1_000))
        for index in range(40):
            found = await log.find_by_timestamp(10_001 + 100 * index, log.durable_end)
            assert found is not None and found.base_offset == 3 * index
        found = await log.find_max_timestamp(log.durable_end)
        assert found is not None and found.base_offset == 117
        # The first segments have expired, what is in the last ones has not.
        assert await retain(log, 12_500, log.durable_end) > 0
        assert 0 < log.start_offset <= 3 * 15
        assert await retain(log, 14_970, log.durable_end) > 0 and log.start_offset < log.end_offset
        assert await retain(log, 14_971, log.durable_end) > 0 and log.start_offset == log.end_offset


@pytest.mark.parametrize(
    "name", ["recovery-point-offset-checkpoint", "log-start-offset-checkpoint", "replication-offset-checkpoint"]
)
@pytest.mark.parametrize("content", [None, "", "garbage", "0\n5\norders 0 3\n", "0\n1\norders 0 x\n", "9\n0\n"])
async def test_a_damaged_checkpoint_is_done_without(tmp_path: Path, name: str, content: str | None) -> None:
    folder, headers = await crashed(tmp_path, SEGMENTS, 20)
    if content is None:
        (folder / name).unlink(missing_ok=True)
    else:
        (folder / name).write_text(content)
    assert await reopened(folder, SEGMENTS) == headers


@pytest.mark.parametrize("content", [None, "", "garbage", "0\n2\n3 0\n1 5\n"])
@pytest.mark.parametrize("stop", ["clean", "crash"])
async def test_the_leader_epochs_are_made_again_from_the_batches(
    tmp_path: Path, content: str | None, stop: str
) -> None:
    folder = tmp_path / "running"
    for epoch in range(3):
        async with engine_at(folder) as engine:
            log = await engine.open(LOG, SEGMENTS)
            assert log.epoch == epoch
            await fill(log, 10)
            if stop == "crash" and epoch == 2:
                shutil.copytree(folder, tmp_path / "crashed")
    folder = tmp_path / "crashed" if stop == "crash" else folder
    path = folder / "orders-0" / "leader-epoch-checkpoint"
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    async with engine_at(folder) as engine:
        log = await engine.open(LOG, SEGMENTS)
        assert log.epoch == 3
        assert [log.epoch_end(epoch, 300) for epoch in range(3)] == [(0, 100), (1, 200), (2, 300)]


async def test_an_epoch_that_lost_its_batches_is_not_used_again(tmp_path: Path) -> None:
    folder, _ = await crashed(tmp_path)
    (folder / "orders-0" / f"{FIRST}.log").write_bytes(b"")
    async with engine_at(folder) as engine:
        log = await engine.open(LOG, CONFIG)
        assert (log.epoch, log.end_offset, log.last_epoch()) == (1, 0, 0)


@pytest.mark.parametrize("stop", ["clean", "crash"])
async def test_an_epoch_whose_batches_were_deleted_is_not_used_again(tmp_path: Path, stop: str) -> None:
    async with engine_at(tmp_path / "clean") as engine:
        log = await engine.open(LOG, CONFIG)
        await fill(log, 3)
        log.configure(dataclasses.replace(CONFIG, retention_ms=0))
        assert await retain(log, 1 << 50, log.durable_end) > 0
        assert (log.start_offset, log.size_bytes()) == (30, 0)
        shutil.copytree(tmp_path / "clean", tmp_path / "crash")
    async with engine_at(tmp_path / stop) as engine:
        log = await engine.open(LOG, CONFIG)
        assert (log.start_offset, log.end_offset, log.epoch) == (30, 30, 1)


async def test_a_start_offset_beyond_what_the_disk_kept(tmp_path: Path) -> None:
    """What was written in os mode, and deleted by DeleteRecords, before the power went."""
    async with engine_at(tmp_path / "running") as engine:
        log = await engine.open(LOG, dataclasses.replace(CONFIG, flush="os"))
        headers = await fill(log, 12)
        await log.truncate_before(100)
        shutil.copytree(tmp_path / "running", folder := tmp_path / "crashed")
    path = folder / "orders-0" / f"{FIRST}.log"
    path.write_bytes(path.read_bytes()[: 6 * headers[0].size])
    async with engine_at(folder) as engine:
        log = await engine.open(LOG, CONFIG)
        assert (log.start_offset, log.end_offset) == (100, 100)
        assert (await fill(log, 1))[0].base_offset == 100
    async with engine_at(folder) as engine:
        log = await engine.open(LOG, CONFIG)
        assert (log.start_offset, log.end_offset) == (100, 110)


CHECKPOINTS = ("log-start-offset-checkpoint", "recovery-point-offset-checkpoint", "replication-offset-checkpoint")


@pytest.mark.parametrize("stop", ["clean", "killed", "without its file"])
@pytest.mark.parametrize("number", [500, 10**12])
@pytest.mark.parametrize("name", CHECKPOINTS)
async def test_a_number_that_the_log_does_not_bear_out(
    tmp_path: Path, name: str, number: int, stop: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A digit of a checkpoint is damaged: nothing is deleted, and no offset is given that was never there."""
    async with engine_at(tmp_path / "clean") as engine:
        headers = await fill(await engine.open(LOG, SEGMENTS), 12)
        shutil.copytree(tmp_path / "clean", tmp_path / "killed")
    folder = tmp_path / ("killed" if stop == "killed" else "clean")
    if stop == "without its file":  # as another program, or an earlier version, leaves it
        (folder / FLUSHED_OFFSETS).unlink()
    (folder / name).write_text(f"0\n1\norders 0 {number}\n")
    async with engine_at(folder) as engine:
        log = await engine.open(LOG, SEGMENTS)
        assert (log.start_offset, log.end_offset) == (0, 120)
        assert await read_all(log) == headers
        headers += await fill(log, 1)
        assert headers[-1].base_offset == 120
    if name != CHECKPOINTS[2]:
        assert f"{name} says {number}" in caplog.text
    async with engine_at(folder) as engine:
        assert await read_all(await engine.open(LOG, SEGMENTS)) == headers


@pytest.mark.parametrize("stop", ["clean", "killed"])
@pytest.mark.parametrize("digit", [0, 35, 90])
async def test_a_start_offset_with_a_damaged_digit(
    tmp_path: Path, digit: int, stop: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing shows whether records below a number within the log were deleted, but the entry with a checksum."""
    async with engine_at(tmp_path / "clean") as engine:
        log = await engine.open(LOG, CONFIG)
        headers = await fill(log, 12)
        await log.truncate_before(30)
        shutil.copytree(tmp_path / "clean", tmp_path / "killed")
    (tmp_path / stop / CHECKPOINTS[0]).write_text(f"0\n1\norders 0 {digit}\n")
    async with engine_at(tmp_path / stop) as engine:
        log = await engine.open(LOG, CONFIG)
        assert log.start_offset == 30
        assert await read_all(log) == headers[3:]
    assert "30 is believed" in caplog.text


@pytest.mark.parametrize("moved", [True, False])
async def test_others_may_have_written_the_directory(tmp_path: Path, moved: bool) -> None:
    """Apache Kafka, or an earlier version of this broker, deletes records and does not know our file."""
    async with engine_at(tmp_path) as engine:
        headers = await fill(await engine.open(LOG, CONFIG), 12)
    before = (tmp_path / FLUSHED_OFFSETS).read_bytes()
    async with engine_at(tmp_path) as engine:
        log = await engine.open(LOG, CONFIG)
        headers += await fill(log, 1)
        await log.truncate_before(50)
    (tmp_path / FLUSHED_OFFSETS).write_bytes(before)
    if not moved:
        (tmp_path / CHECKPOINTS[1]).write_text("0\n1\norders 0 120\n")
    async with engine_at(tmp_path) as engine:
        log = await engine.open(LOG, CONFIG)
        assert log.start_offset == (50 if moved else 0)
        assert (await read_all(log))[-8:] == headers[-8:]


async def test_no_text_is_newer_than_its_witness(tmp_path: Path) -> None:
    """Also of a log whose flush shared a round with one that failed."""
    disk = WatchedDisk()
    other = LogIdentity("other", uuid.UUID(int=78).bytes, 0)
    async with engine_at(tmp_path / "running", disk) as engine:
        log, failing = await engine.open(LOG, CONFIG), await engine.open(other, CONFIG)
        headers = await fill(log, 2)
        await fill(failing, 1)
        disk.fail("sync", where="other-0")
        appended = [one.append([make_batch(10)], one.epoch) for one in (log, failing)]
        await asyncio.wait([one.durable for one in appended])
        assert appended[0].durable.exception() is None and appended[1].durable.exception() is not None
        disk.heal()
        await log.truncate_before(headers[0].next_offset)  # writes the checkpoints
        shutil.copytree(tmp_path / "running", tmp_path / "killed")
    recovery_points = (tmp_path / "killed" / CHECKPOINTS[1]).read_text()
    assert "orders 0 30" in recovery_points
    flushed = FlushedOffsets(Disk(), str(tmp_path / "killed" / FLUSHED_OFFSETS))
    assert flushed.read() == []
    assert flushed.found[LOG.topic_id, 0][:2] == (30, 10)
    flushed.close()


def flip(file: Path, position: int) -> None:
    data = bytearray(file.read_bytes())
    data[position] ^= 0x10
    file.write_bytes(data)


# Of a batch: its base offset, length (made huge, or a little too large), magic, CRC, records.
@pytest.mark.parametrize("byte", [0, 6, 8, 9, 11, 16, 18, 70])
@pytest.mark.parametrize("stop", ["clean", "killed"])
async def test_what_is_behind_a_damaged_batch_is_still_there(
    tmp_path: Path, byte: int, stop: str, caplog: pytest.LogCaptureFixture
) -> None:
    """996 of 1,000 flushed records were cut off because of one bit within the last minute before a kill."""
    folder, headers = await crashed(tmp_path, batches=40, killed=stop == "killed")
    if stop == "clean":
        folder = tmp_path / "running"
    size = headers[0].size
    flip(folder / "orders-0" / f"{FIRST}.log", 3 * size + byte)
    async with engine_at(folder) as engine:
        log = await engine.open(LOG, CONFIG)
        assert (log.start_offset, log.end_offset) == (0, 400)
        for header in (*headers[:3], *headers[4:]):
            got = log.read(header.base_offset, size, 400)
            data = joined(got if isinstance(got, list) else await got)
            assert check_batch(data[:size]).header == header
        if 8 <= byte <= 16 and byte != 11:  # with a length a little too large, the client's checksum says it
            with pytest.raises(Unknown, match="damaged at byte") as told:
                got = log.read(35, 1 << 20, 400)
                await got  # type: ignore[misc]
            assert "offset 35" in str(told.value)
        headers += await fill(log, 2)
        assert headers[-2].base_offset == 400
    async with engine_at(folder) as engine:
        log = await engine.open(LOG, CONFIG)
        assert log.end_offset == 420
        got = log.read(410, size, 420)
        assert check_batch(joined(got if isinstance(got, list) else await got)).header == headers[-1]


@pytest.mark.parametrize("stop", ["clean", "killed"])
@pytest.mark.parametrize("deletes", [False, True])
async def test_a_first_segment_that_is_missing_is_said(
    tmp_path: Path, deletes: bool, stop: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told from those that were deleted, also when the broker was killed right after."""
    async with engine_at(tmp_path / "clean") as engine:
        log = await engine.open(LOG, SEGMENTS)
        headers = await fill(log, 20)
        if deletes:
            await log.delete_segments(60)
            assert log.start_offset == 60
        shutil.copytree(tmp_path / "clean", tmp_path / "killed")
    for folder, is_gone in ((tmp_path / stop, False), (tmp_path / stop, True)):
        first = sorted((folder / "orders-0").glob("*.log"))[0]
        if is_gone:
            first.unlink()
        begin = int(sorted((folder / "orders-0").glob("*.log"))[0].stem)
        async with engine_at(folder) as engine:
            log = await engine.open(LOG, SEGMENTS)
            assert log.start_offset == begin
            assert await read_all(log) == [one for one in headers if one.base_offset >= begin]
            assert engine.counters.damages == is_gone
        if is_gone:
            assert f"offsets {int(first.stem)} to {begin - 1} are in no segment" in caplog.text
    async with engine_at(tmp_path / stop) as engine:
        await engine.open(LOG, SEGMENTS)
        assert engine.counters.damages == 0, "said once"


@pytest.mark.parametrize("stop", ["clean", "killed"])
@pytest.mark.parametrize("how", ["missing", "empty", "cut short"])
async def test_a_hole_in_the_middle_is_said(
    tmp_path: Path, how: str, stop: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder, headers = await crashed(tmp_path, SEGMENTS, batches=20, killed=stop == "killed")
    if stop == "clean":
        folder = tmp_path / "running"
    path = sorted((folder / "orders-0").glob("*.log"))[2]
    first = int(path.stem)
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: headers[0].size] if how == "cut short" else b"")
        first += 10 if how == "cut short" else 0
    end = int(sorted((folder / "orders-0").glob("*.log"))[2 if how == "missing" else 3].stem)
    async with engine_at(folder) as engine:
        log = await engine.open(LOG, SEGMENTS)
        async with asyncio.timeout(10):
            while engine.counters.damages == 0:  # noqa: ASYNC110 - a thread looks
                await asyncio.sleep(0.001)
        assert f"offsets {first} to {end - 1}" in caplog.text
        assert await read_all(log) == [one for one in headers if not first <= one.base_offset < end]


async def test_producer_snapshots_beyond_the_end_go(tmp_path: Path) -> None:
    async with engine_at(tmp_path / "running") as engine:
        log = await engine.open(LOG, CONFIG)
        headers = await fill(log, 12)
        await log.save_snapshot("producer", 60, b"older")
        await log.save_snapshot("producer", 120, b"newer")
        shutil.copytree(tmp_path / "running", tmp_path / "crashed")
    (tmp_path / "crashed" / FLUSHED_OFFSETS).unlink()
    path = tmp_path / "crashed" / "orders-0" / f"{FIRST}.log"
    path.write_bytes(path.read_bytes()[: 9 * headers[0].size])
    async with engine_at(tmp_path / "crashed") as engine:
        log = await engine.open(LOG, CONFIG)
        assert await log.load_snapshot("producer", 1000) == (60, b"older")
    assert not (tmp_path / "crashed" / "orders-0" / "00000000000000000120.snapshot").exists()


async def test_leftovers_of_deletion_and_compaction(tmp_path: Path) -> None:
    folder, headers = await crashed(tmp_path, SEGMENTS, 20)
    log_folder = folder / "orders-0"
    bases = sorted(path.stem for path in log_folder.glob("*.log"))
    shutil.copy(log_folder / f"{bases[0]}.log", log_folder / f"{bases[0]}.log.deleted")
    # An interrupted rewriting of the last segments: incomplete, and what stands behind it in order as well.
    (log_folder / f"{bases[3]}.log.cleaned").write_bytes(b"half")
    shutil.copy(log_folder / f"{bases[4]}.log", log_folder / f"{bases[4]}.log.swap")
    # A complete one, of the first two segments into one.
    both = (log_folder / f"{bases[0]}.log").read_bytes() + (log_folder / f"{bases[1]}.log").read_bytes()
    (log_folder / f"{bases[0]}.log.swap").write_bytes(both)
    (log_folder / f"{bases[0]}.index.swap").write_bytes(b"")
    (log_folder / f"{bases[0]}.timeindex.swap").write_bytes(b"")
    (log_folder / "99999999999999999999.index").write_bytes(b"")
    (folder / f"gone-0.{'a' * 32}-delete").mkdir()
    (folder / f"gone-0.{'a' * 32}-delete" / f"{FIRST}.log").write_bytes(b"old")
    async with engine_at(folder) as engine:
        assert engine.identities() == [LOG]
        log = await engine.open(LOG, SEGMENTS)
        assert await read_all(log) == headers
        names = {path.name for path in log_folder.iterdir()}
        assert not [name for name in names if name.endswith((".deleted", ".cleaned", ".swap"))]
        assert f"{bases[1]}.log" not in names
        assert (log_folder / f"{bases[0]}.log").read_bytes() == both
        assert "99999999999999999999.index" not in names
        async with asyncio.timeout(10):
            while list(folder.glob("*-delete")):  # noqa: ASYNC110 - a thread removes it
                await asyncio.sleep(0.01)


async def test_a_clean_restart_does_not_scan(tmp_path: Path) -> None:
    config = dataclasses.replace(LogConfig(), segment_bytes=200_000)
    folder = tmp_path / "data"
    async with engine_at(folder) as engine:
        log = await engine.open(LOG, config)
        for _ in range(1_000):
            log.append([make_batch(1, size=1_000)], 0)
        await log.flush()
        size = log.size_bytes()
    assert (folder / ".kafka_cleanshutdown").exists()
    disk = WatchedDisk()
    async with engine_at(folder, disk) as engine:
        log = await engine.open(LOG, config)
        assert log.end_offset == 1_000
        assert log.size_bytes() == size > 1_000_000
        assert disk.bytes_read < 20_000
        assert disk.counts["sync"] == 0
        assert not (folder / ".kafka_cleanshutdown").exists()
    assert (folder / ".kafka_cleanshutdown").exists()


async def test_a_stop_with_logs_still_in_doubt_is_not_marked_clean(tmp_path: Path) -> None:
    folder, _ = await crashed(tmp_path)
    async with engine_at(folder):
        pass
    assert not (folder / ".kafka_cleanshutdown").exists()
    async with engine_at(folder) as engine:
        await engine.open(LOG, CONFIG)
    assert (folder / ".kafka_cleanshutdown").exists()


@pytest.mark.parametrize("seed", range(25))
async def test_a_power_cut_takes_back_nothing_acknowledged(tmp_path: Path, seed: int) -> None:
    """Random use of a few logs, then at any moment a power cut or the process killed, several times over."""
    chance = random.Random(seed)
    logs = [LogIdentity(f"t{index}", uuid.UUID(int=index + 1).bytes, 0) for index in range(6)]
    acknowledged: dict[LogIdentity, dict[int, BatchHeader]] = {log: {} for log in logs}
    starts = dict.fromkeys(logs, 0)
    epochs = dict.fromkeys(logs, -1)
    config = dataclasses.replace(SEGMENTS, file_delete_delay_ms=chance.choice((0, 1_000_000)))
    folder = tmp_path / "0"
    disk = ForgetfulDisk(folder)
    for cut in range(1, 12):
        settings = {"odradek.flush.syncfs.files": chance.choice(("1", "8"))}
        engine = LocalEngine(folder, BrokerConfig(settings), LoopScheduler(), disk)
        await engine.start()
        opened: dict[LogIdentity, PartitionLog] = {}

        def note(
            identity: LogIdentity,
            header: BatchHeader,
            durable: asyncio.Future[None],
            acknowledged: dict[LogIdentity, dict[int, BatchHeader]] = acknowledged,
        ) -> None:
            if durable.exception() is None:
                acknowledged[identity][header.base_offset] = header

        for _ in range(chance.randint(1, chance.choice((4, 15, 100)))):
            identity = chance.choice(logs)
            if identity not in opened:
                log = opened[identity] = await engine.open(identity, config)
                kept = {header.base_offset: header for header in await read_all(log)}
                assert log.start_offset >= starts[identity]
                for base_offset, header in acknowledged[identity].items():
                    if header.next_offset > log.start_offset:
                        assert kept.get(base_offset) == header, f"{identity} lost {base_offset}"
                assert log.epoch > epochs[identity]
                acknowledged[identity] = {**kept}
            log = opened[identity]
            action = chance.random()
            if action < 0.75:
                batch = make_batch(
                    chance.randint(1, 10), timestamp=chance.randint(0, 9_000), size=chance.randint(0, 90)
                )
                base_offset, _, durable = log.append([batch], log.epoch)
                header = batch.header._replace(base_offset=base_offset, leader_epoch=log.epoch)
                epochs[identity] = max(epochs[identity], log.epoch if durable.done() else -1)
                durable.add_done_callback(lambda done, i=identity, h=header: note(i, h, done))
                if chance.random() < 0.2:
                    await durable
                    epochs[identity] = log.epoch
            elif action < 0.85:
                await asyncio.sleep(0)
            elif action < 0.9 and log.durable_end > log.start_offset:
                start = chance.randint(log.start_offset, log.durable_end)
                await log.truncate_before(start)
                starts[identity] = start
            elif action < 0.95:
                await log.save_snapshot("producer", log.end_offset, b"state")
                assert (await log.load_snapshot("producer", log.end_offset)) == (log.end_offset, b"state")
            else:
                await log.close()
                del opened[identity]
        # Nothing of the loop runs from here to the end, so that `acknowledged` is what clients know.
        known = {identity: dict(headers) for identity, headers in acknowledged.items()}
        if chance.random() < 0.5:
            disk.power_cut(tmp_path / str(cut), chance)
            folder = tmp_path / str(cut)
            killed, disk = disk, ForgetfulDisk(folder)
        else:
            killed, disk = disk, ForgetfulDisk(folder, disk)
        killed.killed = True
        await engine.stop()
        if disk._kept is not killed._kept:
            killed.forget()
        acknowledged = known
    disk.forget()


async def test_a_log_that_was_only_opened_keeps_its_witness(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In os mode little of a log is flushed. A start checks the rest, flushes it, and puts that into the checkpoints;
    the entry with a checksum must not stay behind them, or it would count as the older one of the two."""
    config = dataclasses.replace(CONFIG, flush="os")
    another = LOG._replace(partition=1)
    async with engine_at(tmp_path / "running") as engine:
        headers = await fill(await engine.open(LOG, config), 12)
        await fill(await engine.open(another, CONFIG), 2)
        shutil.copytree(tmp_path / "running", tmp_path / "killed")
    async with engine_at(tmp_path / "killed") as engine:
        await engine.open(LOG, config)
        await (await engine.open(another, CONFIG)).truncate_before(10)  # which writes the checkpoints
        shutil.copytree(tmp_path / "killed", tmp_path / "killed again")
    folder = tmp_path / "killed again"
    path = sorted((folder / "orders-0").glob("*.log"))[-1]
    path.write_bytes(path.read_bytes()[: -headers[0].size])
    caplog.clear()
    async with engine_at(folder) as engine:
        log = await engine.open(LOG, config)
        assert log.end_offset == 120
        assert engine.counters.damages
    assert "others wrote this directory" not in caplog.text
    assert "was flushed up to offset 120" in caplog.text


@pytest.mark.parametrize("stop", ["clean", "killed"])
@pytest.mark.parametrize("lost", ["folder", "files", "folder of an emptied log"])
async def test_a_folder_that_is_gone_is_said(
    tmp_path: Path, lost: str, stop: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its records are lost, but their offsets are not given to others, and it is no log that never had any."""
    async with engine_at(tmp_path / "clean") as engine:
        log = await engine.open(LOG, CONFIG)
        await fill(log, 12)
        if lost == "folder of an emptied log":
            await log.truncate_before(120)
        engine._states.write_flushed()
        shutil.copytree(tmp_path / "clean", tmp_path / "killed")
    folder = tmp_path / stop
    shutil.rmtree(folder / "orders-0")
    if lost == "files":
        (folder / "orders-0").mkdir()
    for times in range(2):
        caplog.clear()
        async with engine_at(folder) as engine:
            log = await engine.open(LOG, CONFIG)
            assert log.end_offset >= 120
            assert log.epoch > times, "no leader epoch is used twice"
            if times == 0:
                assert engine.counters.damages and "was flushed up to offset 120" in caplog.text
            (kept,) = await fill(log, 1)
            assert kept.base_offset >= 120
            got = log.read(kept.base_offset, 1 << 20, log.durable_end)
            assert check_batch(joined(got if isinstance(got, list) else await got)).header == kept
            shutil.copytree(folder, tmp_path / f"{times}")
        folder = tmp_path / f"{times}"  # as a kill leaves it


async def test_offsets_of_topics_that_were_deleted_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a kill came between the deletion and its note; but not while logs may still be opened."""
    async with engine_at(tmp_path / "waits", log__flush__offset__checkpoint__interval__ms="1") as engine:
        await fill(await engine.open(LOG, CONFIG), 1)
    shutil.rmtree(tmp_path / "waits" / "orders-0")
    async with engine_at(tmp_path / "waits", log__flush__offset__checkpoint__interval__ms="1") as engine:
        await fill(await engine.open(LOG._replace(topic="other", topic_id=bytes(15) + b"x"), CONFIG), 1)
        async with asyncio.timeout(10):
            while not (tmp_path / "waits" / CHECKPOINTS[1]).read_text().count("other"):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert (await engine.open(LOG, CONFIG)).end_offset == 10
    monkeypatch.setattr("odradek.engines.local.engine.OPENINGS_OVER_S", 0.0)
    async with engine_at(tmp_path / "first", log__flush__offset__checkpoint__interval__ms="1") as engine:
        await fill(await engine.open(LOG, CONFIG), 1)
    shutil.rmtree(tmp_path / "first" / "orders-0")
    size = (tmp_path / "first" / FLUSHED_OFFSETS).stat().st_size
    for number in range(1, 4):
        async with engine_at(tmp_path / "first", log__flush__offset__checkpoint__interval__ms="1") as engine:
            async with asyncio.timeout(10):
                while engine._flushed.found:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
            await fill(await engine.open(LOG._replace(topic_id=uuid.UUID(int=number).bytes), CONFIG), 1)
            await engine.delete(LOG._replace(topic_id=uuid.UUID(int=number).bytes))
    assert (tmp_path / "first" / FLUSHED_OFFSETS).stat().st_size == size


async def test_a_segment_cut_in_its_last_batch_lacks_only_that(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The last entry of its index points to what is no longer whole."""
    config = dataclasses.replace(SEGMENTS, index_interval_bytes=1)
    async with engine_at(tmp_path) as engine:
        await fill(await engine.open(LOG, config), 20)
    segments = sorted((tmp_path / "orders-0").glob("*.log"))
    segments[2].write_bytes(segments[2].read_bytes()[:-1])
    end = int(segments[3].stem)
    async with engine_at(tmp_path) as engine:
        await engine.open(LOG, config)
        async with asyncio.timeout(10):
            while engine.counters.damages == 0:  # noqa: ASYNC110 - a thread looks
                await asyncio.sleep(0.001)
    assert f"offsets {end - 10} to {end - 1} are in no segment" in caplog.text
