"""The end of a transaction races a batch of it, on every kind of topic.

Role: a campaign (see `torture.py`). On one connection a batch is sent, on another one the transaction is ended at
nearly the same moment: committed, aborted, or aborted by a producer of the same id that begins anew; by clients of
both versions of transactions. The topics are of all the kinds that do different things to a batch before they append
it: compress it anew, look at its keys or its times, set its time, or nothing.

What must hold: afterwards nothing is left open (the last stable offset is the high watermark); the producer goes on;
who reads committed data sees what was acknowledged in what was committed and nothing of what was aborted; and a kill
changes nothing of that.
"""

from __future__ import annotations

import random
import struct
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from odradek.protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from odradek.protocol.messages.end_txn import EndTxnRequest, EndTxnResponse
from odradek.protocol.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic
from odradek.protocol.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from odradek.records.batch import split_batches
from odradek.records.builder import NewRecord, batch_bytes, build_batch
from odradek.records.compression import Codec
from odradek.records.iteration import iterate
from tests.adversity.torture import Report
from tests.broker import BrokerProcess
from tests.handlers.txn_peer import Producer, TxnPeer
from tests.raw_client import RawClient

RACES_A_BROKER = 50
LOSSES_MAX = 20
STABLE_TIMEOUT_S = 3.0
DELAY_MAX_S = 0.012
SETTINGS = ("offsets.topic.num.partitions=2", "transaction.state.log.num.partitions=2")
YEAR_MS = 365 * 24 * 3600 * 1000
KINDS: dict[str, dict[str, str]] = {
    "plain": {},
    "gzip": {"compression.type": "gzip", "compression.gzip.level": "9"},
    "zstd": {"compression.type": "zstd", "compression.zstd.level": "12"},
    "lz4": {"compression.type": "lz4", "compression.lz4.level": "12"},
    "snappy": {"compression.type": "snappy"},
    "uncompressed": {"compression.type": "uncompressed"},
    "compacted": {"cleanup.policy": "compact"},
    "append time": {"message.timestamp.type": "LogAppendTime"},
    "append time, gzip": {"message.timestamp.type": "LogAppendTime", "compression.type": "gzip"},
    "not before": {"message.timestamp.before.max.ms": str(YEAR_MS)},
    "not after": {"message.timestamp.after.max.ms": str(YEAR_MS)},
}
ENDS = ("commit", "abort", "replace")
STATES = {"commit": "CompleteCommit", "abort": "CompleteAbort", "replace": "Empty"}
# (Produce, EndTxn) of clients without and with version 2 of transactions.
VERSIONS = ((9, 3), (12, 5))
ABORT_MARKER = 0


@dataclass
class Race:
    """One race, and what must be read in the end."""

    number: int
    kind: str
    end: str
    versions: tuple[int, int]
    size: int
    records: int
    delay_s: float
    is_first: bool
    """Whether the batch is the first of its transaction."""
    topic: str = ""
    outcome: str = ""
    expected: tuple[bytes, ...] = ()

    @classmethod
    def by(cls, chance: random.Random, number: int) -> Race:
        versions = chance.choice(VERSIONS)
        return cls(
            number,
            # Each kind in its turn, so that few races have all of them.
            list(KINDS)[number % len(KINDS)],
            chance.choice(ENDS),
            versions,
            chance.choice((100, 20_000, 400_000, 900_000, 900_000)),
            chance.choice((1, 1, 20, 300)),
            chance.choice((0.0, chance.random() * DELAY_MAX_S)),
            versions[1] < 5 and chance.random() < 0.3,
        )

    def __str__(self) -> str:
        return (
            f"{self.kind}: {self.end} {self.delay_s * 1000:.1f} ms behind {self.records} records of {self.size} bytes, "
            f"versions {self.versions} ({self.outcome})"
        )


class Racer:
    """One race on one broker."""

    def __init__(self, peer: TxnPeer, race: Race, chance: random.Random) -> None:
        self.peer = peer
        self.race = race
        self.chance = chance
        self.transactional_id = f"tx-{race.number}"
        race.topic = f"t-{race.number}"

    def batch(self, producer: Producer, sequence: int, values: list[bytes], codec: Codec = Codec.NONE) -> bytes:
        now_ms = int(time.time() * 1000)
        records = [NewRecord(b"%d" % number, value, now_ms) for number, value in enumerate(values)]
        built = build_batch(
            records,
            codec=codec,
            producer_id=producer[0],
            producer_epoch=producer[1],
            base_sequence=sequence,
            transactional=True,
        )
        return batch_bytes(built)

    def request(self, data: bytes) -> ProduceRequest:
        partition = PartitionProduceData(index=0, records=data)
        return ProduceRequest(
            transactional_id=self.transactional_id,
            acks=-1,
            timeout_ms=20_000,
            topic_data=[TopicProduceData(name=self.race.topic, partition_data=[partition])],
        )

    def write(self, producer: Producer, sequence: int, value: bytes) -> None:
        """A batch of one record, in the transaction."""
        produce_version = self.race.versions[0]
        if produce_version < 12:
            self.peer.add(self.transactional_id, producer, {self.race.topic: [0]})
        data = self.batch(producer, sequence, [value])

        def ask() -> Any:
            answer = self.peer.client.call(self.request(data), ProduceResponse, produce_version)
            return {"error_code": answer.responses[0].partition_responses[0].error_code}

        answer = self.peer.patient(ask)
        assert answer["error_code"] == 0, f"{value!r} was refused with {answer['error_code']}"

    def run(self) -> Iterator[str]:
        """What was lost."""
        race, peer = self.race, self.peer
        make_topic(peer.client, race.topic, KINDS[race.kind])
        producer = peer.begin(self.transactional_id)
        if race.is_first:
            peer.add(self.transactional_id, producer, {race.topic: [0]})
        else:
            self.write(producer, 0, b"first")
        before = (b"first",)[: not race.is_first]
        size = race.size // race.records
        raced = [self.chance.randbytes(size // 2 + 1).hex().encode()[:size] for _ in range(race.records)]
        codec = Codec.GZIP if race.kind == "uncompressed" else Codec.NONE
        request = self.request(self.batch(producer, len(before), raced, codec))
        with RawClient(peer.port) as other:
            other.send(request, race.versions[0])
            time.sleep(race.delay_s)  # the race
            next_producer = self.end(producer)
            code = other.receive(ProduceResponse, race.versions[0]).responses[0].partition_responses[0].error_code
        race.outcome = f"the batch was answered with {code}"
        committed = race.end == "commit"
        peer.until_described(self.transactional_id, STATES[race.end])
        yield from self.stable("the transaction has ended")
        sequence = 0 if next_producer != producer else len(before) + (race.records if code == 0 else 0)
        self.write(next_producer, sequence, b"second")
        assert peer.end(self.transactional_id, next_producer, True, race.versions[1])["error_code"] == 0
        peer.until_described(self.transactional_id, "CompleteCommit")
        yield from self.stable("the next one has ended, too")
        race.expected = (*before, *(raced if code == 0 else ()), b"second") if committed else (b"second",)
        yield from compare(peer.client, race)

    def end(self, producer: Producer) -> Producer:
        """Ends the transaction; who goes on."""
        if self.race.end == "replace":
            answer = self.peer.init(self.transactional_id)
        else:
            request = EndTxnRequest(
                transactional_id=self.transactional_id,
                producer_id=producer[0],
                producer_epoch=producer[1],
                committed=self.race.end == "commit",
            )
            version = self.race.versions[1]
            answer = self.peer.patient(lambda: self.peer.call(request, EndTxnResponse, version))
        assert answer["error_code"] == 0, f"{self.race.end} was refused with {answer['error_code']}"
        if answer.get("producer_id", -1) < 0:
            return producer  # which goes on as it is, before version 2
        return answer["producer_id"], answer["producer_epoch"]

    def stable(self, when: str) -> Iterator[str]:
        deadline = time.monotonic() + STABLE_TIMEOUT_S
        while True:
            found = fetch_committed(self.peer.client, self.race.topic, 0, max_wait_ms=20)
            if found.last_stable_offset == found.high_watermark:
                return
            if time.monotonic() > deadline:
                yield f"{when}, and the last stable offset is {found.last_stable_offset} of {found.high_watermark}"
                return


def make_topic(client: RawClient, topic: str, configs: dict[str, str]) -> None:
    made = CreatableTopic(
        name=topic,
        num_partitions=1,
        replication_factor=1,
        configs=[CreatableTopicConfig(name=name, value=value) for name, value in configs.items()],
    )
    answer = client.call(CreateTopicsRequest(topics=[made], timeout_ms=20_000), CreateTopicsResponse, 7)
    assert answer.topics[0].error_code == 0, answer


def fetch_committed(client: RawClient, topic: str, offset: int, max_wait_ms: int = 0) -> Any:
    """One answer, for who reads committed data; it waits where there is a while to wait."""
    wanted = FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=1 << 24)
    request = FetchRequest(
        max_wait_ms=max_wait_ms,
        min_bytes=1 << 24 if max_wait_ms else 1,
        isolation_level=1,
        topics=[FetchTopic(topic=topic, partitions=[wanted])],
    )
    return client.call(request, FetchResponse, 12).responses[0].partitions[0]


def committed_values(client: RawClient, topic: str) -> list[bytes]:
    """The values that a consumer with `read_committed` hands to its application."""
    values: list[bytes] = []
    offset = 0
    while True:
        found = fetch_committed(client, topic, offset)
        assert found.error_code == 0, found.error_code
        aborted = sorted((one.first_offset, one.producer_id) for one in found.aborted_transactions or [])
        open_aborted: set[int] = set()
        before = offset
        for header, piece in split_batches(bytes(found.records or b"")):
            while aborted and aborted[0][0] < header.next_offset:
                open_aborted.add(aborted.pop(0)[1])
            offset = header.next_offset
            records = list(iterate(header, piece))
            if header.is_control:
                _, kind = struct.unpack(">hh", bytes(records[0].key or b""))
                if kind == ABORT_MARKER:
                    open_aborted.discard(header.producer_id)
            elif not (header.is_transactional and header.producer_id in open_aborted):
                values += [bytes(record.value or b"") for record in records]
        if offset == before:
            return values


def compare(client: RawClient, race: Race) -> Iterator[str]:
    found = committed_values(client, race.topic)
    if tuple(found) != race.expected:
        yield f"who reads committed data sees {_short(found)}, to be seen was {_short(race.expected)}"


def _short(values: list[bytes] | tuple[bytes, ...]) -> list[bytes]:
    shown = [value[:8] for value in values]
    return shown if len(shown) < 6 else [*shown[:3], b"...", *shown[-2:]]


def campaign(seed: int, count: int) -> Report:
    """`count` races, `RACES_A_BROKER` on one broker, which is killed then."""
    report = Report(0, "races")
    while report.done < count and len(report.losses) < LOSSES_MAX:
        with (
            tempfile.TemporaryDirectory(prefix="odradek-races-") as folder,
            BrokerProcess(Path(folder), *SETTINGS) as broker,
        ):
            races = []
            with TxnPeer(broker.port, is_kafka=False) as peer:
                for number in range(report.done, min(report.done + RACES_A_BROKER, count)):
                    chance = random.Random(f"{seed} {number}")
                    race = Race.by(chance, number)
                    report.done += 1
                    try:
                        losses = list(Racer(peer, race, chance).run())
                    except AssertionError as error:
                        losses = [f"it does not go on: {error}"]
                    report.losses += [f"race {number}, {race}: {loss}" for loss in losses]
                    if not losses:
                        races.append(race)
            broker.kill()
            broker.start()
            with RawClient(broker.port) as client:
                for race in races:
                    losses = list(compare(client, race))
                    report.losses += [f"race {race.number}, {race}: after a kill {loss}" for loss in losses]
    return report
