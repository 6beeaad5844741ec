"""Requests that name one partition several times: which of its elements count, and how often it is answered."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from odradek.protocol.messages import create_topics, delete_records, list_offsets, offset_for_leader_epoch
from odradek.protocol.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic
from tests.handlers.comparison import Peer, Plain
from tests.raw_client import RawClient, batch
from tests.serving import Serving


class Named(Peer):
    """One of the brokers, with topics of its own: "t" of two partitions with records, "u" of one."""

    def __init__(self, client: RawClient, is_kafka: bool) -> None:
        super().__init__(client, is_kafka)
        unique = uuid.uuid4().hex[:8]
        self.names = {name: f"{name}-{unique}" for name in ("t", "u", "unknown")}
        topics = [
            create_topics.CreatableTopic(name=self.names[name], num_partitions=count, replication_factor=1)
            for name, count in (("t", 2), ("u", 1))
        ]
        client.call(create_topics.CreateTopicsRequest(topics=topics), create_topics.CreateTopicsResponse, 7)
        for name, index in (("t", 0), ("t", 1), ("u", 0)):
            topic = self.names[name]
            self.until(lambda answer: all(one.error_code == 0 for one in answer.topics), topic)
            for _ in range(4):
                while client.produce(topic, batch(b"v"), partition=index).error_code:
                    """Kafka's leader is there a moment after the topic is."""

    def ordered(self, answer: Plain, topics: str, name: str, index: str) -> Plain:
        """The answers by topic and partition: Kafka's order is that of a hash map."""
        known = {real: called for called, real in self.names.items()}
        return sorted((known[one[name]], sorted(one["partitions"], key=lambda p: p[index])) for one in answer[topics])


def listed(peer: Named) -> Plain:
    def topic(name: str, *wanted: tuple[int, int]) -> Any:
        partitions = [list_offsets.ListOffsetsPartition(partition_index=i, timestamp=at) for i, at in wanted]
        return list_offsets.ListOffsetsTopic(name=peer.names[name], partitions=partitions)

    request = list_offsets.ListOffsetsRequest(
        topics=[
            topic("t", (0, -1), (1, -2), (0, -1), (0, -2)),
            topic("unknown", (0, -1), (0, -1), (1, -1)),
            topic("u", (0, -1)),
            topic("t", (1, -1)),
        ]
    )
    answer = peer.call(request, list_offsets.ListOffsetsResponse, 7)
    return peer.ordered(answer, "topics", "name", "partition_index")


def deleted(peer: Named) -> Plain:
    def topic(name: str, *wanted: tuple[int, int]) -> Any:
        partitions = [delete_records.DeleteRecordsPartition(partition_index=i, offset=at) for i, at in wanted]
        return delete_records.DeleteRecordsTopic(name=peer.names[name], partitions=partitions)

    request = delete_records.DeleteRecordsRequest(
        timeout_ms=10_000,
        topics=[
            topic("t", (0, 3), (0, 2), (1, 99), (1, 1)),
            topic("unknown", (0, 1), (0, 1)),
            topic("u", (0, 1), (0, 99)),
            topic("t", (0, 1)),
        ],
    )
    answer = peer.call(request, delete_records.DeleteRecordsResponse, 2)
    return peer.ordered(answer, "topics", "name", "partition_index")


def ended(peer: Named) -> Plain:
    def topic(name: str, *wanted: tuple[int, int]) -> Any:
        partitions = [
            offset_for_leader_epoch.OffsetForLeaderPartition(partition=index, leader_epoch=epoch)
            for index, epoch in wanted
        ]
        return offset_for_leader_epoch.OffsetForLeaderTopic(topic=peer.names[name], partitions=partitions)

    request = offset_for_leader_epoch.OffsetForLeaderEpochRequest(
        topics=[topic("t", (0, 0), (0, 0), (1, 0), (0, 9)), topic("unknown", (0, 0), (0, 0)), topic("t", (0, 0))]
    )
    answer = peer.call(request, offset_for_leader_epoch.OffsetForLeaderEpochResponse, 3)
    return [(one["topic"] == peer.names["t"], one["partitions"]) for one in answer["topics"]]


def fetched(peer: Named) -> Plain:
    def topic(name: str, *wanted: tuple[int, int]) -> Any:
        partitions = [FetchPartition(partition=i, fetch_offset=at, partition_max_bytes=1 << 20) for i, at in wanted]
        return FetchTopic(topic=peer.names[name], partitions=partitions)

    request = FetchRequest(
        max_wait_ms=0,
        max_bytes=1 << 24,
        session_epoch=-1,
        topics=[topic("t", (0, 99), (1, 0), (0, 2), (0, 3)), topic("unknown", (0, 0), (0, 0)), topic("t", (1, 99))],
    )
    answer = peer.client.call(request, FetchResponse, 12)
    return sorted(
        (one.topic == peer.names["t"], part.partition_index, part.error_code, len(part.records or b"") > 0)
        for one in answer.responses
        for part in one.partitions
    )


@pytest.fixture(scope="module")
def both(kafka_port: int) -> Iterator[tuple[Named, Named]]:
    with Serving() as own, RawClient(kafka_port) as theirs, RawClient(own.port) as ours:
        yield Named(theirs, True), Named(ours, False)


@pytest.mark.parametrize("asked", [listed, ended, fetched, deleted], ids=lambda asked: asked.__name__)
def test_a_partition_named_several_times(both: tuple[Named, Named], asked: Callable[[Named], Plain]) -> None:
    theirs, ours = (asked(peer) for peer in both)
    assert theirs == ours
