"""Descriptors run short: by many partitions, by many connections. Connections are refused; nothing else fails."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import odradek
from odradek.protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from odradek.protocol.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from tests.broker import BrokerProcess
from tests.raw_client import Closed, RawClient, batch, records_of

PARTITIONS = 1500
WAIT_S = 60.0


def limited(folder: Path, soft: int, hard: int, *settings: str, **more: Any) -> BrokerProcess:
    return BrokerProcess(folder, *settings, prefix=("prlimit", f"--nofile={soft}:{hard}"), **more)


def make_topic(client: RawClient, name: str, partitions: int = 1, **configs: str) -> None:
    entries = [CreatableTopicConfig(name=key.replace("_", "."), value=value) for key, value in configs.items()]
    topic = CreatableTopic(name=name, num_partitions=partitions, replication_factor=1, configs=entries)
    request = CreateTopicsRequest(topics=[topic], timeout_ms=60_000)
    assert client.call(request, CreateTopicsResponse, 7).topics[0].error_code == 0


def produce_many(client: RawClient, topic: str, partitions: range) -> list[int]:
    """One request with a record for each; the error codes."""
    data = [PartitionProduceData(index=index, records=batch(b"x" * 100)) for index in partitions]
    request = ProduceRequest(acks=-1, timeout_ms=30_000, topic_data=[TopicProduceData(name=topic, partition_data=data)])
    answer = client.call(request, ProduceResponse, 9)
    return [int(one.error_code) for one in answer.responses[0].partition_responses]


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def soft_limit(pid: int) -> int:
    return resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]


def events(broker: BrokerProcess) -> list[dict[str, Any]]:
    return [json.loads(line) for line in broker.logged.splitlines()]


@contextlib.contextmanager
def room_for_clients(wanted: int) -> Iterator[None]:
    """Has this process open so many connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            pytest.skip(f"{wanted} open files are needed, {hard} are allowed")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_soft_limit_is_raised(tmp_path: Path) -> None:
    with limited(tmp_path, 256, 16_384) as broker:
        assert soft_limit(broker.pid) == 16_384
        assert events(broker) == []


@pytest.mark.parametrize(
    ("soft", "hard", "flush", "a_request"),
    [
        (1024, 20_000, "disk", 50),
        (1024, 1024, "disk", 50),
        (1024, 1024, "os", PARTITIONS),  # more in one request than may be open
        (300, 300, "disk", PARTITIONS),
        (300, 300, "os", 50),
    ],
)
def test_more_partitions_than_descriptors(tmp_path: Path, soft: int, hard: int, flush: str, a_request: int) -> None:
    with limited(tmp_path, soft, hard, f"odradek.flush={flush}") as broker, RawClient(broker.port) as client:
        client.socket.settimeout(WAIT_S)
        make_topic(client, "many", PARTITIONS)
        for _ in range(2):
            for first in range(0, PARTITIONS, a_request):
                assert produce_many(client, "many", range(first, first + a_request)) == [0] * a_request
                assert descriptors(broker.pid) < hard
        for partition in range(PARTITIONS):
            assert len(records_of(client.fetch("many", 0, partition=partition, max_wait_ms=5_000).records)) >= 1
        assert {event["level"] for event in events(broker)} <= {"info", "warning"}
        told = [event for event in events(broker) if "RLIMIT_NOFILE" in event["event"]]
        if hard == 20_000:
            assert told == []
        else:
            (line,) = told
            assert line["limit"] == hard
            assert line["segment_files"] + line["connections"] + line["other"] <= hard
    # All of it is there after a clean start, too.
    with broker, RawClient(broker.port) as client:
        client.socket.settimeout(WAIT_S)
        for partition in range(0, PARTITIONS, 100):
            assert client.fetch("many", 0, partition=partition).high_watermark == 2


def test_acknowledged_by_many_partitions_survives_a_kill(tmp_path: Path) -> None:
    """Files that were synced and closed for their descriptors' sake count as flushed, and are."""
    with limited(tmp_path, 300, 300) as broker:
        with RawClient(broker.port) as client:
            client.socket.settimeout(WAIT_S)
            make_topic(client, "many", 600)
            for _ in range(3):
                assert produce_many(client, "many", range(600)) == [0] * 600
        broker.kill()
        broker.start()
        with RawClient(broker.port) as client:
            client.socket.settimeout(WAIT_S)
            assert {client.fetch("many", 0, partition=partition).high_watermark for partition in range(600)} == {3}


@pytest.mark.parametrize(("limit", "peers"), [(1024, 1200), (300, 350)])
def test_connections_are_refused_before_files(tmp_path: Path, limit: int, peers: int) -> None:
    """Records acknowledged and read by others stay, through a flood of connections and the rolls in it."""
    with (
        room_for_clients(peers + 500),
        limited(tmp_path, limit, limit, arguments=("--http", "127.0.0.1:0")) as broker,
        RawClient(broker.port) as client,
        contextlib.ExitStack() as held,
    ):
        client.socket.settimeout(WAIT_S)
        make_topic(client, "rolling", segment_bytes="1048576", odradek_flush="os")
        sent = 0
        accepted: list[RawClient] = []
        for number in range(peers):
            accepted.append(held.enter_context(RawClient(broker.port)))
            if number % 4 == 0:  # three rolls at least, most of them with no room for connections
                assert client.produce("rolling", batch(b"x" * 15_000)).error_code == 0
                sent += 1
        assert descriptors(broker.pid) < limit
        # Of those that were let in every one is served, and the others were told at once.
        served, refused = 0, 0
        for peer in accepted:
            try:
                refused += peer.produce("rolling", batch(b"y" * 10_000)).error_code != 0
                served += 1
            except (Closed, ConnectionError):
                refused += 1
        assert served + refused == peers
        assert min(served, refused) > peers // 5
        sent += served
        assert client.fetch("rolling", 0).high_watermark == sent
        lines = [event for event in events(broker) if event["event"] == "connection refused"]
        assert 0 < len(lines) <= 200  # odradek.log.refusals.per.second
        assert {line["why"] for line in lines} == {"no descriptor is left for it (RLIMIT_NOFILE)"}
        assert [event for event in events(broker) if event["level"] == "error"] == []
        # When some go there is room again.
        held.close()
        deadline = time.monotonic() + WAIT_S
        while True:
            with contextlib.suppress(Closed, ConnectionError), RawClient(broker.port) as another:
                assert another.fetch("rolling", 0).high_watermark == sent
                break
            assert time.monotonic() < deadline


def test_idle_peers_of_the_http_port_take_no_descriptors(tmp_path: Path) -> None:
    settings = {"odradek.http.listen": "127.0.0.1:0", "odradek.http.max.connections": 4}
    with odradek.Broker(**settings) as broker, contextlib.ExitStack() as held:
        assert broker.http_url is not None
        host, _, port = broker.http_url.removeprefix("http://").rpartition(":")
        peers = [held.enter_context(socket.create_connection((host, int(port)), 10)) for _ in range(40)]
        # Those beyond are closed without a word.
        for peer in peers[12:]:
            assert peer.recv(1) == b""
        for peer in peers[:12]:
            peer.close()
        deadline = time.monotonic() + WAIT_S
        while True:
            connection = http.client.HTTPConnection(host, int(port), timeout=10)
            with contextlib.suppress(ConnectionError, http.client.HTTPException):
                connection.request("GET", "/metrics")
                response = connection.getresponse()
                text = response.read().decode()
                if response.status == 200:
                    break
            connection.close()
            assert time.monotonic() < deadline
        connection.close()
        assert 'odradek_connections_refused_total{bound="RLIMIT_NOFILE"} 0.0' in text


def test_a_broker_in_another_program_leaves_its_limit_and_half_of_it(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with odradek.Broker(data_dir=tmp_path) as broker:
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
        server = broker._server
        assert server is not None
        parts = server.descriptors
        assert parts.connections + parts.segment_files + parts.spans + parts.http + parts.other <= before[0] // 2
