"""Requests with many elements: decoded and encoded off the loop, answered as any other, in their order."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator

import pytest

from odradek.errors import ErrorCode
from odradek.network.pipeline import INLINE_ELEMENTS
from odradek.protocol.framing import encode_request
from odradek.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from odradek.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from odradek.protocol.messages.produce import PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData
from tests.network.test_connection import make_topic, until
from tests.raw_client import RawClient, batch
from tests.serving import Serving

NAMES = INLINE_ELEMENTS + 500


def unknown_topics(count: int) -> MetadataRequest:
    topics = [MetadataRequestTopic(name=f"unknown-{number}") for number in range(count)]
    return MetadataRequest(topics=topics, allow_auto_topic_creation=False)


SMALL = ApiVersionsRequest(client_software_name="a", client_software_version="1")


@pytest.fixture
def broker() -> Iterator[Serving]:
    with Serving() as serving:
        yield serving


def test_answers_come_in_order_and_whole(broker: Serving) -> None:
    threads = set()
    dispatch = broker.shared.dispatch
    read = dispatch.read

    def noting(*arguments: object) -> object:
        threads.add(threading.current_thread().name)
        return read(*arguments)  # type: ignore[arg-type]

    broker.look(lambda: setattr(dispatch, "read", noting))
    with RawClient(broker.port) as client:
        for number in range(3):
            client.send(unknown_topics(NAMES + number), 9)
            client.send(SMALL, 3)
        for number in range(3):
            topics = client.receive(MetadataResponse, 9).topics
            assert [topic.name for topic in topics] == [f"unknown-{one}" for one in range(NAMES + number)]
            assert {topic.error_code for topic in topics} == {ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}
            assert client.receive(ApiVersionsResponse, 3).error_code == 0
    assert broker.thread.name in threads and any(name.startswith("odradek-work") for name in threads)
    counted = broker.look(lambda: dispatch.counters[3])
    assert counted.requests == 3
    assert counted.errors == {ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: 3 * NAMES + 3}
    until(lambda: broker.look(lambda: broker.shared.memory.used_bytes) == 0, "their bytes are given back")


def test_what_cannot_be_decoded_closes_when_the_rest_is_answered(broker: Serving) -> None:
    with RawClient(broker.port) as client, RawClient(broker.port) as other:
        frame = encode_request(unknown_topics(NAMES), 9, 1, "c")
        cut = frame[: len(frame) // 2]
        broken = struct.pack(">i", len(cut) - 4) + bytes(cut[4:])
        # The number of topics is a lie, though there are more of them than are decoded at once.
        client.send(SMALL, 3)
        client.send_bytes(broken + encode_request(SMALL, 3, 3, "c"))
        assert client.receive(ApiVersionsResponse, 3).error_code == 0
        assert client.is_closed()
        assert other.call(SMALL, ApiVersionsResponse, 3).error_code == 0
        until(lambda: broker.look(lambda: broker.shared.memory.used_bytes) == 0, "their bytes are given back")
        assert broker.look(lambda: broker.shared.counters.malformed) == 1


def test_more_elements_than_a_request_may_have_close() -> None:
    with Serving(odradek__request__max__elements="10000") as broker, RawClient(broker.port) as client:
        assert len(client.call(unknown_topics(9000), MetadataResponse, 9).topics) == 9000
        client.send(unknown_topics(10_001), 9)
        assert client.is_closed()


def test_a_connection_that_is_lost_meanwhile_leaves_nothing(broker: Serving) -> None:
    for _ in range(5):
        with RawClient(broker.port) as client:
            for _ in range(4):
                client.send(unknown_topics(NAMES), 9)
    with RawClient(broker.port) as other:
        assert other.call(SMALL, ApiVersionsResponse, 3).error_code == 0
    until(lambda: broker.look(lambda: broker.shared.memory.used_bytes) == 0, "their bytes are given back")


def test_a_produce_with_many_batches_keeps_its_place_among_others(broker: Serving) -> None:
    partitions = INLINE_ELEMENTS + 200

    def large(value: bytes) -> ProduceRequest:
        data = [PartitionProduceData(index=0, records=batch(value)) for _ in range(partitions)]
        return ProduceRequest(acks=1, timeout_ms=1000, topic_data=[TopicProduceData(name="t", partition_data=data)])

    with RawClient(broker.port) as client:
        make_topic(client, "t")
        small = ProduceRequest(
            acks=1,
            timeout_ms=1000,
            topic_data=[TopicProduceData(name="t", partition_data=[PartitionProduceData(records=batch(b"small"))])],
        )
        for request in (small, large(b"large"), small, large(b"large"), small):
            client.send(request, 9)
        offsets = []
        for _ in range(5):
            answers = client.receive(ProduceResponse, 9).responses[0].partition_responses
            assert {one.error_code for one in answers} == {0}
            offsets += [one.base_offset for one in answers]
        assert offsets == list(range(2 * partitions + 3))
