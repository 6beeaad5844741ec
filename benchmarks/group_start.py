"""A start after a million commits, beside Apache Kafka: how long until every group's offsets are served again.

    python -m benchmarks.group_start [--groups 200] [--partitions 10] [--commits 1000000]

Each broker gets the same commits on an empty folder: requests of one commit for each of a topic's partitions, five open
on each of eight connections. Then it is started again and again on that folder, and the seconds count from the start of
the process until OffsetFetch has told the right offset of every group and partition: after a clean stop (SIGTERM),
after kill -9, and, of Odradek, with its coordinators' snapshots deleted, so that all is replayed. An empty broker's
start stands beside them. The time a commit took of the broker's CPU is told too. One broker runs at a time.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.brokers import cpu_s, make_topic, odradek
from odradek.protocol.decoding import decode
from odradek.protocol.framing import encode_request
from odradek.protocol.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from odradek.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from odradek.protocol.messages.offset_fetch import OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchResponse
from tests.raw_client import RawClient
from tests.reference import format_kafka, run_kafka

TOPIC = "committed"
COMMIT, FETCH = 9, 8
CONNECTIONS, IN_FLIGHT = 8, 5
# No coordinator yet, or it loads: asked again after this long.
NOT_YET = frozenset({14, 15, 16})
RETRY_S = 0.01
PATIENCE_S = 300.0

# Starts a broker on its folder: the port, the process's number, when it was started.
Start = Callable[[], AbstractContextManager[tuple[int, int, float]]]


def commit_frame(group: int, partitions: int, offset: int) -> bytes:
    """A commit without a member, as an administrator's or a simple consumer's."""
    wanted = [OffsetCommitRequestPartition(partition_index=index, committed_offset=offset, committed_metadata="")
              for index in range(partitions)]  # fmt: skip
    request = OffsetCommitRequest(
        group_id=f"group-{group}",
        generation_id_or_member_epoch=-1,
        topics=[OffsetCommitRequestTopic(name=TOPIC, partitions=wanted)],
    )
    return encode_request(request, COMMIT, 1, "load")


def commits_of(groups: range, partitions: int, rounds: int) -> Iterator[bytes]:
    for offset in range(1, rounds + 1):
        for group in groups:
            yield commit_frame(group, partitions, offset)


def commit_all(port: int, groups: int, partitions: int, rounds: int) -> float:
    """Every group commits its partitions `rounds` times; the seconds it took."""
    made = [RawClient(port) for _ in range(CONNECTIONS)]
    selector = selectors.DefaultSelector()
    for connection in made:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
    # A group's commits stay on one connection, so that the last one stays the last.
    frames = {
        id(connection): commits_of(range(number, groups, CONNECTIONS), partitions, rounds)
        for number, connection in enumerate(made)
    }
    started = time.perf_counter()
    buffers = {id(connection): bytearray() for connection in made}
    waiting = 0
    for connection in made:
        for _, frame in zip(range(IN_FLIGHT), frames[id(connection)], strict=False):
            connection.socket.sendall(frame)
            waiting += 1
    while waiting:
        for key, _ in selector.select():
            connection = key.data
            piece = connection.socket.recv(262_144)
            assert piece, "the broker closed the connection"
            buffer = buffers[id(connection)]
            buffer += piece
            while len(buffer) >= 4 and len(buffer) >= 4 + (length := struct.unpack_from(">i", buffer)[0]):
                answer, _ = decode(OffsetCommitResponse, COMMIT, bytes(buffer[4 : 4 + length]), 5)
                assert not any(one.error_code for one in answer.topics[0].partitions), answer
                del buffer[: 4 + length]
                waiting -= 1
                if (frame := next(frames[id(connection)], None)) is not None:
                    connection.socket.sendall(frame)
                    waiting += 1
    elapsed_s = time.perf_counter() - started
    for connection in made:
        connection.socket.close()
    return elapsed_s


def errors_of(client: RawClient, frame: bytes) -> set[int]:
    client.send_bytes(frame)
    answer, _ = decode(OffsetCommitResponse, COMMIT, client.receive_frame(), 5)
    return {one.error_code for one in answer.topics[0].partitions} - {0}


def serves(client: RawClient, groups: int, offset: int) -> bool:
    """Whether every group's offsets are told, and right."""
    for group in range(groups):
        wanted = OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=f"group-{group}", topics=None)])
        (found,) = client.call(wanted, OffsetFetchResponse, FETCH).groups
        if found.error_code:
            assert found.error_code in NOT_YET, found
            return False
        assert {one.committed_offset for topic in found.topics for one in topic.partitions} == {offset}, found
    return True


def wait_for(port: int, groups: int, condition: Callable[[RawClient], bool]) -> None:
    """Asks until it is so; both brokers answer before all coordinators are there."""
    deadline = time.perf_counter() + PATIENCE_S
    with RawClient(port) as client:
        find(client, groups)
        while not condition(client):
            assert time.perf_counter() < deadline, "not served in time"
            time.sleep(RETRY_S)


def find(client: RawClient, groups: int) -> None:
    """Kafka makes `__consumer_offsets` when somebody asks for a coordinator."""
    while True:
        request = FindCoordinatorRequest(coordinator_keys=[f"group-{group}" for group in range(groups)])
        answer = client.call(request, FindCoordinatorResponse, 4)
        if not any(one.error_code for one in answer.coordinators):
            return
        time.sleep(RETRY_S)


def measure(start: Start, groups: int, partitions: int, rounds: int, before: dict[str, Callable[[], None]]) -> Any:
    """One broker: its commits, then its starts; `before` has what is done to its folder before some of them."""
    found: dict[str, Any] = {}
    with start() as (port, pid, started):
        with RawClient(port) as client:
            make_topic(client, TOPIC, partitions)
        wait_for(port, groups, lambda client: not errors_of(client, commit_frame(0, partitions, 0)))
        found["empty start to a first commit, s"] = round(time.perf_counter() - started, 2)
        used_s = cpu_s(pid)
        elapsed_s = commit_all(port, groups, partitions, rounds)
        commits = groups * partitions * rounds
        found["commits/s"] = round(commits / elapsed_s)
        found["CPU us/commit"] = round((cpu_s(pid) - used_s) / commits * 1e6, 1)
        os.kill(pid, signal.SIGKILL)
    for name in ("after kill -9", "after a clean stop", *before):
        if name in before:
            before[name]()
        with start() as (port, pid, started):
            wait_for(port, groups, lambda client: serves(client, groups, rounds))
            found[f"start {name}, s"] = round(time.perf_counter() - started, 2)
            os.kill(pid, signal.SIGTERM)
            wait_for_end(pid)
    return found


def wait_for_end(pid: int) -> None:
    """Until the process, a child of this one, has ended; it stays to be waited for by who started it."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def compare(groups: int, partitions: int, commits: int) -> dict[str, Any]:
    rounds = commits // (groups * partitions)
    with tempfile.TemporaryDirectory() as folder:
        data, kafka_folder = Path(folder) / "data", Path(folder) / "kafka"
        kafka_folder.mkdir()
        kafka_port = format_kafka(kafka_folder, "offsets.topic.num.partitions=50")

        @contextmanager
        def ours() -> Iterator[tuple[int, int, float]]:
            with odradek(data) as (broker, started):
                yield broker.port, broker.pid, started

        @contextmanager
        def kafka() -> Iterator[tuple[int, int, float]]:
            started = time.perf_counter()
            with run_kafka(kafka_folder, kafka_port, "1g") as process:
                yield kafka_port, process.pid, started

        def forget() -> None:
            gone = list(data.rglob("*.coordinator-snapshot"))
            assert gone, "there are no snapshots"
            for path in gone:
                path.unlink()

        return {
            "odradek": measure(ours, groups, partitions, rounds, {"without snapshots": forget}),
            "kafka": measure(kafka, groups, partitions, rounds, {}),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=200)
    parser.add_argument("--partitions", type=int, default=10)
    parser.add_argument("--commits", type=int, default=1_000_000)
    given = parser.parse_args()
    figures = {
        "machine": f"{os.cpu_count()} cores, Python {sys.version.split()[0]}",
        "commits": f"{given.commits} of {given.groups} groups, {given.partitions} a request",
        **compare(given.groups, given.partitions, given.commits),
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
