"""What an administrator asks of topics, a line each, over a `RawClient`; answers are error codes or plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from odradek.protocol.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopic,
)
from odradek.protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from odradek.protocol.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopic,
)
from odradek.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse
from odradek.protocol.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResponse,
)
from odradek.protocol.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)
from odradek.protocol.messages.metadata import MetadataRequest, MetadataResponse
from tests.raw_client import RawClient

TIMEOUT_MS = 20_000
TOPIC_RESOURCE = 2
SET = 0
OF_THE_TOPIC = 1


@dataclass
class Described:
    """A topic as the broker tells of it."""

    topic_id: bytes
    partitions: int
    configs: dict[str, str] = field(default_factory=dict)
    """Those that are the topic's own."""


def create(client: RawClient, topic: str, partitions: int = 1, configs: Mapping[str, str] | None = None) -> int:
    made = CreatableTopic(
        name=topic,
        num_partitions=partitions,
        replication_factor=1,
        configs=[CreatableTopicConfig(name=name, value=value) for name, value in (configs or {}).items()],
    )
    request = CreateTopicsRequest(topics=[made], timeout_ms=TIMEOUT_MS)
    return client.call(request, CreateTopicsResponse, 7).topics[0].error_code


def delete(client: RawClient, topic: str) -> int:
    request = DeleteTopicsRequest(topic_names=[topic], timeout_ms=TIMEOUT_MS)
    return client.call(request, DeleteTopicsResponse, 5).responses[0].error_code


def grow(client: RawClient, topic: str, partitions: int) -> int:
    request = CreatePartitionsRequest(
        topics=[CreatePartitionsTopic(name=topic, count=partitions, assignments=None)], timeout_ms=TIMEOUT_MS
    )
    return client.call(request, CreatePartitionsResponse, 3).results[0].error_code


def configure(client: RawClient, topic: str, name: str, value: str) -> int:
    resource = AlterConfigsResource(
        resource_type=TOPIC_RESOURCE,
        resource_name=topic,
        configs=[AlterableConfig(name=name, config_operation=SET, value=value)],
    )
    request = IncrementalAlterConfigsRequest(resources=[resource])
    return client.call(request, IncrementalAlterConfigsResponse, 1).responses[0].error_code


def delete_records(client: RawClient, topic: str, offset: int, partition: int = 0) -> int:
    wanted = DeleteRecordsTopic(
        name=topic, partitions=[DeleteRecordsPartition(partition_index=partition, offset=offset)]
    )
    request = DeleteRecordsRequest(topics=[wanted], timeout_ms=TIMEOUT_MS)
    return client.call(request, DeleteRecordsResponse, 2).topics[0].partitions[0].error_code


def described(client: RawClient) -> dict[str, Described]:
    """All topics but the broker's own."""
    answer = client.call(MetadataRequest(topics=None), MetadataResponse, 12)
    found = {
        topic.name: Described(topic.topic_id, len(topic.partitions))
        for topic in answer.topics
        if topic.name is not None and not topic.is_internal
    }
    resources = [
        DescribeConfigsResource(resource_type=TOPIC_RESOURCE, resource_name=name, configuration_keys=None)
        for name in found
    ]
    for result in client.call(DescribeConfigsRequest(resources=resources), DescribeConfigsResponse, 4).results:
        found[result.resource_name].configs = {
            one.name: one.value or "" for one in result.configs if one.config_source == OF_THE_TOPIC
        }
    return found
