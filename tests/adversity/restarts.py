"""Stop and start, again and again, under clients that go on: a campaign (see `torture.py`).

SIGTERM ends the broker gracefully; nothing is lost, what it has accepted is answered, and producers and the members of
a group notice no more than a retry: no error reaches the application.
"""

from __future__ import annotations

import random
import tempfile
import threading
from pathlib import Path

from confluent_kafka import Consumer, KafkaError
from confluent_kafka.admin import AdminClient

from tests.adversity.kills import History, Reader, check
from tests.adversity.steady_producer import SteadyProducer
from tests.adversity.test_full_disk import make_small_segments, read_from
from tests.adversity.torture import Report
from tests.broker import BrokerProcess
from tests.raw_client import RawClient

# What librdkafka tells of by the way: the application need do nothing.
BY_THE_WAY = (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._PARTITION_EOF)


class Member:
    """A group of one that reads everything. A context manager."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.errors: list[str] = []
        self.read: dict[int, bytes] = {}
        self._stop = threading.Event()
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "restarts",
                "auto.offset.reset": "earliest",
                "error_cb": self._error,
                "log_level": 0,
                "reconnect.backoff.max.ms": 500,
            }
        )
        self._consumer.subscribe([topic])
        self._thread = threading.Thread(target=self._run, name="member")

    def _error(self, error: KafkaError) -> None:
        if error.fatal() or error.code() not in BY_THE_WAY:
            self.errors.append(str(error))

    def __enter__(self) -> Member:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._consumer.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            message = self._consumer.poll(0.1)
            if message is None:
                continue
            if (error := message.error()) is not None:
                self._error(error)
                continue
            offset, value = message.offset(), message.value()
            assert offset is not None and isinstance(value, bytes)
            self.read[offset] = value


def campaign(seed: int, count: int) -> Report:
    """`count` restarts of one broker."""
    chance = random.Random(seed)
    report = Report(0, "restarts")
    history = History("t", idempotent=True)
    with tempfile.TemporaryDirectory(prefix="odradek-restarts-") as folder, BrokerProcess(Path(folder)) as broker:
        make_small_segments(AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0}), "t")
        with (
            SteadyProducer(broker.bootstrap, "t", idempotent=True, size=200, window=5) as producer,
            Reader(lambda: broker.port, history),
            Member(broker.bootstrap, "t") as member,
        ):
            for _ in range(count):
                producer.wait_for_more(chance.randrange(1, 100))
                if (code := broker.stop()) != 0:
                    report.losses.append(f"restart {report.done}: the broker ended with {code}")
                broker.start()
                report.done += 1
            producer.wait_for_more(1)
        history.acknowledged.update(producer.acknowledged)
        with RawClient(broker.port) as client:
            final = read_from(client, "t", 0)
        report.losses += check(history, final)
        report.losses += [f"the member of a group: {error}" for error in member.errors]
        report.losses += [
            f"the member of a group read {value[:12]!r} at offset {offset}"
            for offset, value in member.read.items()
            if final.get(offset) != value
        ]
        if "the last stop was not clean" in broker.logged:
            report.losses.append("a stop was not clean")
    return report
