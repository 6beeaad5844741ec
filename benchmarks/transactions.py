"""Transactions of 1, 10 and 100 records beside Apache Kafka: how many a second, and how long a commit takes.

    python -m benchmarks.transactions [--pairs 3] [--seconds 4] [--write]

confluent-kafka writes one transaction after the other to a topic of four partitions, in turns with the brokers, which
run side by side. Kafka has its defaults, which is the page cache; Odradek is measured with the same bargain (a broker
with `odradek.flush=os`, so that its coordinator's log is in the page cache too) and as it is by default.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from confluent_kafka import Producer

from benchmarks.brokers import Broker, kafka, odradek
from benchmarks.report import DOCUMENT, put

RECORDS = (1, 10, 100)
PARTITIONS = 4
VALUE = b"v" * 100
WARM_UP = 20
TIMEOUT_S = 30.0
WORDS = {"rate": "transactions/s", "p50_ms": "commit, p50 ms", "p99_ms": "commit, p99 ms"}


class Result(NamedTuple):
    """Transactions a second, and a commit's time in ms."""

    rate: float
    p50_ms: float
    p99_ms: float


def measure(broker: Broker, topic: str, records: int, seconds: float) -> Result:
    producer = Producer(
        {"bootstrap.servers": f"127.0.0.1:{broker.port}", "transactional.id": f"{topic}-{records}", "linger.ms": 0}
    )
    producer.init_transactions(TIMEOUT_S)
    commits = []
    number = 0
    begun = time.perf_counter()
    while number <= WARM_UP or time.perf_counter() - begun < seconds:
        if number <= WARM_UP:
            begun = time.perf_counter()
        producer.begin_transaction()
        for index in range(records):
            producer.produce(topic, VALUE, partition=index % PARTITIONS)
        producer.flush()
        before = time.perf_counter()
        producer.commit_transaction(TIMEOUT_S)
        if number >= WARM_UP:
            commits.append((time.perf_counter() - before) * 1000)
        number += 1
    took = time.perf_counter() - begun
    commits.sort()
    return Result(len(commits) / took, statistics.median(commits), commits[int(len(commits) * 0.99)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--write", action="store_true", help="into the documentation")
    given = parser.parse_args()
    lines = [
        "| records | | Kafka | Odradek like Kafka | Odradek on disk | like Kafka / Kafka | on disk / Kafka |",
        "|---|---|---|---|---|---|---|",
    ]
    with (
        tempfile.TemporaryDirectory() as folder,
        kafka(Path(folder) / "kafka") as (theirs, _),
        odradek(Path(folder) / "os", "odradek.flush=os") as (like_theirs, _),
        odradek(Path(folder) / "disk") as (on_disk, _),
    ):
        brokers = {"kafka": theirs, "os": like_theirs, "disk": on_disk}
        for topic, broker in brokers.items():
            broker.make_topic(topic, PARTITIONS)
        for records in RECORDS:
            rounds = [
                {topic: measure(broker, topic, records, given.seconds) for topic, broker in brokers.items()}
                for _ in range(given.pairs)
            ]
            for name in Result._fields:
                found = {topic: [getattr(one[topic], name) for one in rounds] for topic in rounds[0]}
                ratios = [
                    statistics.median(mine / his for mine, his in zip(found[topic], found["kafka"], strict=True))
                    for topic in ("os", "disk")
                ]
                shown = " | ".join(f"{statistics.median(values):.4g}" for values in found.values())
                lines.append(f"| {records} | {WORDS[name]} | {shown} | {ratios[0]:.2f} | {ratios[1]:.2f} |")
    table = "\n".join(lines)
    print(table)
    if given.write:
        put(DOCUMENT, "transactions", table)


if __name__ == "__main__":
    main()
