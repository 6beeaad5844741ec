"""Exactly once, over kills: transactional pipelines, their broker and themselves killed again and again."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from itertools import product
from pathlib import Path

import pytest

from odradek.protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from odradek.protocol.messages.produce import ProduceResponse
from odradek.records.builder import NewRecord, batch_bytes, build_batch
from tests.adversity.transactions import campaign, read_all
from tests.broker import BrokerProcess
from tests.clients.driver_go import GO
from tests.handlers.txn_peer import NOW_MS, TxnPeer
from tests.pipelines.pipeline import KINDS
from tests.raw_client import Closed, produce_request
from tests.reference import has_java

PARTITIONS = 2
KILLS = 6
DEATH_TIMEOUT_S = 20.0


def test_every_input_appears_once_whatever_is_killed() -> None:
    """Pipelines in four clients, they and their broker killed; `make torture` does it some hundreds of times."""
    missing = {"franz-go": GO is None, "java": not has_java}
    kinds = [kind for kind in KINDS if not missing.get(kind)]
    report = campaign(seed=4, count=KILLS, kinds=kinds)
    assert (report.done, report.losses) == (KILLS, [])
    assert len(report.notes) == len(kinds)
    assert not [note for note in report.notes if ": 0 records" in note]
    assert [note for note in report.notes if ", 0 transactions aborted" not in note], "this test shows nothing"


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
        values = read_all(broker.bootstrap, "t")
        assert sorted(one.partition for one in values) == [0, 1]


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


WRITES = 7  # the decision, a marker in each of three partitions, one for the group's offsets, the end; and one more


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_broker_that_dies_at_any_write_of_a_commit(tmp_path: Path, when: str) -> None:
    """Between the decision, each marker and the end: output and offsets are there together, or none of them."""
    ends = []
    for number in range(1, WRITES + 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        armed = folder / "armed"
        broker = BrokerProcess(folder, "offsets.topic.num.partitions=1", "transaction.state.log.num.partitions=1")
        broker.module, broker.environment = "tests.adversity.dying_broker", {"DIE": f"write:{number}:{when}:{armed}"}
        with broker:
            with TxnPeer(broker.port, is_kafka=False) as peer:
                peer.make_topics(t=3)
                peer.until_served("g")
                producer = peer.begin("id")
                for index in range(3):
                    assert peer.write("t", producer, 0, "id", 12, partition=index)["error_code"] == 0
                answer = peer.commit_in("id", producer, "g", {"t": {0: 7}})
                assert "'error_code': 0" in str(answer), answer
                os.kill(broker.pid, signal.SIGUSR1)
                while not armed.exists():
                    peer.described("id")  # lets the broker come to it
                try:
                    assert peer.end("id", producer, True, 5)["error_code"] == 0
                    is_answered = True
                    if number < WRITES:
                        assert broker.process is not None
                        broker.process.wait(DEATH_TIMEOUT_S)
                except Closed:
                    is_answered = False
            broker.module, broker.environment = "odradek.cli.main", {}
            broker.kill()
            broker.start()
            with TxnPeer(broker.port, is_kafka=False) as peer:
                peer.until_found("other")
                if peer.described("id")["transaction_states"][0]["transaction_state"] != "Ongoing":
                    peer.until_described("id", "CompleteCommit")
                is_committed = peer.described("id")["transaction_states"][0]["transaction_state"] == "CompleteCommit"
                assert is_committed >= is_answered
                # Whoever comes next aborts what was not decided.
                peer.begin("id")
                for index in range(3):
                    peer.until_stable("t", 2, index)
                answer = peer.fetch_offsets("g", {"t": [0]}, require_stable=True)
            seen = sorted(one.partition for one in read_all(broker.bootstrap, "t", partitions=3))
            offset = answer["topics"][0]["partitions"][0]["committed_offset"]
            assert (seen, offset) == (([0, 1, 2], 7) if is_committed else ([], -1))
            ends.append((is_answered, is_committed))
    # It died before the decision, between it and its answer or after it, and not at all.
    assert ends[-1] == (True, True)
    assert ends[0] == (False, when == "after")
    assert all(is_committed for _, is_committed in ends[1:])


# Topics whose batches pass through a thread before they have their place.
LOOKED_INTO = {
    "gzip": {"compression.type": "gzip", "compression.gzip.level": "9"},
    "zstd": {"compression.type": "zstd", "compression.zstd.level": "15"},
    "compacted": {"cleanup.policy": "compact"},
    "times": {"message.timestamp.before.max.ms": "86400000"},
}
MANY_RECORDS = 10_000
# How much is asked of the broker between a batch and the end of its transaction.
MOMENTS = (0, 1, 2, 4, 8, 16)
PRODUCE_VERSION = 11


def _make(peer: TxnPeer, topic: str, configs: dict[str, str]) -> None:
    made = CreatableTopic(
        name=topic,
        num_partitions=1,
        replication_factor=1,
        configs=[CreatableTopicConfig(name=name, value=value) for name, value in configs.items()],
    )
    assert peer.client.call(CreateTopicsRequest(topics=[made]), CreateTopicsResponse, 5).topics[0].error_code == 0


def _race(peer: TxnPeer, other: TxnPeer, topic: str, how: str, records: list[NewRecord], moment: int) -> bool:
    """Sends a batch, and on the other connection what ends its transaction; whether the batch was taken."""
    name = topic
    pid, epoch = producer = peer.begin(name)
    peer.add(name, producer, {topic: [0]})
    assert peer.write(topic, producer, 0, name, PRODUCE_VERSION)["error_code"] == 0
    batch = build_batch(records, producer_id=pid, producer_epoch=epoch, base_sequence=1, transactional=True)
    request = produce_request(topic, batch_bytes(batch))
    request.transactional_id = name
    peer.client.send(request, PRODUCE_VERSION)
    for _ in range(moment):
        other.described(name)
    if how == "init":
        assert other.init(name)["error_code"] == 0
    elif how == "marker":
        assert "'error_code': 0" in str(other.mark(producer, topic, False, 0, 1))
    else:
        assert other.end(name, producer, how == "commit", 4)["error_code"] == 0
    answer = peer.client.receive(ProduceResponse, PRODUCE_VERSION).responses[0].partition_responses[0]
    if how == "marker":
        # The coordinator knows nothing of it: what came behind it is of the same transaction, and has an end, too.
        assert other.end(name, producer, False, 4)["error_code"] == 0
    if how != "init":
        peer.until_described(name, "CompleteCommit" if how == "commit" else "CompleteAbort")
    return answer.error_code == 0


@pytest.mark.parametrize("kind", LOOKED_INTO)
def test_an_end_that_comes_while_a_batch_is_looked_into(tmp_path: Path, kind: str) -> None:
    """No batch is behind its transaction's marker, whoever asks for that; so nothing hangs."""
    chance = random.Random(7)
    records = [NewRecord(b"k", chance.randbytes(16).hex().encode(), NOW_MS) for _ in range(MANY_RECORDS)]
    taken = Counter[str]()
    with (
        BrokerProcess(tmp_path) as broker,
        TxnPeer(broker.port, is_kafka=False) as peer,
        TxnPeer(broker.port, is_kafka=False) as other,
    ):
        for how, moment in product(("commit", "abort", "init", "marker"), MOMENTS):
            topic = f"{how}-{moment}"
            _make(peer, topic, LOOKED_INTO[kind])
            is_taken = _race(peer, other, topic, how, records, moment)
            taken[how] += is_taken
            seen = peer.read(topic, False)
            assert seen["last_stable_offset"] == seen["high_watermark"], (topic, seen)
            order = ["marker" if len(one) == 4 else "batch" for one in seen["records"]]
            if how == "marker":
                assert (order[0], order[-1], order.count("marker")) == ("batch", "marker", 2), topic
            else:
                assert order == ["batch"] * (1 + is_taken) + ["marker"], topic
    assert len(+taken) == 4, f"this test shows nothing: {taken}"
