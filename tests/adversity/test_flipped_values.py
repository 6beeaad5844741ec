"""A bit flips in what state is made of: metadata, committed offsets, transactions, the ends of transactions.

The disk flips it while the broker is down, after a clean stop or after a kill, in what had long been flushed. No value
that nobody wrote may ever be served: metadata that are damaged end the start in a sentence, everything else is as it
was written, or, where more than a bit is wrong, passed over and said.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from odradek.coordination.snapshots import read_snapshot
from odradek.protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from odradek.records.batch import HEADER_BYTES
from odradek.replay.snapshots import SnapshotDamaged
from tests.adversity.bit_flips import batch_at, batches_of, flip, overwrite, position_of
from tests.broker import BrokerProcess
from tests.handlers.txn_peer import TxnPeer
from tests.raw_client import RawClient, batch

SETTINGS = (
    "offsets.topic.num.partitions=1",
    "transaction.state.log.num.partitions=1",
    # Never one while the broker runs: after a kill the log says it all.
    "odradek.coordinator.snapshot.min.records=1000000",
    "log.index.interval.bytes=200",
)
METADATA = Path("__cluster_metadata-0/00000000000000000000.log")
OFFSETS = Path("__consumer_offsets-0/00000000000000000000.log")
TRANSACTIONS = Path("__transaction_state-0/00000000000000000000.log")
USERS = Path("t-0/00000000000000000000.log")
EARLIER = 0x0101_0203
COMMITTED = 0x1122_3344
GROUPS = [f"g{number}" for number in range(12)]


@pytest.fixture(scope="module")
def histories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Data directories: of a broker that has stopped cleanly, and of one that served on and was then killed."""
    folder = tmp_path_factory.mktemp("histories")
    broker = BrokerProcess(folder, *SETTINGS)
    kept = {name: folder / name for name in ("stopped", "killed")}
    with broker:
        with TxnPeer(broker.port, is_kafka=False) as peer:
            peer.make_topics(t=1, u=1)
            kept_for = CreatableTopic(name="keeps", num_partitions=1, replication_factor=1)
            kept_for.configs = [CreatableTopicConfig(name="retention.ms", value="604800000")]
            peer.client.call(CreateTopicsRequest(topics=[kept_for], timeout_ms=30_000), CreateTopicsResponse, 5)
            peer.until_served("g0")
            for value in (EARLIER, COMMITTED):
                for number, group in enumerate(GROUPS):
                    peer.commit(group, {"t": {0: value + number}})
            for name, commit in (("x", True), ("y", False)):
                producer = peer.begin(name)
                assert peer.write("t", producer, 0, name, 12)["error_code"] == 0
                peer.end(name, producer, commit, 5)
                peer.until_described(name, "CompleteCommit" if commit else "CompleteAbort")
        broker.stop()
        shutil.copytree(broker.data, kept["stopped"])
        for snapshot in broker.data.rglob("*snapshot"):
            snapshot.unlink()  # none is needed
        broker.start()
        with RawClient(broker.port) as client:
            assert client.produce("u", batch(b"x")).error_code == 0
        broker.kill()
        shutil.copytree(broker.data, kept["killed"])
    return kept


@pytest.fixture(params=["stopped", "killed"])
def broker(histories: dict[str, Path], tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[BrokerProcess]:
    """A broker, not yet started, on a copy of either."""
    made = BrokerProcess(tmp_path, *SETTINGS)
    shutil.copytree(histories[request.param], made.data)
    yield made
    if made.process is not None:
        made.stop()


def committed(peer: TxnPeer) -> list[int]:
    """What is served to each group."""
    found: list[int] = []
    for group in GROUPS:
        (topic,) = peer.fetch_offsets(group, None)["topics"]
        found += [one["committed_offset"] for one in topic["partitions"]]
    return found


def without_snapshots(broker: BrokerProcess) -> None:
    """State is to be made of the logs."""
    for snapshot in broker.data.rglob("*snapshot"):
        snapshot.unlink()


# --- metadata ---------------------------------------------------------------------------------------------------------


def of_batch(field: int, bit: int) -> Callable[[Path], tuple[int, int]]:
    """A bit of a header's field in the batch of the retention time."""

    def place(file: Path) -> tuple[int, int]:
        at, _ = batch_at(file, position_of(file, b"604800000"))
        return at + field, bit

    return place


METADATA_FLIPS: dict[str, Callable[[Path], tuple[int, int]]] = {
    "a digit of a topic's retention.ms": lambda file: (position_of(file, b"604800000"), 0),
    "the name of that setting": lambda file: (position_of(file, b"retention.ms") + 4, 1),
    "a letter of a topic's name": lambda file: (position_of(file, b"keeps"), 0),
    "the batch's offset, down": of_batch(7, 0),
    "the batch's offset, up": of_batch(6, 2),
    "the batch's length, above the file's end": of_batch(8, 5),
    "the batch's length, a little": of_batch(11, 1),
    "the batch's magic": of_batch(16, 0),
    "the batch's checksum": of_batch(18, 3),
    "the batch's attributes: a control batch": of_batch(22, 5),
    "the number of records": of_batch(60, 0),
}


@pytest.mark.parametrize("what", METADATA_FLIPS)
def test_damaged_metadata_end_the_start_in_a_sentence_and_nothing_is_changed(broker: BrokerProcess, what: str) -> None:
    file = broker.data / METADATA
    flip(file, *METADATA_FLIPS[what](file))
    before = {one: one.read_bytes() for one in broker.data.rglob("*.log")}
    with pytest.raises(AssertionError) as refused:
        broker.start()
    said = str(refused.value)
    assert "Traceback" not in said
    assert "the metadata log, __cluster_metadata-0 in " + str(broker.data) in said
    assert "backup" in said
    assert {one: one.read_bytes() for one in broker.data.rglob("*.log")} == before


def test_damaged_metadata_below_a_sound_snapshot_cost_nothing(broker: BrokerProcess) -> None:
    broker.settings += ("metadata.log.max.record.bytes.between.snapshots=1",)
    broker.start()
    with TxnPeer(broker.port, is_kafka=False) as peer:
        peer.make_topics(later=1)
    broker.stop()
    file = broker.data / METADATA
    assert len(list(file.parent.glob("*.checkpoint"))) >= 1
    flip(file, position_of(file, b"604800000"))
    broker.start()
    with TxnPeer(broker.port, is_kafka=False) as peer:
        peer.until_served("g0")
        assert committed(peer) == [COMMITTED + number for number in range(len(GROUPS))]


# --- committed offsets ------------------------------------------------------------------------------------------------


def commit_of(file: Path, group: int) -> int:
    """Where the committed offset of a group's last commit is."""
    return position_of(file, struct.pack(">q", COMMITTED + group), last=True)


OFFSET_FLIPS: dict[str, Callable[[Path], tuple[int, int]]] = {
    "the offset's last byte": lambda file: (commit_of(file, 5) + 7, 4),
    "the offset's first byte": lambda file: (commit_of(file, 5), 0),
    "the group's name": lambda file: (position_of(file, b"g5", last=True) + 1, 0),
    "a record's length": lambda file: (batch_at(file, commit_of(file, 5))[0] + HEADER_BYTES, 2),
    "the checksum": lambda file: (batch_at(file, commit_of(file, 5))[0] + 19, 7),
    "attributes: a control batch": lambda file: (batch_at(file, commit_of(file, 5))[0] + 22, 5),
    "attributes: in a transaction": lambda file: (batch_at(file, commit_of(file, 5))[0] + 22, 4),
    "the magic": lambda file: (batch_at(file, commit_of(file, 5))[0] + 16, 3),
    "the batch's length, above the file's end": lambda file: (batch_at(file, commit_of(file, 5))[0] + 8, 4),
    "the batch's length, shorter than a header": lambda file: (batch_at(file, commit_of(file, 5))[0] + 11, 7),
    "the batch's length, negative": lambda file: (batch_at(file, commit_of(file, 5))[0] + 8, 7),
    "the batch's own offset, up": lambda file: (batch_at(file, commit_of(file, 5))[0] + 4, 1),
    "the batch's own offset, up within the log": lambda file: (batch_at(file, commit_of(file, 1))[0] + 7, 2),
    "the batch's own offset, down": lambda file: (batch_at(file, commit_of(file, 5))[0] + 7, 4),
    "the first batch's length": lambda file: (8, 4),
}


@pytest.mark.parametrize("what", OFFSET_FLIPS)
def test_a_flipped_bit_in_the_log_of_offsets_changes_no_committed_offset(broker: BrokerProcess, what: str) -> None:
    without_snapshots(broker)
    file = broker.data / OFFSETS
    flip(file, *OFFSET_FLIPS[what](file))
    broker.start()
    with TxnPeer(broker.port, is_kafka=False) as peer:
        peer.until_served("g0")
        assert committed(peer) == [COMMITTED + number for number in range(len(GROUPS))]
        peer.commit("g5", {"t": {0: 77}})
        assert committed(peer)[5] == 77
    assert "__consumer_offsets-0" in broker.logged
    assert "damaged" in broker.logged


def test_a_flipped_bit_in_a_snapshot_of_offsets_changes_none(histories: dict[str, Path], broker: BrokerProcess) -> None:
    if not list((broker.data / OFFSETS).parent.glob("*.coordinator-snapshot")):
        shutil.copytree(histories["stopped"] / OFFSETS.parent, broker.data / OFFSETS.parent, dirs_exist_ok=True)
    (snapshot,) = (broker.data / OFFSETS).parent.glob("*.coordinator-snapshot")
    flip(snapshot, position_of(snapshot, struct.pack(">q", COMMITTED + 5)) + 7)
    with pytest.raises(SnapshotDamaged):
        list(read_snapshot(snapshot.read_bytes()))
    broker.start()
    with TxnPeer(broker.port, is_kafka=False) as peer:
        peer.until_served("g0")
        assert committed(peer) == [COMMITTED + number for number in range(len(GROUPS))]


NOISE: dict[str, Callable[[Path], tuple[int, bytes]]] = {
    "over the offset": lambda file: (commit_of(file, 5) + 1, b"\x55\xaa\x33"),
    "over the batch's length": lambda file: (batch_at(file, commit_of(file, 5))[0] + 8, b"\x33\x55\x12\x9a"),
    "over the whole header": lambda file: (batch_at(file, commit_of(file, 5))[0], bytes(range(7, 68))),
}


@pytest.mark.parametrize("what", NOISE)
def test_more_than_a_bit_costs_one_commit_and_is_said(broker: BrokerProcess, what: str) -> None:
    """The commit before is served: nothing that nobody committed, and every other group what it committed."""
    without_snapshots(broker)
    file = broker.data / OFFSETS
    _, header = batch_at(file, commit_of(file, 5))
    overwrite(file, *NOISE[what](file))
    broker.start()
    with TxnPeer(broker.port, is_kafka=False) as peer:
        peer.until_served("g0")
        found = committed(peer)
        assert found.pop(5) == EARLIER + 5
        expected = [COMMITTED + number for number in range(len(GROUPS)) if number != 5]
        assert found == expected
        peer.commit("g5", {"t": {0: 78}})
        assert committed(peer)[5] == 78
    said = [json.loads(line) for line in broker.logged.splitlines() if "passed over up to offset" in line]
    (of_groups,) = [line for line in said if line["state"] == "coordinator"]
    assert (of_groups["partition"], of_groups["offset"]) == ("__consumer_offsets-0", header.base_offset)
    assert of_groups["level"] == "error"
    # What has been made of it once is kept.
    broker.stop()
    broker.start()
    with TxnPeer(broker.port, is_kafka=False) as peer:
        peer.until_served("g0")
        assert committed(peer)[5] == 78


# --- transactions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bit", [0, 2])
def test_a_flipped_bit_in_the_log_of_transactions_changes_none(broker: BrokerProcess, bit: int) -> None:
    without_snapshots(broker)
    file = broker.data / TRANSACTIONS
    at, header = list(batches_of(file))[-1]
    flip(file, at + header.size - 20, bit)
    broker.start()
    with TxnPeer(broker.port, is_kafka=False) as peer:
        peer.until_described("x", "CompleteCommit")
        peer.until_described("y", "CompleteAbort")
    assert "__transaction_state-0" in broker.logged


def aborted_in(peer: TxnPeer) -> list[tuple[Any, ...]]:
    """What consumers of committed data are told of aborted transactions, and how far they get."""
    told = peer.read("t", True)
    return [
        ("stable", told["last_stable_offset"]),
        *((one["first_offset"],) for one in told["aborted_transactions"] or []),
    ]


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("how", ["a bit", "noise"])
def test_a_damaged_end_of_a_transaction_makes_nothing_aborted_served(
    histories: dict[str, Path], tmp_path: Path, which: int, how: str
) -> None:
    broker = BrokerProcess(tmp_path, *SETTINGS)
    shutil.copytree(histories["killed"], broker.data)
    without_snapshots(broker)
    for index in broker.data.rglob("*.txnindex"):
        index.unlink()
    file = broker.data / USERS
    ends = [(at, header) for at, header in batches_of(file) if header.is_control]
    first = [header.base_offset for _, header in batches_of(file) if header.is_transactional and not header.is_control]
    at, _ = ends[which]
    # The type is the last byte of the record's key: 0 aborts, 1 commits.
    key = file.read_bytes().index(bytes((8, 0, 0, 0, which == 0)), at + HEADER_BYTES) + 4
    if how == "a bit":
        flip(file, key)
    else:
        overwrite(file, key, bytes((which != 0, 9, 9, 9)))
    with broker, TxnPeer(broker.port, is_kafka=False) as peer:
        end = ends[-1][1].next_offset
        aborted = [(first[1],)] if how == "a bit" or which == 1 else [(first[0],), (first[1],)]
        assert aborted_in(peer) == [("stable", end), *aborted]
        assert "t-0" in broker.logged and "damaged" in broker.logged
