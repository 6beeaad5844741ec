"""Requests for offsets of many partitions let others between them, and what waits is side by side, some at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from odradek.errors import ErrorCode
from odradek.handlers import delete_records, list_offsets, offset_for_leader_epoch, turns
from odradek.handlers.context import RequestContext
from odradek.pace import PACE_S
from odradek.partitions import lookup
from odradek.partitions.partition import Partition
from odradek.protocol.fields import Message
from odradek.protocol.messages import create_topics
from odradek.protocol.messages import delete_records as deleting
from odradek.protocol.messages import list_offsets as listing
from odradek.protocol.messages import offset_for_leader_epoch as ending
from tests.raw_client import RawClient, batch
from tests.serving import Serving

PARTITIONS = 600
HAS_RECORDS = range(0, PARTITIONS, 2)


@pytest.fixture(scope="module")
def broker() -> Iterator[Serving]:
    with Serving() as serving, RawClient(serving.port) as client:
        topics = [create_topics.CreatableTopic(name="t", num_partitions=PARTITIONS, replication_factor=1)]
        client.call(create_topics.CreateTopicsRequest(topics=topics), create_topics.CreateTopicsResponse, 7)

        def fill() -> None:
            for index in HAS_RECORDS:
                serving.server.partitions.topics["t"].partitions[index].append(batch(b"v", timestamp_ms=1000 + index))

        serving.look(fill)
        yield serving


def offsets_at(timestamp: int) -> Message:
    wanted = [listing.ListOffsetsPartition(partition_index=i, timestamp=timestamp) for i in range(PARTITIONS)]
    return listing.ListOffsetsRequest(topics=[listing.ListOffsetsTopic(name="t", partitions=wanted)])


EPOCHS = ending.OffsetForLeaderEpochRequest(
    topics=[
        ending.OffsetForLeaderTopic(
            topic="t",
            partitions=[ending.OffsetForLeaderPartition(partition=i, leader_epoch=0) for i in range(PARTITIONS)],
        )
    ]
)
DELETIONS = deleting.DeleteRecordsRequest(
    topics=[
        deleting.DeleteRecordsTopic(
            name="t",
            partitions=[deleting.DeleteRecordsPartition(partition_index=i, offset=0) for i in range(PARTITIONS)],
        )
    ]
)


def counting(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[None]:
    """One element for each call."""
    calls: list[None] = []
    call = getattr(owner, name)

    def counted(*arguments: Any) -> Any:
        calls.append(None)
        return call(*arguments)

    monkeypatch.setattr(owner, name, counted)
    return calls


@pytest.mark.parametrize(
    ("handle", "request_", "at_most"),
    [
        (list_offsets.handle, offsets_at(list_offsets.LATEST), list_offsets.PARTITIONS_A_STEP),
        (list_offsets.handle, offsets_at(list_offsets.EARLIEST), list_offsets.PARTITIONS_A_STEP),
        (list_offsets.handle, offsets_at(1000), list_offsets.PARTITIONS_A_STEP),
        (offset_for_leader_epoch.handle, EPOCHS, offset_for_leader_epoch.PARTITIONS_A_STEP),
        (delete_records.handle, DELETIONS, delete_records.PARTITIONS_A_STEP),
    ],
    ids=["latest", "earliest", "by time", "epochs", "deletions"],
)
def test_partitions_are_looked_at_some_in_a_step(
    broker: Serving,
    monkeypatch: pytest.MonkeyPatch,
    handle: Callable[..., Any],
    request_: Message,
    at_most: int,
) -> None:
    async def work() -> None:
        parts = broker.shared.dispatch.broker
        looks = counting(monkeypatch, parts.partitions, "get")
        steps = handle(request_, RequestContext(parts, "PLAINTEXT", "127.0.0.1", "c", 2))
        assert isinstance(steps, Generator)
        most = before = 0
        answer: Any = None
        while answer is None:
            try:
                next(steps)
            except StopIteration as end:
                answer = end.value
            most, before = max(most, len(looks) - before), len(looks)
        if not isinstance(answer, Message):
            await answer
        assert 0 < most <= at_most and len(looks) == PARTITIONS

    broker.run(work())


def test_records_are_looked_for_side_by_side_where_there_are_any(
    broker: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = most = looked = 0
    find = lookup.find_by_timestamp

    async def finding(partition: Partition, timestamp_ms: int) -> Any:
        nonlocal running, most, looked
        running += 1
        looked += 1
        most = max(most, running)
        try:
            return await find(partition, timestamp_ms)
        finally:
            running -= 1

    monkeypatch.setattr(lookup, "find_by_timestamp", finding)
    with RawClient(broker.port) as client:
        answers = client.call(offsets_at(1100), listing.ListOffsetsResponse, 7).topics[0].partitions
    assert [one.partition_index for one in answers] == list(range(PARTITIONS))
    assert {one.error_code for one in answers} == {0}
    found = [(one.offset, one.timestamp) for one in answers]
    assert found == [(0, 1000 + i) if i in HAS_RECORDS and i >= 100 else (-1, -1) for i in range(PARTITIONS)]
    assert looked == len(HAS_RECORDS) and most == turns.SIDE_BY_SIDE


def test_a_topic_that_is_deleted_meanwhile_is_unknown_from_then_on(
    broker: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        parts = broker.shared.dispatch.broker
        steps = list_offsets.handle(
            offsets_at(list_offsets.LATEST),  # type: ignore[arg-type]
            RequestContext(parts, "PLAINTEXT", "127.0.0.1", "c", 7),
        )
        looks = counting(monkeypatch, parts.partitions, "get")
        while not looks:
            next(steps)
        monkeypatch.setattr(parts.partitions, "topics", {})
        answer: Any = None
        while answer is None:
            try:
                next(steps)
            except StopIteration as end:
                answer = end.value
        codes = [one.error_code for one in answer.topics[0].partitions]
        unknown = int(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        assert codes[0] == 0 and codes[-1] == unknown and codes == sorted(codes)

    broker.run(work())


@pytest.mark.parametrize("work_of", ["retain", "expire_producers"])
def test_the_periodic_looks_let_others_between(broker: Serving, monkeypatch: pytest.MonkeyPatch, work_of: str) -> None:
    async def work() -> None:
        partitions = broker.server.partitions
        looked = asked = 0

        def now() -> float:
            nonlocal asked
            asked += 1
            return asked * PACE_S / 50

        monkeypatch.setattr(partitions._pace, "_now", now)

        def count(partition: Partition) -> None:
            call = getattr(partition, work_of)

            def counted(*arguments: Any) -> Any:
                nonlocal looked
                looked += 1
                return call(*arguments)

            monkeypatch.setattr(partition, work_of, counted)

        for partition in partitions:
            count(partition)
        doing = asyncio.ensure_future(
            partitions.retain() if work_of == "retain" else partitions.expire_producers(1_000_000)
        )
        most = before = 0
        while not doing.done():
            await asyncio.sleep(0)
            most, before = max(most, looked - before), looked
        assert 0 < most <= 60 and looked >= PARTITIONS

    broker.run(work())
