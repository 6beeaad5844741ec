"""A Kafka Streams application with exactly_once_v2, killed again and again, as is its broker: its totals are right."""

from __future__ import annotations

import random
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.broker import BrokerProcess
from tests.reference import java_source, needs_java, streams_classpath

pytestmark = needs_java
PARTITIONS = 3
KEYS = 7
INPUTS = 3_000
KILLS = 4
PIECE = 100
TIMEOUT_S = 180.0


@contextmanager
def totals(broker: BrokerProcess, folder: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The application; whoever kills the last of the list and calls `start` puts the next one there."""
    processes: list[subprocess.Popen[bytes]] = []
    with open(folder / "totals.out", "ab") as output:
        try:
            start(processes, broker, folder, output.fileno())
            yield processes
        finally:
            for process in processes:
                process.kill()
                process.wait()


def start(processes: list[subprocess.Popen[bytes]], broker: BrokerProcess, folder: Path, output: int) -> None:
    java = ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-Xmx512m", "-cp", streams_classpath()]
    command = [*java, java_source("Totals.java"), broker.bootstrap, str(folder / "state"), str(KEYS)]
    processes.append(subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT))


def test_totals_are_right_whatever_is_killed(tmp_path: Path) -> None:
    chance = random.Random(8)
    settings = ("offsets.topic.num.partitions=2", "transaction.state.log.num.partitions=2")
    with BrokerProcess(tmp_path, *settings) as broker:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
        for made in admin.create_topics([NewTopic(name, PARTITIONS) for name in ("in", "out")]).values():
            made.result()
        common = {"bootstrap.servers": broker.bootstrap, "reconnect.backoff.max.ms": 200, "log_level": 0}
        producer = Producer({**common, "enable.idempotence": True})
        reader = Consumer({**common, "group.id": "reader", "isolation.level": "read_committed"})
        reader.assign([TopicPartition("out", index, OFFSET_BEGINNING) for index in range(PARTITIONS)])
        expected: dict[str, list[int]] = {}
        found: dict[str, list[int]] = {}
        read = killed = written = 0
        deadline = time.monotonic() + TIMEOUT_S
        with totals(broker, tmp_path) as processes, open(tmp_path / "totals.out", "ab") as output:
            while read < INPUTS:
                assert time.monotonic() < deadline, (read, killed, (tmp_path / "totals.out").read_text()[-3000:])
                if written - read < PIECE and written < INPUTS:
                    for number in range(written, written + PIECE):
                        producer.produce("in", struct.pack(">q", number), partition=chance.randrange(PARTITIONS))
                        sums = expected.setdefault(f"key-{number % KEYS}", [0])
                        sums.append(sums[-1] + number)
                    assert producer.flush(30) == 0
                    written += PIECE
                message = reader.poll(0.2)
                if message is not None and message.error() is None:
                    key, value = message.key(), message.value()
                    assert isinstance(key, bytes) and isinstance(value, bytes)
                    found.setdefault(key.decode(), []).append(struct.unpack(">q", value)[0])
                    read += 1
                if killed < KILLS and read >= INPUTS * (killed + 1) // (KILLS + 1) + chance.randrange(PIECE // 2):
                    killed += 1
                    if killed % 2:
                        processes[-1].kill()
                        processes[-1].wait()
                        start(processes, broker, tmp_path, output.fileno())
                    else:
                        broker.kill()
                        broker.start()
            assert processes[-1].poll() is None, (tmp_path / "totals.out").read_text()[-3000:]
        reader.close()
        assert killed == KILLS
        # Every input has made one sum, and the last sum of a key is that of all its inputs.
        assert {key: len(sums) for key, sums in found.items()} == {key: len(sums) - 1 for key, sums in expected.items()}
        assert {key: sums[-1] for key, sums in found.items()} == {key: sums[-1] for key, sums in expected.items()}
        assert all(sums == sorted(sums) for sums in found.values())
