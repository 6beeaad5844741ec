"""Transactions in a partition: where reading is stable, what was aborted, who may write, what a restart knows."""

from __future__ import annotations

import asyncio
import random
import shutil
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from crc32c import crc32c

from odradek.config import BrokerConfig, LogConfig
from odradek.engines.interface import AbortedTransaction, LogIdentity, Unknown
from odradek.engines.local import LocalEngine
from odradek.errors import ErrorCode, KafkaError
from odradek.loop_scheduler import LoopScheduler
from odradek.partitions.partition import AppendResult, Partition
from odradek.partitions.preparation import Preparation
from odradek.partitions.transactions import Transactions
from odradek.records.batch import BatchHeader, RecordBatch, split_batches
from odradek.records.builder import NewRecord, batch_bytes, build_batch
from tests.partitions.test_partition import HeldEngine, StillClock, now, run
from tests.work_counted import counted


def in_transaction(sequence: int, producer_id: int = 7, epoch: int = 0, transactional: bool = True) -> bytes:
    return batch_bytes(
        build_batch(
            [NewRecord(b"k", b"%d" % sequence, 1_700_000_000_000)],
            producer_id=producer_id,
            producer_epoch=epoch,
            base_sequence=sequence,
            transactional=transactional,
        )
    )


async def welcome(header: BatchHeader) -> ErrorCode:
    return ErrorCode.NONE


class Coordinator:
    """Says what it is told to, when it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, asyncio.Future[ErrorCode]]] = []
        self.is_asked = asyncio.Event()

    async def __call__(self, header: BatchHeader) -> ErrorCode:
        answer: asyncio.Future[ErrorCode] = asyncio.get_running_loop().create_future()
        self.asked.append((header.producer_id, answer))
        self.is_asked.set()
        return await answer


# --- what is known ------------------------------------------------------------------------------------------------


def test_stable_is_what_is_before_the_first_open_one() -> None:
    known = Transactions()
    assert known.stable_end(10) == 10
    known.begin(1, 4)
    known.begin(2, 6)
    assert (known.stable_end(10), known.stable_end(3)) == (4, 3)
    known.end(1, 10, committed=True)
    assert known.stable_end(10) == 4, "its marker is not durable"
    assert known.stable_end(11) == 6
    known.end(2, 11, committed=False)
    assert (known.stable_end(11), known.stable_end(12)) == (6, 12)
    known.end(3, 12, committed=False)
    assert known.aborted == [AbortedTransaction(2, 6, 11)], "who has written nothing has nothing to abort"


def test_aborted_ones_are_found_by_what_is_read_of_them() -> None:
    known = Transactions()
    chance = random.Random(5)
    everything = []
    offset = 0
    for producer_id in range(200):
        known.begin(producer_id, offset)
        offset += chance.randrange(1, 20)
        if chance.random() < 0.5:
            everything.append(AbortedTransaction(producer_id, known.open[producer_id], offset))
            known.end(producer_id, offset, committed=False)
        else:
            known.end(producer_id, offset, committed=True)
        offset += 1
    for _ in range(300):
        first, upto = sorted(chance.sample(range(offset), 2))
        wanted = [one for one in everything if one.last_offset >= first and one.first_offset < upto]
        assert known.aborted_between(first, upto) == wanted
    known.forget_before(offset // 2)
    assert known.aborted == [one for one in everything if one.last_offset >= offset // 2]


def test_aborted_ones_that_overlap_are_found_too() -> None:
    chance = random.Random(6)
    known, everything = Transactions(), []
    for offset in range(2000):
        producer_id = chance.randrange(20)
        first_offset = known.open.get(producer_id)
        if first_offset is None:
            known.begin(producer_id, offset)
        elif chance.random() < 0.3:
            everything.append(AbortedTransaction(producer_id, first_offset, offset))
            known.end(producer_id, offset, committed=False)
        if offset == 1200:
            known.forget_before(300)
            aborted = known.aborted
            known.restore(aborted)
    everything = [one for one in everything if one.last_offset >= 300]
    for _ in range(300):
        first, upto = sorted(chance.sample(range(300, 2000), 2))
        wanted = [one for one in everything if one.last_offset >= first and one.first_offset < upto]
        assert known.aborted_between(first, upto) == sorted(wanted, key=lambda one: one.first_offset)


def test_what_was_aborted_later_is_not_looked_at() -> None:
    """A consumer that reads all of a log from its beginning asks again and again."""

    def work_of(count: int) -> int:
        known = Transactions()
        for offset in range(0, count * 10, 10):
            known.begin(1, offset)
            known.end(1, offset + 5, committed=False)
        with counted() as work:
            assert len(known.aborted_between(11, 31)) == 3
        return work.lines

    assert work_of(10_000) < 2 * work_of(100)


# --- writing ------------------------------------------------------------------------------------------------------


def test_the_first_write_waits_for_the_coordinator_and_the_others_behind_it() -> None:
    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        engine.hold = False
        partition: Partition = await make()
        coordinator = Coordinator()
        first = partition.append(in_transaction(0), coordinator)
        second = partition.append(in_transaction(1), coordinator)
        other = now(partition.append(in_transaction(0, producer_id=9, transactional=False)))
        assert other.base_offset == 0, "others do not wait"
        assert isinstance(first, asyncio.Task) and isinstance(second, asyncio.Task)
        await coordinator.is_asked.wait()
        coordinator.asked[0][1].set_result(ErrorCode.NONE)
        assert ((await first).base_offset, (await second).base_offset) == (1, 2)
        assert len(coordinator.asked) == 1, "once for a transaction"
        assert now(partition.append(in_transaction(2), coordinator)).base_offset == 3
        assert partition.offsets().last_stable_offset == 1

    run(work)


@pytest.mark.parametrize("code", [ErrorCode.INVALID_PRODUCER_EPOCH, ErrorCode.CONCURRENT_TRANSACTIONS])
def test_who_is_refused_has_written_nothing(code: ErrorCode) -> None:
    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        partition: Partition = await make()

        async def refuse(header: BatchHeader) -> ErrorCode:
            return code

        results = [partition.append(in_transaction(sequence), refuse) for sequence in range(2)]
        assert [(await one).error for one in results if isinstance(one, asyncio.Task)] == [code, code]
        assert partition.log is not None and partition.log.end_offset == 0

    run(work)


def test_without_a_transactional_id_nothing_is_taken() -> None:
    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        partition: Partition = await make()
        refused = now(partition.append(in_transaction(0)))
        assert refused.error == ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED

    run(work)


def test_a_marker_ends_it_and_raises_the_epoch() -> None:
    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        engine.hold = False
        partition: Partition = await make()
        told: list[tuple[int, bool]] = []
        partition.marker_listeners.append(lambda *what: told.append(what))
        task = partition.append(in_transaction(0), welcome)
        assert isinstance(task, asyncio.Task)
        await task
        refused = now(partition.append(in_transaction(1, transactional=False)))
        assert refused.error == ErrorCode.INVALID_TXN_STATE
        await partition.end_transaction(7, 1, 3, committed=False)
        assert told == [(7, False)]
        assert partition.offsets().last_stable_offset == 2
        late = partition.append(in_transaction(1), welcome)
        assert isinstance(late, asyncio.Task)
        assert (await late).error == ErrorCode.INVALID_PRODUCER_EPOCH
        for epoch, coordinator_epoch, code in (
            (0, 3, ErrorCode.INVALID_PRODUCER_EPOCH),
            (1, 2, ErrorCode.TRANSACTION_COORDINATOR_FENCED),
        ):
            with pytest.raises(KafkaError) as refusal:
                await partition.end_transaction(7, epoch, coordinator_epoch, committed=True)
            assert refusal.value.code == code
        (data,) = partition.read(1, 1000, True)  # type: ignore[misc]
        ((header, _),) = split_batches(data)
        assert header.is_control and header.is_transactional and header.producer_epoch == 1

    run(work)


def test_its_end_is_stable_when_it_is_durable() -> None:
    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        partition: Partition = await make()
        task = partition.append(in_transaction(0), welcome)
        assert isinstance(task, asyncio.Task)
        await task
        engine.flush()
        durable = partition.end_transaction(7, 1, 0, committed=True)
        assert partition.offsets() == (1, 0, 0)
        engine.flush()
        await durable
        assert partition.offsets() == (2, 2, 0)

    run(work)


# --- a marker's place among what is being prepared -------------------------------------------------------------------

HOLD_TIMEOUT_S = 5.0
LOOKS = {
    "gzip": {"compression_type": "gzip"},
    "zstd": {"compression_type": "zstd"},
    "keys": {"cleanup_policy": ("compact",)},
    "times": {"timestamp_before_max_ms": 3_600_000},
}


@pytest.fixture
def go(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Preparations go on while this is set, as it is at first."""
    may_go = threading.Event()
    may_go.set()
    prepare = Preparation.prepare

    def held(self: Preparation, batch: RecordBatch, now_ms: int) -> RecordBatch:
        assert may_go.wait(HOLD_TIMEOUT_S)
        return prepare(self, batch, now_ms)

    monkeypatch.setattr(Preparation, "prepare", held)
    yield may_go
    may_go.set()


async def done(result: AppendResult | asyncio.Task[AppendResult]) -> AppendResult:
    return await result if isinstance(result, asyncio.Task) else result


async def all_that_can() -> None:
    """Lets tasks come as far as they come by themselves."""
    for _ in range(20):
        await asyncio.sleep(0)


async def is_over(header: BatchHeader) -> ErrorCode:
    return ErrorCode.INVALID_TXN_STATE


def written(partition: Partition) -> list[str]:
    """What the log has: sequence numbers, and markers."""
    assert partition.log is not None
    data = b"".join(partition.read(0, 1 << 20, True))  # type: ignore[arg-type]
    return ["marker" if header.is_control else str(header.base_sequence) for header, _ in split_batches(data)]


@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("looks", LOOKS)
def test_a_marker_is_behind_what_came_before_it_and_before_what_comes_later(
    go: threading.Event, looks: str, committed: bool
) -> None:
    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        engine.hold = False
        partition: Partition = await make(**LOOKS[looks])
        await done(partition.append(in_transaction(0), welcome))
        go.clear()
        before = [partition.append(in_transaction(sequence), welcome) for sequence in (1, 2)]
        ended = partition.end_transaction(7, 0, 0, committed)
        late = partition.append(in_transaction(3), is_over)
        other = partition.append(in_transaction(0, producer_id=9, transactional=False))
        go.set()
        assert [(await done(one)).base_offset for one in before] == [1, 2]
        await ended
        assert (await done(late)).error == ErrorCode.INVALID_TXN_STATE
        assert (await done(other)).error == ErrorCode.NONE
        assert written(partition) == ["0", "1", "2", "marker", "0"]
        assert partition.offsets().last_stable_offset == 5
        assert partition.producers.transactions.aborted == ([] if committed else [AbortedTransaction(7, 0, 3)])

    run(work)


@pytest.mark.parametrize("looks", LOOKS)
def test_a_marker_is_behind_a_first_batch_that_the_coordinator_has_let_in(go: threading.Event, looks: str) -> None:
    """And behind those that came after it, which the coordinator need not be asked of for long."""

    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        engine.hold = False
        partition: Partition = await make(**LOOKS[looks])
        go.clear()
        first, second = [partition.append(in_transaction(sequence), welcome) for sequence in (0, 1)]
        await all_that_can()
        ended = partition.end_transaction(7, 0, 0, committed=True)
        assert not ended.done()
        go.set()
        await ended
        assert [(await done(one)).base_offset for one in (first, second)] == [0, 1]
        assert written(partition) == ["0", "1", "marker"]
        assert partition.offsets().last_stable_offset == 3

    run(work)


def test_a_marker_does_not_wait_for_the_coordinators_word() -> None:
    """Which, of a batch of the next transaction, waits for the marker."""

    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        engine.hold = False
        partition: Partition = await make(compression_type="gzip")
        await done(partition.append(in_transaction(0), welcome))
        first = partition.append(in_transaction(1), welcome)
        ended = partition.end_transaction(7, 1, 0, committed=True)

        async def when_ended(header: BatchHeader) -> ErrorCode:
            await ended
            return ErrorCode.NONE

        following = partition.append(in_transaction(0, epoch=1), when_ended)
        assert [(await done(one)).base_offset for one in (first, following)] == [1, 3]
        assert written(partition) == ["0", "1", "marker", "0"]
        assert partition.producers.transactions.open == {7: 3}

    run(work)


def test_markers_keep_their_order_over_a_producers_transactions(go: threading.Event) -> None:
    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        engine.hold = False
        partition: Partition = await make(compression_type="gzip")
        go.clear()
        ends = []
        for sequence, committed in enumerate((True, False, True, False)):
            partition.append(in_transaction(sequence), welcome)
            await all_that_can()
            ends.append(partition.end_transaction(7, 0, 0, committed))
        assert partition.offsets().high_watermark == 0
        go.set()
        await asyncio.gather(*ends)
        assert written(partition) == ["0", "marker", "1", "marker", "2", "marker", "3", "marker"]
        assert partition.producers.transactions.aborted == [AbortedTransaction(7, 2, 3), AbortedTransaction(7, 6, 7)]
        assert partition.offsets().last_stable_offset == 8
        assert not partition._appending._ending

    run(work)


def test_what_ends_a_marker_that_waits_for_its_place(go: threading.Event) -> None:
    """A marker that is older than another, a log that fails, a deletion: who asked for it is told."""

    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        engine.hold = False
        partition: Partition = await make(compression_type="gzip")
        await done(partition.append(in_transaction(0, epoch=3), welcome))

        async def waiting(sequence: int, epoch: int) -> asyncio.Future[None]:
            go.clear()
            partition.append(in_transaction(sequence, epoch=3), welcome)
            await all_that_can()
            ended = partition.end_transaction(7, epoch, 0, committed=False)
            await all_that_can()
            assert not ended.done()
            return ended

        async def code_of(ended: asyncio.Future[None]) -> ErrorCode:
            go.set()
            with pytest.raises(KafkaError) as refusal:
                await ended
            return refusal.value.code

        assert await code_of(await waiting(1, 2)) == ErrorCode.INVALID_PRODUCER_EPOCH
        assert partition.producers.transactions.open == {7: 0}
        ended = await waiting(2, 3)
        engine.refuse = Unknown("the write failed")
        assert await code_of(ended) == ErrorCode.KAFKA_STORAGE_ERROR
        engine.refuse = None
        await asyncio.gather(*partition._background)
        await partition.end_transaction(7, 3, 0, committed=False)
        assert written(partition) == ["0", "1", "marker"]
        assert partition.offsets().last_stable_offset == 3
        ended = await waiting(2, 3)
        await partition.delete()
        assert await code_of(ended) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    run(work)


def test_a_log_with_a_batch_behind_its_marker_can_be_ended() -> None:
    """As an earlier broker may have left it: it is open again, and an administrator's marker ends it."""

    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        engine.hold = False
        partition: Partition = await make(compression_type="gzip")
        await done(partition.append(in_transaction(0), welcome))
        await partition.end_transaction(7, 0, 0, committed=False)
        await done(partition.append(in_transaction(1), welcome))
        await partition.close()
        again: Partition = await make(compression_type="gzip")
        assert again.offsets().last_stable_offset == 2
        await again.end_transaction(7, 0, 0, committed=False)
        assert again.offsets().last_stable_offset == 4
        assert again.producers.transactions.aborted == [AbortedTransaction(7, 0, 1), AbortedTransaction(7, 2, 3)]

    run(work)


# --- what a restart knows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("clean", [True, False])
def test_an_opening_knows_what_the_one_before_knew(clean: bool) -> None:
    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        engine.hold = False
        partition: Partition = await make()
        for producer_id, committed in ((1, False), (2, True), (3, False), (4, None)):
            task = partition.append(in_transaction(0, producer_id=producer_id), welcome)
            assert isinstance(task, asyncio.Task)
            await task
            if committed is not None:
                await partition.end_transaction(producer_id, 1, 5, committed)
        known = partition.producers
        if clean:
            await partition.close()
        else:
            assert partition.log is not None
            await partition.log.close()
        again: Partition = await make()
        aborted = [AbortedTransaction(1, 0, 1), AbortedTransaction(3, 4, 5)]
        assert again.producers.transactions.aborted == known.transactions.aborted == aborted
        assert again.producers.transactions.open == known.transactions.open == {4: 6}
        assert again.producers.to_snapshot() == known.to_snapshot()
        assert again.offsets().last_stable_offset == 6
        assert again.producers.has_open_transaction(4, 0)

    run(work)


def test_what_another_broker_has_noted_is_taken_over(tmp_path: Path) -> None:
    """Kafka's snapshots of producers do not have the aborted transactions, its `.txnindex` files do."""

    async def main() -> None:
        engine = LocalEngine(tmp_path, BrokerConfig(), LoopScheduler(StillClock()))
        await engine.start()
        with ThreadPoolExecutor(2) as executor:

            async def opened() -> Partition:
                partition = Partition(
                    engine, LogIdentity("t", b"t" * 16, 0), LogConfig(), LoopScheduler(StillClock(), executor)
                )
                await partition.open()
                return partition

            partition = await opened()
            for producer_id, committed in ((1, False), (2, True)):
                task = partition.append(in_transaction(0, producer_id=producer_id), welcome)
                assert isinstance(task, asyncio.Task)
                await task
                await partition.end_transaction(producer_id, 1, 5, committed)
            await partition.close()
            index = tmp_path / "t-0" / f"{0:020d}.txnindex"
            assert index.read_bytes() == struct.pack(">hqqqq", 0, 1, 0, 1, 0)
            (snapshot,) = (tmp_path / "t-0").glob("*.snapshot")
            data = snapshot.read_bytes()
            theirs = data[6 : data.index(b"odrk")]
            snapshot.write_bytes(struct.pack(">hI", 1, crc32c(theirs)) + theirs)
            entry = struct.pack(">hqqqq", 0, 1, 0, 1, 2)
            index.write_bytes(entry + entry[:7])
            again = await opened()
            assert again.producers.transactions.aborted == [AbortedTransaction(1, 0, 1)]
            assert again.producers.producers[1].epoch == 1
            await again.close()
        await engine.stop()

    asyncio.run(main())


def test_each_segment_says_what_was_aborted_in_it(tmp_path: Path) -> None:
    """For other brokers: over rolls, a crash, and with what a file says too much or too little."""
    config = LogConfig(segment_bytes=400)
    written: list[AbortedTransaction] = []

    async def life(producer_ids: range, crashes: bool) -> None:
        engine = LocalEngine(tmp_path / "now", BrokerConfig(), LoopScheduler(StillClock()))
        await engine.start()
        with ThreadPoolExecutor(2) as executor:
            partition = Partition(engine, LogIdentity("t", b"t" * 16, 0), config, LoopScheduler(StillClock(), executor))
            await partition.open()
            for producer_id in producer_ids:
                task = partition.append(in_transaction(0, producer_id=producer_id), welcome)
                assert isinstance(task, asyncio.Task)
                first_offset = (await task).base_offset
                await partition.end_transaction(producer_id, 1, 5, committed=producer_id % 3 == 0)
                if producer_id % 3:
                    written.append(AbortedTransaction(producer_id, first_offset, first_offset + 1))
            if crashes:
                await asyncio.gather(*partition._background)
                shutil.copytree(tmp_path / "now", tmp_path / "crashed")
            await partition.close()
        await engine.stop()

    def files() -> dict[int, bytes]:
        return {int(file.stem): file.read_bytes() for file in sorted((tmp_path / "now" / "t-0").glob("*.txnindex"))}

    def expected() -> dict[int, bytes]:
        bases = [int(file.stem) for file in sorted((tmp_path / "now" / "t-0").glob("*.log"))]
        found: dict[int, bytes] = {}
        for one in written:
            base = max(base for base in bases if base <= one.last_offset)
            found[base] = found.get(base, b"") + struct.pack(">hqqqq", 0, *one, one.first_offset)
        return found

    asyncio.run(life(range(1, 20), crashes=True))
    assert files() == expected() and len(files()) > 3
    shutil.rmtree(tmp_path / "now")
    (tmp_path / "crashed").rename(tmp_path / "now")
    first, second, *_ = sorted(files())
    (tmp_path / "now" / "t-0" / f"{first:020d}.txnindex").write_bytes(bytes(34))
    (tmp_path / "now" / "t-0" / f"{second:020d}.txnindex").unlink()
    asyncio.run(life(range(20, 40), crashes=False))
    assert files() == expected() and len(written) == 26
