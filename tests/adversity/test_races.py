"""However near the end of a transaction comes to a batch of it, nothing is left open and nothing aborted is read."""

from __future__ import annotations

import random

import pytest

from tests.adversity.races import KINDS, Race, campaign, committed_values, compare, make_topic
from tests.handlers.txn_peer import TxnPeer
from tests.serving import Serving

SEED = 1
COUNT = 3 * len(KINDS)


def test_nothing_is_left_open_and_nothing_aborted_is_read() -> None:
    report = campaign(SEED, COUNT)
    assert report.losses == []
    assert report.done == COUNT


def test_every_kind_of_topic_has_its_turn() -> None:
    assert {Race.by(random.Random(number), number).kind for number in range(COUNT)} == set(KINDS)


@pytest.mark.parametrize("commits", [True, False])
def test_what_a_reader_of_committed_data_sees(commits: bool) -> None:
    with Serving() as serving, TxnPeer(serving.port, is_kafka=False) as peer:
        make_topic(peer.client, "t", {})
        producer = peer.begin("x")
        for sequence in range(2):
            assert peer.write("t", producer, sequence, "x", 12)["error_code"] == 0
        assert committed_values(peer.client, "t") == []
        peer.end("x", producer, commits, 5)
        peer.until_stable("t", 3)
        assert committed_values(peer.client, "t") == ([b"v", b"v"] if commits else [])
        race = Race.by(random.Random(0), 0)
        race.topic = "t"
        race.expected = (b"v", b"v")
        assert bool(list(compare(peer.client, race))) is not commits
