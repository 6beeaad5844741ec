"""A thousand consumer groups at work, beside Apache Kafka: what heartbeats and commits cost the broker, and how quick
it answers.

    python -m benchmarks.groups [--groups 1000] [--members 5] [--seconds 60] [--rounds 2]

Every member has a connection of its own, as clients have: it finds its coordinator, joins, syncs, sends a heartbeat
every 3 s and commits the offset of one partition every 5 s, joins again where a rebalance asks for it. Odradek and
Apache Kafka 4.4.0 (1 GiB heap, default settings but for its first rebalance, which does not wait, as here) are both up;
they take turns, and each forms all groups anew every round. A first short round warms both and is not counted. Members
begin to beat when they have joined; the counted seconds begin when all groups are stable. Odradek's commits are on disk
when answered, Kafka's in the page cache. The load shares the machine with both: latencies include its own delays.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import resource
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar, cast

import uvloop

from benchmarks.brokers import cpu_s, kafka, make_topic, memory_mb, odradek
from odradek.protocol.decoding import decode
from odradek.protocol.fields import Message
from odradek.protocol.framing import encode_request
from odradek.protocol.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from odradek.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from odradek.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse
from odradek.protocol.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse, MemberIdentity
from odradek.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from odradek.protocol.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse
from tests.raw_client import RawClient

TOPIC = "group-load"
HEARTBEAT_S = 3.0
COMMIT_S = 5.0
SESSION_TIMEOUT_MS = 45_000
REBALANCE_TIMEOUT_MS = 60_000
FORM_TIMEOUT_S = 300.0
WARM_UP_S = 10.0
CONNECTING_AT_ONCE = 200
# Descriptors beside the members' connections.
OTHER_FILES = 500
JOIN, SYNC, HEARTBEAT, LEAVE, COMMIT, FIND = 9, 5, 4, 5, 9, 4
MEMBER_ID_REQUIRED = 79
# The coordinator is being loaded, not there yet, or not told of it: clients ask again after this long.
NOT_YET = frozenset({14, 15, 16})
RETRY_S = 0.1
# What tells a member to join again: it may have been dropped, or others came or went.
REJOIN = frozenset({22, 25, 27})
METADATA = b"\0\1\0\0\0\1" + struct.pack(">h", len(TOPIC)) + TOPIC.encode() + b"\xff\xff\xff\xff\0\0\0\0"

R = TypeVar("R", bound=Message)


class Connection(asyncio.Protocol):
    """One connection with one request open at a time."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.answer: asyncio.Future[bytes] | None = None
        self.answered_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are not asyncio's.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if len(self.buffer) >= 4 and len(self.buffer) >= 4 + struct.unpack_from(">i", self.buffer)[0]:
            self.answered_s = time.perf_counter()
            frame, self.buffer = bytes(self.buffer[4:]), bytearray()
            # Whoever asked may have gone meanwhile.
            if self.answer is not None and not self.answer.done():
                self.answer.set_result(frame)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(ConnectionError(str(exc)))

    def send(self, frame: bytes) -> Awaitable[bytes]:
        self.answer = asyncio.get_running_loop().create_future()
        self.transport.write(frame)
        return self.answer

    async def call(self, request: Message, response: type[R], version: int) -> R:
        frame = await self.send(encode_request(request, version, 1, "load"))
        flexible = version in response.flexible_versions
        answer: R = decode(response, version, frame, 5 if flexible else 4)[0]
        return answer


class Load:
    """All members on one broker: what they wait for together, and what they measured."""

    def __init__(self, port: int, groups: int, members: int, name: str) -> None:
        self.port = port
        self.groups = groups
        self.members = members
        self.name = name
        self.connecting = asyncio.Semaphore(CONNECTING_AT_ONCE)
        self.stable: set[tuple[int, int]] = set()
        self.all_stable = asyncio.Event()
        self.stop = asyncio.Event()
        self.counting = False
        self.joins = 0
        self.latencies_s: dict[str, list[float]] = {"heartbeat": [], "commit": []}

    def settled(self, who: tuple[int, int], is_stable: bool) -> None:
        """A member has its assignment, or has lost it."""
        if is_stable:
            self.stable.add(who)
            if len(self.stable) == self.groups * self.members:
                self.all_stable.set()
        else:
            self.stable.discard(who)


class Member:
    """One member of one group: a consumer without its fetches."""

    def __init__(self, load: Load, group: int, index: int) -> None:
        self.load = load
        self.who = group, index
        self.group_id = f"{load.name}-{group}"
        self.topic = TOPIC
        self.partition = index
        self.member_id = ""
        self.generation = -1

    async def live(self) -> None:
        loop = asyncio.get_running_loop()
        async with self.load.connecting:
            _, self.connection = await loop.create_connection(Connection, "127.0.0.1", self.load.port)
            await self.find_coordinator()
        try:
            while not self.load.stop.is_set():
                await self.join()
                self.load.settled(self.who, True)
                await self.work()
                self.load.settled(self.who, False)
            leaving = [MemberIdentity(member_id=self.member_id)]
            request = LeaveGroupRequest(group_id=self.group_id, members=leaving)
            await self.connection.call(request, LeaveGroupResponse, LEAVE)
        finally:
            self.connection.transport.close()

    async def find_coordinator(self) -> None:
        while True:
            request = FindCoordinatorRequest(coordinator_keys=[self.group_id])
            answer = await self.connection.call(request, FindCoordinatorResponse, FIND)
            (found,) = answer.coordinators
            if not found.error_code:
                return
            assert found.error_code in NOT_YET, found
            await asyncio.sleep(RETRY_S)

    async def join(self) -> None:
        """Until it has joined and synced."""
        while True:
            self.load.joins += 1
            request = JoinGroupRequest(
                group_id=self.group_id,
                session_timeout_ms=SESSION_TIMEOUT_MS,
                rebalance_timeout_ms=REBALANCE_TIMEOUT_MS,
                member_id=self.member_id,
                protocol_type="consumer",
                protocols=[JoinGroupRequestProtocol(name="range", metadata=METADATA)],
            )
            joined = await self.connection.call(request, JoinGroupResponse, JOIN)
            if joined.error_code == MEMBER_ID_REQUIRED:
                self.member_id = joined.member_id
                continue
            if joined.error_code in NOT_YET:
                await asyncio.sleep(RETRY_S)
                continue
            if joined.error_code:
                assert joined.error_code in REJOIN, joined
                self.member_id = ""
                continue
            self.generation = joined.generation_id
            sync = SyncGroupRequest(
                group_id=self.group_id,
                generation_id=self.generation,
                member_id=self.member_id,
                protocol_type="consumer",
                protocol_name="range",
                assignments=[
                    SyncGroupRequestAssignment(member_id=one.member_id, assignment=METADATA) for one in joined.members
                ],
            )
            synced = await self.connection.call(sync, SyncGroupResponse, SYNC)
            if not synced.error_code:
                return
            assert synced.error_code in REJOIN, synced

    async def work(self) -> None:
        """Heartbeats and commits, until it has to join again or the load is over."""
        beat = encode_request(
            HeartbeatRequest(group_id=self.group_id, generation_id=self.generation, member_id=self.member_id),
            HEARTBEAT,
            1,
            "load",
        )
        offset = 0
        now = time.perf_counter()
        # Spread out, as members that came up by themselves are.
        beat_s, commit_s = now + random.random() * HEARTBEAT_S, now + random.random() * COMMIT_S
        while not self.load.stop.is_set():
            wait_s = min(beat_s, commit_s) - time.perf_counter()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
                continue
            if beat_s <= commit_s:
                beat_s += HEARTBEAT_S
                code = await self.timed("heartbeat", beat, HeartbeatResponse, HEARTBEAT)
            else:
                commit_s += COMMIT_S
                offset += 1
                code = await self.timed("commit", self.commit(offset), OffsetCommitResponse, COMMIT)
            if code:
                assert code in REJOIN, code
                return

    def commit(self, offset: int) -> bytes:
        partition = OffsetCommitRequestPartition(
            partition_index=self.partition, committed_offset=offset, committed_metadata=""
        )
        request = OffsetCommitRequest(
            group_id=self.group_id,
            generation_id_or_member_epoch=self.generation,
            member_id=self.member_id,
            topics=[OffsetCommitRequestTopic(name=self.topic, partitions=[partition])],
        )
        return encode_request(request, COMMIT, 1, "load")

    async def timed(self, what: str, frame: bytes, response: type[Message], version: int) -> int:
        """Sends it; returns the error code."""
        started = time.perf_counter()
        answer = decode(response, version, await self.connection.send(frame), 5)[0]
        if self.load.counting:
            self.load.latencies_s[what].append(self.connection.answered_s - started)
        code = answer.topics[0].partitions[0].error_code if what == "commit" else answer.error_code
        return int(code)


async def turn(port: int, pid: int, groups: int, members: int, seconds: float, name: str) -> dict[str, Any]:
    """Forms the groups, lets them work, and lets them go."""
    load = Load(port, groups, members, name)
    cpu_before, started = cpu_s(pid), time.perf_counter()
    tasks = [
        asyncio.ensure_future(Member(load, group, index).live())
        # A group's members come one after the other, as services do that are rolled out.
        for index in range(members)
        for group in range(groups)
    ]
    watching = asyncio.gather(*tasks)
    forming = asyncio.ensure_future(load.all_stable.wait())
    done, _ = await asyncio.wait({watching, forming}, timeout=FORM_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
    assert forming in done, watching.exception() if watching in done else "the groups do not form"
    form_s, form_cpu_s = time.perf_counter() - started, cpu_s(pid) - cpu_before
    # What was left of the last rebalances.
    await asyncio.sleep(HEARTBEAT_S)
    gc.collect()
    gc.freeze()
    load.counting = True
    joins, cpu_before, own_before, started = load.joins, cpu_s(pid), time.process_time(), time.perf_counter()
    await asyncio.sleep(seconds)
    load.counting = False
    elapsed_s = time.perf_counter() - started
    result = {
        "form_s": form_s,
        "form_cpu_s": form_cpu_s,
        "joins": load.joins,
        "elapsed_s": elapsed_s,
        "cpu_s": cpu_s(pid) - cpu_before,
        "load_cpu_s": time.process_time() - own_before,
        "rss_mb": memory_mb(pid),
        "joins_while_working": load.joins - joins,
        **load.latencies_s,
    }
    load.stop.set()
    await watching
    return result


def percentiles_ms(latencies_s: list[float]) -> dict[str, float]:
    ordered = sorted(latencies_s)
    return {
        "p50": round(ordered[len(ordered) // 2] * 1e3, 2),
        "p99": round(ordered[len(ordered) * 99 // 100] * 1e3, 2),
        "max": round(ordered[-1] * 1e3, 1),
    }


def summary(turns: list[dict[str, Any]]) -> dict[str, Any]:
    """One broker's counted rounds."""

    def median(name: str) -> float:
        return statistics.median(one[name] for one in turns)

    heartbeats, commits = ([latency_s for one in turns for latency_s in one[name]] for name in ("heartbeat", "commit"))
    elapsed_s = sum(one["elapsed_s"] for one in turns)
    cpu = sum(one["cpu_s"] for one in turns)
    return {
        "seconds to form all groups": round(median("form_s"), 2),
        "CPU seconds meanwhile": round(median("form_cpu_s"), 2),
        "JoinGroups of all": round(median("joins")),
        "requests/s then": round((len(heartbeats) + len(commits)) / elapsed_s),
        "CPU seconds a turn": round(median("cpu_s"), 2),
        "CPU % of a core": round(100 * cpu / elapsed_s, 1),
        "CPU us/request": round(cpu / (len(heartbeats) + len(commits)) * 1e6, 1),
        "RSS MB": round(median("rss_mb")),
        "heartbeat ms": percentiles_ms(heartbeats),
        "commit ms": percentiles_ms(commits),
        "rebalances while working": sum(one["joins_while_working"] for one in turns),
        "the load's own CPU %": round(100 * sum(one["load_cpu_s"] for one in turns) / elapsed_s, 1),
    }


def compare(groups: int, members: int, seconds: float, rounds: int) -> dict[str, Any]:
    """Both brokers up, in turns."""
    # The same number of coordinator partitions as by default.
    with (
        tempfile.TemporaryDirectory() as folder,
        kafka(Path(folder) / "kafka", "offsets.topic.num.partitions=50") as (theirs, _),
        odradek(Path(folder) / "data") as (ours, _),
    ):
        brokers = {broker.name: (broker.port, broker.pid) for broker in (ours, theirs)}
        for port, _ in brokers.values():
            with RawClient(port) as client:
                make_topic(client, TOPIC, members)
        at_rest = {name: round(memory_mb(pid)) for name, (_, pid) in brokers.items()}
        turns: dict[str, list[dict[str, Any]]] = {name: [] for name in brokers}
        for number in range(rounds + 1):
            for name, (port, pid) in brokers.items():
                lasting_s = seconds if number else min(WARM_UP_S, seconds)
                print(f"round {number}, {name}", file=sys.stderr)
                result = uvloop.run(turn(port, pid, groups, members, lasting_s, f"round-{number}"))
                if number:
                    turns[name].append(result)
        found = {name: summary(results) for name, results in turns.items()}
        for name, results in found.items():
            results["RSS MB before"] = at_rest[name]
        ours_cpu, kafka_cpu = (found[name]["CPU us/request"] for name in ("odradek", "kafka"))
        return {**found, "CPU ratio": round(ours_cpu / kafka_cpu, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=1000)
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    wanted = given.groups * given.members + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard == resource.RLIM_INFINITY or hard >= wanted, f"{wanted} open files are needed, {hard} are allowed"
    if soft < wanted:
        # The brokers inherit it.
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    figures: dict[str, Any] = {
        "machine": f"{os.cpu_count()} cores, Python {sys.version.split()[0]}",
        "load": f"{given.groups} groups of {given.members}, a heartbeat each {HEARTBEAT_S:g} s, a commit each "
        f"{COMMIT_S:g} s, {given.rounds} turns of {given.seconds:g} s",
        **compare(given.groups, given.members, given.seconds, given.rounds),
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
