"""Requests about many topics or partitions: others have their turn between, and what changes meanwhile harms nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from odradek.errors import ErrorCode
from odradek.handlers.context import RequestContext
from odradek.handlers.table import HANDLERS
from odradek.metadata.changes import create_topics, delete_topics
from odradek.network.pipeline import INLINE_ELEMENTS
from odradek.protocol.fields import Message
from odradek.protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from odradek.protocol.messages.delete_topics import DeleteTopicState
from odradek.protocol.messages.describe_log_dirs import DescribableLogDirTopic, DescribeLogDirsRequest
from odradek.protocol.messages.describe_topic_partitions import Cursor, DescribeTopicPartitionsRequest, TopicRequest
from odradek.protocol.messages.list_config_resources import ListConfigResourcesRequest
from odradek.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from odradek.protocol.registry import BY_NAME
from tests.raw_client import RawClient
from tests.serving import Serving

PARTITIONS, TOPICS = 1000, 300
NAMES = [f"t{number:03}" for number in range(TOPICS)]


@pytest.fixture
def broker() -> Iterator[Serving]:
    """With a topic "big" of 1000 partitions, and 300 of one."""
    with Serving() as serving:
        make(serving, ("big", PARTITIONS), *((name, 1) for name in NAMES))
        yield serving


def make(broker: Serving, *topics: tuple[str, int]) -> None:
    asked = [CreatableTopic(name=name, num_partitions=count, replication_factor=1) for name, count in topics]
    metadata = broker.server.metadata
    outcomes = broker.run(metadata.change(lambda image: create_topics(image, asked, metadata.policy)))
    assert not any(outcome.error for outcome in outcomes)


def handled(broker: Serving, api: str, request: Message, after: int | None = None) -> tuple[Any, int]:
    """The handler's answer, and in how many steps; all topics are deleted after so many steps, if that is told."""

    metadata = broker.server.metadata
    gone = [DeleteTopicState(name=name) for name in ["big", *NAMES]]

    async def work() -> tuple[Any, int]:
        key = BY_NAME[api]
        context = RequestContext(broker.shared.dispatch.broker, "PLAINTEXT", "127.0.0.1", "c", key.served.last)
        steps: Any = HANDLERS[key.key].handle(request, context)
        count = 0
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value, count
            count += 1
            if count == after:
                await metadata.change(lambda image: delete_topics(image, gone, metadata.policy, False))

    return broker.run(work())


REQUESTS: dict[str, tuple[Message, int, Callable[[Any], int]]] = {
    "Metadata": (MetadataRequest(topics=None), TOPICS + PARTITIONS // 64, lambda answer: len(answer.topics)),
    "DescribeTopicPartitions": (
        DescribeTopicPartitionsRequest(topics=[], response_partition_limit=2000),
        TOPICS,
        lambda answer: len(answer.topics),
    ),
    "DescribeLogDirs": (
        DescribeLogDirsRequest(topics=None),
        TOPICS + PARTITIONS,
        lambda answer: len(answer.results[0].topics),
    ),
    "ListConfigResources": (
        ListConfigResourcesRequest(resource_types=[2]),
        TOPICS,
        lambda answer: len(answer.config_resources),
    ),
}


@pytest.mark.parametrize("api", REQUESTS)
def test_a_request_for_all_of_them_has_many_steps(broker: Serving, api: str) -> None:
    request, least, count = REQUESTS[api]
    answer, steps = handled(broker, api, request)
    assert count(answer) == TOPICS + 1
    assert steps >= least


@pytest.mark.parametrize("after", [1, 50, 250])
@pytest.mark.parametrize("api", REQUESTS)
def test_topics_that_are_deleted_between_two_steps(broker: Serving, api: str, after: int) -> None:
    request, _, count = REQUESTS[api]
    answer, _ = handled(broker, api, request, after)
    assert count(answer) <= TOPICS + 1
    if api == "DescribeTopicPartitions":
        # What was found before is told, and nobody asked for the others by their names.
        assert {topic.error_code for topic in answer.topics} <= {0} and answer.next_cursor is None
    again, _ = handled(broker, api, request)
    assert count(again) == 0


def test_a_request_that_names_them(broker: Serving) -> None:
    unknown = [f"u{number}" for number in range(500)]
    asked = [MetadataRequestTopic(name=name) for name in ["big", *NAMES, *unknown, "big"]]
    answer, steps = handled(broker, "Metadata", MetadataRequest(topics=asked, allow_auto_topic_creation=False))
    assert [topic.name for topic in answer.topics] == ["big", *NAMES, *unknown]
    assert [part.partition_index for part in answer.topics[0].partitions] == list(range(PARTITIONS))
    assert steps >= 2 * len(asked)
    wrong = [MetadataRequestTopic(name=None)] * 500
    answer, steps = handled(broker, "Metadata", MetadataRequest(topics=wrong))
    assert {topic.error_code for topic in answer.topics} == {ErrorCode.INVALID_REQUEST} and steps >= 1000


def test_names_are_sorted_in_steps(broker: Serving) -> None:
    names = [f"u{number * 7919 % 20_000}" for number in range(20_000)]
    request = DescribeTopicPartitionsRequest(topics=[TopicRequest(name=name) for name in [*names, *names]])
    answer, steps = handled(broker, "DescribeTopicPartitions", request)
    assert [topic.name for topic in answer.topics] == sorted(names)
    assert steps > 20_000
    request.cursor = Cursor(topic_name="u5", partition_index=0)
    answer, _ = handled(broker, "DescribeTopicPartitions", request)
    assert [topic.name for topic in answer.topics] == [name for name in sorted(names) if name >= "u5"]
    request.cursor = Cursor(topic_name="nobody asked", partition_index=0)
    answer, steps = handled(broker, "DescribeTopicPartitions", request)
    assert len(answer.topics) == 40_000 and steps == 40_000


def test_a_partition_is_told_once_however_often_it_is_named(broker: Serving) -> None:
    asked = [
        DescribableLogDirTopic(topic="big", partitions=[5, 5, 1, PARTITIONS, -1] * 100),
        DescribableLogDirTopic(topic="t001", partitions=[0]),
        DescribableLogDirTopic(topic="unknown", partitions=[0]),
        DescribableLogDirTopic(topic="big", partitions=[1, 2]),
    ]
    answer, _ = handled(broker, "DescribeLogDirs", DescribeLogDirsRequest(topics=asked))
    found = [(topic.name, [part.partition_index for part in topic.partitions]) for topic in answer.results[0].topics]
    assert found == [("big", [5, 1, 2]), ("t001", [0])]


def test_a_topic_made_with_many_others_is_answered_as_if_it_were_alone(broker: Serving) -> None:
    def asked(number: int) -> CreatableTopic:
        own = {"retention.ms": str(number % 3), "cleanup.policy": "compact"} if number % 2 else {}
        configs = [CreatableTopicConfig(name=name, value=value) for name, value in own.items()]
        return CreatableTopic(name=f"new{number}", num_partitions=1, replication_factor=1, configs=configs)

    with RawClient(broker.port) as client:

        def call(*numbers: int) -> CreateTopicsResponse:
            request = CreateTopicsRequest(
                topics=[asked(number) for number in numbers], validate_only=True, timeout_ms=10_000
            )
            return client.call(request, CreateTopicsResponse, 5)

        together = call(*range(40)).topics
        assert together == [call(number).topics[0] for number in range(40)]
        values = {config.name: (config.value, config.config_source) for config in together[1].configs or ()}
        assert values["retention.ms"] == ("1", 1) and values["cleanup.policy"] == ("compact", 1)


def test_one_request_for_many_topics_on_first_use(broker: Serving) -> None:
    names = [f"first{number}" for number in range(INLINE_ELEMENTS + 100)]
    request = MetadataRequest(
        topics=[MetadataRequestTopic(name=name) for name in names], allow_auto_topic_creation=True
    )
    with RawClient(broker.port) as client:
        topics = client.call(request, MetadataResponse, 9).topics
    assert [topic.name for topic in topics] == names
    assert {(topic.error_code, len(topic.partitions)) for topic in topics} == {(0, 1)}


def test_a_stop_waits_until_a_change_is_followed(broker: Serving, caplog: pytest.LogCaptureFixture) -> None:
    asked = [CreatableTopic(name=f"late{number}", num_partitions=1, replication_factor=1) for number in range(2000)]

    async def work() -> int:
        metadata = broker.server.metadata
        change = asyncio.ensure_future(metadata.change(lambda image: create_topics(image, asked, metadata.policy)))
        await asyncio.sleep(0)
        await broker.server.stop()
        return len(await change)

    assert broker.run(work()) == 2000
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
