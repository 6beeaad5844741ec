"""The metadata's files and Apache Kafka: its tools read ours, we read its own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from odradek.metadata.image import BROKER_RESOURCE, Delta, MetadataImage, MetadataRecord, encode_record
from odradek.metadata.snapshots import read_snapshot, records_of, snapshot_batches
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
from odradek.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse
from odradek.protocol.messages.describe_log_dirs import DescribeLogDirsRequest, DescribeLogDirsResponse
from odradek.protocol.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)
from odradek.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from odradek.protocol.messages.metadata import MetadataRequest, MetadataResponse
from odradek.records.batch import checked_batches, split_batches
from tests.broker import BrokerProcess
from tests.raw_client import RawClient
from tests.reference import broker_classpath, dump_log_segments, needs_java, run_java, tools_classpath

pytestmark = needs_java
METADATA_FOLDER = "__cluster_metadata-0"
SHELL_ATTEMPTS = 5


def records_in(data: bytes) -> Iterator[MetadataRecord]:
    """The metadata records of whole batches; control batches are passed over."""
    for header, piece in checked_batches(data):
        yield from records_of(header, piece)


def alter(client: RawClient, *changes: tuple[int, str, str, int, str | None]) -> None:
    """The kind and name of each resource, the setting, the operation (0 sets, 1 takes back), the value."""
    resources = [
        AlterConfigsResource(
            resource_type=kind,
            resource_name=name,
            configs=[AlterableConfig(name=setting, config_operation=operation, value=value)],
        )
        for kind, name, setting, operation, value in changes
    ]
    altered = client.call(IncrementalAlterConfigsRequest(resources=resources), IncrementalAlterConfigsResponse, 1)
    assert [answer.error_code for answer in altered.responses] == [0] * len(changes)


def administer(client: RawClient, prefix: str) -> None:
    """Some of everything that leaves records."""
    settings = [CreatableTopicConfig(name="retention.ms", value="60000")]
    topics = [
        CreatableTopic(name=f"{prefix}{index}", num_partitions=2, replication_factor=1, configs=settings)
        for index in range(4)
    ]
    made = client.call(CreateTopicsRequest(topics=topics, timeout_ms=30_000), CreateTopicsResponse, 7)
    assert [topic.error_code for topic in made.topics] == [0] * 4
    gone = client.call(DeleteTopicsRequest(topic_names=[f"{prefix}3"], timeout_ms=30_000), DeleteTopicsResponse, 5)
    assert gone.responses[0].error_code == 0
    larger = CreatePartitionsTopic(name=f"{prefix}0", count=3, assignments=None)
    enlarged = client.call(CreatePartitionsRequest(topics=[larger], timeout_ms=30_000), CreatePartitionsResponse, 3)
    assert enlarged.results[0].error_code == 0
    alter(
        client,
        (2, f"{prefix}0", "flush.ms", 0, "77"),
        (2, f"{prefix}1", "retention.ms", 1, None),
        (4, "", "log.segment.delete.delay.ms", 0, "50000"),
        (4, "1", "log.flush.interval.messages", 0, "5000"),
    )
    while True:
        # A Kafka that has just started has no ids yet.
        given = client.call(
            InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=0), InitProducerIdResponse, 4
        )
        if given.error_code == 0:
            break
        assert given.error_code == 14


def topics_of(client: RawClient) -> dict[str, tuple[bytes, int]]:
    """Each topic's id and number of partitions, as the broker tells them."""
    answer = client.call(MetadataRequest(topics=None), MetadataResponse, 12)
    return {topic.name: (topic.topic_id, len(topic.partitions)) for topic in answer.topics if topic.name is not None}


# --- Kafka's tools on our files --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, tuple[bytes, int]]]]:
    """The folder of a broker's metadata log after a life with snapshots, and the topics there were at its end."""
    folder = tmp_path_factory.mktemp("broker")
    with BrokerProcess(folder, "metadata.log.max.record.bytes.between.snapshots=1500") as broker:
        with RawClient(broker.port) as client:
            for life in range(4):
                administer(client, f"t{life}-")
            topics = topics_of(client)
        broker.stop()
        yield folder / "data" / METADATA_FOLDER, topics


def payloads(dump: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in re.findall(r"payload: (\{.*\})", dump)]


def test_the_dump_tool_decodes_every_record_of_our_log(stopped: tuple[Path, Any]) -> None:
    folder, topics = stopped
    dump = dump_log_segments("--cluster-metadata-decoder", "--files", str(folder / f"{0:020d}.log"))
    assert "isvalid: true" in dump and "isvalid: false" not in dump
    records = payloads(dump)
    first = [record["type"] for record in records[:3]]
    assert first == ["FEATURE_LEVEL_RECORD", "FEATURE_LEVEL_RECORD", "REGISTER_BROKER_RECORD"]
    assert records[0]["data"] == {"name": "metadata.version", "featureLevel": 33}
    assert records[1]["data"] == {"name": "transaction.version", "featureLevel": 2}
    data = (folder / f"{0:020d}.log").read_bytes()
    assert len(records) == sum(1 for _ in records_in(data))
    named = [record["data"]["name"] for record in records if record["type"] == "TOPIC_RECORD"]
    assert set(named) >= set(topics) and len(named) == 16
    kinds = {record["type"] for record in records}
    assert kinds >= {"PARTITION_RECORD", "REMOVE_TOPIC_RECORD", "CONFIG_RECORD", "PRODUCER_IDS_RECORD"}
    # One change is one batch: a topic's records are never apart.
    for line in dump.splitlines():
        if line.startswith("baseOffset"):
            assert "isControl: false" in line
    batches = [header.record_count for header, _ in split_batches(data)]
    assert 4 * (1 + 2 + 1) in batches


def test_the_dump_tool_decodes_our_snapshots(stopped: tuple[Path, Any]) -> None:
    folder, _ = stopped
    checkpoints = sorted(folder.glob("*.checkpoint"))
    assert len(checkpoints) == 2
    for checkpoint in checkpoints:
        dump = dump_log_segments("--cluster-metadata-decoder", "--files", str(checkpoint))
        assert "SnapshotHeader" in dump and "SnapshotFooter" in dump and "isvalid: false" not in dump
        image = read_snapshot(checkpoint.read_bytes(), int(checkpoint.name[:20]))
        records = payloads(dump)
        assert len(records) == sum(1 for _ in image.records())
        assert {r["data"]["name"] for r in records if r["type"] == "TOPIC_RECORD"} == set(image.topics)


def shell(file: Path, *command: str) -> str:
    """What Kafka's metadata shell says of a file. It may run its command before it has read anything: ask again."""
    # The newest published shell needs the newer Kafka's classes for this metadata version.
    classpath = f"{broker_classpath()}:{tools_classpath()}"
    for _ in range(SHELL_ATTEMPTS):
        done = run_java(classpath, "org.apache.kafka.shell.MetadataShell", "--snapshot", str(file), *command)
        assert done.returncode == 0, done.stdout + done.stderr
        if done.stdout.strip() and "No such file" not in done.stdout:
            return done.stdout
    raise AssertionError(f"nothing in {file}: {done.stderr}")


def test_kafka_s_own_image_of_our_snapshot_has_every_topic(stopped: tuple[Path, Any]) -> None:
    folder, _ = stopped
    checkpoint = max(folder.glob("*.checkpoint"))
    image = read_snapshot(checkpoint.read_bytes(), int(checkpoint.name[:20]))
    assert set(shell(checkpoint, "ls", "image/topics/byName").split()) == set(image.topics)
    name = next(iter(image.topics))
    partition = shell(checkpoint, "cat", f"image/topics/byName/{name}/0")
    assert "leader=1" in partition and "isr=[1]" in partition


# --- our image of Kafka's files --------------------------------------------------------------------------------------


@pytest.fixture
def configs_given_back(kafka_port: int) -> Iterator[None]:
    """Other tests use this broker too."""
    yield
    with RawClient(kafka_port) as client:
        alter(client, (4, "", "log.segment.delete.delay.ms", 1, None), (4, "1", "log.flush.interval.messages", 1, None))


@pytest.mark.usefixtures("configs_given_back")
def test_kafka_s_own_metadata_makes_our_image(kafka_port: int) -> None:
    with RawClient(kafka_port) as client:
        administer(client, "of-kafka-")
        folders = client.call(DescribeLogDirsRequest(topics=None), DescribeLogDirsResponse, 4)
        folder = Path(folders.results[0].log_dir) / METADATA_FOLDER
        expected: dict[str, tuple[bytes, int]] = {}
        while expected.get("of-kafka-0", (b"", 0))[1] != 3 or "of-kafka-3" in expected:
            expected = topics_of(client)
    first = folder / f"{0:020d}-{0:010d}.checkpoint"
    image = read_snapshot(first.read_bytes(), 0)
    assert image.features["metadata.version"] == 33 and not image.topics
    data = (folder / f"{0:020d}.log").read_bytes()
    for record in records_in(data):
        # Nothing in it is unknown to us.
        assert record.message is not None
        image.replay(record, Delta())
    assert {name: (topic.id, topic.partition_count) for name, topic in image.topics.items()} == expected
    assert image.topic_config("of-kafka-0") == {"retention.ms": "60000", "flush.ms": "77"}
    assert image.topic_config("of-kafka-1") == {}
    assert image.configs[BROKER_RESOURCE, ""]["log.segment.delete.delay.ms"] == "50000"
    assert image.configs[BROKER_RESOURCE, "1"] == {"log.flush.interval.messages": "5000"}
    assert image.next_producer_id >= 1000 and not image.open_transaction
    assert image.brokers[1].fenced is False
    # And a snapshot of ours loses nothing of it.
    again = read_snapshot(b"".join(snapshot_batches(image, 1, 1000)), image.offset)
    assert [encode_record(record) for record in again.records()] == [encode_record(r) for r in image.records()]


def test_kafka_reads_our_snapshot_of_its_metadata(kafka_port: int, tmp_path: Path) -> None:
    with RawClient(kafka_port) as client:
        folders = client.call(DescribeLogDirsRequest(topics=None), DescribeLogDirsResponse, 4)
    folder = Path(folders.results[0].log_dir) / METADATA_FOLDER
    image = MetadataImage()
    for record in records_in((folder / f"{0:020d}.log").read_bytes()):
        image.replay(record, Delta())
    image.offset = 500
    checkpoint = tmp_path / f"{image.offset:020d}-{1:010d}.checkpoint"
    checkpoint.write_bytes(b"".join(snapshot_batches(image, 1, 1000)))
    assert "Unexpected" not in dump_log_segments("--cluster-metadata-decoder", "--files", str(checkpoint))
    broker = shell(checkpoint, "cat", "image/cluster/brokers/1")
    assert "fenced=false" in broker
