"""A rule for one topic meets the requests that name it, wherever a request has its topics' names or ids, and no other.

The table below has a row for every place where a request of an API names a topic; that none is missing is asserted
by the declarations, whose marks `tests/protocol/test_definitions.py` compares with Kafka's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

import odradek
from odradek.errors import ErrorCode
from odradek.metadata.image import BROKER_RESOURCE, TOPIC_RESOURCE
from odradek.protocol.fields import Message, Struct, Versions
from odradek.protocol.framing import encode_request
from odradek.protocol.messages.add_partitions_to_txn import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnTopic,
    AddPartitionsToTxnTransaction,
)
from odradek.protocol.messages.alter_configs import AlterConfigsRequest, AlterConfigsResource
from odradek.protocol.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsTopic
from odradek.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from odradek.protocol.messages.delete_groups import DeleteGroupsRequest
from odradek.protocol.messages.delete_records import DeleteRecordsRequest, DeleteRecordsTopic
from odradek.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from odradek.protocol.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from odradek.protocol.messages.describe_groups import DescribeGroupsRequest
from odradek.protocol.messages.describe_log_dirs import DescribableLogDirTopic, DescribeLogDirsRequest
from odradek.protocol.messages.describe_producers import DescribeProducersRequest, TopicRequest
from odradek.protocol.messages.describe_topic_partitions import Cursor, DescribeTopicPartitionsRequest
from odradek.protocol.messages.describe_topic_partitions import TopicRequest as DescribedTopic
from odradek.protocol.messages.describe_transactions import DescribeTransactionsRequest
from odradek.protocol.messages.fetch import FetchRequest, FetchTopic, ForgottenTopic
from odradek.protocol.messages.find_coordinator import FindCoordinatorRequest
from odradek.protocol.messages.incremental_alter_configs import (
    AlterConfigsResource as IncrementalAlterConfigsResource,
)
from odradek.protocol.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from odradek.protocol.messages.list_offsets import ListOffsetsRequest, ListOffsetsTopic
from odradek.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from odradek.protocol.messages.offset_commit import OffsetCommitRequest, OffsetCommitRequestTopic
from odradek.protocol.messages.offset_delete import OffsetDeleteRequest, OffsetDeleteRequestTopic
from odradek.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
)
from odradek.protocol.messages.offset_for_leader_epoch import OffsetForLeaderEpochRequest, OffsetForLeaderTopic
from odradek.protocol.messages.produce import ProduceRequest, TopicProduceData
from odradek.protocol.messages.txn_offset_commit import TxnOffsetCommitRequest, TxnOffsetCommitRequestTopic
from odradek.protocol.messages.write_txn_markers import (
    WritableTxnMarker,
    WritableTxnMarkerTopic,
    WriteTxnMarkersRequest,
)
from odradek.protocol.registry import APIS, BY_KEY, Api
from tests.raw_client import RawClient

NAME = "orders"
OTHER = "billing"


class Row(NamedTuple):
    """The versions in which requests have a topic in one place, and such a request for a topic's name, or its id."""

    versions: str
    request: Callable[[Any], Message]
    by_id: bool = False


def produce(topic: TopicProduceData) -> ProduceRequest:
    return ProduceRequest(acks=1, topic_data=[topic])  # to acks=0 there is no answer


def metadata(topic_id: bytes) -> MetadataRequest:
    return MetadataRequest(topics=[MetadataRequestTopic(topic_id=topic_id, name=None)])


def offset_fetch(topic: OffsetFetchRequestTopics) -> OffsetFetchRequest:
    return OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id="g", topics=[topic])])


ROWS = [
    Row("3-12", lambda name: produce(TopicProduceData(name=name))),
    Row("13", lambda topic_id: produce(TopicProduceData(topic_id=topic_id)), by_id=True),
    Row("4-12", lambda name: FetchRequest(topics=[FetchTopic(topic=name)])),
    Row("13-18", lambda topic_id: FetchRequest(topics=[FetchTopic(topic_id=topic_id)]), by_id=True),
    Row("7-12", lambda name: FetchRequest(forgotten_topics_data=[ForgottenTopic(topic=name)])),
    Row("13-18", lambda topic_id: FetchRequest(forgotten_topics_data=[ForgottenTopic(topic_id=topic_id)]), by_id=True),
    Row("1-11", lambda name: ListOffsetsRequest(topics=[ListOffsetsTopic(name=name)])),
    Row("0-13", lambda name: MetadataRequest(topics=[MetadataRequestTopic(name=name)])),
    Row(
        "10-13",
        lambda topic_id: MetadataRequest(topics=[MetadataRequestTopic(topic_id=topic_id, name=None)]),
        by_id=True,
    ),
    Row("2-9", lambda name: OffsetCommitRequest(topics=[OffsetCommitRequestTopic(name=name)])),
    Row("10", lambda topic_id: OffsetCommitRequest(topics=[OffsetCommitRequestTopic(topic_id=topic_id)]), by_id=True),
    Row("1-7", lambda name: OffsetFetchRequest(topics=[OffsetFetchRequestTopic(name=name)])),
    Row("8-9", lambda name: offset_fetch(OffsetFetchRequestTopics(name=name))),
    Row("10", lambda topic_id: offset_fetch(OffsetFetchRequestTopics(topic_id=topic_id)), by_id=True),
    Row("2-7", lambda name: CreateTopicsRequest(topics=[CreatableTopic(name=name)])),
    Row("1-5", lambda name: DeleteTopicsRequest(topic_names=[name])),
    Row("6", lambda name: DeleteTopicsRequest(topics=[DeleteTopicState(name=name)])),
    Row("6", lambda topic_id: DeleteTopicsRequest(topics=[DeleteTopicState(topic_id=topic_id)]), by_id=True),
    Row("0-2", lambda name: DeleteRecordsRequest(topics=[DeleteRecordsTopic(name=name)])),
    Row("2-4", lambda name: OffsetForLeaderEpochRequest(topics=[OffsetForLeaderTopic(topic=name)])),
    Row("0-3", lambda name: AddPartitionsToTxnRequest(v3_and_below_topics=[AddPartitionsToTxnTopic(name=name)])),
    Row(
        "4-5",
        lambda name: AddPartitionsToTxnRequest(
            transactions=[AddPartitionsToTxnTransaction(topics=[AddPartitionsToTxnTopic(name=name)])]
        ),
    ),
    Row(
        "1-2",
        lambda name: WriteTxnMarkersRequest(markers=[WritableTxnMarker(topics=[WritableTxnMarkerTopic(name=name)])]),
    ),
    Row("0-5", lambda name: TxnOffsetCommitRequest(topics=[TxnOffsetCommitRequestTopic(name=name)])),
    Row(
        "6",
        lambda topic_id: TxnOffsetCommitRequest(topics=[TxnOffsetCommitRequestTopic(topic_id=topic_id)]),
        by_id=True,
    ),
    Row(
        "1-4",
        lambda name: DescribeConfigsRequest(
            resources=[DescribeConfigsResource(resource_type=TOPIC_RESOURCE, resource_name=name)]
        ),
    ),
    Row(
        "0-2",
        lambda name: AlterConfigsRequest(
            resources=[AlterConfigsResource(resource_type=TOPIC_RESOURCE, resource_name=name)]
        ),
    ),
    Row(
        "0-1",
        lambda name: IncrementalAlterConfigsRequest(
            resources=[IncrementalAlterConfigsResource(resource_type=TOPIC_RESOURCE, resource_name=name)]
        ),
    ),
    Row("1-5", lambda name: DescribeLogDirsRequest(topics=[DescribableLogDirTopic(topic=name)])),
    Row("0-3", lambda name: CreatePartitionsRequest(topics=[CreatePartitionsTopic(name=name)])),
    Row("0", lambda name: OffsetDeleteRequest(topics=[OffsetDeleteRequestTopic(name=name)])),
    Row("0", lambda name: DescribeProducersRequest(topics=[TopicRequest(name=name)])),
    Row("0", lambda name: DescribeTopicPartitionsRequest(topics=[DescribedTopic(name=name)])),
    Row("0", lambda name: DescribeTopicPartitionsRequest(cursor=Cursor(topic_name=name))),
]

# The same word, as the name of something else.
OTHERWISE = [
    DescribeGroupsRequest(groups=[NAME]),
    DeleteGroupsRequest(groups_names=[NAME]),
    FindCoordinatorRequest(coordinator_keys=[NAME]),
    OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=NAME)]),
    OffsetCommitRequest(group_id=NAME),
    ProduceRequest(transactional_id=NAME, acks=1),
    AddPartitionsToTxnRequest(transactions=[AddPartitionsToTxnTransaction(transactional_id=NAME)]),
    DescribeTransactionsRequest(transactional_ids=[NAME]),
    DescribeConfigsRequest(resources=[DescribeConfigsResource(resource_type=BROKER_RESOURCE, resource_name=NAME)]),
]


def api_of(request: Message) -> Api:
    return BY_KEY[request.api_key]


def cases() -> list[Any]:
    found = []
    for row in ROWS:
        api = api_of(row.request(bytes(16) if row.by_id else ""))
        versions = Versions.parse(row.versions)
        for version in range(versions.first, versions.last + 1):
            found.append(pytest.param(row, version, id=f"{api.name} {version} by {'id' if row.by_id else 'name'}"))
    return found


@pytest.fixture(scope="module")
def broker() -> Iterator[odradek.Broker]:
    with odradek.Broker() as broker:
        broker.create_topic(NAME)
        broker.create_topic(OTHER)
        yield broker


@pytest.fixture(scope="module")
def client(broker: odradek.Broker) -> Iterator[RawClient]:
    with RawClient(broker.port) as client:
        yield client


@pytest.fixture(scope="module")
def topic_id(client: RawClient) -> bytes:
    request = MetadataRequest(topics=[MetadataRequestTopic(name=NAME)])
    return client.call(request, MetadataResponse, 12).topics[0].topic_id


@pytest.mark.parametrize(("row", "version"), cases())
def test_a_request_is_met_by_its_topic(
    row: Row, version: int, broker: odradek.Broker, client: RawClient, topic_id: bytes
) -> None:
    request = row.request(topic_id if row.by_id else NAME)
    api = api_of(request)
    with (
        broker.faults.refuse(api.name, ErrorCode.REQUEST_TIMED_OUT, topic=OTHER) as of_other,
        broker.faults.refuse(api.name, ErrorCode.REQUEST_TIMED_OUT, topic=NAME) as of_topic,
        broker.faults.refuse(api.name, ErrorCode.REQUEST_TIMED_OUT),  # what is not met is not carried out, either
    ):
        client.call(request, api.response, version)
        assert (of_other.hits, of_topic.hits) == (0, 1)


@pytest.mark.parametrize("request_", OTHERWISE, ids=lambda request: type(request).__name__)
def test_a_request_that_has_the_word_for_something_else_is_not_met(
    request_: Message, broker: odradek.Broker, client: RawClient
) -> None:
    api = api_of(request_)
    with (
        broker.faults.refuse(api.name, ErrorCode.REQUEST_TIMED_OUT, topic=NAME) as of_topic,
        broker.faults.refuse(api.name, ErrorCode.REQUEST_TIMED_OUT) as of_any,
    ):
        client.call(request_, api.response, 9 if api.name in ("Produce", "OffsetFetch") else api.served.last)
        assert (of_topic.hits, of_any.hits) == (0, 1)


def test_an_id_that_no_topic_has_is_not_met(broker: odradek.Broker, client: RawClient) -> None:
    with broker.faults.refuse("Metadata", ErrorCode.REQUEST_TIMED_OUT, topic=NAME) as of_topic:
        for unknown in (b"\1" * 16, bytes(16)):
            client.call(metadata(unknown), MetadataResponse, 12)
        assert of_topic.hits == 0


def test_no_place_is_missing_in_the_table() -> None:
    def declared(cls: type[Struct], version: int, path: str) -> Iterator[str]:
        for field in cls.__declared__:
            if version in field.versions:
                place = f"{path}.{field.name}"
                if field.entity_type == "topicName" or field.name in ("topic_id", "resource_name"):
                    yield place
                if field.struct is not None:
                    yield from declared(field.struct, version, place)

    def filled(structure: Struct, value: object, path: str) -> Iterator[str]:
        for field in structure.__declared__:
            held, place = getattr(structure, field.name), f"{path}.{field.name}"
            for one in held if isinstance(held, list) else [held]:
                if isinstance(one, Struct):
                    yield from filled(one, value, place)
                elif one == value:
                    yield place

    places = set()
    for api in APIS:
        for version in range(api.served.first, api.served.last + 1):
            encode_request(api.request(), version, 0, None)  # fields have their types from the first use on
            places |= {(place, version) for place in declared(api.request, version, api.name)}
    in_table = set()
    for row in ROWS:
        value: Any = b"\1" * 16 if row.by_id else NAME
        request = row.request(value)
        versions = Versions.parse(row.versions)
        (place,) = filled(request, value, api_of(request).name)
        in_table |= {(place, version) for version in range(versions.first, versions.last + 1)}
    assert in_table == places
