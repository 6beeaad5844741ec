"""A Produce with many batches lets others between them: how many at a time, and what may change meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from odradek.engines.interface import LogFailure, Unknown
from odradek.errors import ErrorCode
from odradek.handlers import produce
from odradek.handlers.context import CLOSE_CONNECTION, NO_RESPONSE, RequestContext
from odradek.partitions.partition import Partition
from odradek.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from odradek.protocol.messages.produce import PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData
from tests.raw_client import RawClient, batch
from tests.serving import Serving

PARTITIONS = 60
SMALL = batch(b"v")
# Small batches that come between two turns.
BATCHES_A_STEP = produce.STEP_COST // produce.BATCH_COST


@pytest.fixture
def broker() -> Iterator[Serving]:
    with Serving() as serving, RawClient(serving.port) as client:
        topics = [CreatableTopic(name="t", num_partitions=PARTITIONS, replication_factor=1)]
        assert client.call(CreateTopicsRequest(topics=topics), CreateTopicsResponse, 7).topics[0].error_code == 0
        yield serving


def request_of(batches: list[bytes], acks: int = -1) -> ProduceRequest:
    """One for each partition, in their order."""
    data = [PartitionProduceData(index=index % PARTITIONS, records=records) for index, records in enumerate(batches)]
    return ProduceRequest(acks=acks, timeout_ms=1000, topic_data=[TopicProduceData(name="t", partition_data=data)])


class Carried:
    """A request that a test carries out step by step."""

    def __init__(self, broker: Serving, request: ProduceRequest) -> None:
        self.parts = broker.shared.dispatch.broker
        self.steps: Any = produce.handle(request, RequestContext(self.parts, "PLAINTEXT", "127.0.0.1", "c", 9))
        self.answer: Any = None if isinstance(self.steps, Generator) else self.steps

    def partitions(self) -> list[Partition]:
        return self.parts.partitions.topics["t"].partitions

    def appended(self) -> int:
        return sum(partition.end_offset for partition in self.partitions())

    def step(self) -> Any:
        """What it yields; None at its end, too."""
        try:
            return next(self.steps)
        except StopIteration as end:
            self.answer = end.value

    def end(self) -> Any:
        while self.answer is None:
            self.step()
        return self.answer


async def answered(answer: Any) -> ProduceResponse:
    response = answer if isinstance(answer, ProduceResponse) else await answer
    assert isinstance(response, ProduceResponse)
    return response


def codes(response: ProduceResponse) -> list[int]:
    return [one.error_code for one in response.responses[0].partition_responses]


def test_a_few_batches_come_at_once(broker: Serving) -> None:
    async def work() -> None:
        carried = Carried(broker, request_of([SMALL] * BATCHES_A_STEP))
        assert carried.answer is not None
        assert codes(await answered(carried.answer)) == [0] * BATCHES_A_STEP

    broker.run(work())


@pytest.mark.parametrize(("size", "at_most"), [(1, BATCHES_A_STEP), (10_000, 4), (100_000, 1)])
def test_many_batches_let_others_between(broker: Serving, size: int, at_most: int) -> None:
    async def work() -> None:
        carried = Carried(broker, request_of([batch(b"v" * size)] * PARTITIONS))
        done = carried.appended()
        assert 0 < done <= at_most
        # `handle` has come to the first place where others may have their turn.
        assert carried.step() is None
        while carried.answer is None:
            carried.step()
            assert carried.appended() - done <= at_most
            done = carried.appended()
        response = await answered(carried.answer)
        answers = response.responses[0].partition_responses
        assert [(one.index, one.error_code, one.base_offset) for one in answers] == [
            (index, 0, 0) for index in range(PARTITIONS)
        ]

    broker.run(work())


def test_batches_of_one_partition_keep_their_order(broker: Serving) -> None:
    async def work() -> None:
        carried = Carried(broker, request_of([SMALL] * (3 * PARTITIONS)))
        response = await answered(carried.end())
        assert [one.base_offset for one in response.responses[0].partition_responses] == [
            number // PARTITIONS for number in range(3 * PARTITIONS)
        ]

    broker.run(work())


def test_it_waits_while_too_much_is_unflushed(broker: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        engine, room = broker.server.engine, asyncio.Event()

        async def wait_for_room() -> None:
            await room.wait()

        monkeypatch.setattr(engine, "has_room", room.is_set)
        monkeypatch.setattr(engine, "room", wait_for_room)
        carried = Carried(broker, request_of([SMALL] * PARTITIONS))
        begun = carried.parts.turns.begin(carried.steps)
        for _ in range(10):
            await asyncio.sleep(0)
        assert carried.appended() == BATCHES_A_STEP
        room.set()
        assert codes(await answered(await begun)) == [0] * PARTITIONS

    broker.run(work())


def test_a_topic_that_is_deleted_meanwhile_is_unknown_from_then_on(broker: Serving) -> None:
    async def work() -> None:
        carried = Carried(broker, request_of([SMALL] * PARTITIONS))
        await carried.parts.partitions.remove("t")
        assert codes(await answered(carried.end())) == [0] * BATCHES_A_STEP + [ErrorCode.UNKNOWN_TOPIC_OR_PARTITION] * (
            PARTITIONS - BATCHES_A_STEP
        )

    broker.run(work())


def test_a_topic_that_is_made_again_meanwhile_gets_the_rest(broker: Serving) -> None:
    async def work() -> None:
        carried = Carried(broker, request_of([SMALL] * PARTITIONS))
        config = carried.partitions()[0].config
        await carried.parts.partitions.remove("t")
        await carried.parts.partitions.add("t", b"another id......", PARTITIONS, config)
        assert codes(await answered(carried.end())) == [0] * PARTITIONS
        assert [partition.end_offset for partition in carried.partitions()] == [0] * BATCHES_A_STEP + [1] * (
            PARTITIONS - BATCHES_A_STEP
        )

    broker.run(work())


class Flushes:
    """Lets a test say when, and how, what partitions have appended becomes durable."""

    def __init__(self, partitions: list[Partition], monkeypatch: pytest.MonkeyPatch) -> None:
        self.open: list[asyncio.Future[None]] = []
        for partition in partitions:
            opened = partition.opened()
            monkeypatch.setattr(opened, "append", self._later(opened.append))

    def _later(self, append: Any) -> Any:
        def appending(*arguments: Any) -> Any:
            durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.open.append(durable)
            return append(*arguments)._replace(durable=durable)

        return appending

    async def end(self, failure: LogFailure | None = None) -> None:
        ending, self.open = self.open, []
        for durable in ending:
            if failure is None:
                durable.set_result(None)
            else:
                durable.set_exception(failure)
        await asyncio.sleep(0)


def test_flushes_may_end_before_the_last_batch_has_come(broker: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        flushes = Flushes(broker.server.partitions.topics["t"].partitions, monkeypatch)
        carried = Carried(broker, request_of([SMALL] * PARTITIONS))
        await flushes.end()
        carried.step()
        carried.step()
        await flushes.end(Unknown("broken"))
        response = carried.end()
        assert not response.done()
        await flushes.end()
        failed = [int(ErrorCode.KAFKA_STORAGE_ERROR)] * BATCHES_A_STEP
        rest = [0] * (PARTITIONS - 2 * BATCHES_A_STEP)
        assert codes(await answered(response)) == [0] * BATCHES_A_STEP + failed + rest

    broker.run(work())


@pytest.mark.parametrize("bad", [False, True])
def test_without_acks_it_ends_as_a_short_one(broker: Serving, bad: bool) -> None:
    async def work() -> None:
        carried = Carried(broker, request_of([b"" if bad else SMALL] + [SMALL] * (PARTITIONS - 1), acks=0))
        assert carried.end() is (CLOSE_CONNECTION if bad else NO_RESPONSE)
        assert carried.appended() == PARTITIONS - bad

    broker.run(work())
