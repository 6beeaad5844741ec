"""Bits flip while the broker is stopped: it starts, says what is damaged, serves the rest, and takes nothing else away.

After a clean stop nothing is scanned, so that damage in a segment is found when it is read: by the broker where the
batches' headers do not fit together, by the consumer's checksum otherwise. `odradek log dump` finds it at any time.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from odradek.records.batch import BatchHeader, InvalidBatch, check_batch, split_batches
from tests.broker import BrokerProcess
from tests.handlers.txn_peer import TxnPeer
from tests.raw_client import RawClient, batch

SETTINGS = (
    "log.segment.bytes=1048576",
    "log.index.interval.bytes=200",
    "offsets.topic.num.partitions=2",
    "transaction.state.log.num.partitions=2",
)
COUNT = {"t": 60, "u": 22}
GROUP_OFFSET = 7
# What cannot be made anew from anything else, and is needed to start: said, and left as it is.
REFUSES = ("meta.properties", "__cluster_metadata-0/00000000000000000000.log")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of a broker that has stopped cleanly: records, a producer's state, a group, a transaction."""
    folder = tmp_path_factory.mktemp("stopped")
    with BrokerProcess(folder, *SETTINGS) as broker, TxnPeer(broker.port, is_kafka=False) as peer:
        peer.make_topics(t=1, u=1)
        peer.until_served("g")
        for number in range(COUNT["t"]):
            peer.client.produce("t", batch(b"%05d" % number * 20))
        for number in range(20):
            data = batch(b"%05d" % number * 20, producer_id=500, producer_epoch=0, base_sequence=number)
            assert peer.client.produce("u", data).error_code == 0
        producer = peer.begin("x")
        assert peer.write("u", producer, 0, "x", 12)["error_code"] == 0
        peer.end("x", producer, False, 5)
        peer.until_described("x", "CompleteAbort")
        peer.commit("g", {"t": {0: GROUP_OFFSET}})
    return broker.data


def files(data: Path) -> list[Path]:
    return sorted(one.relative_to(data) for one in data.rglob("*") if one.is_file() and one.stat().st_size)


@pytest.fixture
def broker(stopped: Path, tmp_path: Path) -> Iterator[BrokerProcess]:
    """A broker, not yet started, on a copy."""
    made = BrokerProcess(tmp_path, *SETTINGS)
    shutil.copytree(stopped, made.data)
    yield made
    if made.process is not None:
        made.stop()


def damage(file: Path, chance: random.Random) -> int:
    """Flips a bit, cuts the file, or writes noise over some bytes; where."""
    data = bytearray(file.read_bytes())
    at = chance.randrange(len(data))
    how = chance.choice(("flip", "flip", "cut", "noise"))
    if how == "flip":
        data[at] ^= 1 << chance.randrange(8)
    elif how == "cut":
        del data[at:]
    else:
        data[at : at + 8] = chance.randbytes(len(data[at : at + 8]))
    file.write_bytes(data)
    return at


def served(client: RawClient, topic: str) -> set[int]:
    """The offsets of every batch that is whole."""
    found: set[int] = set()
    for offset in range(COUNT[topic]):
        if offset in found:
            continue
        answer = client.fetch(topic, offset)
        if answer.error_code or not answer.records:
            continue
        try:
            for header, piece in split_batches(bytes(answer.records)):
                try:
                    check_batch(piece)
                except InvalidBatch:
                    continue
                found |= set(range(header.base_offset, header.next_offset))
        except InvalidBatch:
            continue
    return found


def positions(log: Path) -> list[tuple[int, BatchHeader]]:
    """Where each batch begins."""
    found, position = [], 0
    for header, _ in split_batches(log.read_bytes()):
        found.append((position, header))
        position += header.size
    return found


@pytest.mark.parametrize("seed", range(30))
def test_what_is_not_damaged_is_served(stopped: Path, broker: BrokerProcess, seed: int) -> None:
    chance = random.Random(seed)
    victim = chance.choice(files(stopped))
    at = damage(broker.data / victim, chance)
    before = (broker.data / victim).read_bytes()
    try:
        broker.start()
    except AssertionError as refused:
        assert str(victim) in REFUSES, refused
        assert "Traceback" not in str(refused)
        assert (victim.name if victim.name == "meta.properties" else "the metadata log") in str(refused)
        assert (broker.data / victim).read_bytes() == before, "what is damaged is left as it is"
        return
    with TxnPeer(broker.port, is_kafka=False) as peer:
        for topic, count in COUNT.items():
            lost = set(range(count)) - served(peer.client, topic)
            if victim.parent.name != f"{topic}-0" or victim.suffix != ".log":
                assert lost == set(), victim
            else:
                # Nothing that stands before the damage; behind it in the file perhaps, where no batch can be found.
                whole = {
                    header.base_offset: position
                    for position, header in positions(stopped / victim)
                    if position + header.size <= at
                }
                assert lost.isdisjoint(whole), victim
                assert (broker.data / victim).stat().st_size >= len(before), "what is damaged is left as it is"
        # New records are taken, and found.
        for topic in COUNT:
            answer = peer.client.produce(topic, batch(b"new"))
            assert answer.error_code == 0 and answer.base_offset >= COUNT[topic], (victim, topic, answer)
            (header, _), *_ = split_batches(bytes(peer.client.fetch(topic, answer.base_offset).records))
            assert header.base_offset == answer.base_offset
        fetched = peer.fetch_offsets("g", None)["topics"]
        assert [one["committed_offset"] for topic in fetched for one in topic["partitions"]] == [GROUP_OFFSET]


def test_a_flipped_bit_of_a_topics_id_does_not_delete_its_log(stopped: Path, broker: BrokerProcess) -> None:
    """A log that the metadata does not know is deleted at the start: its topic was deleted before the stop."""
    file = broker.data / "t-0" / "partition.metadata"
    text = file.read_text()
    at = text.index("topic_id: ") + len("topic_id: ") + 5
    for other in "BCDEFGHIJKLMNOPQ":
        file.write_text(text[:at] + other + text[at + 1 :])
        if other != text[at]:
            break
    broker.start()
    with RawClient(broker.port) as client:
        assert served(client, "t") == set(range(COUNT["t"]))
    assert "the topic's id in its folder is damaged" in broker.logged
    broker.stop()
    broker.start()
    assert broker.logged.count("the topic's id in its folder is damaged") == 1, "it was written anew"
