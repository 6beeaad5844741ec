"""A broker at the usual soft limit of descriptors, with more partitions and connections than that.

Role: a campaign (see `torture.py`). In each round a broker with a soft limit of 1,024 gets a record for each of 1,500
partitions, and again, while hundreds of clients connect and stay; in one flush mode or the other, with room above the
soft limit or none. Then the clients go, the broker is killed, and everything that was acknowledged is read.

What must hold: whoever is connected is served, every partition takes records: where descriptors are short, connections
are refused before files are. Nothing acknowledged is lost, and when the clients are gone there is room for new ones.
"""

from __future__ import annotations

import contextlib
import random
import resource
import shutil
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from odradek.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from odradek.protocol.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic
from odradek.protocol.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from tests.adversity.torture import Report
from tests.broker import BrokerProcess
from tests.raw_client import Closed, RawClient, batch, records_of

SOFT_LIMIT = 1024
ROOM = 20_000
PARTITIONS = 1500
CLIENTS = 1200
PASSES = 2
PARTITIONS_A_REQUEST = 50
CONNECT_TIMEOUT_S = 0.5
ROOM_TIMEOUT_S = 10.0
OWN_DESCRIPTORS = 2 * CLIENTS


@contextlib.contextmanager
def descriptors_of_our_own() -> Iterator[bool]:
    """Whether this process may have as many descriptors as the clients need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < OWN_DESCRIPTORS:
        yield False
        return
    if soft != resource.RLIM_INFINITY and soft < OWN_DESCRIPTORS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (OWN_DESCRIPTORS, hard))
    try:
        yield True
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Crowd:
    """Clients that connect and stay. A context manager."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.sockets: list[socket.socket] = []
        self.refused = 0

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self.sockets:
            one.close()

    def grow(self, count: int) -> None:
        for _ in range(count):
            try:
                self.sockets.append(socket.create_connection(("127.0.0.1", self.port), timeout=CONNECT_TIMEOUT_S))
            except OSError:
                self.refused += 1
                return


def _values(client: RawClient, topic: str, indexes: list[int]) -> dict[int, dict[int, bytes]]:
    """What partitions hold: value by offset; those that are not served are missing."""
    wanted = [FetchPartition(partition=index, fetch_offset=0, partition_max_bytes=1 << 16) for index in indexes]
    request = FetchRequest(max_wait_ms=0, min_bytes=0, topics=[FetchTopic(topic=topic, partitions=wanted)])
    answer = client.call(request, FetchResponse, 12)
    return {
        one.partition_index: {record.offset: bytes(record.value or b"") for record in records_of(one.records)}
        for one in answer.responses[0].partitions
        if one.error_code == 0
    }


def round_(seed: int, folder: Path) -> list[str]:
    """One broker; what was lost."""
    chance = random.Random(seed)
    mode, hard = ("disk", "os")[seed % 2], (ROOM, SOFT_LIMIT)[seed // 2 % 2]  # four seeds have all of them
    what = f"flush {mode}, limits {SOFT_LIMIT} and {hard}"
    losses: list[str] = []
    acknowledged: dict[int, dict[int, bytes]] = {index: {} for index in range(PARTITIONS)}
    codes: Counter[int] = Counter()
    prefix = ("prlimit", f"--nofile={SOFT_LIMIT}:{hard}")
    with BrokerProcess(folder, f"odradek.flush={mode}", prefix=prefix) as broker:
        with RawClient(broker.port) as client, Crowd(broker.port) as crowd:
            topic = CreatableTopic(name="t", num_partitions=PARTITIONS, replication_factor=1)
            client.call(CreateTopicsRequest(topics=[topic], timeout_ms=20_000), CreateTopicsResponse, 7)
            requests = PASSES * PARTITIONS // PARTITIONS_A_REQUEST
            try:
                for pass_ in range(PASSES):
                    indexes = list(range(PARTITIONS))
                    chance.shuffle(indexes)
                    while indexes:
                        some, indexes = indexes[:PARTITIONS_A_REQUEST], indexes[PARTITIONS_A_REQUEST:]
                        _produce(client, pass_, some, acknowledged, codes)
                        crowd.grow(CLIENTS // requests)
            except (Closed, OSError) as error:
                losses.append(f"a client that was connected is served no more: {error!r}")
        losses += [f"{count} appends were refused with {code}" for code, count in codes.items() if code]
        if hard > SOFT_LIMIT and crowd.refused:
            losses.append(f"{len(crowd.sockets)} clients could connect, {crowd.refused} could not")
        losses += _has_room(broker.port)
        losses += _missing(broker.port, acknowledged, "")
        broker.kill()
        broker.start()
        losses += _missing(broker.port, acknowledged, "after a kill ")
    return [f"{what}: {loss}" for loss in losses]


def _produce(
    client: RawClient, pass_: int, indexes: list[int], acknowledged: dict[int, dict[int, bytes]], codes: Counter[int]
) -> None:
    values = {index: b"%d of %d" % (pass_, index) for index in indexes}
    data = [PartitionProduceData(index=index, records=batch(value)) for index, value in values.items()]
    request = ProduceRequest(acks=-1, timeout_ms=20_000, topic_data=[TopicProduceData(name="t", partition_data=data)])
    for one in client.call(request, ProduceResponse, 9).responses[0].partition_responses:
        codes[one.error_code] += 1
        if one.error_code == 0:
            acknowledged[one.index][one.base_offset] = values[one.index]


def _has_room(port: int) -> list[str]:
    """Until a new client is served: those that are gone are noticed one after the other."""
    deadline = time.monotonic() + ROOM_TIMEOUT_S
    while True:
        try:
            with RawClient(port) as client:
                client.fetch("t", 0)
                return []
        except (Closed, OSError) as error:
            if time.monotonic() > deadline:
                return [f"the clients are gone, and a new one is not served: {error!r}"]


def _missing(port: int, acknowledged: dict[int, dict[int, bytes]], when: str) -> list[str]:
    unserved = set(acknowledged)
    missing: list[str] = []
    deadline = time.monotonic() + ROOM_TIMEOUT_S
    try:
        with RawClient(port) as client:
            while unserved and time.monotonic() < deadline:
                some = sorted(unserved)[:PARTITIONS_A_REQUEST]
                for index, values in _values(client, "t", some).items():
                    unserved.discard(index)
                    if not values.items() >= acknowledged[index].items():
                        missing.append(f"{acknowledged[index]} of partition {index}, there is {values}")
    except (Closed, OSError) as error:
        return [f"{when}nothing can be read: {error!r}"]
    losses = [f"{when}{len(unserved)} partitions are not served"] if unserved else []
    if missing:
        losses.append(f"{when}acknowledged and missing in {len(missing)} partitions: {missing[0]}")
    return losses


def campaign(seed: int, count: int) -> Report:
    """`count` brokers."""
    report = Report(0, "brokers")
    if shutil.which("prlimit") is None:
        report.notes.append("not run: prlimit is not installed")
        return report
    with descriptors_of_our_own() as enough:
        if not enough:
            report.notes.append(f"not run: this process may not have {OWN_DESCRIPTORS} descriptors")
            return report
        for number in range(count):
            with tempfile.TemporaryDirectory(prefix="odradek-descriptors-") as folder:
                losses = round_(seed + number, Path(folder))
            report.losses += [f"seed {seed + number}: {loss}" for loss in losses]
            report.done += 1
    return report
