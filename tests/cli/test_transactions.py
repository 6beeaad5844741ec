"""`odradek transaction`, against this broker and against Apache Kafka: the same words for the same state."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.broker import BrokerProcess
from tests.cli.command import Run, runner
from tests.handlers.txn_peer import Producer, TxnPeer

LIST = ("transaction", "list", "--output", "json")


@pytest.fixture
def peer(bootstrap: str) -> TxnPeer:
    return TxnPeer(int(bootstrap.rpartition(":")[2]), is_kafka=False)


@pytest.fixture
def ongoing(peer: TxnPeer, topic: str) -> Producer:
    """A producer whose transactional id is the topic's name, with a record in its first partition."""
    with peer:
        peer.make_topics(**{topic: 2})
        producer = peer.begin(topic)
        assert peer.write(topic, producer, 0, topic, 12)["error_code"] == 0
        return producer


def test_what_is_open_is_listed_and_described(run: Run, topic: str, ongoing: Producer) -> None:
    listed = {one["transactional_id"]: one for one in json.loads(run(*LIST).stdout)}
    assert listed[topic] == {
        "transactional_id": topic,
        "producer_id": ongoing[0],
        "state": "Ongoing",
        "coordinator": 1,
    }
    by_filters = run(*LIST, "--state", "Ongoing", "--producer-id", str(ongoing[0]), "--pattern", f"{topic}.*")
    assert [one["transactional_id"] for one in json.loads(by_filters.stdout)] == [topic]
    assert json.loads(run(*LIST, "--pattern", topic, "--running-ms", "10000000").stdout) == []
    described = json.loads(run("transaction", "describe", topic, "--output", "json").stdout)
    assert described.pop("started_ms") > 0
    assert described == {
        "transactional_id": topic,
        "state": "Ongoing",
        "producer_id": ongoing[0],
        "producer_epoch": ongoing[1],
        "timeout_ms": 60_000,
        "coordinator": 1,
        "partitions": [f"{topic}-0"],
    }
    table = run("transaction", "describe", topic).stdout.decode()
    assert f"{topic}-0" in table and "Ongoing" in table


def test_a_transaction_is_aborted_in_a_partition(run: Run, topic: str, peer: TxnPeer, ongoing: Producer) -> None:
    find = ("transaction", "find-hanging", "--topic", topic, "--silent-ms", "0", "--output", "json")
    assert json.loads(run(*find).stdout) == [], "its coordinator knows of it"
    refused = run("transaction", "abort", topic, "0", "77", expect=1)
    assert f"no transaction that is open in {topic}-0 begins at offset 77".encode() in refused.stderr
    done = run("transaction", "abort", topic, "0", "0")
    assert done.stdout.decode() == f"Transaction of producer {ongoing[0]} in {topic}-0 aborted.\n"
    with TxnPeer(peer.port, is_kafka=False) as other:
        other.until_stable(topic, 2)
        read = other.read(topic, True)
        assert [one["producer_id"] for one in read["aborted_transactions"]] == [ongoing[0]]


def test_a_transaction_that_hangs_is_found(tmp_path: Path) -> None:
    """Where nothing is verified, a delayed write can begin one that its coordinator knows nothing of."""
    with (
        BrokerProcess(tmp_path, "transaction.partition.verification.enable=false") as broker,
        TxnPeer(broker.port, is_kafka=False) as peer,
    ):
        run = runner(broker.bootstrap, tmp_path)
        peer.make_topics(t=2)
        producer = peer.begin("x")
        assert peer.write("t", producer, 0, "x", 11)["error_code"] == 0
        find = ("transaction", "find-hanging", "--output", "json")
        assert json.loads(run(*find).stdout) == [], "it may yet be ended"
        (found,) = json.loads(run(*find, "--silent-ms", "0").stdout)
        assert (found["topic"], found["partition"], found["producer_id"]) == ("t", 0, producer[0])
        run("transaction", "abort", found["topic"], str(found["partition"]), str(found["start_offset"]))
        assert json.loads(run(*find, "--silent-ms", "0").stdout) == []


def test_what_is_not_there_is_said_in_a_sentence(run: Run, peer: TxnPeer, topic: str) -> None:
    with peer:
        peer.until_found(topic)
    failed = run("transaction", "describe", topic, expect=1)
    assert (
        failed.stderr.decode() == f"odradek: there is no transactional id '{topic}': see `odradek transaction list`.\n"
    )
    assert b"is no state of transactions" in run("transaction", "list", "--state", "Nonsense", expect=2).stderr
    assert b"--partition needs --topic" in run("transaction", "find-hanging", "--partition", "1", expect=2).stderr
