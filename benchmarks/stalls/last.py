"""What uses up the ten thousand topics: these cases come last."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.stalls.cases import Request, Sent, case
from benchmarks.stalls.prepared import Prepared
from odradek.protocol.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsTopic
from odradek.protocol.messages.delete_records import DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic
from odradek.protocol.messages.delete_topics import DeleteTopicsRequest
from odradek.protocol.messages.metadata import MetadataRequest


@case("delete-records", "DeleteRecords of {:,} partitions", 10_000, once=True)
def delete_records(prepared: Prepared, partitions: int) -> Iterator[Sent]:
    wanted = [DeleteRecordsPartition(partition_index=0, offset=1)]
    names = prepared.topics_with_records()[:partitions]
    topics = [DeleteRecordsTopic(name=name, partitions=wanted) for name in names]
    prepared.forget("records")
    yield Request(prepared.client, DeleteRecordsRequest(topics=topics, timeout_ms=60_000), 1)


@case("create-partitions", "CreatePartitions, one more for each of {:,} topics", 10_000, once=True)
def create_partitions(prepared: Prepared, topics: int) -> Iterator[Sent]:
    wanted = [CreatePartitionsTopic(name=name, count=2, assignments=None) for name in prepared.topics()[:topics]]
    request = Request(prepared.client, CreatePartitionsRequest(topics=wanted, timeout_ms=60_000), 2)
    yield request
    if set(request.codes()) == {0}:
        prepared.has("two")


@case("metadata", "Metadata of all, {:,} topics with two partitions each", 10_000)
def metadata(prepared: Prepared, _: int) -> Iterator[Sent]:
    prepared.topics_of_two()
    yield Request(prepared.client, MetadataRequest(topics=None, allow_auto_topic_creation=False), 9)


@case("delete-topics", "DeleteTopics, {:,} topics", 10_000, once=True)
def delete_topics(prepared: Prepared, topics: int) -> Iterator[Sent]:
    names = prepared.topics_with_records()[:topics]
    for what in ("topics", "records", "two", "offsets"):
        prepared.forget(what)
    yield Request(prepared.client, DeleteTopicsRequest(topic_names=names, timeout_ms=60_000), 5)
