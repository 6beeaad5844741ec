"""Bits flip in values that nothing but a checksum can tell from right ones, while a broker is stopped or dead.

Role: a campaign (see `torture.py`). Two data directories are made: one of a broker that stopped cleanly, one of a
broker that was killed. In copies of them one thing is damaged, by seed: a name or a setting in the metadata log, a
committed offset, a digit of a text checkpoint, a batch's length or body, a segment in the middle (gone, or empty).
Then a broker is started, and everything is read.

What must hold: each record, setting and offset is as it was acknowledged, or the damage is said: by refusing to start
(the metadata log), by an error, by the record's own checksum, by a line in the log that is about it. Never is something
else handed out; nothing goes because of a number in a checkpoint; and what stands beside the damage is served.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from odradek.protocol.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic
from odradek.records.batch import BatchHeader, InvalidBatch, check_batch, split_batches
from odradek.records.iteration import iterate
from tests.adversity.topic_requests import configure, create, delete_records, described
from tests.adversity.torture import Report
from tests.broker import BrokerProcess
from tests.handlers.txn_peer import TxnPeer
from tests.raw_client import RawClient, batch

LOSSES_MAX = 20
SETTINGS = (
    "offsets.topic.num.partitions=1",
    "transaction.state.log.num.partitions=1",
    "odradek.coordinator.snapshot.min.records=2",
)
# Of each topic: records, their size, the first that is left.
TOPICS = {"segments-of-many": (44, 100_000, 0), "segment-of-one": (60, 100, 0), "records-deleted": (44, 100_000, 15)}
MANY, ONE, DELETED = TOPICS
SEGMENT_RECORDS = 10  # of 100,000 bytes in a megabyte
UNCHECKPOINTED = 6
"""So many records at the end of each topic are younger than the checkpoint that the broker was asked for."""
CHECKPOINT_S = 2.0
"""How long after a flush the recovery point may follow it, where it does."""
CONFIGS = {ONE: {"retention.ms": "987654321"}, DELETED: {"max.message.bytes": "1234567"}}
GROUP = "g"
COMMITTED = (5_000, 5_432, 6_789, 7_123)
OFFSETS_LOG = "__consumer_offsets-0"
METADATA_LOG = "__cluster_metadata-0"
FETCH_BYTES = 1 << 20
LENGTH_AT, BODY_AT = 8, 70  # in a batch: its length, and a byte of its records


def value_of(topic: str, offset: int) -> bytes:
    return f"{topic} {offset} ".encode().ljust(TOPICS[topic][1], b".")


@dataclass
class Damage:
    """What was done, and what of it may be seen: `offsets` of `topic`, if it is said."""

    what: str
    topic: str = ""
    offsets: range = range(0)
    of_group: bool = False
    of_metadata: bool = False


class Copy:
    """A data directory, to be damaged."""

    def __init__(self, data: Path, chance: random.Random) -> None:
        self.data = data
        self.chance = chance

    def flip(self, file: Path, at: int, bit: int) -> None:
        data = bytearray(file.read_bytes())
        data[at] ^= 1 << bit
        file.write_bytes(data)

    def find(self, folder: str, wanted: bytes) -> list[tuple[Path, int]]:
        """Where some bytes are, in the files of a folder."""
        return [
            (file, found.start())
            for file in sorted((self.data / folder).iterdir())
            for found in re.finditer(re.escape(wanted), file.read_bytes(), re.DOTALL)
        ]

    def segments(self, topic: str) -> list[Path]:
        return sorted((self.data / f"{topic}-0").glob("*.log"))

    # --- what is done --------------------------------------------------------------------------------------------

    def metadata(self) -> Damage:
        """A name or a setting."""
        names = [name.encode() for name in TOPICS]
        settings = [text.encode() for configs in CONFIGS.values() for pair in configs.items() for text in pair]
        wanted = self.chance.choice(names + settings)
        return self._flipped_value(METADATA_LOG, wanted, Damage("", of_metadata=True))

    def committed_offset(self) -> Damage:
        """The last one, or one before it; in the log or in a snapshot."""
        wanted = struct.pack(">q", self.chance.choice((*COMMITTED, COMMITTED[-1])))
        return self._flipped_value(OFFSETS_LOG, wanted, Damage("", of_group=True))

    def _flipped_value(self, folder: str, wanted: bytes, damage: Damage) -> Damage:
        file, at = self.chance.choice(self.find(folder, wanted))
        at += self.chance.randrange(len(wanted))
        bit = self.chance.randrange(7)
        self.flip(file, at, bit)
        damage.what = f"bit {bit} of byte {at} of {folder}/{file.name}, in {wanted!r}"
        return damage

    def digit(self, name: str) -> Damage:
        """One digit of a line's last number is another one."""
        topic = self.chance.choice(list(TOPICS))
        file = self.data / name
        if name == "leader-epoch-checkpoint":
            file = self.data / f"{topic}-0" / name
            lines = file.read_text().splitlines()
            number = self.chance.randrange(2, len(lines))
        else:
            lines = file.read_text().splitlines()
            held = [at for at, line in enumerate(lines) if line.split()[0] in TOPICS]
            number = self.chance.choice(held)
            topic = lines[number].split()[0]
        start = lines[number].rindex(" ") + 1
        at = self.chance.randrange(start, len(lines[number]))
        before = lines[number]
        digit = self.chance.choice([one for one in "0123456789" if one != before[at] and (one != "0" or at > start)])
        lines[number] = before[:at] + digit + before[at + 1 :]
        file.write_text("".join(f"{line}\n" for line in lines))
        damage = Damage(f"{file.relative_to(self.data)}: {before!r} is now {lines[number]!r}")
        if name == "log-start-offset-checkpoint" and topic == DELETED:
            first, now = TOPICS[DELETED][2], int(lines[number].split()[-1])
            if first < now < 2 * SEGMENT_RECORDS:
                # Within its segment a start may be anywhere: nothing else knows.
                damage.topic, damage.offsets = DELETED, range(first, now)
        return damage

    def batch(self, what: str) -> Damage:
        """A bit of a batch's length, or of its body."""
        topic = self.chance.choice(list(TOPICS))
        segment = self.chance.choice(self.segments(topic))
        batches = list(positions(segment))
        position, header = self.chance.choice(batches)
        if what == "length":
            at, bit = LENGTH_AT + self.chance.randrange(4), self.chance.randrange(7)
            offsets = range(header.base_offset, batches[-1][1].next_offset)
        else:
            at, bit = self.chance.randrange(BODY_AT, header.size), self.chance.randrange(8)
            offsets = range(header.base_offset, header.next_offset)
        self.flip(segment, position + at, bit)
        named = f"bit {bit} of byte {at} of the batch at offset {header.base_offset} of {topic}, in {segment.name}"
        return Damage(named, topic, offsets)

    def segment(self) -> Damage:
        """One in the middle is gone, or empty."""
        topic = self.chance.choice((MANY, DELETED))
        segments = self.segments(topic)
        # Below what the checkpoint of the broker that was killed covers: there nothing else explains it.
        whole = [at for at in range(1, len(segments)) if int(segments[at].stem) <= TOPICS[topic][0] - UNCHECKPOINTED]
        number = self.chance.choice(whole[:-1])
        file = segments[number]
        offsets = range(int(file.stem), int(segments[number + 1].stem))
        how = self.chance.choice(("gone", "gone with its indexes", "empty"))
        if how == "empty":
            file.write_bytes(b"")
        else:
            file.unlink()
        if how == "gone with its indexes":
            for index in file.parent.glob(f"{file.stem}.*"):
                index.unlink()
        return Damage(f"{file.parent.name}/{file.name} is {how}", topic, offsets)


DAMAGES: list[tuple[str, Callable[[Copy], Damage]]] = [
    ("metadata", Copy.metadata),
    ("committed offset", Copy.committed_offset),
    ("recovery point", lambda copy: copy.digit("recovery-point-offset-checkpoint")),
    ("log start", lambda copy: copy.digit("log-start-offset-checkpoint")),
    ("high watermark", lambda copy: copy.digit("replication-offset-checkpoint")),
    ("leader epoch", lambda copy: copy.digit("leader-epoch-checkpoint")),
    ("length", lambda copy: copy.batch("length")),
    ("body", lambda copy: copy.batch("body")),
    ("segment", Copy.segment),
]


def positions(segment: Path) -> Iterator[tuple[int, BatchHeader]]:
    """Where each batch begins."""
    position = 0
    for header, _ in split_batches(segment.read_bytes()):
        yield position, header
        position += header.size


# --- what is damaged --------------------------------------------------------------------------------------------------


@contextmanager
def directories() -> Iterator[dict[str, Path]]:
    """The data directories, by how their brokers ended."""
    with tempfile.TemporaryDirectory(prefix="odradek-rot-") as folder, BrokerProcess(Path(folder), *SETTINGS) as broker:
        _fill(broker)
        _wait_for_recovery_points(broker.data / "recovery-point-offset-checkpoint")
        broker.kill()
        killed = Path(folder) / "killed"
        shutil.copytree(broker.data, killed)
        broker.start()
        broker.stop()
        yield {"stopped": broker.data, "killed": killed}


def _fill(broker: BrokerProcess) -> None:
    with TxnPeer(broker.port, is_kafka=False) as peer:
        client = peer.client
        for topic, (count, size, _) in TOPICS.items():
            assert create(client, topic, 1, {"segment.bytes": "1048576"} if size > 1000 else {}) == 0
            for name, value in CONFIGS.get(topic, {}).items():
                assert configure(client, topic, name, value) == 0
            for offset in range(count - UNCHECKPOINTED):
                assert client.produce(topic, batch(value_of(topic, offset))).error_code == 0
        peer.until_served(GROUP)
        for offset in COMMITTED:
            peer.commit(GROUP, {ONE: {0: offset}})
        # Which writes the checkpoints.
        assert delete_records(client, DELETED, TOPICS[DELETED][2]) == 0
        for topic, (count, _, _) in TOPICS.items():
            for offset in range(count - UNCHECKPOINTED, count):
                assert client.produce(topic, batch(value_of(topic, offset))).error_code == 0


def _wait_for_recovery_points(file: Path) -> None:
    """Until they cover what was acknowledged, or do not follow that closely."""
    wanted = {f"{topic} 0 {count}" for topic, (count, _, _) in TOPICS.items()}
    deadline = time.monotonic() + CHECKPOINT_S
    while not wanted <= set(file.read_text().splitlines()) and time.monotonic() < deadline:
        time.sleep(0.02)


# --- what is seen afterwards ------------------------------------------------------------------------------------------


@dataclass
class Seen:
    """What a topic's log gives: by offset the value, or a word for why there is none."""

    start: int = -1
    end: int = -1
    values: dict[int, bytes | str] = field(default_factory=dict)


def read(client: RawClient, topic: str) -> Seen:
    seen = Seen()
    offset = 0
    count = TOPICS[topic][0]
    while offset < count:
        wanted = FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=FETCH_BYTES)
        request = FetchRequest(max_wait_ms=0, min_bytes=0, topics=[FetchTopic(topic=topic, partitions=[wanted])])
        answer = client.call(request, FetchResponse, 12).responses[0].partitions[0]
        if answer.log_start_offset >= 0:
            seen.start, seen.end = answer.log_start_offset, answer.high_watermark
        if answer.error_code:
            seen.values[offset] = f"error {answer.error_code}"
            offset += 1
            continue
        before = offset
        try:
            for header, piece in split_batches(bytes(answer.records or b"")):
                if header.next_offset <= offset:
                    continue
                seen.values.update(dict.fromkeys(range(offset, min(header.base_offset, count)), "passed over"))
                offset = header.next_offset
                try:
                    check_batch(piece)
                except InvalidBatch:
                    seen.values.update(dict.fromkeys(range(header.base_offset, offset), "checksum"))
                    continue
                seen.values.update({one.offset: bytes(one.value or b"") for one in iterate(header, piece)})
        except InvalidBatch:
            pass  # what is behind is asked for next
        if offset == before:
            seen.values[offset] = "nothing"
            offset += 1
    return seen


SAID = ("warning", "error", "critical")
UNCLEAN = "the last stop was not clean"


def said(broker: BrokerProcess) -> list[str]:
    """The lines of a broker's log that are about something bad."""
    found = []
    for line in broker.logged.splitlines():
        try:
            fields = json.loads(line)
        except ValueError:
            continue
        if fields.get("level") in SAID and UNCLEAN not in fields["event"]:
            found.append(line)
    return found


def compare(broker: BrokerProcess, damage: Damage) -> list[str]:
    """What is not as it was acknowledged, though nothing was said; and what never may be."""
    losses: list[str] = []
    with TxnPeer(broker.port, is_kafka=False) as peer:
        for name, topic in described(peer.client).items():
            wanted = CONFIGS.get(name, {})
            held = {one: value for one, value in topic.configs.items() if one != "segment.bytes"}
            if name not in TOPICS:
                losses.append(f"there is a topic {name!r}")
            elif held != wanted:
                losses.append(f"{name} has the settings {held}, it had {wanted}")
        for name in TOPICS:
            losses += _compare_log(peer.client, name, damage, broker)
        losses += _compare_offset(peer, damage, broker)
    return losses


def _compare_log(client: RawClient, topic: str, damage: Damage, broker: BrokerProcess) -> Iterator[str]:
    count, _, first = TOPICS[topic]
    suspect = damage.offsets if damage.topic == topic else range(0)
    seen = read(client, topic)
    if seen.start > first and not set(range(first, seen.start)) <= set(suspect):
        yield f"{topic} begins at {seen.start}, nobody deleted more than {first}"
    if seen.end != count:
        yield f"{topic} ends at {seen.end}, {count} was acknowledged"
    silent: list[int] = []
    for offset in range(first, count):
        found = seen.values.get(offset, "nothing")
        if found == value_of(topic, offset):
            continue
        if isinstance(found, bytes):
            yield f"{topic}: at offset {offset} is {found[:30]!r}"
        elif offset not in suspect:
            yield f"{topic}: {found} at offset {offset}, which is not damaged"
        elif found in ("nothing", "passed over"):
            silent.append(offset)
    if silent and damage.what and "checkpoint" not in damage.what and not said(broker):
        yield f"{topic}: {len(silent)} records from offset {silent[0]} on are not given out, and nothing is said"
    code = client.produce(topic, batch(b"new")).error_code
    if code:
        yield f"{topic}: an append is refused with {code}"


def _compare_offset(peer: TxnPeer, damage: Damage, broker: BrokerProcess) -> Iterator[str]:
    answer = peer.fetch_offsets(GROUP, None)
    found = [one["committed_offset"] for topic in answer["topics"] for one in topic["partitions"]]
    if found == [COMMITTED[-1]]:
        return
    if found and found[0] not in (-1, *COMMITTED):
        yield f"the group is told {found}, it had committed {COMMITTED[-1]}"
    elif not damage.of_group:
        yield f"the group is told {answer}, it had committed {COMMITTED[-1]}"
    elif not answer.get("error_code") and not said(broker):
        yield f"the group is told {found}, it had committed {COMMITTED[-1]}, and nothing is said"


def trial(data: Path, chance: random.Random, damage_by: Callable[[Copy], Damage]) -> tuple[str, list[str]]:
    """One damage; what it was, and what was lost."""
    with tempfile.TemporaryDirectory(prefix="odradek-rot-") as folder:
        broker = BrokerProcess(Path(folder), *SETTINGS)
        shutil.copytree(data, broker.data)
        damage = damage_by(Copy(broker.data, chance))
        bytes_before = _bytes_of_logs(broker.data)
        try:
            broker.start()
        except AssertionError as refused:
            if damage.of_metadata and "the metadata log" in str(refused) and "Traceback" not in str(refused):
                return damage.what, []
            return damage.what, [f"it does not start: {str(refused)[-300:]}"]
        try:
            losses = compare(broker, damage)
        except (AssertionError, KeyError, OSError) as error:
            losses = [f"{type(error).__name__}: {error}"]
        finally:
            broker.stop()
        after = _bytes_of_logs(broker.data)
        losses += [
            f"{name}: {size - after.get(name, 0)} bytes of its segments were deleted"
            for name, size in bytes_before.items()
            if after.get(name, 0) < size
        ]
        return damage.what, losses


def _bytes_of_logs(data: Path) -> dict[str, int]:
    return {topic: sum(file.stat().st_size for file in (data / f"{topic}-0").glob("*.log")) for topic in TOPICS}


def campaign(seed: int, count: int) -> Report:
    """`count` damages: each kind in its turn, after a stop and after a kill."""
    report = Report(0, "damages")
    with directories() as made:
        while report.done < count and len(report.losses) < LOSSES_MAX:
            name, damage_by = DAMAGES[report.done // 2 % len(DAMAGES)]
            ended = list(made)[report.done % 2]
            what, losses = trial(made[ended], random.Random(f"{seed} {report.done}"), damage_by)
            report.losses += [f"damage {report.done}, {name}, {ended}: {what}: {loss}" for loss in losses[:3]]
            report.done += 1
    return report
