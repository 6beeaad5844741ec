"""Topics made, described, enlarged and deleted in every version of every request: answers equal Apache Kafka's.

Deviations are spelled out where a test makes them. Sentences of errors are not compared, only whether there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from odradek.config import TOPIC_SETTINGS
from odradek.protocol.fields import ZERO_UUID
from odradek.protocol.messages.create_partitions import (
    CreatePartitionsAssignment,
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopic,
)
from odradek.protocol.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from odradek.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse, DeleteTopicState
from odradek.protocol.messages.describe_log_dirs import (
    DescribableLogDirTopic,
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
)
from odradek.protocol.messages.describe_topic_partitions import (
    Cursor,
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
    TopicRequest,
)
from odradek.protocol.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic
from odradek.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from odradek.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from odradek.protocol.messages.produce import ProduceResponse
from odradek.protocol.registry import BY_NAME
from tests.broker import BrokerProcess
from tests.handlers.comparison import ATTEMPTS, Peer, Plain, differences, numbered
from tests.raw_client import RawClient, batch, produce_request

Compare = Callable[[Callable[[Peer], Plain]], Plain]
VERSIONS = {name: range(api.served.first, api.served.last + 1) for name, api in BY_NAME.items()}
# What Kafka says until its controller has given it a block of producer ids.
COORDINATOR_LOAD_IN_PROGRESS = 14
UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID = 3, 100
UNKNOWN_ID = bytes(range(16))


@pytest.fixture(scope="module")
def compare(kafka_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compare]:
    """Runs a scenario against Kafka and against this broker; equal results are returned."""
    folder = tmp_path_factory.mktemp("broker")
    with BrokerProcess(folder) as broker, RawClient(kafka_port) as kafka_client, RawClient(broker.port) as client:
        kafka, here = Peer(kafka_client, is_kafka=True), Peer(client, is_kafka=False)

        def run(scenario: Callable[[Peer], Plain]) -> Plain:
            theirs, ours = numbered(scenario(kafka)), numbered(scenario(here))
            assert not (different := differences(theirs, ours)), "\n".join(different)
            return ours

        yield run


def topic(
    name: str,
    partitions: int = 1,
    factor: int = 1,
    assignments: dict[int, list[int]] | None = None,
    configs: list[tuple[str, str | None]] | None = None,
) -> CreatableTopic:
    return CreatableTopic(
        name=name,
        num_partitions=partitions,
        replication_factor=factor,
        assignments=[
            CreatableReplicaAssignment(partition_index=index, broker_ids=brokers)
            for index, brokers in (assignments or {}).items()
        ],
        configs=[CreatableTopicConfig(name=key, value=value) for key, value in configs or []],
    )


def create(peer: Peer, version: int, *topics: CreatableTopic, validate_only: bool = False) -> list[Plain]:
    """The results, by name: Kafka's order is none."""
    request = CreateTopicsRequest(topics=list(topics), validate_only=validate_only)
    answer = peer.call(request, CreateTopicsResponse, version)
    for result in answer["topics"]:
        if result["configs"] is not None:
            # Settings that only one of the two has.
            result["configs"] = [entry for entry in result["configs"] if not entry["name"].startswith("odradek.")]
            if peer.is_kafka:
                result["configs"] = [entry for entry in result["configs"] if entry["name"] in TOPIC_SETTINGS]
            result["configs"].sort(key=lambda entry: entry["name"])
            for entry in result["configs"]:
                if entry["name"] == "min.insync.replicas":
                    # Formatting a Kafka writes this setting for all brokers, with its default's value.
                    entry["config_source"] = None
    return sorted(answer["topics"], key=lambda result: result["name"])


def delete(peer: Peer, version: int, *names: str) -> list[Plain]:
    request = DeleteTopicsRequest(timeout_ms=30_000)
    if version >= 6:
        request.topics = [DeleteTopicState(name=name) for name in names]
    else:
        request.topic_names = list(names)
    answer = peer.call(request, DeleteTopicsResponse, version)
    return sorted(answer["responses"], key=lambda result: result["name"])


# --- CreateTopics ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS["CreateTopics"])
def test_create_topics(compare: Compare, version: int) -> None:
    prefix = f"create-{version}-"

    def scenario(peer: Peer) -> Plain:
        seen = [
            create(
                peer,
                version,
                topic(prefix + "plain"),
                topic(prefix + "three", 3),
                topic(prefix + "assigned", -1, -1, {0: [1], 1: [1]}),
                topic(prefix + "set", 1, 1, None, [("retention.ms", "60000"), ("cleanup.policy", "compact,delete")]),
            )
        ]
        peer.until_led(prefix + "plain", prefix + "set")
        peer.until_led(prefix + "three", partitions=3)
        seen.append(create(peer, version, topic(prefix + "plain")))
        seen.append(create(peer, version, topic(prefix + "plain"), validate_only=True))
        seen.append(create(peer, version, topic(prefix + "only", 2), validate_only=True))
        peer.until_gone(prefix + "only")
        if version >= 4:
            seen.append(create(peer, version, topic(prefix + "default", -1, -1)))
        return seen

    compare(scenario)


BAD_TOPICS = [
    topic(""),
    topic("."),
    topic(".."),
    topic("a b"),
    topic("../x"),
    topic("a/b"),
    topic("ü"),
    topic("n" * 250),
    topic("bad-partitions-0", 0),
    topic("bad-partitions-2", -2),
    topic("bad-factor-0", 1, 0),
    topic("bad-factor-2", 1, -2),
    topic("bad-factor-3", 1, 3),
    topic("bad-both", 0, 0),
    topic("bad-assignment-with-count", 2, -1, {0: [1], 1: [1]}),
    topic("bad-assignment-with-factor", -1, 1, {0: [1]}),
    topic("bad-assignment-of-nobody", -1, -1, {0: []}),
    topic("bad-assignment-twice", -1, -1, {0: [1, 1]}),
    topic("bad-assignment-unknown", -1, -1, {0: [7]}),
    topic("bad-assignment-partly-unknown", -1, -1, {0: [1, 7]}),
    topic("bad-assignment-of-two-lengths", -1, -1, {0: [1], 1: [1, 7]}),
    topic("bad-assignment-with-a-gap", -1, -1, {0: [1], 2: [1]}),
    topic("bad-assignment-from-1", -1, -1, {1: [1]}),
    topic("bad-assignment-negative", -1, -1, {-1: [1]}),
    topic("bad-config-name", 1, 1, None, [("no.such.config", "1")]),
    topic("bad-config-number", 1, 1, None, [("retention.ms", "soon")]),
    topic("bad-config-range", 1, 1, None, [("segment.bytes", "1")]),
    topic("bad-config-choice", 1, 1, None, [("cleanup.policy", "burn")]),
    topic("bad-config-null", 1, 1, None, [("retention.ms", None)]),
    topic("bad-config-empty", 1, 1, None, [("retention.ms", "")]),
    topic("bad-config-empty-name", 1, 1, None, [("", "1")]),
    topic("bad-config-and-factor", 1, 3, None, [("retention.ms", "soon")]),
    topic("bad-config-lags", 1, 1, None, [("min.compaction.lag.ms", "9"), ("max.compaction.lag.ms", "5")]),
    topic("__cluster_metadata"),
]


@pytest.mark.parametrize("version", VERSIONS["CreateTopics"])
@pytest.mark.parametrize("bad", BAD_TOPICS, ids=lambda bad: bad.name[:40] or "empty")
def test_topics_that_cannot_be_made(compare: Compare, bad: CreatableTopic, version: int) -> None:
    (result,) = compare(lambda peer: create(peer, version, bad))
    assert result["error_code"] != 0
    compare(lambda peer: create(peer, version, bad, validate_only=True))


def test_good_and_bad_in_one_request(compare: Compare) -> None:
    compare(lambda peer: create(peer, 7, topic("mixed-good"), topic("mixed bad"), topic("mixed-factor", 1, 5)))
    compare(lambda peer: create(peer, 7, topic("twice"), topic("twice", 2), topic("once")))
    compare(lambda peer: create(peer, 7))
    compare(lambda peer: create(peer, 7, topic("a.b_c"), topic("a_b.c")))
    compare(lambda peer: create(peer, 7, topic("n" * 249)))
    compare(lambda peer: create(peer, 7, topic("setting-twice", 1, 1, None, [("flush.ms", "1"), ("flush.ms", "2")])))


def test_too_many_partitions_refuse_the_whole_request(compare: Compare) -> None:
    compare(lambda peer: create(peer, 7, topic("huge", 10_001), topic("not-huge")))
    compare(lambda peer: create(peer, 7, topic("large-1", 6000), topic("large-2", 5000), validate_only=True))


# --- DeleteTopics ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS["DeleteTopics"])
def test_delete_topics(compare: Compare, version: int) -> None:
    one, two = f"delete-{version}-one", f"delete-{version}-two"

    def scenario(peer: Peer) -> Plain:
        create(peer, 7, topic(one), topic(two, 3))
        peer.until_led(one)
        peer.until_led(two, partitions=3)
        seen = [delete(peer, version, one, "no-such-topic", "a b")]
        peer.until_gone(one)
        seen.append(delete(peer, version, one))
        seen.append(delete(peer, version, two, two))
        seen.append(delete(peer, version))
        create(peer, 7, topic(one))
        peer.until_led(one)
        return seen

    compare(scenario)


def test_delete_by_id(compare: Compare) -> None:
    def scenario(peer: Peer) -> Plain:
        create(peer, 7, topic("by-id"), topic("by-id-2"))
        peer.until_led("by-id", "by-id-2")
        found = peer.client.call(
            MetadataRequest(topics=[MetadataRequestTopic(name="by-id"), MetadataRequestTopic(name="by-id-2")]),
            MetadataResponse,
            12,
        )
        ids = {entry.name: entry.topic_id for entry in found.topics}

        def states(*states: DeleteTopicState) -> list[Plain]:
            answer = peer.call(DeleteTopicsRequest(topics=list(states), timeout_ms=30_000), DeleteTopicsResponse, 6)
            return sorted(answer["responses"], key=lambda result: (str(result["name"]), result["topic_id"]))

        seen = [
            states(DeleteTopicState(name=None, topic_id=UNKNOWN_ID)),
            states(DeleteTopicState(name=None, topic_id=ZERO_UUID)),
            states(DeleteTopicState(name="by-id", topic_id=ids["by-id"])),
            states(DeleteTopicState(name="by-id"), DeleteTopicState(name=None, topic_id=ids["by-id"])),
            states(*[DeleteTopicState(name=None, topic_id=ids["by-id"])] * 2),
            states(DeleteTopicState(name=None, topic_id=ids["by-id"]), DeleteTopicState(name="by-id-2")),
        ]
        peer.until_gone("by-id", "by-id-2")
        return seen

    compare(scenario)


# --- CreatePartitions ------------------------------------------------------------------------------------------------


def enlarge(
    peer: Peer, version: int, *wanted: tuple[str, int, list[list[int]] | None], validate_only: bool = False
) -> list[Plain]:
    request = CreatePartitionsRequest(
        topics=[
            CreatePartitionsTopic(
                name=name,
                count=count,
                assignments=None
                if assigned is None
                else [CreatePartitionsAssignment(broker_ids=brokers) for brokers in assigned],
            )
            for name, count, assigned in wanted
        ],
        timeout_ms=30_000,
        validate_only=validate_only,
    )
    answer = peer.call(request, CreatePartitionsResponse, version)
    return sorted(answer["results"], key=lambda result: result["name"])


@pytest.mark.parametrize("version", VERSIONS["CreatePartitions"])
def test_create_partitions(compare: Compare, version: int) -> None:
    name = f"enlarge-{version}"

    def scenario(peer: Peer) -> Plain:
        create(peer, 7, topic(name, 2))
        peer.until_led(name, partitions=2)
        seen = [
            enlarge(peer, version, (name, 2, None)),
            enlarge(peer, version, (name, 1, None)),
            enlarge(peer, version, (name, 0, None)),
            enlarge(peer, version, (name, -5, None)),
            enlarge(peer, version, ("no-such-topic", 2, None)),
            enlarge(peer, version, ("a b", 2, None)),
            enlarge(peer, version, ("", 2, None)),
            enlarge(peer, version, (name, 4, [[1]])),
            enlarge(peer, version, (name, 4, [])),
            enlarge(peer, version, (name, 3, [[1], [1]])),
            enlarge(peer, version, (name, 3, [[]])),
            enlarge(peer, version, (name, 3, [[7]])),
            enlarge(peer, version, (name, 3, [[1, 1]])),
            enlarge(peer, version, (name, 3, [[1, 7]])),
            enlarge(peer, version, (name, 3, None), (name, 4, None)),
            enlarge(peer, version, (name, 3, None), validate_only=True),
            enlarge(peer, version, (name, 20_000, None)),
            enlarge(peer, version, (name, 20_000, None), validate_only=True),
            enlarge(peer, version),
        ]
        peer.until_led(name, partitions=2)
        seen.append(enlarge(peer, version, (name, 3, None)))
        peer.until_led(name, partitions=3)
        seen.append(enlarge(peer, version, (name, 5, [[1], [1]])))
        peer.until_led(name, partitions=5)
        return seen

    compare(scenario)


# --- Metadata --------------------------------------------------------------------------------------------------------


def metadata(peer: Peer, version: int, names: list[str] | None, **more: Any) -> Plain:
    request = MetadataRequest(
        topics=None if names is None else [MetadataRequestTopic(name=name) for name in names],
        **{"allow_auto_topic_creation": False, **more},
    )
    answer = peer.call(request, MetadataResponse, version)
    answer["topics"].sort(key=lambda entry: (entry["name"] or "", entry["topic_id"]))
    for entry in answer["topics"]:
        entry["partitions"].sort(key=lambda partition: partition["partition_index"])
    return answer


@pytest.fixture(scope="module")
def described(compare: Compare) -> None:
    def scenario(peer: Peer) -> None:
        create(peer, 7, topic("described", 3), topic("described-2"))
        peer.until_led("described", partitions=3)
        peer.until_led("described-2")

    compare(scenario)


@pytest.mark.parametrize("version", VERSIONS["Metadata"])
def test_metadata(compare: Compare, described: None, version: int) -> None:
    compare(lambda peer: metadata(peer, version, ["described", "described-2"]))
    compare(lambda peer: metadata(peer, version, ["described", "described"]))
    if version >= 4:
        # Earlier a name that is asked for may be made.
        compare(lambda peer: metadata(peer, version, ["no-such-topic", "described"]))
    compare(lambda peer: metadata(peer, version, ["a b", "..", "n" * 250]))
    compare(lambda peer: metadata(peer, version, [""]))

    def everything(peer: Peer, names: list[str] | None) -> Plain:
        answer = metadata(peer, version, names)
        mine = [entry for entry in answer["topics"] if entry["name"].startswith("described")]
        return {**answer, "topics": mine}, len(answer["topics"]) >= 2

    compare(lambda peer: everything(peer, []))
    if version >= 1:
        assert compare(lambda peer: everything(peer, None))[1]
    if version >= 8:
        asked = {"include_topic_authorized_operations": True}
        if version <= 10:
            asked["include_cluster_authorized_operations"] = True
        compare(lambda peer: metadata(peer, version, ["described"], **asked))
        if version >= 9:
            compare(lambda peer: metadata(peer, version, ["described", "a b", "no-such-topic"], **asked))


@pytest.mark.parametrize("version", range(10, 14))
def test_metadata_by_id(compare: Compare, described: None, version: int) -> None:
    def scenario(peer: Peer) -> Plain:
        topic_id = peer.id_of("described")

        def ask(*topics: MetadataRequestTopic) -> Plain:
            request = MetadataRequest(topics=list(topics), allow_auto_topic_creation=False)
            answer = peer.call(request, MetadataResponse, version)
            answer["topics"].sort(key=lambda entry: (entry["name"] or "", entry["topic_id"]))
            for entry in answer["topics"]:
                entry["partitions"].sort(key=lambda partition: partition["partition_index"])
            return answer

        seen = [
            ask(MetadataRequestTopic(name=None, topic_id=topic_id)),
            ask(MetadataRequestTopic(name="described", topic_id=topic_id)),
            ask(MetadataRequestTopic(name=None, topic_id=UNKNOWN_ID)),
            ask(MetadataRequestTopic(name="described-2", topic_id=topic_id)),
        ]
        mixed = ask(MetadataRequestTopic(name=None, topic_id=topic_id), MetadataRequestTopic(name="described-2"))
        neither = ask(MetadataRequestTopic(name=None, topic_id=ZERO_UUID))
        if version < 12:
            return [*seen, mixed, neither]
        # Kafka forgets names where there are ids, and takes neither of both for its own mistake.
        assert [entry["name"] for entry in mixed["topics"]] == ["described"] + ["described-2"] * (not peer.is_kafka)
        assert neither["topics"][0]["error_code"] == (-1 if peer.is_kafka else 42)
        return seen

    compare(scenario)


@pytest.mark.parametrize("version", VERSIONS["Metadata"])
def test_topics_made_on_first_use(compare: Compare, version: int) -> None:
    """Kafka says LEADER_NOT_AVAILABLE or UNKNOWN_TOPIC_OR_PARTITION first; here the first answer is whole."""
    name = f"first-use-{version}"

    def scenario(peer: Peer) -> Plain:
        first = metadata(peer, version, [name, "a b"], allow_auto_topic_creation=True)
        made = next(entry for entry in first["topics"] if entry["name"] == name)
        if peer.is_kafka:
            assert made["error_code"] in (0, 3, 5)
        else:
            assert made["error_code"] == 0 and len(made["partitions"]) == 1
        peer.until_led(name)
        return metadata(peer, version, [name])

    compare(scenario)


# --- partitions that are not there, where they are written and read --------------------------------------------------


@pytest.mark.parametrize("version", [12, 13, VERSIONS["Fetch"][-1]])
def test_fetch_from_partitions_that_are_not_there(compare: Compare, described: None, version: int) -> None:
    def scenario(peer: Peer) -> Plain:
        def codes(name: str, topic_id: bytes) -> list[int]:
            partitions = [FetchPartition(partition=index, partition_max_bytes=1) for index in (0, 99)]
            request = FetchRequest(topics=[FetchTopic(topic=name, topic_id=topic_id, partitions=partitions)])
            (answer,) = peer.client.call(request, FetchResponse, version).responses
            return sorted(one.error_code for one in answer.partitions)

        return [codes("described", peer.id_of("described")), codes("no-such-topic", UNKNOWN_ID)]

    unknown = UNKNOWN_TOPIC_OR_PARTITION if version < 13 else UNKNOWN_TOPIC_ID
    assert compare(scenario) == [[0, UNKNOWN_TOPIC_OR_PARTITION], [unknown, unknown]]


@pytest.mark.parametrize("version", [12, VERSIONS["Produce"][-1]])
def test_produce_to_partitions_that_are_not_there(compare: Compare, described: None, version: int) -> None:
    def scenario(peer: Peer) -> Plain:
        def codes(name: str, topic_id: bytes) -> list[int]:
            request = produce_request(name, batch(b"x"), partition=99)
            request.topic_data[0].topic_id = topic_id
            (answer,) = peer.client.call(request, ProduceResponse, version).responses
            return [one.error_code for one in answer.partition_responses]

        return [codes("described", peer.id_of("described")), codes("no-such-topic", UNKNOWN_ID)]

    unknown = UNKNOWN_TOPIC_OR_PARTITION if version < 13 else UNKNOWN_TOPIC_ID
    assert compare(scenario) == [[UNKNOWN_TOPIC_OR_PARTITION], [unknown]]


# --- DescribeTopicPartitions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "limit", "cursor"),
    [
        (["described", "described-2"], 2000, None),
        (["described-2", "described"], 2000, None),
        (["described", "described"], 2000, None),
        (["described", "described-2"], 3, None),
        (["described", "described-2"], 2, None),
        (["described", "described-2"], 1, None),
        (["described", "described-2"], 0, None),
        (["described", "described-2"], -1, None),
        (["described", "described-2"], 2, ("described", 2)),
        (["described", "described-2"], 2000, ("described", 1)),
        (["described", "described-2"], 2000, ("described-2", 0)),
        (["described", "described-2"], 2000, ("described", 3)),
        (["described", "described-2"], 2000, ("described", -1)),
        (["described", "described-2"], 2000, ("elsewhere", 0)),
        (["described", "no-such-topic", "a b"], 2000, None),
        (["no-such-topic", "described"], 2, None),
        (["no-such-topic"], 2000, ("no-such-topic", 0)),
        (["no-such-topic", "described"], 2000, ("no-such-topic", 0)),
    ],
)
def test_describe_topic_partitions(
    compare: Compare, described: None, names: list[str], limit: int, cursor: tuple[str, int] | None
) -> None:
    request = DescribeTopicPartitionsRequest(
        topics=[TopicRequest(name=name) for name in names],
        response_partition_limit=limit,
        cursor=None if cursor is None else Cursor(topic_name=cursor[0], partition_index=cursor[1]),
    )
    compare(lambda peer: peer.call(request, DescribeTopicPartitionsResponse, 0))


def test_describe_the_partitions_of_a_topic_without_a_name(compare: Compare) -> None:
    def scenario(peer: Peer) -> None:
        request = DescribeTopicPartitionsRequest(topics=[TopicRequest(name="")])
        (answer,) = peer.call(request, DescribeTopicPartitionsResponse, 0)["topics"]
        # Kafka takes it for its own mistake.
        assert answer["error_code"] == (-1 if peer.is_kafka else 17)

    compare(scenario)


def test_describe_all_topic_partitions_page_by_page(compare: Compare, described: None) -> None:
    def scenario(peer: Peer) -> Plain:
        cursor, seen, pages = None, [], 0
        while pages == 0 or cursor is not None:
            pages += 1
            answer = peer.client.call(
                DescribeTopicPartitionsRequest(topics=[], response_partition_limit=2, cursor=cursor),
                DescribeTopicPartitionsResponse,
                0,
            )
            cursor = answer.next_cursor
            seen += [(entry.name, part.partition_index) for entry in answer.topics for part in entry.partitions]
        assert len(set(seen)) == len(seen)
        return [place for place in seen if place[0].startswith("described")]

    assert len(compare(scenario)) == 4


# --- InitProducerId --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS["DescribeLogDirs"])
def test_describe_log_dirs_of_what_is_named_several_times(compare: Compare, described: None, version: int) -> None:
    def scenario(peer: Peer) -> Plain:
        asked = [("described", [0, 0, 7]), ("no-such", [0]), ("described-2", [1, 0]), ("described", [0])]
        topics = [DescribableLogDirTopic(topic=name, partitions=indexes) for name, indexes in asked]
        for _ in range(ATTEMPTS):  # Kafka opens a log a little after its topic is there
            answer = peer.client.call(DescribeLogDirsRequest(topics=topics), DescribeLogDirsResponse, version)
            found = answer.results[0].topics
            if len(found) > 1:
                break
        # In no order, as Kafka answers.
        return sorted((topic.name, sorted(part.partition_index for part in topic.partitions)) for topic in found)

    assert len(compare(scenario)) == 2


@pytest.mark.parametrize("version", VERSIONS["InitProducerId"])
def test_init_producer_id(compare: Compare, version: int) -> None:
    def ask(peer: Peer, transactional_id: str | None, producer_id: int = -1, epoch: int = -1) -> Plain:
        request = InitProducerIdRequest(
            transactional_id=transactional_id,
            transaction_timeout_ms=1000,
            producer_id=producer_id,
            producer_epoch=epoch,
        )
        answer = peer.call(request, InitProducerIdResponse, version)
        while peer.is_kafka and answer["error_code"] == COORDINATOR_LOAD_IN_PROGRESS:
            answer = peer.call(request, InitProducerIdResponse, version)
        answer["producer_id"] = answer["producer_id"] >= 0
        return answer

    assert compare(lambda peer: ask(peer, None))["producer_id"] is True
    compare(lambda peer: ask(peer, ""))
    if version >= 3:
        compare(lambda peer: ask(peer, None, 5, 3))
        compare(lambda peer: ask(peer, None, 5, -1))
        compare(lambda peer: ask(peer, None, -1, 3))
