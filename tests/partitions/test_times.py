"""What a batch's header says of time is not believed where it cannot be: the records are asked.

Producers leave max timestamp unset (every Sarama before 1.45.1), or say what is not so. Apache Kafka reads every record
and writes the true max timestamp into the header; `tests/handlers/test_times_like_kafka.py` compares.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from odradek.clock import SystemClock
from odradek.errors import ErrorCode
from odradek.partitions import lookup
from odradek.partitions.partition import AppendResult, Partition
from odradek.records.batch import TIMESTAMP_TYPE_BIT, BatchHeader, check_batch, split_batches
from odradek.records.builder import NewRecord, batch_bytes, build_batch
from odradek.records.compression import Codec
from tests.batches import joined, with_header
from tests.network.test_produce_alike import create
from tests.partitions.test_partition import NOW_MS, HeldEngine, StillClock, now, run
from tests.raw_client import RawClient, batch, records_of
from tests.records.test_lies import LIES, with_body
from tests.serving import Serving

S, HOUR = 1_000, 3_600_000
SPREAD = (NOW_MS - 60 * S, NOW_MS - 59 * S, NOW_MS - 58 * S)


def at(*times: int, key: bytes | None = None, codec: Codec = Codec.NONE, size: int = 1) -> bytes:
    return batch_bytes(build_batch([NewRecord(key, b"v" * size, time) for time in times], codec=codec))


def headers(partition: Partition) -> list[BatchHeader]:
    assert partition.log is not None
    return [header for header, _ in split_batches(joined(partition.log.read(0, 1 << 30, partition.log.end_offset)))]


async def appended(partition: Partition, data: bytes) -> AppendResult:
    result = partition.append(data)
    return await result if isinstance(result, asyncio.Task) else result


async def first_at(partition: Partition, time_ms: int) -> int:
    found = await lookup.find_by_timestamp(partition, time_ms)
    return -1 if found is None else found.offset


@pytest.mark.parametrize("codec", list(Codec))
@pytest.mark.parametrize("size", [1, 20_000], ids=["small", "large"])
@pytest.mark.parametrize(
    "max_timestamp", [-1, 0, -5_000, SPREAD[0] - 1, NOW_MS + 2 * HOUR], ids=["unset", "1970", "-5000", "low", "ahead"]
)
def test_a_header_that_cannot_be_right_gets_the_records_max_timestamp(
    codec: Codec, size: int, max_timestamp: int
) -> None:
    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        engine.hold = False
        partition = await make()
        result = await appended(
            partition, with_header(at(*SPREAD, codec=codec, size=size), max_timestamp=max_timestamp)
        )
        assert (result.error, result.base_offset) == (ErrorCode.NONE, 0)
        (header,) = headers(partition)
        assert (header.base_timestamp, header.max_timestamp) == (SPREAD[0], SPREAD[2])
        written = b"".join(partition.read(0, 1 << 20, True))
        assert check_batch(written).header == header  # its checksum is true
        assert [record.timestamp for record in records_of(written)] == list(SPREAD)
        assert [await first_at(partition, time) for time in (0, SPREAD[0] + 1, SPREAD[2], SPREAD[2] + 1)] == [
            0,
            1,
            2,
            -1,
        ]
        newest = await lookup.find_max_timestamp(partition)
        assert newest is not None and (newest.offset, newest.timestamp_ms) == (2, SPREAD[2])

    run(work)


@pytest.mark.parametrize(
    ("configs", "data", "bad"),
    [
        ({}, with_header(at(NOW_MS, NOW_MS + 5 * HOUR), max_timestamp=-1), [1]),
        ({}, with_header(at(NOW_MS + 5 * HOUR, NOW_MS, codec=Codec.LZ4), max_timestamp=NOW_MS), [0]),
        ({}, at(NOW_MS, NOW_MS * 1000, NOW_MS * 1000), [1, 2]),
        ({}, with_header(at(NOW_MS), max_timestamp=-1, attributes=TIMESTAMP_TYPE_BIT), [0]),
        ({"timestamp_before_max_ms": S}, with_header(at(NOW_MS, NOW_MS - 2 * S), max_timestamp=-1), [1]),
        ({"timestamp_before_max_ms": S}, at(-5, NOW_MS), [0]),
        ({"cleanup_policy": ("compact",)}, with_header(at(NOW_MS, NOW_MS * 1000, key=b"k"), max_timestamp=NOW_MS), [1]),
    ],
)
def test_records_out_of_range_are_refused_by_name(configs: dict[str, Any], data: bytes, bad: list[int]) -> None:
    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        partition = await make(**configs)
        result = await appended(partition, data)
        assert (result.error, result.base_offset) == (ErrorCode.INVALID_TIMESTAMP, -1)
        assert [index for index, _ in result.record_errors] == bad
        assert partition.log.end_offset == 0

    run(work)


@pytest.mark.parametrize(
    ("configs", "data", "max_timestamp"),
    [
        # Kafka takes records without times, and says so in the header.
        ({}, at(-1, -1), -1),
        ({}, with_header(at(-1, -1), max_timestamp=NOW_MS), -1),
        ({}, with_header(at(-1, NOW_MS), max_timestamp=-1), NOW_MS),
        ({}, at(NOW_MS, NOW_MS - S), NOW_MS),
        ({"timestamp_before_max_ms": S}, at(-1, -1), -1),
        ({"timestamp_before_max_ms": S}, with_header(at(NOW_MS, NOW_MS), max_timestamp=0), NOW_MS),
        ({"compression_type": "gzip"}, with_header(at(*SPREAD), max_timestamp=-1), SPREAD[2]),
        # Read anyway, so that more is known of them.
        ({"cleanup_policy": ("compact",)}, with_header(at(*SPREAD, key=b"k"), max_timestamp=SPREAD[0]), SPREAD[2]),
    ],
)
def test_what_the_records_say_is_taken(configs: dict[str, Any], data: bytes, max_timestamp: int) -> None:
    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        engine.hold = False
        partition = await make(**configs)
        assert (await appended(partition, data)).error is ErrorCode.NONE
        assert [header.max_timestamp for header in headers(partition)] == [max_timestamp]

    run(work)


def test_under_log_append_time_no_time_of_a_producer_matters() -> None:
    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        engine.hold = False
        partition = await make(timestamp_type="LogAppendTime")
        for max_timestamp in (-1, 0, NOW_MS + 5 * HOUR):
            assert now(partition.append(with_header(at(*SPREAD), max_timestamp=max_timestamp))).error is ErrorCode.NONE
        assert [header.max_timestamp for header in headers(partition)] == [NOW_MS] * 3

    run(work)


@pytest.mark.parametrize("together", [False, True])
def test_batches_that_are_looked_into_keep_their_place(together: bool) -> None:
    """Large ones take a thread, small ones do not, most are not looked into: none overtakes another."""

    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        engine.hold = False
        partition = await make()
        choose = random.Random(3)
        datas = []
        for index in range(40):
            record = NewRecord(b"%d" % index, bytes(choose.choice((1, 100_000))), NOW_MS - index)
            plain = batch_bytes(build_batch([record], codec=choose.choice(list(Codec))))
            datas.append(choose.choice((plain, with_header(plain, max_timestamp=-1))))
        results = partition.append_all(datas) if together else [partition.append(data) for data in datas]
        offsets = [(await r if isinstance(r, asyncio.Task) else r).base_offset for r in results]
        assert offsets == list(range(40))
        kept = records_of(b"".join(partition.read(0, 1 << 24, True)))
        assert [record.key for record in kept] == [b"%d" % index for index in range(40)]
        assert [header.max_timestamp for header in headers(partition)] == [NOW_MS - index for index in range(40)]

    run(work)


def test_a_batch_that_holds_more_than_may_be_looked_into_is_refused() -> None:
    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        partition = await make(decompressed_max_bytes=1 << 20)
        result = await appended(partition, with_header(at(NOW_MS, codec=Codec.ZSTD, size=2 << 20), max_timestamp=-1))
        assert result.error is ErrorCode.CORRUPT_MESSAGE and "1048576 bytes" in str(result.message)

    run(work)


@pytest.mark.parametrize(("body", "count"), [pytest.param(body, count, id=name) for name, body, count in LIES])
@pytest.mark.parametrize("codec", [Codec.NONE, Codec.LZ4])
def test_what_cannot_be_looked_into_is_refused(body: bytes, count: int, codec: Codec) -> None:
    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        partition = await make()
        _, data = with_body(body, count, codec)
        result = await appended(partition, with_header(data, max_timestamp=-7))
        assert (result.error, partition.log.end_offset) == (ErrorCode.CORRUPT_MESSAGE, 0) and result.message

    run(work)


def test_in_a_transaction_too() -> None:
    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        engine.hold = False
        partition = await make()

        async def admission(header: BatchHeader) -> ErrorCode:
            return ErrorCode.NONE

        for sequence, size in enumerate((1, 1, 100_000, 1)):
            of = {"producer_id": 7, "producer_epoch": 0, "base_sequence": sequence, "transactional": True}
            data = with_header(batch(b"v" * size, timestamp_ms=NOW_MS, **of), max_timestamp=-1)
            result = partition.append(data, admission)
            result = await result if isinstance(result, asyncio.Task) else result
            assert (result.error, result.base_offset) == (ErrorCode.NONE, sequence)
        assert [header.max_timestamp for header in headers(partition)] == [NOW_MS] * 4

    run(work)


def test_what_a_producer_leaves_unset_is_not_old() -> None:
    """A broker in memory deleted such records at the first look of retention."""
    now_ms = SystemClock().now_ms()
    with Serving() as broker, RawClient(broker.port) as client:
        create(client, "t", partitions=1)
        for data in (with_header(at(now_ms), max_timestamp=-1), with_header(at(now_ms), max_timestamp=0), at(-1)):
            assert client.produce("t", data).error_code == ErrorCode.NONE
        broker.run(broker.server.partitions.retain())
        assert broker.look(lambda: broker.server.partitions.topics["t"].partitions[0].offsets().log_start_offset) == 0
        assert client.fetch("t", 0).error_code == ErrorCode.NONE


def test_an_idempotent_producer_whose_times_are_unset_is_known_again() -> None:
    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        engine.hold = False
        partition = await make()
        for size in (1, 100_000):
            of = {"producer_id": size, "producer_epoch": 0, "base_sequence": 0}
            data = with_header(batch(b"v" * size, timestamp_ms=NOW_MS, **of), max_timestamp=-1)
            first, again = await appended(partition, data), await appended(partition, data)
            assert first.error is again.error is ErrorCode.NONE and first.base_offset == again.base_offset
        assert partition.log.end_offset == 2

    run(work)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(-2, 3).map(lambda n: -1 if n == -2 else NOW_MS + n * HOUR // 2), min_size=1, max_size=4),
    st.sampled_from([None, -(2**63), -1, 0, 5, NOW_MS - HOUR, NOW_MS, NOW_MS + HOUR // 2, NOW_MS + HOUR, 2**63 - 1]),
    st.sampled_from([Codec.NONE, Codec.LZ4]),
    st.booleans(),
)
def test_whatever_a_header_says_of_time(times: list[int], lie: int | None, codec: Codec, bounded: bool) -> None:
    """What is refused has a record out of range; what is taken is found at its own time, unless the header says what
    could be true of these records: less than their highest time, and not less than the first's."""

    async def work(engine: HeldEngine, clock: StillClock, make: Any) -> None:
        engine.hold = False
        before_max_ms = HOUR // 4 if bounded else 2**63 - 1
        partition = await make(timestamp_before_max_ms=before_max_ms)
        data = at(*times, codec=codec)
        result = await appended(partition, data if lie is None else with_header(data, max_timestamp=lie))
        bad = [i for i, t in enumerate(times) if t != -1 and not NOW_MS - before_max_ms <= t <= NOW_MS + HOUR]
        plausible = lie is not None and 0 <= times[0] <= lie <= NOW_MS + HOUR and not bounded
        if plausible and lie != max(times):
            return
        assert result.error is (ErrorCode.INVALID_TIMESTAMP if bad else ErrorCode.NONE)
        assert [index for index, _ in result.record_errors] == bad
        if not bad:
            assert headers(partition)[0].max_timestamp == max(times)
            for time in set(times) - {-1}:
                expected = next(offset for offset, other in enumerate(times) if other >= time)
                assert await first_at(partition, time) == expected

    run(work)
