"""The brokers of a benchmark: Odradek, Apache Kafka 4.4.0 and the floor, each a process on a port, and what it costs.

Role: start and stop them, and read their CPU time and memory from /proc. Apache Kafka runs with its default settings
and a heap of 1 GiB, from Maven Central; Odradek as `odradek serve` runs it.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from odradek.protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from odradek.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse
from tests.raw_client import RawClient, batch, records_of
from tests.reference import format_kafka, run_kafka

KAFKA_HEAP = "1g"
READY_TIMEOUT_S = 90


class Broker:
    """A running broker."""

    def __init__(self, name: str, port: int, pid: int) -> None:
        self.name = name
        self.port = port
        self.pid = pid

    def cpu_s(self) -> float:
        """CPU time of the process so far."""
        return cpu_s(self.pid)

    def make_topic(self, name: str, partitions: int = 1, **settings: str) -> None:
        """Creates a topic; returns when every partition of it takes records."""
        with RawClient(self.port) as client:
            make_topic(client, name, partitions, **settings)
            for partition in range(partitions):
                wait_until_usable(client, name, partition)

    def delete_topic(self, name: str) -> None:
        with RawClient(self.port) as client:
            request = DeleteTopicsRequest(topic_names=[name], timeout_ms=30_000)
            assert client.call(request, DeleteTopicsResponse, 5).responses[0].error_code == 0


def cpu_s(pid: int) -> float:
    """CPU time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int, field: str = "VmRSS") -> float:
    """Memory of a process in MB: resident (`VmRSS`), or the most it ever was (`VmHWM`)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1000
    raise AssertionError(pid)


def make_topic(client: RawClient, name: str, partitions: int = 1, **settings: str) -> None:
    """Creates a topic; settings are spelled with underscores."""
    entries = [CreatableTopicConfig(name=key.replace("_", "."), value=value) for key, value in settings.items()]
    topic = CreatableTopic(name=name, num_partitions=partitions, replication_factor=1, configs=entries)
    request = CreateTopicsRequest(topics=[topic], timeout_ms=60_000)
    (result,) = client.call(request, CreateTopicsResponse, 5).topics
    assert result.error_code in (0, 36), result


def wait_until_usable(client: RawClient, topic: str, partition: int = 0) -> None:
    """Kafka answers CreateTopics before a produce to the topic works."""
    data = batch(b"x", timestamp_ms=time.time_ns() // 1_000_000)
    while client.produce(topic, data, partition=partition, acks=1).error_code:
        time.sleep(0.01)


def first_message(port: int) -> None:
    """A topic made, a record acknowledged on disk (Kafka: in the page cache), and read back."""
    with RawClient(port) as client:
        make_topic(client, "first")
        wait_until_usable(client, "first")
        answer = client.produce("first", batch(b"hello", timestamp_ms=time.time_ns() // 1_000_000))
        assert answer.error_code == 0, answer
        (record,) = records_of(client.fetch("first", answer.base_offset).records)
        assert record.value == b"hello"


@contextmanager
def odradek(folder: Path, *settings: str) -> Iterator[tuple[Broker, float]]:
    """A broker as `odradek serve` runs it, and when its process was started (`time.perf_counter`)."""
    started = time.perf_counter()
    command = [str(Path(sys.executable).parent / "odradek"), "serve", "--listen", "127.0.0.1:0", "--data-dir"]
    command.append(str(folder))
    for setting in settings:
        command += ["--set", setting]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        select.select([process.stdout], [], [], READY_TIMEOUT_S)
        line = process.stdout.readline()
        port = int(line.split(" ready on ")[1].split()[0].rpartition(":")[2])
        yield Broker("odradek", port, process.pid), started
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def kafka(folder: Path, *settings: str) -> Iterator[tuple[Broker, float]]:
    """Apache Kafka, and when its process was started. A folder that was used before is started again."""
    folder.mkdir(exist_ok=True)
    properties = folder / "server.properties"
    if properties.exists():
        lines = properties.read_text().splitlines()
        port = next(int(line.rpartition(":")[2]) for line in lines if line.startswith("advertised.listeners"))
    else:
        port = format_kafka(folder, *settings)
    started = time.perf_counter()
    with run_kafka(folder, port, KAFKA_HEAP) as process:
        yield Broker("kafka", port, process.pid), started
