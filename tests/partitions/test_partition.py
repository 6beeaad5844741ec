"""A partition on a controllable engine: order, checks, duplicates, visibility, failure and return."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from odradek.config import LogConfig
from odradek.engines.interface import LogIdentity, StorageFull, Unknown
from odradek.engines.memory.engine import MemoryLog
from odradek.errors import ErrorCode, KafkaError
from odradek.loop_scheduler import LoopScheduler
from odradek.partitions import lookup
from odradek.partitions.partition import AppendResult, Partition
from odradek.records.batch import RecordBatch, read_header, split_batches
from odradek.records.builder import NewRecord, batch_bytes, build_batch
from odradek.records.compression import Codec
from tests.engines.held import HeldEngine
from tests.raw_client import batch, records_of

NOW_MS = 1_700_000_000_000


class StillClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.ms = NOW_MS

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1000

    ageing = monotonic


def run(work: Callable[[HeldEngine, StillClock, Callable[..., Awaitable[Partition]]], Awaitable[None]]) -> None:
    async def main() -> None:
        engine, clock = HeldEngine(), StillClock()
        await engine.start()
        with ThreadPoolExecutor(2) as executor:

            async def make(**settings: Any) -> Partition:
                partition = Partition(
                    engine, LogIdentity("t", b"t" * 16, 0), LogConfig(**settings), LoopScheduler(clock, executor)
                )
                await partition.open()
                return partition

            async with asyncio.timeout(30):
                await work(engine, clock, make)

    asyncio.run(main())


def now(result: AppendResult | asyncio.Task[AppendResult]) -> AppendResult:
    assert isinstance(result, AppendResult)
    return result


def sequenced(sequence: int, count: int = 1, producer_id: int = 7) -> bytes:
    values = [b"%d" % (sequence + index) for index in range(count)]
    return batch(*values, producer_id=producer_id, producer_epoch=0, base_sequence=sequence)


def test_nothing_is_readable_before_it_is_durable() -> None:
    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        partition = await make()
        first = now(partition.append(batch(b"a")))
        assert (first.error, first.base_offset) == (ErrorCode.NONE, 0) and not first.durable.done()
        assert partition.read(0, 1000, True) == [] and partition.offsets().high_watermark == 0
        engine.flush()
        assert partition.offsets().high_watermark == 1
        assert [r.value for r in records_of(b"".join(partition.read(0, 1000, True)))] == [b"a"]

    run(work)


def test_a_duplicate_waits_for_the_flush_of_the_first_copy() -> None:
    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        partition = await make()
        first = now(partition.append(sequenced(0, 3)))
        again = now(partition.append(sequenced(0, 3)))
        assert again.base_offset == first.base_offset == 0 and again.error == ErrorCode.NONE
        assert not again.durable.done() and partition.log.end_offset == 3
        engine.flush()
        assert again.durable.done()
        await asyncio.sleep(0)
        later = now(partition.append(sequenced(0, 3)))
        assert later.durable.done() and later.base_offset == 0

    run(work)


def test_after_a_failed_flush_what_was_lost_can_be_sent_again() -> None:
    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        partition = await make()
        kept = now(partition.append(sequenced(0)))
        engine.flush()
        await kept.durable
        epoch = partition.leader_epoch
        lost = now(partition.append(sequenced(1)))
        duplicate = now(partition.append(sequenced(1)))
        engine.fail()
        with pytest.raises(Unknown):
            await lost.durable
        with pytest.raises(Unknown):
            await duplicate.durable
        await asyncio.sleep(0)
        offline = now(partition.append(sequenced(1)))
        assert offline.error == ErrorCode.KAFKA_STORAGE_ERROR and offline.error.retriable
        await asyncio.gather(*partition._background)
        assert partition.leader_epoch > epoch and partition.log.end_offset == 1
        again = now(partition.append(sequenced(1)))
        assert (again.error, again.base_offset) == (ErrorCode.NONE, 1)
        # The producer's earlier batch is still known: its state was made anew from the log.
        assert now(partition.append(sequenced(0))).base_offset == 0
        end = partition.epoch_end(epoch)
        assert end is not None and (end.epoch, end.end_offset) == (epoch, 1)

    run(work)


def test_a_full_disk_is_an_error_and_no_failure() -> None:
    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        partition = await make()
        engine.refuse = StorageFull("no room")
        assert now(partition.append(batch(b"a"))).error == ErrorCode.KAFKA_STORAGE_ERROR
        engine.refuse = None
        result = now(partition.append(batch(b"a")))
        assert (result.error, result.base_offset) == (ErrorCode.NONE, 0)

    run(work)


@pytest.mark.parametrize(
    ("settings", "data", "code"),
    [
        ({"max_message_bytes": 100}, batch(b"x" * 100), ErrorCode.MESSAGE_TOO_LARGE),
        ({"segment_bytes": 100}, batch(b"x" * 100), ErrorCode.RECORD_LIST_TOO_LARGE),
        ({}, batch(b"x", control=True), ErrorCode.INVALID_RECORD),
        ({}, batch(b"x", transactional=True, producer_id=1, producer_epoch=0, base_sequence=0), 53),
        ({}, batch(b"x", timestamp_ms=NOW_MS + 3_600_001), ErrorCode.INVALID_TIMESTAMP),
        ({}, batch(b"x", producer_id=1), ErrorCode.INVALID_RECORD),
        ({}, batch(b"x")[:-1], ErrorCode.INVALID_RECORD),
        ({}, batch(b"x")[:-1] + b"?", ErrorCode.CORRUPT_MESSAGE),
    ],
)
def test_what_is_refused(settings: dict[str, Any], data: bytes, code: int) -> None:
    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        partition = await make(**settings)
        result = now(partition.append(data))
        assert (result.error, result.base_offset, result.durable) == (code, -1, None) and result.message
        assert partition.log.end_offset == 0

    run(work)


def test_log_append_time_overrides_the_records() -> None:
    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        engine.hold = False
        partition = await make(timestamp_type="LogAppendTime")
        result = now(partition.append(batch(b"a", timestamp_ms=5)))
        assert result.log_append_time_ms == NOW_MS
        data = b"".join(partition.read(0, 1000, True))
        (record,) = records_of(data)
        assert record.timestamp == NOW_MS and read_header(data).has_log_append_time

    run(work)


@pytest.mark.parametrize("codec", [Codec.NONE, Codec.GZIP, Codec.SNAPPY, Codec.LZ4, Codec.ZSTD])
def test_a_topics_codec_is_applied_in_order_with_plain_batches_around(codec: Codec) -> None:
    names = {0: "uncompressed", 1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}

    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        engine.hold = False
        partition = await make(compression_type=names[codec])
        results = [
            partition.append(batch(b"%d" % index * 50, codec=index % 5)) for index in range(20)
        ]  # those already in the codec need no thread, and still must not overtake
        offsets = [(await r if isinstance(r, asyncio.Task) else r).base_offset for r in results]
        assert offsets == list(range(20))
        data = b"".join(partition.read(0, 1 << 20, True))
        assert [r.value for r in records_of(data)] == [b"%d" % index * 50 for index in range(20)]
        assert {header.codec for header, _ in split_batches(data)} == {codec}

    run(work)


def test_a_compacted_topic_wants_keys_and_names_the_records_without() -> None:
    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        engine.hold = False
        partition = await make(cleanup_policy=("compact",))
        mixed = [NewRecord(key, b"v", NOW_MS) for key in (b"k", None, b"", None)]
        for codec in (Codec.NONE, Codec.LZ4):
            refused = await partition.append(batch_bytes(build_batch(mixed, codec=codec)))
            assert refused.error == ErrorCode.INVALID_RECORD and [index for index, _ in refused.record_errors] == [1, 3]
        good = await partition.append(batch_bytes(build_batch([NewRecord(b"k", b"v", NOW_MS)])))
        assert (good.error, good.base_offset) == (ErrorCode.NONE, 0)

    run(work)


def test_records_older_than_the_bound_are_refused_wherever_they_stand_in_the_batch() -> None:
    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        engine.hold = False
        partition = await make(timestamp_before_max_ms=1000)
        times = [NOW_MS, NOW_MS - 1001, NOW_MS]
        refused = await partition.append(batch_bytes(build_batch([NewRecord(None, b"v", t) for t in times])))
        assert refused.error == ErrorCode.INVALID_TIMESTAMP and [index for index, _ in refused.record_errors] == [1]

    run(work)


def test_offsets_outside_the_log_are_refused() -> None:
    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        partition = await make()
        for _ in range(5):
            partition.append(batch(b"a"))
        engine.flush()
        assert await partition.delete_records(3) == 3
        for offset in (2, 6):
            with pytest.raises(KafkaError) as caught:
                partition.read(offset, 1000, True)
            assert caught.value.code == ErrorCode.OFFSET_OUT_OF_RANGE
        with pytest.raises(KafkaError):
            await partition.delete_records(6)
        assert await partition.delete_records(-1) == 5

    run(work)


def test_epochs_are_compared() -> None:
    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        partition = await make()
        partition.check_epoch(-1)
        partition.check_epoch(partition.leader_epoch)
        for epoch, code in ((5, ErrorCode.UNKNOWN_LEADER_EPOCH),):
            with pytest.raises(KafkaError) as caught:
                partition.check_epoch(epoch)
            assert caught.value.code == code
        await partition.close()
        await partition.open()
        with pytest.raises(KafkaError) as caught:
            partition.check_epoch(0)
        assert caught.value.code == ErrorCode.FENCED_LEADER_EPOCH

    run(work)


def test_records_are_found_by_time_past_batches_that_cannot_be_read() -> None:
    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        engine.hold = False
        partition = await make()
        lying = build_batch([NewRecord(None, b"x", 2000)])
        lying = RecordBatch(lying.header, (lying.buffers[0], b"\xff" * len(lying.buffers[1]))).with_header(lying.header)
        for data in (batch(b"a", timestamp_ms=1000), batch_bytes(lying), batch(b"b", timestamp_ms=3000)):
            assert now(partition.append(data)).error == ErrorCode.NONE
        found = await lookup.find_by_timestamp(partition, 1500)
        assert found is not None and (found.offset, found.timestamp_ms) == (2, 3000)
        assert await lookup.find_by_timestamp(partition, 3001) is None
        found = await lookup.find_max_timestamp(partition)
        assert found is not None and (found.offset, found.timestamp_ms) == (2, 3000)

    run(work)


@pytest.mark.parametrize("length", [False, True])
def test_a_record_whose_bit_has_flipped_is_not_found_by_its_time(length: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(engine: HeldEngine, clock: StillClock, make: Callable[..., Awaitable[Partition]]) -> None:
        engine.hold = False
        partition = await make()
        for timestamp in (1000, 2000):
            now(partition.append(batch(b"a", b"b", timestamp_ms=timestamp)))
        read = MemoryLog.read

        def damaged(log: MemoryLog, *arguments: Any) -> list[Any]:
            data = bytearray(b"".join(read(log, *arguments)))
            if int.from_bytes(data[:8], "big") == 0:
                data[8 if length else 63] ^= 8  # the batch's length, or a record's timestamp
            return [bytes(data)]

        monkeypatch.setattr(MemoryLog, "read", damaged)
        if length:
            with pytest.raises(Unknown):
                await lookup.find_by_timestamp(partition, 900)
        else:
            found = await lookup.find_by_timestamp(partition, 900)
            assert found is not None and (found.offset, found.timestamp_ms) == (2, 2000)

    run(work)


def test_the_producer_state_survives_a_close_with_all_five_batches() -> None:
    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        engine.hold = False
        partition = await make()
        for sequence in range(6):
            partition.append(sequenced(sequence))
        await partition.close()
        await partition.open()
        for sequence in range(1, 6):
            assert now(partition.append(sequenced(sequence))).base_offset == sequence
        assert partition.log.end_offset == 6

    run(work)


def test_a_partition_can_be_deleted_while_its_log_is_being_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        partition = await make()
        opening, go_on = asyncio.Event(), asyncio.Event()
        open_log, delete_log = engine.open, engine.delete
        order: list[str] = []

        async def slow(identity: LogIdentity, config: LogConfig) -> MemoryLog:
            opening.set()
            await go_on.wait()
            opened = await open_log(identity, config)
            order.append("opened")
            return opened

        async def delete(identity: LogIdentity) -> None:
            order.append("deleted")
            await delete_log(identity)

        monkeypatch.setattr(engine, "open", slow)
        monkeypatch.setattr(engine, "delete", delete)
        partition.append(batch(b"a"))
        engine.fail()
        await opening.wait()
        deletion = asyncio.ensure_future(partition.delete())
        await asyncio.sleep(0)
        go_on.set()
        await deletion
        assert order == ["opened", "deleted"]
        assert now(partition.append(batch(b"a"))).error == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    run(work)


def test_deleting_does_not_wait_for_the_next_try_of_a_log_that_does_not_open() -> None:
    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        partition = await make()
        tried = asyncio.Event()

        async def failing(*_: object) -> MemoryLog:
            tried.set()
            raise Unknown("still broken")

        engine.open = failing  # type: ignore[method-assign]
        partition.append(batch(b"a"))
        engine.fail()
        await tried.wait()
        async with asyncio.timeout(0.04):
            await partition.delete()

    run(work)
