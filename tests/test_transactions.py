"""Exactly once, over kills: transactional pipelines, their broker and themselves killed again and again."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.adversity.transactions import campaign, read_all
from tests.broker import BrokerProcess
from tests.clients.driver_go import GO
from tests.handlers.txn_peer import TxnPeer
from tests.pipelines.pipeline import KINDS
from tests.raw_client import Closed
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
