"""One request about ten thousand topics or partitions, or of as many bytes as are allowed."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.stalls.cases import Request, Sent, case
from benchmarks.stalls.prepared import LATEST, Prepared, list_offsets, now_ms, produce_to
from odradek.protocol.messages.alter_configs import AlterableConfig, AlterConfigsRequest, AlterConfigsResource
from odradek.protocol.messages.api_versions import ApiVersionsRequest
from odradek.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from odradek.protocol.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from odradek.protocol.messages.describe_log_dirs import DescribeLogDirsRequest
from odradek.protocol.messages.describe_producers import DescribeProducersRequest
from odradek.protocol.messages.describe_producers import TopicRequest as ProducersTopic
from odradek.protocol.messages.describe_topic_partitions import DescribeTopicPartitionsRequest
from odradek.protocol.messages.describe_topic_partitions import TopicRequest as DescribedTopic
from odradek.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from odradek.protocol.messages.incremental_alter_configs import AlterableConfig as IncrementalConfig
from odradek.protocol.messages.incremental_alter_configs import AlterConfigsResource as IncrementalResource
from odradek.protocol.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from odradek.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from odradek.protocol.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)
from tests.raw_client import batch

TOPIC = 2
"""The type of a topic among the resources that have settings."""
BATCH_BYTES = 1_000_000


@case("nothing", "ApiVersions (what the machine itself keeps waiting)")
def nothing(prepared: Prepared) -> Iterator[Sent]:
    yield Request(prepared.client, ApiVersionsRequest(client_software_name="a", client_software_version="1"), 3)


@case("create-topics", "CreateTopics, {:,} topics", 10_000, once=True)
def create_topics(prepared: Prepared, topics: int) -> Iterator[Sent]:
    wanted = [
        CreatableTopic(name=name, num_partitions=1, replication_factor=1) for name in prepared.topic_names[:topics]
    ]
    request = Request(prepared.client, CreateTopicsRequest(topics=wanted, timeout_ms=60_000), 5)
    yield request
    if set(request.codes()) == {0}:
        prepared.has("topics")


@case("create-partitions-of-one", "CreateTopics, one with {:,} partitions", 10_000, once=True)
def create_one(prepared: Prepared, partitions: int) -> Iterator[Sent]:
    wanted = CreatableTopic(name="wide", num_partitions=partitions, replication_factor=1)
    yield Request(prepared.client, CreateTopicsRequest(topics=[wanted], timeout_ms=60_000), 5)
    prepared.delete(["wide"])


@case("produce-first", "Produce to {:,} partitions, their first record", 10_000, once=True)
def produce_first(prepared: Prepared, partitions: int) -> Iterator[Sent]:
    places = [(name, 0) for name in prepared.topics()[:partitions]]
    yield Request(prepared.client, produce_to(places, batch(b"x", timestamp_ms=now_ms())), 9)
    # Not all, where the broker had not made each partition yet.


@case("produce", "Produce to {:,} partitions", 10_000)
def produce(prepared: Prepared, partitions: int) -> Iterator[Sent]:
    places = [(name, 0) for name in prepared.topics_with_records()[:partitions]]
    yield Request(prepared.client, produce_to(places, batch(b"x", timestamp_ms=now_ms())), 9)


@case("produce-bytes", "Produce of {:,} batches of 1 MB", 100)
def produce_bytes(prepared: Prepared, batches: int) -> Iterator[Sent]:
    places = [(name, 0) for name in prepared.topics_with_records()[:batches]]
    yield Request(prepared.client, produce_to(places, batch(bytes(BATCH_BYTES), timestamp_ms=now_ms())), 9)


@case("fetch-unknown", "Fetch of {:,} unknown partitions", 150_000)
def fetch_unknown(prepared: Prepared, partitions: int) -> Iterator[Sent]:
    wanted = [FetchPartition(partition=index, partition_max_bytes=1 << 20) for index in range(1, partitions + 1)]
    yield Request(
        prepared.client, FetchRequest(max_wait_ms=0, topics=[FetchTopic(topic=prepared.one(), partitions=wanted)]), 12
    )


@case("fetch-empty", "Fetch of {:,} partitions, nothing new", 10_000)
def fetch_empty(prepared: Prepared, partitions: int) -> Iterator[Sent]:
    names = prepared.topics_with_records()[:partitions]
    topics = [
        FetchTopic(topic=name, partitions=[FetchPartition(partition=0, fetch_offset=end, partition_max_bytes=1 << 20)])
        for name, end in prepared.ends(names).items()
    ]
    yield Request(prepared.client, FetchRequest(max_wait_ms=0, max_bytes=50 << 20, topics=topics), 12)


@case("fetch", "Fetch of {:,} partitions, records in each", 10_000)
def fetch(prepared: Prepared, partitions: int) -> Iterator[Sent]:
    names = prepared.topics_with_records()[:partitions]
    wanted = [FetchPartition(partition=0, partition_max_bytes=1)]
    topics = [FetchTopic(topic=name, partitions=wanted) for name in names]
    yield Request(prepared.client, FetchRequest(max_wait_ms=0, max_bytes=50 << 20, topics=topics), 12)


@case("list-offsets-latest", "ListOffsets of {:,} partitions, the latest", 10_000)
def list_offsets_latest(prepared: Prepared, partitions: int) -> Iterator[Sent]:
    yield Request(prepared.client, list_offsets(prepared.topics_with_records()[:partitions], LATEST), 7)


@case("list-offsets-time", "ListOffsets of {:,} partitions, by time", 10_000)
def list_offsets_time(prepared: Prepared, partitions: int) -> Iterator[Sent]:
    yield Request(prepared.client, list_offsets(prepared.topics_with_records()[:partitions], now_ms() - 600_000), 7)


@case("offset-for-leader-epoch", "OffsetForLeaderEpoch of {:,} partitions", 10_000)
def offset_for_leader_epoch(prepared: Prepared, partitions: int) -> Iterator[Sent]:
    wanted = [OffsetForLeaderPartition(partition=0, leader_epoch=0)]
    names = prepared.topics_with_records()[:partitions]
    topics = [OffsetForLeaderTopic(topic=name, partitions=wanted) for name in names]
    yield Request(prepared.client, OffsetForLeaderEpochRequest(replica_id=-2, topics=topics), 4)


@case("metadata-unknown", "Metadata of {:,} unknown names", 150_000)
def metadata_unknown(prepared: Prepared, names: int) -> Iterator[Sent]:
    topics = [MetadataRequestTopic(name=f"unknown-{number}") for number in range(names)]
    yield Request(prepared.client, MetadataRequest(topics=topics, allow_auto_topic_creation=False), 9)


@case("describe-topic-partitions", "DescribeTopicPartitions of {:,} topics", 10_000)
def describe_topic_partitions(prepared: Prepared, topics: int) -> Iterator[Sent]:
    wanted = [DescribedTopic(name=name) for name in prepared.topics()[:topics]]
    yield Request(prepared.client, DescribeTopicPartitionsRequest(topics=wanted, response_partition_limit=topics), 0)


@case("describe-log-dirs", "DescribeLogDirs of all {:,} topics", 10_000)
def describe_log_dirs(prepared: Prepared, _: int) -> Iterator[Sent]:
    prepared.topics_with_records()
    yield Request(prepared.client, DescribeLogDirsRequest(topics=None), 4)


@case("describe-producers", "DescribeProducers of {:,} partitions", 10_000)
def describe_producers(prepared: Prepared, partitions: int) -> Iterator[Sent]:
    topics = [ProducersTopic(name=name, partition_indexes=[0]) for name in prepared.topics()[:partitions]]
    yield Request(prepared.client, DescribeProducersRequest(topics=topics), 0)


@case("describe-configs", "DescribeConfigs of {:,} topics", 10_000)
def describe_configs(prepared: Prepared, topics: int) -> Iterator[Sent]:
    resources = [
        DescribeConfigsResource(resource_type=TOPIC, resource_name=name, configuration_keys=None)
        for name in prepared.topics()[:topics]
    ]
    yield Request(
        prepared.client,
        DescribeConfigsRequest(resources=resources, include_synonyms=True, include_documentation=True),
        4,
    )


@case("alter-configs", "AlterConfigs of {:,} topics", 5_000)
def alter_configs(prepared: Prepared, topics: int) -> Iterator[Sent]:
    configs = [AlterableConfig(name="retention.ms", value=str(86_400_000 + prepared.another()))]
    resources = [
        AlterConfigsResource(resource_type=TOPIC, resource_name=name, configs=configs)
        for name in prepared.topics()[:topics]
    ]
    yield Request(prepared.client, AlterConfigsRequest(resources=resources), 2)


@case("incremental-alter-configs", "IncrementalAlterConfigs of {:,} topics", 5_000)
def incremental_alter_configs(prepared: Prepared, topics: int) -> Iterator[Sent]:
    configs = [IncrementalConfig(name="retention.ms", config_operation=0, value=str(86_400_000 + prepared.another()))]
    resources = [
        IncrementalResource(resource_type=TOPIC, resource_name=name, configs=configs)
        for name in prepared.topics()[:topics]
    ]
    yield Request(prepared.client, IncrementalAlterConfigsRequest(resources=resources), 1)
