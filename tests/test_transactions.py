"""Exactly once, over kills: a consume-transform-produce pipeline, its broker and itself killed again and again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, Producer, TopicPartition

from tests.broker import BrokerProcess
from tests.handlers.txn_peer import TxnPeer

INPUTS = 1_000
PARTITIONS = 2
KILLS = 5
TIMEOUT_S = 90.0
PIPELINE = Path(__file__).parent / "transactional_pipeline.py"


def read_committed(bootstrap: str, topic: str, isolation: str = "read_committed") -> list[Message]:
    """A whole topic."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "reader",
            "isolation.level": isolation,
            "enable.partition.eof": True,
        }
    )
    consumer.assign([TopicPartition(topic, index, OFFSET_BEGINNING) for index in range(PARTITIONS)])
    found, ends = [], set()
    deadline = time.monotonic() + TIMEOUT_S
    while len(ends) < PARTITIONS:
        assert time.monotonic() < deadline, f"{len(found)} records"
        message = consumer.poll(1)
        if message is None:
            continue
        if message.error() is None:
            found.append(message)
        else:
            ends.add(message.partition())
    consumer.close()
    return found


def test_every_input_appears_once_whatever_is_killed(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path) as broker:
        with TxnPeer(broker.port, is_kafka=False) as peer:
            peer.make_topics(**{"in": PARTITIONS, "out": PARTITIONS})
        producer = Producer({"bootstrap.servers": broker.bootstrap})
        for number in range(INPUTS):
            producer.produce("in", b"%d" % number, partition=number % PARTITIONS)
        assert producer.flush(30) == 0
        pipeline = start(broker)
        deadline = time.monotonic() + TIMEOUT_S
        killed = 0
        progress = 0
        while progress < INPUTS:
            assert time.monotonic() < deadline, progress
            line = pipeline.stdout.readline() if pipeline.stdout else ""
            if line:
                progress = json.loads(line)["committed"]
            if line and killed < KILLS and progress * (KILLS + 1) >= INPUTS * (killed + 1):
                killed += 1
                if killed % 2:
                    os.kill(pipeline.pid, signal.SIGKILL)
                else:
                    broker.kill()
                    broker.start()
            if pipeline.poll() is not None or (not line and pipeline.stdout):
                pipeline.wait()
                pipeline = start(broker)
        pipeline.kill()
        pipeline.wait()
        assert killed == KILLS
        found = sorted(int(message.value() or b"") for message in read_committed(broker.bootstrap, "out"))
        assert found == list(range(INPUTS))
        everything = read_committed(broker.bootstrap, "out", "read_uncommitted")
        assert len(everything) > INPUTS, "nothing was aborted: this test shows nothing"


def start(broker: BrokerProcess) -> subprocess.Popen[str]:
    command = [sys.executable, str(PIPELINE), broker.bootstrap]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def test_what_is_prepared_is_completed_by_the_next_start(tmp_path: Path) -> None:
    """Killed as soon as the decision is answered: the markers may be there or not."""
    with BrokerProcess(tmp_path) as broker:
        with TxnPeer(broker.port, is_kafka=False) as peer:
            peer.make_topics(t=PARTITIONS)
            for number in range(4):
                name = f"id-{number}"
                producer = peer.begin(name)
                assert peer.write("t", producer, 0, name, 12, partition=number % 2)["error_code"] == 0
                assert peer.end(name, producer, number < 2, 5)["error_code"] == 0
                broker.kill()
                broker.start()
                peer.client = peer.connect()
                peer.until_described(name, "CompleteCommit" if number < 2 else "CompleteAbort")
        values = read_committed(broker.bootstrap, "t")
        assert sorted(message.partition() for message in values) == [0, 1]


@pytest.mark.parametrize("version", [11, 12])
def test_what_nobody_ends_is_aborted_when_its_time_is_over(tmp_path: Path, version: int) -> None:
    with (
        BrokerProcess(tmp_path, "transaction.abort.timed.out.transaction.cleanup.interval.ms=50") as broker,
        TxnPeer(broker.port, is_kafka=False) as peer,
    ):
        peer.make_topics(t=PARTITIONS)
        peer.until_found("late")
        began = peer.init("late", timeout_ms=200)
        producer = began["producer_id"], began["producer_epoch"]
        if version < 12:
            peer.add("late", producer, {"t": [0]})
        assert peer.write("t", producer, 0, "late", version)["error_code"] == 0
        assert peer.read("t", True)["records"] == []
        peer.until_described("late", "CompleteAbort")
        peer.until_stable("t", 2)
        assert peer.write("t", producer, 1, "late", version)["error_code"] == 47
        assert peer.end("late", producer, True, 4)["error_code"] == 90
        assert "a transaction is out of time and is aborted" in broker.logged
