"""The engine contract as code: one suite for every engine. A new behaviour of an engine starts here.

A test gets a `Place`: somewhere an engine can be started, stopped and started again; what failures are about gets a
`FailingPlace`. What only some engines can do is asked of their `capabilities`, never of their names.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import random
import uuid
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from odradek.clock import SystemClock
from odradek.config import BrokerConfig, LogConfig
from odradek.engines.interface import (
    Engine,
    EpochEnd,
    Found,
    LogFailure,
    LogIdentity,
    OffsetOutOfRange,
    PartitionLog,
    Refused,
    StorageFull,
    Unknown,
    Unread,
)
from odradek.engines.local import LocalEngine, lookup
from odradek.engines.local.log import LocalLog
from odradek.engines.memory import MemoryEngine
from odradek.loop_scheduler import LoopScheduler
from odradek.partitions import retention
from odradek.records.batch import PREFIX_BYTES, BatchHeader, RecordBatch, check_batch, split_batches
from odradek.records.builder import CONTROL_COMMIT, NewRecord, build_batch, build_control_batch
from odradek.records.compression import Codec
from tests.batches import joined, make_batch
from tests.engines.failing_places import FAILING_PLACES, FailingPlace

Place = Callable[[], Engine]
TOPIC_ID = uuid.UUID(int=77).bytes
LOG = LogIdentity("orders", TOPIC_ID, 0)
CONFIG = LogConfig()
# Four batches of ten records with these values fill a segment.
SMALL_SEGMENTS = LogConfig(segment_bytes=1000, index_interval_bytes=100, file_delete_delay_ms=0)


def memory_place(_: Path) -> Place:
    engine = MemoryEngine()
    return lambda: engine


def local_place(folder: Path) -> Place:
    return lambda: LocalEngine(folder / "data", BrokerConfig(), LoopScheduler())


PLACES = {"memory": memory_place, "local": local_place}


@pytest.fixture(params=sorted(PLACES))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return PLACES[request.param](tmp_path)


@pytest.fixture(params=sorted(FAILING_PLACES))
def failing_place(request: pytest.FixtureRequest, tmp_path: Path) -> FailingPlace:
    return FAILING_PLACES[request.param](tmp_path)


def test_every_engine_is_asked_what_it_does_when_its_place_fails() -> None:
    assert FAILING_PLACES.keys() == PLACES.keys()


@asynccontextmanager
async def running(place: Place):
    engine = place()
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


async def add(log: PartitionLog, *batches: RecordBatch) -> int:
    """Appends, awaits durability, returns the base offset."""
    base_offset, _, durable = log.append(batches, log.epoch)
    await durable
    return base_offset


async def read(
    log: PartitionLog, offset: int, max_bytes: int = 1 << 20, upto: int | None = None, **more: bool
) -> bytes:
    found = log.read(offset, max_bytes, log.durable_end if upto is None else upto, **more)
    return joined(found if isinstance(found, list) else await found)


async def read_headers(log: PartitionLog, offset: int, upto: int | None = None) -> list[BatchHeader]:
    """All headers from `offset` to the end, by as many reads as it takes."""
    found: list[BatchHeader] = []
    upto = log.durable_end if upto is None else upto
    while offset < upto:
        some = [header for header, _ in split_batches(await read(log, offset, upto=upto))]
        assert some, (offset, upto)
        found += some
        offset = some[-1].next_offset
    return found


async def all_headers(log: PartitionLog, offset: int) -> list[BatchHeader]:
    """Also of what is not durable yet."""
    return await read_headers(log, offset, log.end_offset)


async def retain(log: PartitionLog, now_ms: int, upto: int) -> int:
    """Deletes what retention no longer keeps; returns the bytes."""
    found = await retention.expendable(log, now_ms, upto)
    return await retention.delete(log, found[-1].end_offset) if found else 0


# --- appending ----------------------------------------------------------------------------------------------------


async def test_a_new_log_is_empty(place: Place) -> None:
    async with running(place) as engine:
        log = await engine.open(LOG, CONFIG)
        assert (log.start_offset, log.end_offset, log.durable_end, log.epoch) == (0, 0, 0, 0)
        assert log.identity == LOG
        assert log.failed is None
        assert log.last_epoch() is None
        assert log.epoch_end(0, 0) is None
        assert log.size_bytes() == 0
        assert await read(log, 0) == b""
        assert await all_headers(log, 0) == []
        assert await log.find_by_timestamp(0, 0) is None
        assert await log.find_max_timestamp(0) is None
        assert await log.load_snapshot("producer", 10) is None


async def test_offsets_are_given_at_once_and_follow_each_other(place: Place) -> None:
    async with running(place) as engine:
        log = await engine.open(LOG, CONFIG)
        first = log.append([make_batch(3)], 0)
        second = log.append([make_batch(2), make_batch(1)], 0)
        assert first[:2] == (0, 3)
        assert second[:2] == (3, 6)
        assert log.end_offset == 6
        await second.durable
        assert first.durable.done()
        assert log.durable_end == 6
        assert [header.base_offset for header in await read_headers(log, 0)] == [0, 3, 5]


async def test_a_batch_is_kept_byte_for_byte_but_for_its_offset_and_epoch(place: Place) -> None:
    async with running(place) as engine:
        log = await engine.open(LOG, CONFIG)
        await add(log, make_batch(5))
        batch = make_batch(3, size=100)
        await add(log, batch)
        kept = check_batch(await read(log, 5))
        assert kept.header.base_offset == 5
        assert kept.header.leader_epoch == log.epoch
        assert joined(kept.buffers)[PREFIX_BYTES:] == joined(batch.buffers)[PREFIX_BYTES:]


async def test_the_appended_bytes_are_the_logs_own(place: Place) -> None:
    async with running(place) as engine:
        log = await engine.open(LOG, CONFIG)
        received = bytearray(joined(make_batch(1).buffers))
        _, _, durable = log.append([check_batch(received)], 0)
        original = bytes(received)
        received[:] = bytes(len(received))
        await durable
        assert (await read(log, 0))[PREFIX_BYTES:] == original[PREFIX_BYTES:]


async def test_an_old_epoch_is_refused_and_nothing_written(place: Place) -> None:
    async with running(place) as engine:
        log = await engine.open(LOG, CONFIG)
        await add(log, make_batch(1))
        for epoch in (log.epoch - 1, log.epoch + 1):
            with pytest.raises(Refused):
                log.append([make_batch(1)], epoch)
        assert log.end_offset == 1
        assert log.failed is None
        assert await add(log, make_batch(1)) == 1


async def test_a_conditional_append_needs_the_expected_end(place: Place) -> None:
    async with running(place) as engine:
        log = await engine.open(LOG, CONFIG)
        log.append([make_batch(2)], 0, expected_end=0)
        for expected in (0, 1, 3):
            with pytest.raises(Refused):
                log.append([make_batch(1)], 0, expected_end=expected)
        assert log.end_offset == 2
        await log.append([make_batch(1)], 0, expected_end=2).durable
        assert log.durable_end == 3


async def test_durability_comes_in_offset_order(place: Place) -> None:
    async with running(place) as engine:
        log = await engine.open(LOG, CONFIG)
        order: list[int] = []
        waiting = []
        for index in range(50):
            appended = log.append([make_batch(1)], 0)

            async def wait(index: int = index, appended=appended) -> None:
                await appended.durable
                assert log.durable_end >= appended.end_offset
                order.append(index)

            waiting.append(asyncio.ensure_future(wait()))
            if index % 7 == 0:
                await asyncio.sleep(0)
        await asyncio.gather(*waiting)
        assert order == sorted(order)


async def test_nothing_is_readable_before_it_is_durable(place: Place) -> None:
    async with running(place) as engine:
        log = await engine.open(LOG, CONFIG)
        for index in range(20):
            durable = log.append([make_batch(1)], 0).durable
            assert log.durable_end == index + 1 if durable.done() else log.durable_end <= index
            assert engine.unflushed_bytes() >= 0
            await durable
            assert log.durable_end == index + 1
        assert engine.unflushed_bytes() == 0
        await asyncio.wait_for(engine.room(), 5)


async def test_flush_waits_for_what_was_appended_before(place: Place) -> None:
    for mode in ("disk", "os"):
        async with running(place) as engine:
            log = await engine.open(LOG, dataclasses.replace(CONFIG, flush=mode))
            appended = log.append([make_batch(1)], log.epoch)
            await log.flush()
            assert appended.durable.done()
            assert log.durable_end == appended.end_offset
            await log.flush()


async def test_the_flush_setting_may_change_while_the_log_is_open(place: Place) -> None:
    async with running(place) as engine:
        log = await engine.open(LOG, CONFIG)
        offset = 0
        for mode in ("os", "disk", "os", "os", "disk", "disk"):
            before = log.append([make_batch(1)], 0)
            log.configure(dataclasses.replace(CONFIG, flush=mode))
            after = log.append([make_batch(1)], 0)
            await before.durable
            await after.durable
            offset += 2
            assert log.durable_end == log.end_offset == offset
        log.configure(dataclasses.replace(CONFIG, flush="os"))
        assert log.append([make_batch(1)], 0).durable.done()
        assert log.durable_end == offset + 1
        assert len(await read_headers(log, 0)) == offset + 1


# --- reading ------------------------------------------------------------------------------------------------------


async def filled(engine: Engine, config: LogConfig = SMALL_SEGMENTS, batches: int = 30) -> PartitionLog:
    """A log of `batches` batches of ten records (offsets 0, 10, 20, ...); batch `i` has time 1000 + i."""
    log = await engine.open(LOG, config)
    for index in range(batches):
        await add(log, make_batch(10, timestamp=1_000 + index))
    return log


async def test_a_read_begins_with_the_batch_that_contains_the_offset(place: Place) -> None:
    async with running(place) as engine:
        log = await filled(engine)
        for offset in range(300):
            found = [header for header, _ in split_batches(await read(log, offset))]
            assert found[0].base_offset == offset - offset % 10
            for earlier, later in itertools.pairwise(found):
                assert later.base_offset == earlier.next_offset
        assert await read(log, 300) == b""


async def test_a_read_outside_the_log_says_so(place: Place) -> None:
    async with running(place) as engine:
        log = await filled(engine, batches=3)
        for offset in (-1, 31, 1 << 40):
            with pytest.raises(OffsetOutOfRange):
                log.read(offset, 1000, log.durable_end)
        await log.truncate_before(10)
        with pytest.raises(OffsetOutOfRange):
            log.read(9, 1000, log.durable_end)
        assert (await read_headers(log, 10))[0].base_offset == 10


async def test_a_read_is_cut_exactly_at_upto(place: Place) -> None:
    async with running(place) as engine:
        log = await filled(engine)
        for offset in range(0, 300, 10):
            for upto in range(offset, 301, 10):
                data = await read(log, offset, upto=upto)
                whole = [header for header, _ in split_batches(data)]
                assert sum(header.size for header in whole) == len(data)
                assert all(header.base_offset < upto for header in whole)
                assert bool(whole) == (upto > offset)
            found = await read_headers(log, 0, upto=offset)
            assert [header.base_offset for header in found] == list(range(0, offset, 10))


async def test_a_read_is_bounded_but_the_first_batch_comes_whole(place: Place) -> None:
    async with running(place) as engine:
        log = await filled(engine, batches=8)
        size = (await all_headers(log, 0))[0].size
        for max_bytes in (0, 1, 11, 60, size - 1, size):
            assert [h.base_offset for h, _ in split_batches(await read(log, 10, max_bytes))] == [10]
            assert len(await read(log, 10, max_bytes)) == size
        for max_bytes in (size + 1, 2 * size - 1, 2 * size, 3 * size):
            data = await read(log, 0, max_bytes)
            assert size <= len(data) <= max_bytes
            assert [h.base_offset for h, _ in split_batches(data)][:1] == [0]
        assert await read(log, 10, 0, minimum_one=False) == b""
        assert await read(log, 10, size - 1, minimum_one=False) == b""
        assert len(await read(log, 10, size, minimum_one=False)) == size


async def test_a_large_batch_comes_whole(place: Place) -> None:
    async with running(place) as engine:
        log = await engine.open(LOG, CONFIG)
        await add(log, make_batch(1, size=10))
        await add(log, make_batch(1, size=3_000_000))
        await add(log, make_batch(1, size=10))
        assert len(await read(log, 1, 100)) > 3_000_000
        assert [h.base_offset for h, _ in split_batches(await read(log, 1, 100))] == [1]
        assert [h.base_offset for h in await read_headers(log, 0)] == [0, 1, 2]
        assert [h.base_offset for h in await all_headers(log, 0)] == [0, 1, 2]


async def test_headers_come_from_the_batch_that_contains_the_offset_to_the_end(place: Place) -> None:
    async with running(place) as engine:
        log = await filled(engine)
        for offset in (0, 5, 10, 149, 299):
            found = await all_headers(log, offset)
            assert [header.base_offset for header in found] == list(range(offset - offset % 10, 300, 10))
        assert await all_headers(log, 300) == []


async def test_what_was_read_stays_as_it_was(place: Place) -> None:
    """Buffers belong to the reader: later appends, deletions and closing do not touch them."""
    async with running(place) as engine:
        log = await filled(engine, batches=4)
        found = log.read(0, 1 << 20, log.durable_end)
        buffers = found if isinstance(found, list) else await found
        before = joined(buffers)
        await add(log, make_batch(10))
        await log.truncate_before(log.durable_end)
        await engine.delete(LOG)
        assert joined(buffers) == before


# --- looking up ---------------------------------------------------------------------------------------------------


async def unread(log: PartitionLog, offset: int) -> Unread | None:
    """What lies before a reader; the engine of files says the same from memory and through a thread."""
    found = log.unread_from(offset)
    found = found if found is None or isinstance(found, Unread) else await found
    if isinstance(log, LocalLog):
        offset = max(offset, log.start_offset)
        assert found == await log._shared.readers.run(lookup.unread_from, log._disk, log._views(), offset)
    return found


async def test_what_lies_before_a_reader(place: Place) -> None:
    async with running(place) as engine:
        log = await filled(engine)
        size = (await all_headers(log, 0))[0].size
        for offset in (0, 1, 9, 10, 155, 299):
            index = offset // 10
            assert await unread(log, offset) == Unread(1_000 + index, (30 - index) * size)
        assert await unread(log, 300) is None
        await log.truncate_before(105)
        assert await unread(log, 0) == await unread(log, 105) == Unread(1_010, 20 * size)
        # The end of a transaction is nothing to read.
        marker = build_control_batch(
            CONTROL_COMMIT, bytes(6), 5_000, producer_id=1, producer_epoch=0, transactional=True
        )
        await add(log, marker)
        assert await unread(log, 300) is None
        await add(log, make_batch(5, timestamp=9_000))
        assert (await unread(log, 300) or Unread(0, 0)).timestamp_ms == 9_000


async def test_find_by_timestamp(place: Place) -> None:
    async with running(place) as engine:
        log = await filled(engine)
        assert await log.find_by_timestamp(0, 300) == Found(0, 1_000)
        for index in range(30):
            assert await log.find_by_timestamp(1_000 + index, 300) == Found(index * 10, 1_000 + index)
            assert await log.find_by_timestamp(1_000 + index, index * 10) is None
            assert await log.find_by_timestamp(1_000, 300, from_offset=index * 10) == Found(index * 10, 1_000 + index)
            assert await log.find_by_timestamp(1_000, 300, from_offset=index * 10 + 9) == Found(
                index * 10, 1_000 + index
            )
        assert await log.find_by_timestamp(1_030, 300) is None
        await log.truncate_before(105)
        assert await log.find_by_timestamp(0, 300) == Found(100, 1_010)
        assert await log.find_by_timestamp(1_020, 300) == Found(200, 1_020)


async def test_find_by_timestamp_where_times_go_up_and_down(place: Place) -> None:
    async with running(place) as engine:
        log = await engine.open(LOG, SMALL_SEGMENTS)
        chance = random.Random(5)
        times = [chance.randrange(1_000, 1_100) for _ in range(60)]
        for time_ms in times:
            await add(log, make_batch(10, timestamp=time_ms))
        for upto in (600, 330, 10, 0):
            for wanted in range(995, 1_105):
                expected = next((Found(i * 10, t) for i, t in enumerate(times) if t >= wanted and i * 10 < upto), None)
                assert await log.find_by_timestamp(wanted, upto) == expected
            below = times[: upto // 10]
            assert await log.find_max_timestamp(upto) == (
                Found(below.index(max(below)) * 10, max(below)) if below else None
            )


async def test_records_without_a_time_are_never_found_by_one(place: Place) -> None:
    async with running(place) as engine:
        log = await engine.open(LOG, SMALL_SEGMENTS)
        for _ in range(12):
            await add(log, make_batch(10, timestamp=-1))
        assert await log.find_by_timestamp(0, 120) is None
        await add(log, make_batch(10, timestamp=7))
        assert await log.find_by_timestamp(0, 130) == Found(120, 7)
        assert await log.find_max_timestamp(130) == Found(120, 7)


def spread_batch(times: list[int], max_timestamp: int, codec: Codec = Codec.NONE) -> RecordBatch:
    """Records at these times under a header that says `max_timestamp`."""
    batch = build_batch([NewRecord(b"k", b"v" * 30, time) for time in times], codec=codec)
    return batch.with_header(batch.header._replace(max_timestamp=max_timestamp))


@pytest.mark.parametrize("max_timestamp", [-1, 0])
@pytest.mark.parametrize("codec", [Codec.NONE, Codec.GZIP])
async def test_headers_that_contradict_themselves_are_looked_into(
    place: Place, max_timestamp: int, codec: Codec
) -> None:
    """Logs hold batches whose max timestamp is below their base timestamp: producers leave it unset."""
    async with running(place) as engine:
        log = await engine.open(LOG, SMALL_SEGMENTS)
        for index in range(20):
            begin = 10_000 + 100 * index
            await add(log, spread_batch([begin, begin + 50, begin + 20], max_timestamp, codec))

        async def check() -> None:
            for index in range(20):
                begin = 10_000 + 100 * index
                for wanted in (begin - 49, begin, begin + 1, begin + 50):
                    found = await log.find_by_timestamp(wanted, 60)
                    assert found is not None and found.base_offset == 3 * index, wanted
                assert await unread(log, 3 * index) == Unread(begin, log.size_bytes() * (20 - index) // 20)
            assert await log.find_by_timestamp(11_951, 60) is None
            found = await log.find_max_timestamp(60)
            assert found is not None and found.base_offset == 57

        # As any log is found: partitions append true headers only.
        await log.close()
        log = await engine.open(LOG, SMALL_SEGMENTS)
        await check()
        await add(log, spread_batch([30_000], 30_000))
        assert await log.find_by_timestamp(11_950, 63) == Found(57, 11_950)
        assert await log.find_by_timestamp(11_951, 63) == Found(60, 30_000)


async def test_the_time_of_what_is_unread_is_the_records(place: Place) -> None:
    async with running(place) as engine:
        log = await engine.open(LOG, SMALL_SEGMENTS)
        # The first has no time, a later one has; the topic's time is that of the append; none has any.
        await add(log, spread_batch([-1, 7_000], 7_000))
        await add(log, make_batch(1, timestamp=5).with_log_append_time(8_000))
        await add(log, spread_batch([-1, -1], -1))
        assert [(await unread(log, offset) or Unread(0, 0)).timestamp_ms for offset in (0, 2, 3)] == [7_000, 8_000, -1]


# --- epochs and reopening -----------------------------------------------------------------------------------------


async def test_the_epoch_rises_with_every_opening(place: Place) -> None:
    async with running(place) as engine:
        for expected in range(4):
            log = await engine.open(LOG, CONFIG)
            assert log.epoch == expected
            assert log.end_offset == log.durable_end == expected * 2
            assert await add(log, make_batch(2)) == expected * 2
            assert log.established
            assert log.last_epoch() == expected
            await log.close()
        log = await engine.open(LOG, CONFIG)
        assert [header.leader_epoch for header in await read_headers(log, 0)] == [0, 1, 2, 3]
        assert log.last_epoch() == 3
        assert log.epoch == 4


async def test_where_epochs_end(place: Place) -> None:
    async with running(place) as engine:
        for _ in range(3):
            log = await engine.open(LOG, CONFIG)
            await add(log, make_batch(10))
            await log.close()
        log = await engine.open(LOG, CONFIG)
        assert log.epoch_end(0, 30) == EpochEnd(0, 10)
        assert log.epoch_end(1, 30) == EpochEnd(1, 20)
        assert log.epoch_end(2, 30) == EpochEnd(2, 30)
        assert log.epoch_end(2, 25) == EpochEnd(2, 25)
        assert log.epoch_end(9, 30) == EpochEnd(2, 30)
        assert log.epoch_end(-1, 30) is None
        await log.truncate_before(15)
        # As in Kafka: an epoch that the log no longer holds ended where the first one held begins.
        assert log.epoch_end(0, 30) == EpochEnd(0, 15)
        assert log.epoch_end(1, 30) == EpochEnd(1, 20)


async def test_an_opening_ends(place: Place) -> None:
    async with running(place) as engine:
        log = await engine.open(LOG, CONFIG)
        await add(log, make_batch(1))
        await log.close()
        await log.close()
        with pytest.raises(LogFailure):
            log.append([make_batch(1)], log.epoch)
        with pytest.raises(LogFailure):
            log.read(0, 100, 1)
        again = await engine.open(LOG, CONFIG)
        assert await add(again, make_batch(1)) == 1


async def test_a_log_is_opened_once_at_a_time(place: Place) -> None:
    async with running(place) as engine:
        await engine.open(LOG, CONFIG)
        with pytest.raises(AssertionError):
            await engine.open(LOG, CONFIG)


async def test_closing_waits_for_open_appends(place: Place) -> None:
    async with running(place) as engine:
        log = await engine.open(LOG, CONFIG)
        appended = [log.append([make_batch(1)], 0) for _ in range(5)]
        await log.close()
        assert all(one.durable.done() and one.durable.exception() is None for one in appended)


async def test_a_restart_keeps_everything(place: Place) -> None:
    other = LogIdentity("orders", TOPIC_ID, 1)
    idle = LogIdentity("idle", uuid.UUID(int=78).bytes, 0)
    async with running(place) as engine:
        log = await filled(engine)
        await log.truncate_before(25)
        await log.save_snapshot("producer", 300, b"state")
        await add(await engine.open(other, CONFIG), make_batch(7))
        await engine.open(idle, CONFIG)
        before = await read(log, 25, max_bytes=1 << 30)
    durable = place().capabilities.durable
    async with running(place) as engine:
        if durable:
            assert sorted(engine.identities()) == [LOG, other], "a log without batches takes no storage"
        if not durable and not engine.identities():
            return
        log = await engine.open(LOG, SMALL_SEGMENTS)
        assert (log.start_offset, log.end_offset, log.durable_end, log.epoch) == (25, 300, 300, 1)
        assert await read(log, 25, max_bytes=1 << 30) == before
        assert [h.base_offset for h in await read_headers(log, 25)] == list(range(20, 300, 10))
        assert await log.load_snapshot("producer", 300) == (300, b"state")
        assert await log.find_by_timestamp(1_013, 300) == Found(130, 1_013)
        assert await add(log, make_batch(1)) == 300
        assert (await engine.open(other, CONFIG)).end_offset == 7
        assert (await engine.open(idle, CONFIG)).end_offset == 0


# --- failures -----------------------------------------------------------------------------------------------------


async def check_over(log: PartitionLog, *open_appends: asyncio.Future[None]) -> None:
    """A failure has ended this opening: whoever waited is told, and nothing is taken any more."""
    for durable in open_appends:
        with pytest.raises(LogFailure):
            await durable
    assert log.failed is not None
    end_offset = log.end_offset
    for _ in range(2):
        with pytest.raises(type(log.failed)):
            log.append([make_batch(1)], log.epoch)
        with pytest.raises(type(log.failed)):
            await log.flush()
    assert log.end_offset == end_offset


@pytest.mark.parametrize("kept", [0, 3])
async def test_a_failed_flush_ends_the_opening(failing_place: FailingPlace, kept: int) -> None:
    async with running(failing_place) as engine:
        log = await filled(engine, batches=kept)
        before = await read_headers(log, 0)
        failing_place.hold_flushes()
        first = log.append([make_batch(10)], log.epoch).durable
        await failing_place.until_held()
        more = [log.append([make_batch(10)], log.epoch).durable for _ in range(8)]
        assert not any(durable.done() for durable in (first, *more))
        assert (log.durable_end, log.end_offset) == (10 * kept, 10 * kept + 90)
        failing_place.fail_flushes()
        await check_over(log, first, *more)
        assert isinstance(log.failed, Unknown) and log.durable_end == 10 * kept
        assert engine.unflushed_bytes() == 0
        failing_place.heal()

        again = await engine.open(LOG, SMALL_SEGMENTS)
        assert (again.start_offset, again.end_offset, again.durable_end) == (0, 10 * kept, 10 * kept)
        assert again.epoch > log.epoch and again.failed is None
        assert again.epoch_end(log.epoch, again.end_offset) == (EpochEnd(log.epoch, 10 * kept) if kept else None)
        assert await read_headers(again, 0) == before
        assert await add(again, make_batch(10)) == 10 * kept
        added = await read_headers(again, 10 * kept)
        assert [header.leader_epoch for header in added] == [again.epoch]
        await again.close()
        again = await engine.open(LOG, SMALL_SEGMENTS)
        assert await read_headers(again, 0) == before + added


async def test_a_failed_write_ends_the_opening(failing_place: FailingPlace) -> None:
    """What was written before it may be there afterwards, as it was; nothing behind it is."""
    async with running(failing_place) as engine:
        log = await filled(engine, batches=3)
        before = await read_headers(log, 0)
        failing_place.hold_flushes()
        open_append = log.append([batch := make_batch(10)], log.epoch)
        await failing_place.until_held()
        written = [*before, batch.header._replace(base_offset=30, leader_epoch=log.epoch)]
        failing_place.fail_writes()
        with pytest.raises(Unknown):
            log.append([make_batch(10)], log.epoch)
        await check_over(log, open_append.durable)
        assert log.durable_end == 30
        failing_place.heal()
        again = await engine.open(LOG, SMALL_SEGMENTS)
        assert engine.unflushed_bytes() == 0
        assert again.end_offset == again.durable_end >= 30 and again.epoch > log.epoch
        found = await read_headers(again, 0)
        assert found == written[: len(found)] and len(found) >= 3
        assert await add(again, make_batch(10)) == found[-1].next_offset


async def test_a_place_without_room_takes_nothing_and_the_log_goes_on(failing_place: FailingPlace) -> None:
    async with running(failing_place) as engine:
        log = await filled(engine, batches=3)
        failing_place.hold_flushes()
        held = log.append([make_batch(10)], log.epoch).durable
        await failing_place.until_held()
        failing_place.fill()
        for _ in range(3):
            with pytest.raises(StorageFull):
                log.append([make_batch(10)], log.epoch)
        assert log.failed is None and log.end_offset == 40
        failing_place.heal()
        await held
        assert await add(log, make_batch(10)) == 40
        assert len(await read_headers(log, 0)) == 5


async def test_a_failed_log_can_be_closed_or_deleted(failing_place: FailingPlace) -> None:
    async with running(failing_place) as engine:
        for ends in (PartitionLog.close, lambda log: engine.delete(log.identity)):
            log = await filled(engine, batches=3)
            failing_place.fail_writes()
            with pytest.raises(Unknown):
                log.append([make_batch(10)], log.epoch)
            await ends(log)
            failing_place.heal()
            with pytest.raises(LogFailure):
                log.append([make_batch(10)], log.epoch)
            again = await engine.open(LOG, SMALL_SEGMENTS)
            assert again.end_offset in (0, 30)
            await engine.delete(LOG)


# --- giving space back --------------------------------------------------------------------------------------------


async def test_truncate_before_moves_the_start(place: Place) -> None:
    async with running(place) as engine:
        log = await filled(engine)
        size = log.size_bytes()
        await log.truncate_before(155)
        assert log.start_offset == 155
        assert log.size_bytes() < size
        assert (await read_headers(log, 155))[0].base_offset == 150
        await log.truncate_before(20)
        assert log.start_offset == 155
        await log.close()
        log = await engine.open(LOG, SMALL_SEGMENTS)
        assert (log.start_offset, log.end_offset) == (155, 300)
        await log.truncate_before(300)
        assert log.start_offset == log.end_offset == 300
        assert await read(log, 300) == b""
        await log.close()
        log = await engine.open(LOG, SMALL_SEGMENTS)
        assert (log.start_offset, log.end_offset) == (300, 300)
        assert log.epoch > log.last_epoch() if log.last_epoch() is not None else log.epoch >= 1
        assert await add(log, make_batch(10)) == 300


async def test_segments_follow_each_other_and_rolls_are_told(place: Place) -> None:
    async with running(place) as engine:
        log = await engine.open(LOG, SMALL_SEGMENTS)
        assert log.segments() == []
        told: list[int] = []

        def on_roll(base_offset: int) -> None:
            assert base_offset == log.end_offset, "before the batch"
            told.append(base_offset)

        log.on_roll = on_roll
        for index in range(30):
            await add(log, make_batch(10, timestamp=1_000 + index))
            segments = log.segments()
            assert segments[0].base_offset == 0 and segments[-1].end_offset == log.end_offset
            assert all(earlier.end_offset == later.base_offset for earlier, later in itertools.pairwise(segments))
            assert sum(segment.size_bytes for segment in segments) == log.size_bytes()
            assert min(segment.size_bytes for segment in segments) > 0
        bases = [segment.base_offset for segment in segments]
        assert len(bases) > 5 and told == (bases[1:] if engine.capabilities.files else [])
        newest = [await log.newest_timestamp(segment) for segment in segments]
        assert newest == [1_000 + segment.end_offset // 10 - 1 for segment in segments]
        await log.close()
        log = await engine.open(LOG, SMALL_SEGMENTS)
        assert log.segments() == segments
        assert [await log.newest_timestamp(segment) for segment in segments] == newest


async def test_whole_segments_are_deleted(place: Place) -> None:
    async with running(place) as engine:
        log = await filled(engine)
        before = log.segments()
        assert await log.delete_segments(before[0].end_offset - 1) == 0
        assert await log.delete_segments(before[2].end_offset) == sum(segment.size_bytes for segment in before[:3])
        assert log.segments() == before[3:]
        assert log.start_offset == before[3].base_offset
        assert await log.newest_timestamp(before[2]) is None
        assert await log.delete_segments(before[2].end_offset) == 0
        # The last one goes when it is ended, and not what comes then.
        await log.roll()
        await log.roll()
        assert log.segments() == before[3:]
        await add(log, make_batch(10))
        assert await log.delete_segments(300) == sum(segment.size_bytes for segment in before[3:])
        assert log.start_offset == 300 and [header.base_offset for header in await read_headers(log, 300)] == [300]
        await log.close()
        log = await engine.open(LOG, SMALL_SEGMENTS)
        assert (log.start_offset, log.end_offset) == (300, 310)
        await log.roll()
        assert await log.delete_segments(310) > 0
        assert (log.start_offset, log.end_offset, log.segments(), log.size_bytes()) == (310, 310, [], 0)
        await log.close()
        for work in (log.roll(), log.delete_segments(310)):
            with pytest.raises(LogFailure):
                await work


async def test_retention_by_time(place: Place) -> None:
    config = dataclasses.replace(SMALL_SEGMENTS, retention_ms=100)
    async with running(place) as engine:
        log = await filled(engine, config)
        size = log.size_bytes()
        assert await retain(log, 1_100, log.durable_end) == 0
        freed = await retain(log, 1_115, log.durable_end)
        assert freed == size - log.size_bytes() > 0
        # The batches of times 1000 to 1014 have expired; segments of a few batches go as a whole.
        assert 100 <= log.start_offset <= 150
        assert (await read_headers(log, log.start_offset))[0].base_offset == log.start_offset
        assert await retain(log, 10_000, log.durable_end) > 0
        assert log.start_offset == log.end_offset == 300
        assert log.size_bytes() == 0
        assert await add(log, make_batch(10, timestamp=10_000)) == 300
        assert await retain(log, 10_000, log.durable_end) == 0


@pytest.mark.parametrize("max_timestamp", [-1, 0])
async def test_retention_does_not_believe_a_header_that_contradicts_itself(place: Place, max_timestamp: int) -> None:
    config = dataclasses.replace(SMALL_SEGMENTS, retention_ms=1_000)
    async with running(place) as engine:
        log = await engine.open(LOG, config)
        for _ in range(12):
            await add(log, spread_batch([9_000, 10_000, 9_500], max_timestamp))
        await log.close()
        log = await engine.open(LOG, config)
        assert await retention.expendable(log, 11_000, 36) == []
        assert await retain(log, 11_000, 36) == 0 and log.start_offset == 0
        assert await retain(log, 11_001, 36) > 0 and log.start_offset == 36


async def test_records_without_a_time_are_as_old_as_their_append(place: Place) -> None:
    config = dataclasses.replace(SMALL_SEGMENTS, retention_ms=60_000)
    async with running(place) as engine:
        began_ms = SystemClock().now_ms()
        log = await engine.open(LOG, config)
        for _ in range(12):
            await add(log, make_batch(10, timestamp=-1))
        ended_ms = SystemClock().now_ms()
        # A file's time may be a little behind the clock's, never by a second.
        assert await retention.expendable(log, began_ms + 59_000, 120) == []
        assert await retain(log, began_ms + 59_000, 120) == 0 and log.start_offset == 0
        gone = await retention.expendable(log, ended_ms + 62_000, 120)
        assert gone and all(0 < one.overdue_ms < 10_000 for one in gone)
        assert await retain(log, ended_ms + 62_000, 120) > 0 and log.start_offset == 120


async def test_retention_by_size(place: Place) -> None:
    config = dataclasses.replace(SMALL_SEGMENTS, retention_bytes=2_500, retention_ms=-1)
    async with running(place) as engine:
        log = await filled(engine, config)
        assert await retain(log, 10**15, log.durable_end) > 0
        assert 2_500 <= log.size_bytes() <= 3_500
        assert log.end_offset == 300
        assert await retain(log, 10**15, log.durable_end) == 0
        log.configure(SMALL_SEGMENTS)
        assert await retain(log, 2_000, log.durable_end) == 0


async def test_what_retention_would_delete(place: Place) -> None:
    """By time each has been overdue since its own time was over; by size alone, as long as it is old."""
    async with running(place) as engine:
        log = await filled(engine, dataclasses.replace(SMALL_SEGMENTS, retention_ms=100))
        assert await retention.expendable(log, 1_100, log.durable_end) == []
        by_time = await retention.expendable(log, 1_150, log.durable_end)
        ends = [one.end_offset for one in by_time]
        assert ends == sorted(ends) and ends[0] > 0 and ends[-1] <= log.durable_end
        overdue = [one.overdue_ms for one in by_time]
        assert overdue == sorted(overdue, reverse=True) and 0 < overdue[-1] < overdue[0] <= 50
        log.configure(dataclasses.replace(SMALL_SEGMENTS, retention_ms=-1, retention_bytes=0))
        by_size = await retention.expendable(log, 1_150, ends[-1])
        assert [one.end_offset for one in by_size] == ends
        assert [one.overdue_ms for one in by_size] == [overdue_ms + 100 for overdue_ms in overdue]
        # And just that goes.
        freed = await retain(log, 1_150, ends[-1])
        assert freed == sum(one.size_bytes for one in by_size) and log.start_offset == ends[-1]


async def test_retention_of_a_log_without_anything(place: Place) -> None:
    config = dataclasses.replace(SMALL_SEGMENTS, retention_ms=0, retention_bytes=0)
    async with running(place) as engine:
        log = await engine.open(LOG, config)
        assert await retention.expendable(log, 10**15, log.durable_end) == []
        assert await retain(log, 10**15, log.durable_end) == 0
        assert log.start_offset == log.end_offset == 0


async def test_retention_keeps_what_is_not_below_its_bound(place: Place) -> None:
    config = dataclasses.replace(SMALL_SEGMENTS, retention_ms=0)
    async with running(place) as engine:
        log = await filled(engine, config)
        await retain(log, 10**15, 100)
        assert 50 <= log.start_offset <= 100


async def test_a_deleted_log_does_not_come_back(place: Place) -> None:
    async with running(place) as engine:
        log = await filled(engine)
        await log.save_snapshot("producer", 300, b"old")
        await engine.delete(LOG)
        assert LOG not in engine.identities()
        with pytest.raises(LogFailure):
            log.append([make_batch(1)], log.epoch)
        await log.close()
        anew = LogIdentity(LOG.topic, uuid.UUID(int=99).bytes, LOG.partition)
        fresh = await engine.open(anew, CONFIG)
        assert (fresh.start_offset, fresh.end_offset, fresh.epoch) == (0, 0, 0)
        assert await fresh.load_snapshot("producer", 300) is None
        await add(fresh, make_batch(1))
    async with running(place) as engine:
        if place().capabilities.durable:
            assert engine.identities() == [anew]


async def test_deleting_a_log_that_is_closed_or_was_never_made(place: Place) -> None:
    async with running(place) as engine:
        await (await filled(engine)).close()
        await engine.delete(LOG)
        await engine.delete(LOG)
        assert (await engine.open(LOG, CONFIG)).end_offset == 0


async def test_deleting_fails_open_appends_or_lets_them_end(place: Place) -> None:
    async with running(place) as engine:
        log = await engine.open(LOG, CONFIG)
        durable = log.append([make_batch(1)], 0).durable
        await engine.delete(LOG)
        await asyncio.wait([durable], timeout=5)
        assert durable.done()
        assert engine.unflushed_bytes() == 0


# --- snapshots and the rest ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["producer", "coordinator", "metadata"])
async def test_snapshots_are_kept_by_offset(place: Place, kind: str) -> None:
    async with running(place) as engine:
        log = await filled(engine, batches=5)
        assert await log.load_snapshot(kind, 50) is None
        for offset in (10, 20, 40):
            await log.save_snapshot(kind, offset, b"at %d" % offset)
        assert await log.load_snapshot(kind, 50) == (40, b"at 40")
        assert await log.load_snapshot(kind, 40) == (40, b"at 40")
        assert await log.load_snapshot(kind, 39) == (20, b"at 20")
        await log.save_snapshot(kind, 40, b"again")
        assert await log.load_snapshot(kind, 50) == (40, b"again")
        for other in {"producer", "coordinator", "metadata"} - {kind}:
            assert await log.load_snapshot(other, 50) is None
        await log.close()
        log = await engine.open(LOG, SMALL_SEGMENTS)
        assert await log.load_snapshot(kind, 50) == (40, b"again")
        await log.save_snapshot(kind, 50, b"")
        assert await log.load_snapshot(kind, 50) == (50, b"")


async def test_usage_names_the_place(place: Place) -> None:
    async with running(place) as engine:
        path, total_bytes, usable_bytes = engine.usage()
        assert path
        assert usable_bytes <= total_bytes
        assert engine.capabilities.files == (total_bytes > 0)


async def test_stopping_twice_is_stopping(place: Place) -> None:
    async with running(place) as engine:
        await filled(engine, batches=2)
        await engine.stop()


@pytest.mark.parametrize("seed", range(6))
async def test_long_random_use_agrees_with_a_list_of_batches(place: Place, seed: int) -> None:
    chance = random.Random(seed)
    model: list[BatchHeader] = []
    start = end = openings = 0
    config = dataclasses.replace(SMALL_SEGMENTS, flush=chance.choice(["disk", "os"]))
    async with running(place) as engine:
        log = await engine.open(LOG, config)
        for _ in range(300):
            action = chance.choices(
                ("append", "read", "reopen", "truncate", "headers", "configure"), (60, 30, 2, 3, 3, 2)
            )[0]
            if action == "append":
                batches = [
                    make_batch(chance.randint(1, 20), timestamp=chance.randint(0, 5_000), size=chance.randint(0, 60))
                    for _ in range(chance.choice((1, 1, 1, 3)))
                ]
                appended = log.append(batches, log.epoch)
                assert appended.base_offset == end
                for batch in batches:
                    model.append(batch.header._replace(base_offset=end, leader_epoch=log.epoch))
                    end = model[-1].next_offset
                assert appended.end_offset == log.end_offset == end
                if chance.random() < 0.5:
                    await appended.durable
            elif action == "read" and log.durable_end > start:
                offset = chance.randrange(start, log.durable_end)
                data = await read(log, offset, chance.choice((1, 500, 5_000)))
                found = [header for header, _ in split_batches(data)]
                first = next(i for i, header in enumerate(model) if header.next_offset > offset)
                assert found == model[first : first + len(found)]
                assert found
                assert found[-1].next_offset <= log.durable_end
            elif action == "reopen":
                await log.close()
                log = await engine.open(LOG, config)
                openings += 1
                assert (log.start_offset, log.end_offset, log.epoch) == (start, end, log.epoch)
                assert log.epoch >= (model[-1].leader_epoch + 1 if model else 0)
            elif action == "truncate" and log.durable_end > start:
                start = chance.randint(start, log.durable_end)
                await log.truncate_before(start)
                assert log.start_offset == start
            elif action == "headers" and end > start:
                offset = chance.randrange(start, end)
                assert await all_headers(log, offset) == [h for h in model if h.next_offset > offset]
            elif action == "configure":
                config = dataclasses.replace(config, flush=chance.choice(["disk", "os"]))
                log.configure(config)
        await log.flush()
        assert log.durable_end == end
