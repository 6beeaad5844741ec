"""The shapes of work that are measured, by number: what is loaded, which figures count, and what they should be.

Role: the table. How a load is made is `load`'s, how two brokers are compared `measure`'s business. Unless said: one
topic, one partition, no compression, records of 100 bytes.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import load
from benchmarks import many_clients as load_of_clients
from benchmarks.brokers import Broker, first_message, kafka, memory_mb, odradek
from benchmarks.measure import Row, Run, Wanted, at_least, at_most, in_turns, row
from odradek.protocol.messages.metadata import MetadataRequest, MetadataResponse
from tests.raw_client import RawClient
from tests.reference import tools_classpath

_names = itertools.count()
FETCH_BATCH_RECORDS = 128
FETCH_VALUE_BYTES = 1000
FETCH_BATCHES = 2000  # 262 MB
PARTITIONS_MANY = 10_000
CLIENTS_S = 10.0


@dataclass
class Bench:
    """What a shape gets: both brokers, up and warm, and how many pairs of runs to make."""

    kafka: Broker
    odradek: Broker
    pairs: int
    folder: Path

    @property
    def both(self) -> tuple[Broker, Broker]:
        return self.kafka, self.odradek


Shape = Callable[[Bench], list[Row]]


def _topic(bench: Bench, partitions: int = 1, ours: dict[str, str] | None = None, **theirs: str) -> str:
    """A new topic on both, with settings of each."""
    name = f"bench-{next(_names)}"
    bench.odradek.make_topic(name, partitions, **(ours or {}))
    bench.kafka.make_topic(name, partitions, **theirs)
    return name


def _drop(bench: Bench, name: str) -> None:
    for broker in bench.both:
        broker.delete_topic(name)


def _produce(
    bench: Bench, shape: int, topic: str, wanted: Sequence[Wanted], kafka_requests: int = 0, **options: Any
) -> list[Row]:
    """Produces in turns. Kafka may be given fewer requests, where it is very much slower."""

    def one(broker: Broker) -> Run:
        count = kafka_requests if broker is bench.kafka and kafka_requests else options["requests"]
        run = load.produce(broker.port, topic, **{**options, "requests": count})
        run["per_s"] = count / run["seconds"]
        run["mb_per_s"] = run["bytes"] / run["seconds"] / 1e6
        run["work"] = run["bytes"] / 1e9 if options.get("records", 1) > 1 else count / 1e6
        return run

    rows = in_turns(shape, bench.both, bench.pairs, one, wanted)
    _drop(bench, topic)
    return rows


def _rates(rate_aim: float, cpu_aim: float | None, what: str) -> list[Wanted]:
    rows = [Wanted("per_s", what, "requests/s", at_least(rate_aim))]
    if cpu_aim is not None:
        rows.append(Wanted("cpu_per_work", f"{what}: CPU", "us/request", at_most(cpu_aim)))
    return rows


SMALL: dict[str, Any] = {"connections": 16, "in_flight": 5, "requests": 100_000}


def small_requests(bench: Bench) -> list[Row]:
    """1: one record of 100 B a request, 16 connections x 5 in flight, acks=1; 1 and 16 partitions."""
    rows = []
    for partitions in (1, 16):
        topic = _topic(bench, partitions)
        what = f"1 record a request, acks=1, {partitions} partition{'s' * (partitions > 1)}"
        rows += _produce(bench, 1, topic, _rates(2.5, 0.4, what), acks=1, partitions=partitions, **SMALL)
    return rows


def small_requests_flushed(bench: Bench) -> list[Row]:
    """2: the same, acks=all on disk, against Kafka with flush.messages=1; 1 and 16 partitions."""
    rows = []
    for partitions, aim, theirs in ((1, 20, 6_000), (16, 5, 12_000)):
        topic = _topic(bench, partitions, flush_messages="1")
        what = f"the same on disk, Kafka with flush.messages=1, {partitions} partition{'s' * (partitions > 1)}"
        rows += _produce(
            bench, 2, topic, _rates(aim, None, what), kafka_requests=theirs, acks=-1, partitions=partitions, **SMALL
        )
    return rows


def small_requests_durable(bench: Bench) -> list[Row]:
    """3: the same, acks=all on disk, against Kafka's acks=all in the page cache."""
    what = "the same, acks=all: Odradek on disk, Kafka in the page cache"
    return _produce(bench, 3, _topic(bench), _rates(1, 1, what), acks=-1, **SMALL)


def one_in_flight(bench: Bench) -> list[Row]:
    """4: one connection, one request in flight: the time of a request."""
    rows = []
    for acks, settings, what in ((1, {}, "acks=1"), (-1, {"odradek_flush": "os"}, "acks=all, odradek.flush=os")):
        topic = _topic(bench, ours=settings)
        wanted = [
            Wanted("p50_ms", f"one request at a time, {what}: p50", "ms", at_most(0.6)),
            Wanted("p99_ms", f"one request at a time, {what}: p99", "ms", at_most(0.6)),
        ]
        rows += _produce(bench, 4, topic, wanted, acks=acks, connections=1, in_flight=1, requests=10_000)
    return rows


BULK: dict[str, Any] = {
    "connections": 4, "in_flight": 5, "requests": 4_000, "acks": 1, "records": 128, "value_bytes": 1000,
}  # fmt: skip


def bulk(bench: Bench) -> list[Row]:
    """5: 128 records of 1 KB a batch, 4 connections x 5 in flight, acks=1."""
    what = "128 records of 1 KB a batch, acks=1"
    rows = _produce(
        bench,
        5,
        _topic(bench),
        [
            Wanted("mb_per_s", what, "MB/s", at_least(2)),
            Wanted("cpu_per_work", f"{what}: CPU", "s/GB", at_most(0.5)),
        ],
        **BULK,
    )
    return rows


def _filled(bench: Bench) -> tuple[str, int]:
    """A topic with data to fetch, and where it ends."""
    topic = _topic(bench)
    for broker in bench.both:
        load.produce(broker.port, topic, **{**BULK, "requests": FETCH_BATCHES})
    return topic, FETCH_BATCHES * FETCH_BATCH_RECORDS


def _fetches(bench: Bench, shape: int, cold: bool, variants: Sequence[tuple[int, int, float]]) -> list[Row]:
    topic, end = _filled(bench)
    rows = []
    for max_bytes, connections, aim in variants:
        requests = (FETCH_BATCHES * 131_200 * (1 if cold else 6)) // max_bytes

        def one(broker: Broker, size: int = max_bytes, connections: int = connections, count: int = requests) -> Run:
            if cold:
                subprocess.run(["sync"], check=True)
                Path("/proc/sys/vm/drop_caches").write_text("3")
            run = load.fetch(
                broker.port, topic, connections=connections, requests=count, max_bytes=size, end_offset=end
            )
            run["mb_per_s"] = run["bytes"] / run["seconds"] / 1e6
            run["work"] = run["bytes"] / 1e9
            return run

        size = f"{max_bytes >> 20} MB" if max_bytes >= 1 << 20 else f"{max_bytes >> 10} KB"
        what = f"fetch of {'cold' if cold else 'cached'} data, {size} each, {connections} connection"
        what += "s" * (connections > 1)
        wanted = [
            Wanted("mb_per_s", what, "MB/s", at_least(aim)),
            Wanted("cpu_per_work", f"{what}: CPU", "s/GB"),
        ]
        rows += in_turns(shape, bench.both, bench.pairs, one, wanted)
    _drop(bench, topic)
    return rows


def fetch_cached(bench: Bench) -> list[Row]:
    """7: fetch of cached data, 1 MB and 128 KB a fetch, 1 and 4 connections."""
    megabyte, part = 1 << 20, 128 << 10
    return _fetches(bench, 7, False, [(megabyte, 1, 1.2), (megabyte, 4, 1.2), (part, 1, 2), (part, 4, 2)])


def fetch_cold(bench: Bench) -> list[Row]:
    """8: fetch of cold data: the page cache is dropped (which takes root)."""
    return _fetches(bench, 8, True, [(1 << 20, 1, 1)])


def end_to_end(bench: Bench) -> list[Row]:
    """9: 1,000 records a second, from sending to receipt."""
    rows = []
    for settings, what, aim in (({}, "on disk", 1.0), ({"odradek_flush": "os"}, "odradek.flush=os", 0.7)):
        topic = _topic(bench, ours=settings)
        offsets = {broker.name: 1 for broker in bench.both}

        def one(broker: Broker, topic: str = topic, offsets: dict[str, int] = offsets) -> Run:
            run = load.through(broker.port, topic, per_second=1000, seconds=3, acks=-1, offset=offsets[broker.name])
            offsets[broker.name] += 3000
            return run

        wanted = [
            Wanted(f"p{share}_ms", f"1,000 records/s from sending to receipt, {what}: p{share}", "ms", at_most(aim))
            for share in (50, 99)
        ]
        rows += in_turns(9, bench.both, bench.pairs, one, wanted)
        _drop(bench, topic)
    return rows


def clients(bench: Bench) -> list[Row]:
    """6: confluent-kafka and the Java producer with default settings, 6 partitions, 100 B and 1 KB, none and lz4."""
    rows = []
    for value_bytes, codec in itertools.product((100, 1000), ("none", "lz4")):
        count = 1_000_000 if value_bytes == 100 else 300_000
        for name, produce in (("confluent-kafka", _confluent), ("Java", _java)):
            topic = _topic(bench, 6)

            def one(
                broker: Broker, topic: str = topic, produce: Any = produce, made: Any = (count, value_bytes, codec)
            ) -> Run:
                seconds = produce(broker.port, topic, *made)
                return {"per_s": made[0] / seconds, "work": made[0] / 1e6}

            what = f"{name}, records of {value_bytes} B, {codec}"
            wanted = [
                Wanted("per_s", what, "records/s", at_least(1.5)),
                Wanted("cpu_per_work", f"{what}: CPU", "us/record", at_most(0.5)),
            ]
            rows += in_turns(6, bench.both, max(3, bench.pairs // 2), one, wanted)
            _drop(bench, topic)
    return rows


def _confluent(port: int, topic: str, count: int, value_bytes: int, codec: str) -> float:
    """Seconds that a confluent-kafka producer took."""
    words = ["-m", "benchmarks.confluent_load", str(port), topic, str(count), str(value_bytes), codec]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True)
    return float(done.stdout)


def _java(port: int, topic: str, count: int, value_bytes: int, codec: str) -> float:
    """Seconds that Kafka's ProducerPerformance took."""
    command = ["java", "-cp", tools_classpath(), "org.apache.kafka.tools.ProducerPerformance", "--topic", topic]
    command += ["--num-records", str(count), "--record-size", str(value_bytes), "--throughput", "-1"]
    # One option: a second one would replace the first.
    command += ["--command-property", f"bootstrap.servers=127.0.0.1:{port}", f"compression.type={codec}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    last = next(line for line in reversed(done.stdout.splitlines()) if "records/sec" in line)
    return count / float(last.split(" records/sec")[0].split()[-1])


def starts(bench: Bench) -> list[Row]:
    """12: start to a first message; memory at rest, and the most of it under shape 5."""
    seconds: dict[str, list[float]] = {"odradek": [], "kafka": []}
    resting: dict[str, list[float]] = {"odradek": [], "kafka": []}
    peak: dict[str, list[float]] = {"odradek": [], "kafka": []}
    for _ in range(min(3, bench.pairs)):
        for start in (kafka, odradek):
            with tempfile.TemporaryDirectory() as folder, start(Path(folder) / "data") as (broker, started):
                first_message(broker.port)
                seconds[broker.name].append(time.perf_counter() - started)
                resting[broker.name].append(memory_mb(broker.pid))
                broker.make_topic("bulk")
                load.produce(broker.port, "bulk", **BULK)
                peak[broker.name].append(memory_mb(broker.pid, "VmHWM"))
    return [
        row(12, "start to first message read back", "s", seconds["odradek"], seconds["kafka"], at_most(0.15)),
        row(12, "memory at rest", "MB", resting["odradek"], resting["kafka"], at_most(0.2)),
        row(12, "memory at most under shape 5", "MB", peak["odradek"], peak["kafka"], at_most(0.2)),
    ]


def many_clients(bench: Bench) -> list[Row]:
    """10: 1,000 producing connections and 1,000 consumers in 200 groups, a record a second each."""
    for broker in bench.both:
        for group in range(load_of_clients.GROUPS):
            broker.make_topic(load_of_clients.topic_of(group), load_of_clients.MEMBERS)
    turns = itertools.count()

    def one(broker: Broker) -> Run:
        return uvloop.run(load_of_clients.turn(broker, f"turn-{next(turns)}", CLIENTS_S))

    one(bench.kafka), one(bench.odradek)  # warms both
    what = "1,000 producers, 1,000 consumers in 200 groups"
    wanted = [
        Wanted("cpu_percent", f"{what}: CPU", "% of a core", at_most(0.5)),
        Wanted("p50_ms", f"{what}: p50 of a Produce", "ms"),
        Wanted("p99_ms", f"{what}: p99 of a Produce", "ms", at_most(0.7)),
    ]
    return in_turns(10, bench.both, max(3, bench.pairs // 2), one, wanted)


def many_partitions(bench: Bench) -> list[Row]:
    """11: 10,000 partitions: made until each took a record, started after a clean and an unclean stop, memory."""
    results: dict[str, dict[str, float]] = {}
    for start in (kafka, odradek):
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder) / "data"
            with start(data) as (broker, _):
                name, began = broker.name, time.perf_counter()
                for number in range(10):
                    broker.make_topic(f"many-{number}", PARTITIONS_MANY // 10)
                figures = {"made": time.perf_counter() - began, "memory": memory_mb(broker.pid)}
                _end(broker, signal.SIGTERM)
            for how in ("clean", "unclean"):
                with start(data) as (broker, began):
                    _wait_for_leaders(broker.port)
                    figures[how] = time.perf_counter() - began
                    _end(broker, signal.SIGKILL)
            results[name] = figures
    ours, theirs = results["odradek"], results["kafka"]
    return [
        row(11, f"10,000 partitions: {what}", unit, [ours[name]], [theirs[name]], at_most(0.5))
        for name, what, unit in (
            ("made", "made, until each took a record", "s"),
            ("clean", "start after a clean stop", "s"),
            ("unclean", "start after a kill", "s"),
            ("memory", "memory", "MB"),
        )
    ]


def _end(broker: Broker, how: signal.Signals) -> None:
    os.kill(broker.pid, how)
    pid = broker.pid
    while Path(f"/proc/{pid}/stat").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text():
        time.sleep(0.01)


def _wait_for_leaders(port: int) -> None:
    """Until every partition is led."""
    while True:
        try:
            with RawClient(port) as client:
                answer = client.call(MetadataRequest(topics=None), MetadataResponse, 12)
            led = sum(one.leader_id >= 0 for topic in answer.topics for one in topic.partitions)
            if led >= PARTITIONS_MANY:
                return
        except OSError:
            pass
        time.sleep(0.02)


SHAPES: dict[int, Shape] = {
    1: small_requests,
    2: small_requests_flushed,
    3: small_requests_durable,
    4: one_in_flight,
    5: bulk,
    6: clients,
    7: fetch_cached,
    8: fetch_cold,
    9: end_to_end,
    10: many_clients,
    11: many_partitions,
    12: starts,
}
QUICK = (1, 3, 5, 7, 9, 12)
