"""Fetches that wait: what wakes them, and what that costs where there are many of them, or of their partitions."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, cast

import pytest

from odradek.config import LogConfig
from odradek.errors import ErrorCode
from odradek.handlers import fetch
from odradek.handlers.context import BrokerParts, RequestContext
from odradek.handlers.fetch_sessions import FetchSessions
from odradek.handlers.unread_responses import UnreadResponses
from odradek.loop_scheduler import LoopScheduler
from odradek.partitions.partition import Partition
from odradek.partitions.registry import Partitions
from odradek.protocol.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic
from odradek.records.batch import BatchHeader
from tests.engines.held import HeldEngine
from tests.raw_client import batch
from tests.work_counted import counted

LONG_MS = 600_000
NEVER_BYTES = 50_000_000
COMMITTED = 1


async def welcome(header: BatchHeader) -> ErrorCode:
    return ErrorCode.NONE


class Fetching:
    """Partitions of one topic on a held engine, and who fetches from them."""

    def __init__(self, engine: HeldEngine, executor: ThreadPoolExecutor) -> None:
        self.engine = engine
        scheduler = LoopScheduler(executor=executor)
        self.partitions = Partitions(engine, scheduler)
        broker = SimpleNamespace(
            config=SimpleNamespace(integer=lambda name: 55 << 20),
            clock=scheduler.clock,
            scheduler=scheduler,
            partitions=self.partitions,
            fetch_sessions=FetchSessions(10, 120.0, cast(Any, None)),
            unread_responses=UnreadResponses(1 << 30),
        )
        self.context = RequestContext(cast(BrokerParts, broker), "PLAINTEXT", "localhost", None, 12)
        self.waiting: list[asyncio.Future[FetchResponse]] = []

    def __getitem__(self, index: int) -> Partition:
        return self.partitions.topics["t"].partitions[index]

    def fetch(
        self,
        indexes: range,
        min_bytes: int = 1,
        isolation_level: int = 0,
        offset: int = 0,
        max_bytes: int = 1 << 20,
        wait_ms: int = LONG_MS,
    ) -> asyncio.Future[FetchResponse]:
        """A fetch that is to wait."""
        wanted = [FetchPartition(partition=i, fetch_offset=offset, partition_max_bytes=max_bytes) for i in indexes]
        request = FetchRequest(
            max_wait_ms=wait_ms,
            min_bytes=min_bytes,
            max_bytes=55 << 20,
            isolation_level=isolation_level,
            topics=[FetchTopic(topic="t", partitions=wanted)],
        )
        answer = fetch.handle(request, self.context)
        assert isinstance(answer, asyncio.Future) and not answer.done()
        self.waiting.append(answer)
        return answer

    def append(self, index: int, data: bytes | None = None) -> None:
        """Appends a batch, which is durable when the engine has flushed."""
        self[index].append(data if data is not None else batch(b"a"))

    async def append_in_transaction(
        self, index: int, sequence: int = 0, value: bytes = b"a", producer_id: int = 7
    ) -> None:
        data = batch(value, base_sequence=sequence, producer_id=producer_id, producer_epoch=0, transactional=True)
        result = self[index].append(data, welcome)
        if isinstance(result, asyncio.Task):  # the first of a transaction asks the coordinator
            result = await result
        assert result.error == ErrorCode.NONE

    async def settle(self) -> None:
        """Lets the loop do all that is to be done now."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def flush(self) -> None:
        self.engine.flush()
        await self.settle()

    async def work_of_flush(self) -> int:
        """How much work it is to tell of what is durable, and to wake whom it concerns."""
        with counted() as work:
            await self.flush()
        return work.lines


def run(work: Callable[[Fetching], Awaitable[None]], count: int = 1, hold: bool = True) -> None:
    """Runs `work` with a topic of so many partitions."""

    async def main() -> None:
        engine = HeldEngine()
        engine.hold = hold
        await engine.start()
        with ThreadPoolExecutor(2) as executor:
            fetching = Fetching(engine, executor)
            await fetching.partitions.add("t", b"t" * 16, count, LogConfig())
            async with asyncio.timeout(30):
                await work(fetching)
            for answer in fetching.waiting:
                answer.cancel()
            await fetching.settle()
            assert fetching.partitions.counters.parked_fetches == 0
            for partition in fetching.partitions:
                assert not partition.progress.parking.fetches, "nothing is left behind"

    asyncio.run(main())


def work_of(count: int, prepare: Callable[[Fetching], Coroutine[Any, Any, None]]) -> int:
    """The work of the flush after `prepare`, with a topic of so many partitions."""
    lines: list[int] = []

    async def work(fetching: Fetching) -> None:
        await prepare(fetching)
        lines.append(await fetching.work_of_flush())

    run(work, count)
    return lines[0]


# --- what it costs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("isolation_level", [0, COMMITTED])
def test_a_flush_of_many_partitions_tells_a_parked_fetch_of_each_once(isolation_level: int) -> None:
    async def prepare(fetching: Fetching) -> None:
        count = len(fetching.partitions.topics["t"].partitions)
        for _ in range(4):
            fetching.fetch(range(count), NEVER_BYTES, isolation_level)
        for index in range(count):
            fetching.append(index)

    few, many = work_of(25, prepare), work_of(200, prepare)
    assert many <= 9 * few, "eight times the partitions"


def test_the_flush_of_one_partition_costs_nothing_for_the_others_of_its_fetches() -> None:
    async def prepare(fetching: Fetching) -> None:
        count = len(fetching.partitions.topics["t"].partitions)
        for _ in range(50):
            fetching.fetch(range(count), NEVER_BYTES)
        fetching.append(0)

    assert work_of(100, prepare) == work_of(2, prepare)


def test_consumers_of_one_topic_are_told_once_each() -> None:
    def consumers(count: int) -> Callable[[Fetching], Coroutine[Any, Any, None]]:
        async def prepare(fetching: Fetching) -> None:
            for _ in range(count):
                fetching.fetch(range(4))
            fetching.append(2)

        return prepare

    few, many = work_of(4, consumers(20)), work_of(4, consumers(160))
    assert many <= 9 * few


def test_an_open_transaction_wakes_nobody_who_reads_committed_data() -> None:
    async def work(fetching: Fetching) -> None:
        await fetching.append_in_transaction(0)
        await fetching.flush()
        fetching.fetch(range(50), 1, COMMITTED)
        fetching.append(0)
        assert await fetching.work_of_flush() < 50, "fewer lines than partitions"

    run(work, 50)


def test_transactions_that_end_in_many_partitions_at_once_are_looked_at_once() -> None:
    async def prepare(fetching: Fetching) -> None:
        count = len(fetching.partitions.topics["t"].partitions)
        for index in range(count):
            await fetching.append_in_transaction(index)
        await fetching.flush()
        for _ in range(4):
            fetching.fetch(range(count), NEVER_BYTES, COMMITTED, max_bytes=NEVER_BYTES)
        for index in range(count):
            fetching[index].end_transaction(7, 0, 0, True)

    few, many = work_of(25, prepare), work_of(200, prepare)
    assert many <= 9 * few


def test_many_that_are_ready_give_way_to_others() -> None:
    async def work(fetching: Fetching) -> None:
        answers = [fetching.fetch(range(1)) for _ in range(1000)]
        fetching.append(0)
        fetching.engine.flush()
        answered = [0]
        while answered[-1] < 1000:
            await asyncio.sleep(0)
            answered.append(sum(answer.done() for answer in answers))
        assert max(after - before for before, after in itertools.pairwise(answered)) <= 200
        assert len(answered) < 10

    run(work)


# --- what wakes ---------------------------------------------------------------------------------------------------


def answered(answer: asyncio.Future[FetchResponse]) -> list[tuple[int, int]]:
    """Error and bytes for each partition."""
    return [
        (one.error_code, sum(map(len, cast(list[bytes], one.records or []))))
        for one in answer.result().responses[0].partitions
    ]


@pytest.mark.parametrize("isolation_level", [0, COMMITTED])
@pytest.mark.parametrize("hold", [False, True], ids=["os", "disk"])
def test_what_several_partitions_have_together_is_counted(isolation_level: int, hold: bool) -> None:
    async def work(fetching: Fetching) -> None:
        size = len(batch(b"a"))
        fetching.append(0)
        await fetching.flush()
        answer = fetching.fetch(range(3), 4 * size, isolation_level)
        for index in (1, 1):
            fetching.append(index)
            await fetching.flush()
            assert not answer.done()
        fetching.append(2)
        await fetching.flush()
        assert answered(answer) == [(0, size), (0, 2 * size), (0, size)]

    run(work, 3, hold)


def test_what_was_appended_before_and_is_durable_after_counts() -> None:
    async def work(fetching: Fetching) -> None:
        fetching.append(0)
        for isolation_level in (0, COMMITTED):
            fetching.fetch(range(1), 1, isolation_level)
        await fetching.flush()
        assert all(answer.done() for answer in fetching.waiting)

    run(work)


def test_more_of_a_partition_than_is_wanted_of_it_does_not_count() -> None:
    async def work(fetching: Fetching) -> None:
        size = len(batch(b"a"))
        fetching.append(0)
        await fetching.flush()
        # Two of its batches do not fit, and it lacks less than the second.
        answer = fetching.fetch(range(2), 2 * size, max_bytes=size)
        for _ in range(3):
            fetching.append(0)
            with counted() as work:
                await fetching.flush()
            assert not answer.done() and work.lines < 40, "nobody reads"
        fetching.append(1)
        await fetching.flush()
        assert answered(answer) == [(0, size), (0, size)]

    run(work, 2)


@pytest.mark.parametrize("hold", [False, True], ids=["os", "disk"])
@pytest.mark.parametrize("min_bytes", [1, 200])
def test_the_end_of_a_transaction_wakes_who_reads_committed_data(hold: bool, min_bytes: int) -> None:
    async def work(fetching: Fetching) -> None:
        await fetching.append_in_transaction(1)
        await fetching.flush()
        first = fetching.fetch(range(2), min_bytes, COMMITTED)
        await fetching.append_in_transaction(1, 1, b"b" * 100)
        await fetching.flush()
        second = fetching.fetch(range(2), min_bytes, COMMITTED)
        fetching[1].end_transaction(7, 0, 0, True)
        await fetching.flush()
        assert answered(first) == answered(second) and answered(first)[1][1] > 200
        # And again, with a transaction that begins while they wait.
        end = fetching[1].end_offset
        third = fetching.fetch(range(1, 2), min_bytes, COMMITTED, offset=end)
        await fetching.append_in_transaction(1, 2, b"c" * 200)
        await fetching.flush()
        assert not third.done()
        fetching[1].end_transaction(7, 0, 0, False)
        await fetching.flush()
        assert answered(third)[0][1] > 200

    run(work, 2, hold)


def test_transactions_that_overlap_do_not_hide_what_is_stable() -> None:
    async def work(fetching: Fetching) -> None:
        await fetching.append_in_transaction(0, value=b"a" * 300, producer_id=1)
        await fetching.append_in_transaction(0, value=b"b" * 300, producer_id=2)
        answer = fetching.fetch(range(1), 300, COMMITTED)
        fetching[0].end_transaction(1, 0, 0, True)
        await fetching.settle()
        assert 300 < answered(answer)[0][1] < 600

    run(work, 1, hold=False)


def test_a_failure_and_a_deletion_wake_at_once() -> None:
    async def work(fetching: Fetching) -> None:
        fetching.append(1)
        answer = fetching.fetch(range(2), NEVER_BYTES)
        fetching.engine.fail()
        await fetching.settle()
        assert answered(answer)[1][0] in (ErrorCode.KAFKA_STORAGE_ERROR, ErrorCode.NONE)
        answer = fetching.fetch(range(2), NEVER_BYTES)
        await fetching.partitions.remove("t")
        await fetching.settle()
        assert [error for error, _ in answered(answer)] == [ErrorCode.UNKNOWN_TOPIC_OR_PARTITION] * 2

    run(work, 2)


def test_the_deadline_answers_with_what_there_is() -> None:
    async def work(fetching: Fetching) -> None:
        size = len(batch(b"a"))
        fetching.append(1)
        await fetching.flush()
        answer = fetching.fetch(range(2), NEVER_BYTES, wait_ms=1)
        await answer
        assert answered(answer) == [(0, 0), (0, size)]

    run(work, 2)


def test_one_that_is_ready_and_whose_client_leaves_is_forgotten() -> None:
    async def work(fetching: Fetching) -> None:
        answer = fetching.fetch(range(1))
        fetching.append(0)
        fetching.engine.flush()
        await asyncio.sleep(0)  # it is told, and not yet tried
        answer.cancel()
        await fetching.settle()
        assert fetching.partitions.counters.parked_fetches == 0

    run(work)
