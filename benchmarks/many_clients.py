"""A thousand producers and a thousand consumers in two hundred groups, with little to do each: shape 10.

Role: the load, on one broker. Every group has a topic of its own, of as many partitions as members; every partition has
one producer that sends a record of 100 B a second with acks=1, and one consumer that fetches it (long polls of 500 ms),
sends heartbeats and commits on another connection, as clients do. Latencies include this process's own delays.
"""

from __future__ import annotations

import asyncio
import gc
import random
import resource
import sys
import time

from benchmarks.brokers import Broker, cpu_s
from benchmarks.groups import FORM_TIMEOUT_S, HEARTBEAT_S, OTHER_FILES, Connection, Load, Member
from benchmarks.measure import Run
from odradek.protocol.decoding import decode
from odradek.protocol.framing import encode_request
from odradek.protocol.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic
from odradek.protocol.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from odradek.records.batch import read_header
from tests.raw_client import batch

GROUPS, MEMBERS = 200, 5
PRODUCE_EVERY_S = 1.0
FETCH_WAIT_MS = 500
VALUE_BYTES = 100
PRODUCE, FETCH = 9, 12


class Clients(Load):
    """What all clients of one broker share."""

    def __init__(self, port: int, name: str) -> None:
        super().__init__(port, GROUPS, MEMBERS, name)
        self.produced_s: list[float] = []
        """How long each Produce took."""
        self.fetched = 0
        """Records that consumers got."""


class Consumer(Member):
    """A member that fetches its partition."""

    def __init__(self, load: Clients, group: int, index: int) -> None:
        super().__init__(load, group, index)
        self.clients = load
        self.topic = topic_of(group)

    async def work(self) -> None:
        fetching = asyncio.ensure_future(self.fetch())
        try:
            await super().work()
        finally:
            fetching.cancel()
            await asyncio.gather(fetching, return_exceptions=True)

    async def fetch(self) -> None:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, "127.0.0.1", self.load.port)
        wanted = FetchPartition(partition=self.partition, partition_max_bytes=1 << 20)
        request = FetchRequest(
            max_wait_ms=FETCH_WAIT_MS, min_bytes=1, topics=[FetchTopic(topic=self.topic, partitions=[wanted])]
        )
        try:
            while True:
                answer = await connection.call(request, FetchResponse, FETCH)
                (found,) = answer.responses[0].partitions
                assert found.error_code == 0, found
                if found.records:
                    header = read_header(found.records)
                    self.clients.fetched += header.last_offset - wanted.fetch_offset + 1
                    wanted.fetch_offset = header.last_offset + 1
        finally:
            connection.transport.close()


async def produce(load: Clients, group: int, partition: int) -> None:
    """One producer, until the load is over."""
    loop = asyncio.get_running_loop()
    async with load.connecting:
        _, connection = await loop.create_connection(Connection, "127.0.0.1", load.port)
    due_s = time.perf_counter() + random.random() * PRODUCE_EVERY_S
    data = [PartitionProduceData(index=partition, records=batch(b"v" * VALUE_BYTES, timestamp_ms=_now_ms()))]
    request = ProduceRequest(
        acks=1, timeout_ms=30_000, topic_data=[TopicProduceData(name=topic_of(group), partition_data=data)]
    )
    frame = encode_request(request, PRODUCE, 1, "load")
    while not load.stop.is_set():
        await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
        due_s += PRODUCE_EVERY_S
        started = time.perf_counter()
        answered = await connection.send(frame)
        if load.counting:
            load.produced_s.append(connection.answered_s - started)
        answer, _ = decode(ProduceResponse, PRODUCE, answered, 5)
        assert answer.responses[0].partition_responses[0].error_code == 0
    connection.transport.close()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def topic_of(group: int) -> str:
    return f"clients-{group}"


async def turn(broker: Broker, name: str, seconds: float) -> Run:
    """All clients come, work for so long, and go: the broker's CPU seconds, and the times of Produce requests."""
    load = Clients(broker.port, name)
    tasks = [
        asyncio.ensure_future(work)
        for index in range(MEMBERS)
        for group in range(GROUPS)
        for work in (Consumer(load, group, index).live(), produce(load, group, index))
    ]
    watching = asyncio.gather(*tasks)
    forming = asyncio.ensure_future(load.all_stable.wait())
    done, _ = await asyncio.wait({watching, forming}, timeout=FORM_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
    assert forming in done, watching.exception() if watching in done else "the groups do not form"
    # What was left of the last rebalances.
    await asyncio.sleep(HEARTBEAT_S)
    gc.collect()
    gc.freeze()
    before, fetched, load.counting = cpu_s(broker.pid), load.fetched, True
    await asyncio.sleep(seconds)
    load.counting = False
    cpu, fetched = cpu_s(broker.pid) - before, load.fetched - fetched
    load.stop.set()
    await watching
    times = sorted(load.produced_s) or [seconds]
    if fetched < 0.9 * len(times) or len(times) < 0.9 * seconds * GROUPS * MEMBERS:
        # Not thrown away: a broker that stands still is what this shape is to show. The median leaves it out.
        print(
            f"{broker.name} stood still: {len(times)} records produced, {fetched} fetched in {seconds:g} s,"
            f" {cpu:.1f} s of CPU",
            file=sys.stderr,
        )
    return {
        "cpu_percent": 100 * cpu / seconds,
        "p50_ms": times[len(times) // 2] * 1e3,
        "p99_ms": times[len(times) * 99 // 100] * 1e3,
    }


def allow_files() -> None:
    """For three connections of each pair, here and in the brokers that are started from now on."""
    wanted = 3 * GROUPS * MEMBERS + GROUPS * MEMBERS * 4 + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
