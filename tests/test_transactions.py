"""Exactly once, over kills: transactional pipelines, their broker and themselves killed again and again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.adversity.transactions import campaign, read_all
from tests.broker import BrokerProcess
from tests.clients.driver_go import GO
from tests.handlers.txn_peer import TxnPeer
from tests.pipelines.pipeline import KINDS
from tests.reference import has_java

PARTITIONS = 2
KILLS = 6


def test_every_input_appears_once_whatever_is_killed() -> None:
    """Pipelines in four clients, they and their broker killed; `make torture` does it some hundreds of times."""
    missing = {"franz-go": GO is None, "java": not has_java}
    kinds = [kind for kind in KINDS if not missing.get(kind)]
    report = campaign(seed=4, count=KILLS, kinds=kinds)
    assert (report.done, report.losses) == (KILLS, [])
    assert all(f"{kind}: 0 records" not in note for kind in kinds for note in report.notes)
    assert any(" 0 aborted" not in note for note in report.notes), "nothing was aborted: this test shows nothing"


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
