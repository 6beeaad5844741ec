"""Topics in a running broker: what was answered can be used at once, and is still so after a crash."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from odradek.protocol.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopic,
)
from odradek.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from odradek.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse
from odradek.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from odradek.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from odradek.protocol.messages.produce import ProduceResponse
from tests.broker import BrokerProcess
from tests.raw_client import RawClient, batch, produce_request, records_of

UNKNOWN_TOPIC_OR_PARTITION = 3
TOPIC_ALREADY_EXISTS = 36


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path) as running:
        yield running


def creating(*names: str, partitions: int = 1) -> CreateTopicsRequest:
    return CreateTopicsRequest(
        topics=[CreatableTopic(name=name, num_partitions=partitions, replication_factor=1) for name in names]
    )


def create(client: RawClient, *names: str, partitions: int = 1) -> list[int]:
    answer = client.call(creating(*names, partitions=partitions), CreateTopicsResponse, 7)
    return [topic.error_code for topic in answer.topics]


def delete(client: RawClient, *names: str) -> list[int]:
    answer = client.call(DeleteTopicsRequest(topic_names=list(names)), DeleteTopicsResponse, 5)
    return [topic.error_code for topic in answer.responses]


def metadata(client: RawClient, *names: str, create: bool = False) -> MetadataResponse:
    topics = [MetadataRequestTopic(name=name) for name in names]
    return client.call(MetadataRequest(topics=topics, allow_auto_topic_creation=create), MetadataResponse, 12)


def test_a_topic_can_be_written_at_once_by_everyone(broker: BrokerProcess) -> None:
    with RawClient(broker.port) as client, RawClient(broker.port) as other:
        assert create(client, "a", "b", partitions=3) == [0, 0]
        for partition in range(3):
            assert other.produce("b", batch(b"x"), partition=partition).error_code == 0
        enlarged = client.call(
            CreatePartitionsRequest(topics=[CreatePartitionsTopic(name="a", count=5, assignments=None)]),
            CreatePartitionsResponse,
            3,
        )
        assert enlarged.results[0].error_code == 0
        assert other.produce("a", batch(b"x"), partition=4).error_code == 0
        assert delete(client, "a") == [0]
        assert other.produce("a", batch(b"x")).error_code == UNKNOWN_TOPIC_OR_PARTITION
        assert create(client, "a") == [0]
        assert other.produce("a", batch(b"new")).base_offset == 0
        assert [record.value for record in records_of(client.fetch("a", 0).records)] == [b"new"]


def test_a_producer_may_send_before_it_reads_that_the_topic_was_made(broker: BrokerProcess) -> None:
    with RawClient(broker.port) as client:
        for index in range(20):
            client.send(creating(f"t{index}"), 7)
            client.send(produce_request(f"t{index}", batch(b"x")), 9)
        for _ in range(20):
            assert client.receive(CreateTopicsResponse, 7).topics[0].error_code == 0
            assert client.receive(ProduceResponse, 9).responses[0].partition_responses[0].error_code == 0


def test_many_who_use_a_topic_first_get_the_same_one(broker: BrokerProcess) -> None:
    clients = [RawClient(broker.port) for _ in range(8)]
    try:
        request = MetadataRequest(topics=[MetadataRequestTopic(name="first")], allow_auto_topic_creation=True)
        for client in clients:
            client.send(request, 12)
        answers = [client.receive(MetadataResponse, 12).topics[0] for client in clients]
    finally:
        for client in clients:
            client.socket.close()
    assert {(topic.error_code, len(topic.partitions)) for topic in answers} == {(0, 1)}
    assert len({topic.topic_id for topic in answers}) == 1


def test_what_was_answered_survives_a_crash(broker: BrokerProcess) -> None:
    with RawClient(broker.port) as client:
        assert create(client, "stays", "goes", partitions=2) == [0, 0]
        assert client.produce("goes", batch(b"old")).error_code == 0
        assert delete(client, "goes") == [0]
        before = metadata(client, "stays").topics[0]
    broker.kill()
    broker.start()
    with RawClient(broker.port) as client:
        after, gone = metadata(client, "stays", "goes").topics
        assert after.topic_id == before.topic_id and len(after.partitions) == 2
        assert gone.error_code == UNKNOWN_TOPIC_OR_PARTITION
        assert create(client, "stays", "goes") == [TOPIC_ALREADY_EXISTS, 0]
        assert client.fetch("goes", 0).high_watermark == 0
        assert client.produce("stays", batch(b"x"), partition=1).error_code == 0


def test_producer_ids_do_not_come_again_after_crashes(broker: BrokerProcess) -> None:
    given: list[int] = []
    request = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=0)
    for _ in range(3):
        with RawClient(broker.port) as client:
            answers = [client.call(request, InitProducerIdResponse, 4) for _ in range(3)]
        assert all(answer.error_code == 0 and answer.producer_epoch == 0 for answer in answers)
        given += [answer.producer_id for answer in answers]
        broker.kill()
        broker.start()
    assert len(set(given)) == 9


def test_topics_are_not_made_where_that_is_switched_off(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path, "auto.create.topics.enable=false") as broker, RawClient(broker.port) as client:
        assert metadata(client, "t", create=True).topics[0].error_code == UNKNOWN_TOPIC_OR_PARTITION
        assert client.call(MetadataRequest(topics=None), MetadataResponse, 12).topics == []
        old = MetadataRequest(topics=[MetadataRequestTopic(name="t")])
        assert client.call(old, MetadataResponse, 1).topics[0].error_code == UNKNOWN_TOPIC_OR_PARTITION
        assert create(client, "t") == [0]
