"""What clients may do to internal topics: every API that takes a topic is asked, of Apache Kafka and of this broker.

`ANSWERS` is Apache Kafka 4.4's; the tests say whether both still give them. One topic differs on purpose: to Kafka
`__odradek_events` is a topic like any other, here it is the broker's own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from odradek.coordination.groups.records import Committed, OffsetKey, offset_record
from odradek.protocol.fields import ZERO_UUID, Message, Struct, resolve_fields
from odradek.protocol.framing import encode_request
from odradek.protocol.messages import alter_configs, incremental_alter_configs
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
from odradek.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse, DeleteTopicState
from odradek.protocol.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResponse,
)
from odradek.protocol.messages.describe_log_dirs import (
    DescribableLogDirTopic,
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
)
from odradek.protocol.messages.describe_topic_partitions import (
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
    TopicRequest,
)
from odradek.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from odradek.protocol.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)
from odradek.protocol.messages.produce import ProduceResponse
from odradek.protocol.registry import APIS, BY_NAME
from odradek.records.builder import NewRecord, batch_bytes, build_batch
from tests.broker import BrokerProcess
from tests.handlers.comparison import Plain
from tests.handlers.txn_peer import NOW_MS, PATIENCE_S, TxnPeer
from tests.raw_client import produce_request
from tests.reference import _missing as missing
from tests.reference import apache_kafka, needs_java

SETTINGS = (
    "offsets.topic.num.partitions=2",
    "transaction.state.log.num.partitions=2",
    "share.coordinator.state.topic.num.partitions=2",
    "share.coordinator.state.topic.replication.factor=1",
    "share.coordinator.state.topic.min.isr=1",
)
OFFSETS, TRANSACTIONS, SHARES = INTERNAL = ("__consumer_offsets", "__transaction_state", "__share_group_state")
EVENTS = "__odradek_events"
METADATA = "__cluster_metadata"
ORDINARY, BESIDE, UNKNOWN = "ordinary", "beside", "no-such-topic"
OWN_CONFIG = 1  # the source of what a topic has been given itself
RESOURCE = 2  # a topic, among the resources that have configs
VERSIONS = {name: range(api.served.first, api.served.last + 1) for name, api in BY_NAME.items()}
TOPIC_FIELDS = {"topics", "topic_data", "topic_names", "resources"}
# A record that any topic takes, compacted ones included: its key is of a type that no coordinator knows.
RECORD = batch_bytes(build_batch([NewRecord(b"\x7f\x00key", b"v", NOW_MS)]))


class TopicsPeer(TxnPeer):
    """One of the two brokers, with all the topics there can be."""

    def serve(self) -> None:
        self.until_served("g")
        self.until_found("t")
        self.make_topics(**{SHARES: 2, EVENTS: 1, ORDINARY: 1, BESIDE: 1})
        for topic in (*INTERNAL, EVENTS, ORDINARY, BESIDE):
            self.until_writable(topic)

    def until_writable(self, topic: str) -> None:
        """Asks until the topic's leader knows that it is: with Kafka that comes after the metadata."""
        self.patient(lambda: self.latest(topic, False))

    def until_deleted(self, topic: str) -> None:
        """Asks until retention has deleted a topic's first record."""
        deadline = time.monotonic() + PATIENCE_S
        while self.latest(topic, False, timestamp=-2)["topics"][0]["partitions"][0]["offset"] == 0:
            assert time.monotonic() < deadline, topic

    def id_of(self, topic: str) -> bytes:
        asked = MetadataRequest(topics=[MetadataRequestTopic(name=topic)], allow_auto_topic_creation=False)
        return bytes(self.client.call(asked, MetadataResponse, 12).topics[0].topic_id)

    def code(self, request: Message, response: type[Message], version: int) -> int:
        """The worst error of an answer: of its topic, where only one is asked for."""
        return _worst(self.client.call(request, response, version))

    def produce(self, topic: str, version: int, client_id: str, records: bytes = RECORD, acks: int = -1) -> int:
        request = produce_request(topic, records, acks=acks)
        if version >= 13:
            request.topic_data[0].name, request.topic_data[0].topic_id = "", self.id_of(topic)
        self.client.correlation_id += 1
        self.client.send_bytes(encode_request(request, version, self.client.correlation_id, client_id))
        return _worst(self.client.receive(ProduceResponse, version))


def _worst(answer: Struct) -> int:
    codes = [0]
    for field in answer.__declared__:
        value = getattr(answer, field.name)
        if field.name.endswith("error_code"):
            codes.append(value)
        elif isinstance(value, list):
            codes += [_worst(one) for one in value if isinstance(one, Struct)]
    return max(codes)


# --- one question for each API --------------------------------------------------------------------------------------


def produce(peer: TopicsPeer, topic: str) -> Plain:
    return [peer.produce(topic, version, "anybody") for version in (3, 12)]


def produce_by_id(peer: TopicsPeer, topic: str) -> Plain:
    return peer.produce(topic, 13, "anybody")


def produce_as_admin(peer: TopicsPeer, topic: str) -> Plain:
    return [peer.produce(topic, version, "__admin_client") for version in (3, 12)]


def produce_nothing(peer: TopicsPeer, topic: str) -> Plain:
    return peer.produce(topic, 12, "anybody", records=b"")


def produce_with_wrong_acks(peer: TopicsPeer, topic: str) -> Plain:
    return peer.produce(topic, 12, "anybody", acks=7)


def produce_in_transaction(peer: TopicsPeer, topic: str) -> Plain:
    name = f"writes-{topic}"
    producer = peer.begin(name)
    try:
        return peer.patient(lambda: _transactional(peer, topic, producer, name))["error_code"]
    finally:
        peer.end(name, producer, False, 5)


def _transactional(peer: TopicsPeer, topic: str, producer: tuple[int, int], name: str) -> Plain:
    request = produce_request(
        topic,
        batch_bytes(
            build_batch(
                [NewRecord(b"\x7f\x00key", b"v", NOW_MS)],
                producer_id=producer[0],
                producer_epoch=producer[1],
                base_sequence=0,
                transactional=True,
            )
        ),
    )
    request.transactional_id = name
    return {"error_code": _worst(peer.client.call(request, ProduceResponse, 12))}


def fetch(peer: TopicsPeer, topic: str) -> Plain:
    return peer.client.fetch(topic, 0).error_code


def list_offsets(peer: TopicsPeer, topic: str) -> Plain:
    return peer.latest(topic, False)["topics"][0]["partitions"][0]["error_code"]


def metadata(peer: TopicsPeer, topic: str) -> Plain:
    asked = MetadataRequest(topics=[MetadataRequestTopic(name=topic)], allow_auto_topic_creation=False)
    (told,) = peer.client.call(asked, MetadataResponse, 12).topics
    return told.error_code, told.is_internal


def describe_topic_partitions(peer: TopicsPeer, topic: str) -> Plain:
    asked = DescribeTopicPartitionsRequest(topics=[TopicRequest(name=topic)])
    (told,) = peer.client.call(asked, DescribeTopicPartitionsResponse, 0).topics
    return told.error_code, told.is_internal


def offset_for_leader_epoch(peer: TopicsPeer, topic: str) -> Plain:
    wanted = OffsetForLeaderPartition(partition=0, current_leader_epoch=-1, leader_epoch=0)
    request = OffsetForLeaderEpochRequest(
        replica_id=-1, topics=[OffsetForLeaderTopic(topic=topic, partitions=[wanted])]
    )
    return peer.code(request, OffsetForLeaderEpochResponse, 4)


def describe_producers(peer: TopicsPeer, topic: str) -> Plain:
    return peer.producers(topic)["topics"][0]["partitions"][0]["error_code"]


def describe_log_dirs(peer: TopicsPeer, topic: str) -> Plain:
    asked = DescribeLogDirsRequest(topics=[DescribableLogDirTopic(topic=topic, partitions=[0])])
    answer = peer.client.call(asked, DescribeLogDirsResponse, 4)
    return answer.error_code, [len(one.partitions) for result in answer.results for one in result.topics]


def offset_commit(peer: TopicsPeer, topic: str) -> Plain:
    return peer.commit("g", {topic: {0: 5}})["topics"][0]["partitions"][0]["error_code"]


def offset_fetch(peer: TopicsPeer, topic: str) -> Plain:
    peer.commit("g", {topic: {0: 5}})
    (told,) = peer.fetch_offsets("g", {topic: [0]})["topics"]
    return told["partitions"][0]["error_code"], told["partitions"][0]["committed_offset"]


def offset_delete(peer: TopicsPeer, topic: str) -> Plain:
    peer.commit("g", {ORDINARY: {0: 5}})
    return peer.delete_offsets("g", {topic: [0]})["topics"][0]["partitions"][0]["error_code"]


def txn_offset_commit(peer: TopicsPeer, topic: str) -> Plain:
    name = f"commits-{topic}"
    producer = peer.begin(name)
    answer = peer.commit_in(name, producer, "g", {topic: {0: 5}})
    peer.end(name, producer, False, 5)
    return answer["topics"][0]["partitions"][0]["error_code"]


def add_partitions_to_txn(peer: TopicsPeer, topic: str) -> Plain:
    """Of partitions that there are, that there are not, and by a producer that does not exist."""
    name = f"adds-{topic}"
    producer = peer.begin(name)
    told = []
    for version in range(4):
        answer = peer.add(name, producer, {topic: [0, 99], UNKNOWN: [0], BESIDE: [0]}, version)
        topics = {one["name"]: one["results_by_partition"] for one in answer["results_by_topic_v3_and_below"]}
        told.append([one["partition_error_code"] for asked in (topic, UNKNOWN, BESIDE) for one in topics[asked]])
    assert all(one == told[0] for one in told)
    for unknown in ("", f"{name}-not"):
        answer = peer.add(unknown, producer, {topic: [0]})
        told[0].append(answer["results_by_topic_v3_and_below"][0]["results_by_partition"][0]["partition_error_code"])
    assert peer.described(name)["transaction_states"][0]["topics"] == []
    return told[0]


def add_partitions_to_txn_as_broker(peer: TopicsPeer, topic: str) -> Plain:
    """These versions are brokers' among themselves, who add partitions of offsets in this way."""
    name = f"brokers-{topic}"
    producer = peer.begin(name)
    told = []
    for version in (4, 5):
        for verify_only in (True, False):
            answer = peer.add_as_broker(name, producer, {topic: [0]}, verify_only, version)
            (one,) = answer["results_by_transaction"][0]["topic_results"]
            told.append(one["results_by_partition"][0]["partition_error_code"])
    peer.end(name, producer, False, 4)
    return told


def write_txn_markers(peer: TopicsPeer, topic: str) -> Plain:
    return [
        peer.mark((1 << 40, version), topic, True, 0, version)["markers"][0]["topics"][0]["partitions"][0]["error_code"]
        for version in VERSIONS["WriteTxnMarkers"]
    ]


def delete_records(peer: TopicsPeer, topic: str) -> Plain:
    return [_delete_records(peer, topic, 0, offset, version) for version in (0, 1, 2) for offset in (-1, 0, 1 << 40)]


def delete_records_of_no_partition(peer: TopicsPeer, topic: str) -> Plain:
    return _delete_records(peer, topic, 99, 0, 2)


def _delete_records(peer: TopicsPeer, topic: str, partition: int, offset: int, version: int) -> int:
    wanted = DeleteRecordsPartition(partition_index=partition, offset=offset)
    request = DeleteRecordsRequest(topics=[DeleteRecordsTopic(name=topic, partitions=[wanted])], timeout_ms=30_000)
    return peer.code(request, DeleteRecordsResponse, version)


def create_topics(peer: TopicsPeer, topic: str) -> Plain:
    asked = CreatableTopic(name=topic, num_partitions=1, replication_factor=1)
    return peer.code(CreateTopicsRequest(topics=[asked], timeout_ms=30_000), CreateTopicsResponse, 7)


def create_partitions(peer: TopicsPeer, topic: str) -> Plain:
    wanted = CreatePartitionsTopic(name=topic, count=9, assignments=None)
    request = CreatePartitionsRequest(topics=[wanted], timeout_ms=30_000, validate_only=True)
    return peer.code(request, CreatePartitionsResponse, 3)


def describe_configs(peer: TopicsPeer, topic: str) -> Plain:
    asked = DescribeConfigsResource(resource_type=RESOURCE, resource_name=topic, configuration_keys=None)
    return peer.code(DescribeConfigsRequest(resources=[asked]), DescribeConfigsResponse, 4)


def alter_configs_of(peer: TopicsPeer, topic: str) -> Plain:
    config = alter_configs.AlterableConfig(name="cleanup.policy", value="delete")
    resource = alter_configs.AlterConfigsResource(resource_type=RESOURCE, resource_name=topic, configs=[config])
    request = alter_configs.AlterConfigsRequest(resources=[resource], validate_only=True)
    return peer.code(request, alter_configs.AlterConfigsResponse, 2)


def incremental_alter_configs_of(peer: TopicsPeer, topic: str) -> Plain:
    config = incremental_alter_configs.AlterableConfig(name="cleanup.policy", config_operation=0, value="delete")
    resource = incremental_alter_configs.AlterConfigsResource(
        resource_type=RESOURCE, resource_name=topic, configs=[config]
    )
    request = incremental_alter_configs.IncrementalAlterConfigsRequest(resources=[resource], validate_only=True)
    return peer.code(request, incremental_alter_configs.IncrementalAlterConfigsResponse, 1)


def delete_topics(peer: TopicsPeer, topic: str) -> Plain:
    request = DeleteTopicsRequest(topics=[DeleteTopicState(name=topic, topic_id=ZERO_UUID)], timeout_ms=30_000)
    code = peer.code(request, DeleteTopicsResponse, 6)
    peer.until_gone(topic)
    return code


Question = Callable[[TopicsPeer, str], Plain]
# API, question, and Kafka's answer: for internal topics, for the name of the metadata log, for any other topic.
ANSWERS: list[tuple[str, Question, Plain, Plain, Plain]] = [
    ("Produce", produce, [17, 17], [3, 3], [0, 0]),
    ("Produce", produce_by_id, 17, 100, 0),
    ("Produce", produce_as_admin, [0, 0], [3, 3], [0, 0]),
    ("Produce", produce_nothing, 87, 3, 87),
    ("Produce", produce_with_wrong_acks, 21, 3, 21),
    ("Produce", produce_in_transaction, 17, 3, 0),
    ("Fetch", fetch, 0, 3, 0),
    ("ListOffsets", list_offsets, 0, 3, 0),
    ("Metadata", metadata, (0, True), (3, False), (0, False)),
    ("DescribeTopicPartitions", describe_topic_partitions, (0, True), (3, False), (0, False)),
    ("OffsetForLeaderEpoch", offset_for_leader_epoch, 0, 3, 0),
    ("DescribeProducers", describe_producers, 0, 3, 0),
    ("DescribeLogDirs", describe_log_dirs, (0, [1]), (0, []), (0, [1])),
    ("OffsetCommit", offset_commit, 0, 3, 0),
    ("OffsetFetch", offset_fetch, (0, 5), (0, -1), (0, 5)),
    ("OffsetDelete", offset_delete, 0, 3, 0),
    ("TxnOffsetCommit", txn_offset_commit, 0, 3, 0),
    ("AddPartitionsToTxn", add_partitions_to_txn, [29, 29, 3, 55, 29, 29], [3, 3, 3, 55, 3, 3], [55, 3, 3, 55, 42, 49]),
    ("AddPartitionsToTxn", add_partitions_to_txn_as_broker, [120, 0, 0, 0], [3, 3, 3, 3], [120, 0, 0, 0]),
    ("WriteTxnMarkers", write_txn_markers, [0, 0], [3, 3], [0, 0]),
    ("DeleteRecords", delete_records, [17] * 9, [3] * 9, [0, 0, 1] * 3),
    ("DeleteRecords", delete_records_of_no_partition, 3, 3, 3),
    ("CreateTopics", create_topics, 36, 42, 36),
    ("CreatePartitions", create_partitions, 0, 3, 0),
    ("DescribeConfigs", describe_configs, 0, 3, 0),
    ("AlterConfigs", alter_configs_of, 0, 3, 0),
    ("IncrementalAlterConfigs", incremental_alter_configs_of, 0, 3, 0),
    ("DeleteTopics", delete_topics, 0, 3, 0),
]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TopicsPeer]:
    with (
        BrokerProcess(tmp_path_factory.mktemp("broker"), *SETTINGS) as broker,
        TopicsPeer(broker.port, is_kafka=False) as peer,
    ):
        yield peer


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TopicsPeer]:
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed")
    with (
        apache_kafka(tmp_path_factory.mktemp("kafka"), *SETTINGS) as port,
        TopicsPeer(port, is_kafka=True) as peer,
    ):
        yield peer


def ask(peer: TopicsPeer, question: Question, *topics: str) -> dict[str, Plain]:
    peer.serve()
    return {topic: question(peer, topic) for topic in topics}


@pytest.mark.parametrize(("question", "internal", "metadata_log", "ordinary"), [row[1:] for row in ANSWERS])
def test_what_a_client_may_do(
    here: TopicsPeer, question: Question, internal: Plain, metadata_log: Plain, ordinary: Plain
) -> None:
    told = ask(here, question, *INTERNAL, EVENTS, METADATA, ORDINARY)
    assert told == {**dict.fromkeys([*INTERNAL, EVENTS], internal), METADATA: metadata_log, ORDINARY: ordinary}


@needs_java
@pytest.mark.parametrize(("question", "internal", "metadata_log", "ordinary"), [row[1:] for row in ANSWERS])
def test_it_is_what_kafka_lets_it_do(
    kafka: TopicsPeer, question: Question, internal: Plain, metadata_log: Plain, ordinary: Plain
) -> None:
    told = ask(kafka, question, *INTERNAL, EVENTS, METADATA, ORDINARY)
    assert told == {**dict.fromkeys(INTERNAL, internal), METADATA: metadata_log, EVENTS: ordinary, ORDINARY: ordinary}


# What decides how long the records of an internal topic are kept, and in how many partitions.
MADE_WITH = {
    OFFSETS: {"compression.type": "producer", "cleanup.policy": "compact", "segment.bytes": "104857600"},
    TRANSACTIONS: {"compression.type": "uncompressed", "cleanup.policy": "compact", "segment.bytes": "104857600"},
    SHARES: {
        "compression.type": "producer",
        "cleanup.policy": "delete",
        "segment.bytes": "104857600",
        "retention.ms": "-1",
    },
}
KEPT_BY = ("compression.type", "cleanup.policy", "segment.bytes", "retention.ms")


def made_by_asking(peer: TopicsPeer) -> Plain:
    """Whoever asks for the metadata of an internal topic may be the first who has it made."""
    peer.serve()
    found = {}
    for topic in INTERNAL:
        delete_topics(peer, topic)
        asked = MetadataRequest(topics=[MetadataRequestTopic(name=topic)], allow_auto_topic_creation=True)
        peer.client.call(asked, MetadataResponse, 12)
        peer.until_led(topic, partitions=2)
        resource = DescribeConfigsResource(resource_type=RESOURCE, resource_name=topic, configuration_keys=[*KEPT_BY])
        answer = peer.client.call(DescribeConfigsRequest(resources=[resource]), DescribeConfigsResponse, 4)
        found[topic] = {
            config.name: config.value for config in answer.results[0].configs if config.config_source == OWN_CONFIG
        }
    return found


def test_made_by_asking_they_are_what_the_coordinators_make(here: TopicsPeer) -> None:
    assert made_by_asking(here) == MADE_WITH


@needs_java
def test_made_by_asking_they_are_what_kafka_makes(kafka: TopicsPeer) -> None:
    assert made_by_asking(kafka) == MADE_WITH


def made_of_the_metadata_log(peer: TopicsPeer) -> Plain:
    asked = MetadataRequest(topics=[MetadataRequestTopic(name=METADATA)], allow_auto_topic_creation=True)
    return [peer.code(asked, MetadataResponse, version) for version in (1, 4, 12)]


def test_the_metadata_log_is_not_made_by_asking(here: TopicsPeer) -> None:
    assert made_of_the_metadata_log(here) == [3, 3, 3]


@needs_java
def test_kafka_does_not_make_it_either(kafka: TopicsPeer) -> None:
    assert made_of_the_metadata_log(kafka) == [3, 3, 3]


POLICIES = {  # of a topic's cleanup, and Kafka's answers to a deletion up to 0, the end, behind it, a wrong one, and 1
    "compact": [44, 44, 44, 44, 44],
    "compact,delete": [0, 0, 1, 1, 0],
    "delete,compact": [0, 0, 1, 1, 0],
    "delete": [0, 0, 1, 1, 0],
    "": [0, 0, 1, 1, 0],
}


def deleted_by_policy(peer: TopicsPeer) -> Plain:
    told = {}
    for policy in POLICIES:
        topic = f"policy-{policy.replace(',', '-')}"
        config = CreatableTopicConfig(name="cleanup.policy", value=policy)
        asked = CreatableTopic(name=topic, num_partitions=1, replication_factor=1, configs=[config])
        assert peer.code(CreateTopicsRequest(topics=[asked], timeout_ms=30_000), CreateTopicsResponse, 7) == 0
        peer.until_led(topic)
        peer.until_writable(topic)
        assert peer.produce(topic, 9, "anybody") == 0
        told[policy] = [_delete_records(peer, topic, 0, offset, 2) for offset in (0, -1, 99, -2, 1)]
        # Nothing of it is gone where it was refused.
        assert peer.latest(topic, False, timestamp=-2)["topics"][0]["partitions"][0]["offset"] == (policy != "compact")
    return told


def test_records_are_deleted_where_the_policy_deletes(here: TopicsPeer) -> None:
    assert deleted_by_policy(here) == POLICIES


@needs_java
def test_kafka_deletes_records_there(kafka: TopicsPeer) -> None:
    assert deleted_by_policy(kafka) == POLICIES


def test_every_api_that_takes_a_topic_is_asked() -> None:
    def takes_topics(cls: type[Struct]) -> bool:
        resolve_fields(cls)
        return any(
            field.name in TOPIC_FIELDS or (field.struct is not None and takes_topics(field.struct))
            for field in cls.__declared__
        )

    assert {api.name for api in APIS if takes_topics(api.request)} == {row[0] for row in ANSWERS}


# --- what it is for: nothing acknowledged is lost ---------------------------------------------------------------------


def test_offsets_and_transactions_outlive_whoever_deletes_records(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path, *SETTINGS) as broker, TopicsPeer(broker.port, is_kafka=False) as peer:
        peer.serve()
        assert _code(peer.commit("g", {ORDINARY: {0: 7}})) == 0
        producer = peer.begin("open")
        assert peer.write(ORDINARY, producer, 0, "open", 12)["error_code"] == 0
        assert _code(peer.commit_in("open", producer, "in-transaction", {ORDINARY: {0: 9}})) == 0
        for topic in INTERNAL:
            for partition in range(2):
                for offset in (-1, 0, 1):
                    assert _delete_records(peer, topic, partition, offset, 2) == 17
        broker.kill()
        broker.start()
        peer.client = peer.connect()
        peer.until_served("g", "in-transaction")
        (told,) = peer.fetch_offsets("g", {ORDINARY: [0]})["topics"]
        assert told["partitions"][0]["committed_offset"] == 7
        assert peer.end("open", producer, True, 5)["error_code"] == 0
        peer.until_described("open", "CompleteCommit")
        (told,) = peer.fetch_offsets("in-transaction", {ORDINARY: [0]}, require_stable=True)["topics"]
        assert told["partitions"][0]["committed_offset"] == 9
        found = peer.read(ORDINARY, True)
        assert found["last_stable_offset"] == found["high_watermark"] == 2  # the record and its marker


def _code(answer: Plain) -> int:
    code: int = answer["topics"][0]["partitions"][0]["error_code"]
    return code


def test_offsets_outlive_the_first_who_asks_for_their_topic(tmp_path: Path) -> None:
    """Some tool lists `__consumer_offsets` before any group is there. Its records must not be under a retention."""
    with (
        BrokerProcess(tmp_path, "log.retention.ms=1", "log.retention.check.interval.ms=50") as broker,
        TopicsPeer(broker.port, is_kafka=False) as peer,
    ):
        for topic in (OFFSETS, TRANSACTIONS):
            peer.client.call(MetadataRequest(topics=[MetadataRequestTopic(name=topic)]), MetadataResponse, 12)
        peer.until_served("g")
        peer.until_found("t")
        peer.make_topics(**{ORDINARY: 1})
        assert _code(peer.commit("g", {ORDINARY: {0: 7}})) == 0
        assert peer.produce(ORDINARY, 9, "anybody") == 0
        peer.until_deleted(ORDINARY)
        broker.kill()
        broker.start()
        peer.client = peer.connect()
        peer.until_served("g")
        (told,) = peer.fetch_offsets("g", {ORDINARY: [0]})["topics"]
        assert told["partitions"][0]["committed_offset"] == 7


FOREIGN = {  # what the administrators' client may write into the coordinators' logs, beside what makes sense
    "an unknown type": (b"\x7f\x00key", b"value"),
    "no type": (b"\x00", b"value"),
    "an empty key": (b"", b""),
    "an offset without a value": (b"\x00\x01\x00\x01g\x00\x01t\x00\x00\x00\x00", b""),
    "an offset of no version": (b"\x00\x01\x00\x01g\x00\x01t\x00\x00\x00\x00", b"\x7f\xff1234"),
    "half an offset's key": (b"\x00\x01\x00\x09g", b"\x00\x03"),
    "a group of no version": (b"\x00\x02\x00\x01g", b"\x7f\xff"),
    "half a group": (b"\x00\x02\x00\x01g", b"\x00\x03\x00\x08consumer"),
    "a transaction of no version": (b"\x00\x00\x00\x01t", b"\x7f\xff"),
    "half a transaction": (b"\x00\x00\x00\x01t", b"\x00\x00\x00\x00"),
    "a key that is no text": (b"\x00\x02\x00\x02\xff\xfe", b"\x00\x03"),
    "a tombstone of nothing": (b"\x00\x00\x00\x07unknown", None),
}


@pytest.mark.parametrize("kill", [True, False])
def test_the_administrators_records_are_part_of_the_state(tmp_path: Path, kill: bool) -> None:
    """At once, and after any stop; what is no record of theirs does not keep the coordinators from serving."""
    settings = ("offsets.topic.num.partitions=1", "transaction.state.log.num.partitions=1")
    with BrokerProcess(tmp_path, *settings) as broker, TopicsPeer(broker.port, is_kafka=False) as peer:
        peer.serve()

        def offset(group: str) -> int:
            peer.until_served(group)
            (told,) = peer.fetch_offsets(group, {ORDINARY: [0]})["topics"]
            found: int = told["partitions"][0]["committed_offset"]
            return found

        def write(topic: str, key: bytes, value: bytes | None) -> None:
            records = batch_bytes(build_batch([NewRecord(key, value, NOW_MS)]))
            assert peer.produce(topic, 9, "__admin_client", records) == 0

        for group in ("kept", "forgotten"):
            assert _code(peer.commit(group, {ORDINARY: {0: 7}})) == 0
        begun = peer.begin("begun")
        for key, value in FOREIGN.values():
            write(OFFSETS, key, value)
            write(TRANSACTIONS, key, value)
        commit = offset_record(OffsetKey("restored", ORDINARY, 0), Committed(33, -1, "", NOW_MS), NOW_MS)
        tombstone = offset_record(OffsetKey("forgotten", ORDINARY, 0), None, NOW_MS)
        for record in (commit, tombstone):
            assert record.key is not None
            write(OFFSETS, record.key, record.value)
        for after in (False, True):
            if after:
                broker.kill() if kill else broker.stop()
                broker.start()
                peer.client = peer.connect()
            assert [offset(group) for group in ("kept", "forgotten", "restored")] == [7, -1, 33]
            peer.until_found("begun")
            assert peer.init("begun", expected=begun)["error_code"] == 0
            begun = begun[0], begun[1] + 1
