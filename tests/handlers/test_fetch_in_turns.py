"""A Fetch of many partitions lets others between them: how many at a time, and what must not be missed meanwhile."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Generator, Iterator
from typing import Any

import pytest

from odradek.errors import ErrorCode
from odradek.handlers import fetch
from odradek.handlers.fetch_sessions import FetchSessions
from odradek.handlers.turns import TURN_S, Turns
from odradek.protocol.framing import encode_request
from odradek.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from odradek.protocol.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic
from tests.handlers import test_fetch_parked as parked
from tests.raw_client import RawClient, batch
from tests.serving import Serving

PARTITIONS = 60
AT_ONCE, A_STEP = 10, 4
LONG_MS = 600_000


@pytest.fixture(autouse=True)
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "PARTITIONS_AT_ONCE", AT_ONCE)
    monkeypatch.setattr(fetch, "PARTITIONS_A_STEP", A_STEP)


class Fetching:
    """Fetches each of whose steps is a turn of its own."""

    def __init__(self, fetching: parked.Fetching) -> None:
        self.parts = fetching
        self.looks = 0
        self.broker: Any = fetching.context.broker
        self.broker.turns = Turns(itertools.count(step=0.6 * TURN_S).__next__)
        self.broker.fetch_sessions = FetchSessions(10, 120.0, self)  # type: ignore[arg-type]
        for partition in fetching.partitions:
            partition.visible = self._counting(partition.visible)  # type: ignore[method-assign]

    def randrange(self, first: int, stop: int) -> int:
        """The one session's id."""
        return first

    def _counting(self, visible: Callable[..., Any]) -> Callable[..., Any]:
        def look(*arguments: Any) -> Any:
            self.looks += 1
            return visible(*arguments)

        return look

    def request(self, wait_ms: int = LONG_MS, min_bytes: int = 1, **more: Any) -> FetchRequest:
        wanted = [FetchPartition(partition=index, partition_max_bytes=1 << 20) for index in range(PARTITIONS)]
        more = {"session_epoch": -1, "topics": [FetchTopic(topic="t", partitions=wanted)], **more}
        return FetchRequest(max_wait_ms=wait_ms, min_bytes=min_bytes, max_bytes=55 << 20, **more)

    def begin(self, request: FetchRequest) -> asyncio.Task[FetchResponse]:
        """Carries a request out as a connection does."""

        async def work() -> FetchResponse:
            answer = fetch.handle(request, self.parts.context)
            if isinstance(answer, Generator):
                answer = await self.broker.turns.run(answer)
            if not isinstance(answer, FetchResponse):
                self.parts.waiting.append(answer)  # type: ignore[arg-type]
                answer = await answer
            assert isinstance(answer, FetchResponse)
            return answer

        return asyncio.ensure_future(work())

    async def until_looked(self, count: int) -> None:
        """Until so many partitions have been looked at; never more than two steps' in a turn of the loop, of which the
        first begins the request."""
        while self.looks < count:
            before = self.looks
            await asyncio.sleep(0)
            assert self.looks - before <= 2 * A_STEP

    async def settle(self) -> None:
        for _ in range(20):
            await self.parts.settle()


def run(work: Callable[[Fetching], Awaitable[None]], hold: bool = True) -> None:
    parked.run(lambda fetching: work(Fetching(fetching)), PARTITIONS, hold)


def partitions_of(response: FetchResponse) -> list[int]:
    return [partition.partition_index for topic in response.responses for partition in topic.partitions]


def with_records(response: FetchResponse) -> list[int]:
    found = (partition for topic in response.responses for partition in topic.partitions)
    return [partition.partition_index for partition in found if partition.records]


def test_many_partitions_are_looked_at_some_in_a_turn() -> None:
    async def work(fetching: Fetching) -> None:
        fetching.parts.append(7)
        answer = fetching.begin(fetching.request(wait_ms=0))
        await fetching.until_looked(PARTITIONS)
        response = await answer
        assert partitions_of(response) == list(range(PARTITIONS)) and with_records(response) == [7]
        assert fetching.looks == PARTITIONS

    run(work, hold=False)


def test_what_comes_behind_a_look_wakes_one_that_has_to_wait() -> None:
    async def work(fetching: Fetching) -> None:
        answer = fetching.begin(fetching.request())
        await fetching.until_looked(A_STEP)
        fetching.parts.append(1)
        await fetching.parts.flush()
        await fetching.until_looked(PARTITIONS)
        # It is looked at again, and all of them are.
        await fetching.until_looked(2 * PARTITIONS)
        assert with_records(await answer) == [1]

    run(work)


@pytest.mark.parametrize("isolation_level", [0, 1])
def test_what_comes_before_a_look_and_behind_it_counts_together(isolation_level: int) -> None:
    async def work(fetching: Fetching) -> None:
        size = len(batch(b"a"))
        request = fetching.request(min_bytes=3 * size, isolation_level=isolation_level)
        answer = fetching.begin(request)
        await fetching.until_looked(A_STEP)
        for index in (1, PARTITIONS - 1):
            fetching.parts.append(index)
        await fetching.parts.flush()
        await fetching.settle()
        assert not answer.done() and fetching.parts.partitions.counters.parked_fetches == 1
        fetching.parts.append(PARTITIONS - 1)
        await fetching.parts.flush()
        assert with_records(await answer) == [1, PARTITIONS - 1]

    run(work)


def test_one_that_waits_is_looked_at_in_turns_when_it_is_woken() -> None:
    async def work(fetching: Fetching) -> None:
        answer = fetching.begin(fetching.request())
        await fetching.settle()
        assert fetching.looks == PARTITIONS and fetching.parts.partitions.counters.parked_fetches == 1
        fetching.parts.append(5)
        fetching.parts.engine.flush()
        await fetching.until_looked(2 * PARTITIONS)
        assert with_records(await answer) == [5]

    run(work)


def test_the_deadline_answers_with_what_there_is() -> None:
    async def work(fetching: Fetching) -> None:
        fetching.parts.append(5)
        await fetching.parts.flush()
        response = await fetching.begin(fetching.request(wait_ms=20, min_bytes=1 << 20))
        assert with_records(response) == [5] and partitions_of(response) == list(range(PARTITIONS))

    run(work)


def test_a_topic_that_is_deleted_meanwhile_is_told_at_once() -> None:
    async def work(fetching: Fetching) -> None:
        answer = fetching.begin(fetching.request())
        await fetching.until_looked(A_STEP)
        await fetching.parts.partitions.remove("t")
        response = await answer
        codes = {partition.error_code for topic in response.responses for partition in topic.partitions[2 * A_STEP :]}
        assert codes == {ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}

    run(work)


def test_one_whose_client_leaves_is_forgotten() -> None:
    async def work(fetching: Fetching) -> None:
        steps = fetch.handle(fetching.request(), fetching.parts.context)
        begun: Any = fetching.broker.turns.begin(steps)
        await fetching.until_looked(A_STEP)
        begun.cancel()
        await fetching.settle()
        assert fetching.looks <= 3 * A_STEP
        assert fetching.broker.unread_responses.room_bytes == 1 << 30

    run(work)


def test_one_that_is_woken_and_whose_client_leaves_is_forgotten() -> None:
    async def work(fetching: Fetching) -> None:
        fetching.begin(fetching.request())
        await fetching.settle()
        fetching.parts.append(5)
        await fetching.parts.flush()
        fetching.parts.waiting[0].cancel()
        await fetching.settle()
        assert fetching.broker.unread_responses.room_bytes == 1 << 30

    run(work)


def test_a_session_of_many_partitions() -> None:
    async def work(fetching: Fetching) -> None:
        full = await fetching.begin(fetching.request(wait_ms=0, session_epoch=0))
        assert full.session_id and partitions_of(full) == list(range(PARTITIONS))
        more: dict[str, Any] = {"topics": [], "session_id": full.session_id}
        idle = await fetching.begin(fetching.request(wait_ms=0, session_epoch=1, **more))
        assert partitions_of(idle) == []
        for index in (40, 3):
            fetching.parts.append(index)
        looks = fetching.looks
        answer = fetching.begin(fetching.request(session_epoch=2, **more))
        await fetching.until_looked(looks + PARTITIONS)
        assert partitions_of(await answer) == [3, 40]
        wrong = await fetching.begin(fetching.request(session_epoch=2, session_id=full.session_id))
        assert wrong.error_code == ErrorCode.INVALID_FETCH_SESSION_EPOCH

    run(work, hold=False)


def test_of_a_partition_that_is_named_many_times_the_last_counts() -> None:
    """As in Kafka: a map of what is asked."""

    async def work(fetching: Fetching) -> None:
        request = fetching.request(wait_ms=0)
        asked = request.topics[0].partitions
        request.topics[0].partitions = [FetchPartition(partition=5, fetch_offset=99)] + asked[5:6] * 1000 + asked
        response = await fetching.begin(request)
        assert partitions_of(response) == [5, *range(5), *range(6, PARTITIONS)]
        assert fetching.looks == PARTITIONS

    run(work)


@pytest.fixture
def broker() -> Iterator[Serving]:
    with Serving() as serving:
        yield serving


def test_connections_that_are_lost_at_any_time_leave_nothing(broker: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    with RawClient(broker.port) as client:
        topics = [CreatableTopic(name="t", num_partitions=PARTITIONS, replication_factor=1)]
        client.call(CreateTopicsRequest(topics=topics), CreateTopicsResponse, 7)
    wanted = [FetchPartition(partition=index, partition_max_bytes=1 << 20) for index in range(PARTITIONS)]
    request = FetchRequest(max_wait_ms=LONG_MS, min_bytes=1, topics=[FetchTopic(topic="t", partitions=wanted)])
    parts = broker.shared.dispatch.broker
    monkeypatch.setattr(parts.turns, "_now", itertools.count(step=0.6 * TURN_S).__next__)

    async def lose_after(turns: int) -> int:
        """Returns how many turns the request had before it waited."""
        _, writer = await asyncio.open_connection("127.0.0.1", broker.port)
        writer.write(encode_request(request, 12, 1, "c"))
        pipelines: list[Any] = []
        for _ in range(10_000):
            pipelines = pipelines or [one.pipeline for one in broker.shared.connections if one.pipeline.open]
            if pipelines:
                break
            await asyncio.sleep(0)
        had = 0
        while had < turns and not parts.partitions.counters.parked_fetches:
            had += 1
            await asyncio.sleep(0)
        for pipeline in pipelines:
            pipeline.lost()
        writer.close()
        for _ in range(3 * PARTITIONS):
            await asyncio.sleep(0)
        assert parts.partitions.counters.parked_fetches == 0
        assert not any(partition.progress.parking.fetches for partition in parts.partitions)
        assert parts.unread_responses.held_bytes == 0
        return had

    had = broker.run(lose_after(1000))
    assert had >= PARTITIONS // A_STEP
    for turns in range(had + 1):
        broker.run(lose_after(turns))


def test_what_is_on_the_disk_is_answered_at_once(broker: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """Partitions whose records are not in memory, among others."""
    with RawClient(broker.port) as client:
        topics = [CreatableTopic(name="t", num_partitions=PARTITIONS, replication_factor=1)]
        client.call(CreateTopicsRequest(topics=topics), CreateTopicsResponse, 7)
        for index in (9, 21, 50):
            client.produce("t", batch(b"v"), partition=index)

        def make_slow() -> None:
            for partition in broker.server.partitions:
                opened = partition.opened()
                monkeypatch.setattr(opened, "read", _slowly(opened.read))

        broker.look(make_slow)
        wanted = [FetchPartition(partition=index, partition_max_bytes=1 << 20) for index in range(PARTITIONS)]
        request = FetchRequest(
            max_wait_ms=LONG_MS,
            min_bytes=1 << 20,
            max_bytes=55 << 20,
            topics=[FetchTopic(topic="t", partitions=wanted)],
        )
        response = client.call(request, FetchResponse, 12)
        assert partitions_of(response) == list(range(PARTITIONS)) and with_records(response) == [9, 21, 50]
        assert broker.look(lambda: broker.shared.dispatch.broker.unread_responses.held_bytes) == 0


def _slowly(read: Callable[..., Any]) -> Callable[..., Any]:
    async def later(*arguments: Any) -> Any:
        await asyncio.sleep(0)
        return read(*arguments)

    return later
