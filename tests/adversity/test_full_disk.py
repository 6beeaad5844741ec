"""A disk without room: first under one log, then under a broker with clients, of a counted size and on a real tmpfs."""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from odradek.engines.interface import LogFailure, PartitionLog, StorageFull
from odradek.errors import ErrorCode
from odradek.records.batch import BatchHeader
from tests.adversity.quota_disk import QuotaDisk
from tests.adversity.serving_on_disk import ServingOnDisk
from tests.adversity.steady_producer import WAIT_S, SteadyProducer
from tests.batches import make_batch
from tests.broker import BrokerProcess
from tests.engines.contract import retain
from tests.engines.test_local_recovery import LOG, SEGMENTS, engine_at, fill, read_all
from tests.raw_client import RawClient, batch, records_of

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
        assert await retain(log, 1 << 50, log.durable_end) >= pieces * PIECE_BYTES
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


# --- a broker --------------------------------------------------------------------------------------------------------

DISK_BYTES = 32 << 20
SEGMENT_BYTES = 1 << 20
VALUE = b"x" * 20_000


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A file system of `DISK_BYTES`."""
    folder = tmp_path / "tmpfs"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


class Place(NamedTuple):
    """A broker whose disk is small."""

    port: int
    logged: Callable[[], str]
    """What it has logged."""
    fill: Callable[[], object]
    """Somebody else takes what is left."""
    give_back: Callable[[], object]

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"


@contextmanager
def on_tmpfs(folder: Path, tmpfs: Path, **settings: str) -> Iterator[Place]:
    given = [f"{name.replace('__', '.')}={value}" for name, value in settings.items()]
    filler = tmpfs / "somebody else's"
    running = BrokerProcess(folder, *given)
    running.data = tmpfs / "data"

    def fill() -> None:
        with open(filler, "ab", buffering=0) as file, pytest.raises(OSError, match="No space"):
            while True:
                file.write(bytes(65_536))

    with running as broker:
        yield Place(broker.port, lambda: broker.logged, fill, filler.unlink)
        assert broker.process is not None and broker.process.poll() is None


@contextmanager
def on_quota(folder: Path, caplog: pytest.LogCaptureFixture, **settings: str) -> Iterator[Place]:
    disk = QuotaDisk(folder, DISK_BYTES)

    def give_back() -> None:
        disk.quota_bytes = DISK_BYTES

    with caplog.at_level("WARNING"), ServingOnDisk(folder, disk, **settings) as serving:
        yield Place(serving.port, lambda: caplog.text, disk.fill, give_back)


@pytest.fixture(params=["tmpfs", "quota"])
def make_place(
    request: pytest.FixtureRequest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> Callable[..., AbstractContextManager[Place]]:
    if request.param == "tmpfs":
        tmpfs = request.getfixturevalue("tmpfs")
        return lambda **settings: on_tmpfs(tmp_path, tmpfs, **settings)
    return lambda **settings: on_quota(tmp_path, caplog, **settings)


def make_small_segments(admin: AdminClient, topic: str, **configs: str) -> None:
    given = {"segment.bytes": str(SEGMENT_BYTES), **{name.replace("__", "."): value for name, value in configs.items()}}
    made = admin.create_topics([NewTopic(topic, 1, 1, config=given)])
    made[topic].result(WAIT_S)


def produce_until(said: str, place: Place, client: RawClient, topic: str) -> None:
    """Helps to fill the disk until the broker refuses, and has said so."""
    for _ in range(2 * DISK_BYTES // len(VALUE)):
        answer = client.produce(topic, batch(VALUE))
        assert answer.error_code in (0, ErrorCode.KAFKA_STORAGE_ERROR)
        if answer.error_code and said in place.logged():
            return
    raise AssertionError("the disk did not get full")


def read_from(client: RawClient, topic: str, offset: int) -> dict[int, bytes]:
    """All there is."""
    found: dict[int, bytes] = {}
    while records := records_of(client.fetch(topic, offset).records):
        found.update({record.offset: record.value for record in records if record.offset >= offset})
        offset = records[-1].offset + 1
    return found


def check_kept(client: RawClient, topic: str, producer: SteadyProducer, start: int) -> None:
    """What was acknowledged from `start` on is there, at its offset, once."""
    found = read_from(client, topic, start)
    assert sorted(found) == list(range(start, start + len(found)))
    for offset, value in producer.acknowledged.items():
        if offset >= start:
            assert found[offset] == value, offset
    own = [value for value in found.values() if value != VALUE]
    assert len(own) == len(set(own)), "a value is there twice"


@pytest.mark.parametrize("idempotent", [True, False], ids=["idempotent", "plain"])
def test_a_broker_stops_taking_data_before_the_disk_is_full(
    make_place: Callable[..., AbstractContextManager[Place]], idempotent: bool
) -> None:
    """And takes it again by itself when records are deleted. Meanwhile everything else goes on."""
    with make_place() as place, RawClient(place.port) as client:
        admin = AdminClient({"bootstrap.servers": place.bootstrap, "log_level": 0})
        make_small_segments(admin, "t")
        consumer = Consumer(
            {
                "bootstrap.servers": place.bootstrap,
                "group.id": "g",
                "log_level": 0,
                "session.timeout.ms": 6000,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
            }
        )
        consumer.subscribe(["t"])
        with SteadyProducer(place.bootstrap, "t", idempotent=idempotent) as producer:
            first = consumer.poll(WAIT_S)
            assert first is not None and first.error() is None
            produce_until("the disk is nearly full", place, client, "t")
            # Reads, commits of members that are still members, and refusals in words.
            held = read_from(client, "t", 0)
            assert held.items() >= producer.acknowledged.items()
            consumer.commit(first, asynchronous=False)
            assert consumer.committed([TopicPartition("t", 0)], WAIT_S)[0].offset == first.offset() + 1
            with pytest.raises(KafkaException) as refused:
                make_small_segments(admin, "more")
            error = refused.value.args[0]
            assert error.code() == ErrorCode.KAFKA_STORAGE_ERROR and "readonly.free.bytes" in error.str()
            answer = client.produce("t", batch(b"small"))
            assert answer.error_code == ErrorCode.KAFKA_STORAGE_ERROR
            assert "odradek.disk.readonly.free.bytes" in (answer.error_message or "")
            assert producer.sent > len(producer.acknowledged), "it waits, and has no error"
            # Room is made.
            start = len(held) // 2
            (deleted,) = admin.delete_records([TopicPartition("t", 0, start)]).values()
            assert deleted.result(WAIT_S).low_watermark == start
            producer.wait_for_more(2 * producer.window)
        check_kept(client, "t", producer, start)
        make_small_segments(admin, "more")
        consumer.commit(first, asynchronous=False)
        consumer.close()
        assert "the disk has room again" in place.logged()
        assert len([line for line in place.logged().splitlines() if "the disk is nearly full" in line]) <= 2


def test_retention_makes_room_when_the_disk_is_nearly_full(
    make_place: Callable[..., AbstractContextManager[Place]],
) -> None:
    """It does not wait for its next look, nor for the end of file.delete.delay.ms: a producer of twice what the
    disk holds hardly notices."""
    with make_place() as place, RawClient(place.port) as client:
        admin = AdminClient({"bootstrap.servers": place.bootstrap, "log_level": 0})
        make_small_segments(admin, "t", retention__bytes=str(4 * SEGMENT_BYTES))
        with SteadyProducer(place.bootstrap, "t", size=100_000) as producer:
            producer.wait_for(lambda: len(producer.acknowledged) * producer.size > 2 * DISK_BYTES)
        start = client.fetch("t", len(producer.acknowledged) - 1).log_start_offset
        assert start * producer.size > DISK_BYTES
        check_kept(client, "t", producer, start)


def test_a_disk_that_is_really_full(make_place: Callable[..., AbstractContextManager[Place]]) -> None:
    """Nothing is kept in reserve, and somebody else takes the last byte: reads and deletions go on, and producers when
    there is room."""
    with make_place(odradek__disk__readonly__free__bytes="0") as place, RawClient(place.port) as client:
        admin = AdminClient({"bootstrap.servers": place.bootstrap, "log_level": 0})
        make_small_segments(admin, "t")
        with SteadyProducer(place.bootstrap, "t") as producer:
            producer.wait_for(lambda: len(producer.acknowledged) * producer.size > DISK_BYTES // 4)
            place.fill()
            produce_until("the disk is full", place, client, "t")
            assert read_from(client, "t", 0).items() >= producer.acknowledged.items()
            start = 3 * SEGMENT_BYTES // producer.size
            (deleted,) = admin.delete_records([TopicPartition("t", 0, start)]).values()
            assert deleted.result(WAIT_S).low_watermark == start
            producer.wait_for_more(producer.window)
            place.give_back()
        check_kept(client, "t", producer, start)
        lines = [line for line in place.logged().splitlines() if "the disk is full" in line]
        assert 1 <= len(lines) <= 6 and "No space left on device" in lines[0], "one line every ten seconds at most"
