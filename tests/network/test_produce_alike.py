"""Produce requests served without decoding them: the very bytes that decoding would have been answered with."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from odradek.clock import SystemClock
from odradek.descriptors import divide
from odradek.engines.interface import StorageFull
from odradek.errors import ErrorCode
from odradek.handlers import produce_alike
from odradek.handlers.produce_alike import SHAPE_POSITION, ProduceAlike, learn
from odradek.handlers.shortcut import Begun
from odradek.loop_scheduler import LoopScheduler
from odradek.network.connection import Connection
from odradek.protocol.decoding import decode
from odradek.protocol.framing import encode_request
from odradek.protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from odradek.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse
from odradek.protocol.messages.fetch import FetchResponse
from odradek.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from odradek.protocol.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from odradek.records.batch import read_header, split_batches
from odradek.records.builder import NewRecord, batch_bytes, build_batch
from odradek.server import Server
from tests.batches import with_header
from tests.network.test_connection import fetch_request, until
from tests.partitions.test_partition import HeldEngine, StillClock
from tests.raw_client import RawClient, batch, produce_request
from tests.serving import Serving

VERSIONS = range(3, 14)


class StillWall(StillClock):
    """Wall time stands still; timeouts pass as ever."""

    monotonic = staticmethod(SystemClock.monotonic)


class Held(Serving):
    """A broker in which nothing is durable before the test says so, where wall time stands still and ids repeat."""

    engine: HeldEngine

    def make_server(self) -> Server:
        self.engine = HeldEngine()
        self.engine.hold = False
        descriptors = divide(self.config, files=False, alone=False)
        return Server(self.config, self.engine, LoopScheduler(StillWall()), descriptors, choose=random.Random(1))


@contextmanager
def held(alike: bool, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Held, RawClient]]:
    """A broker that serves requests alike, or one that decodes each."""
    with monkeypatch.context() as patched:
        if not alike:
            patched.setattr(produce_alike, "SHAPES_MAX", 0)
        with Held(auto__create__topics__enable="false") as broker, RawClient(broker.port) as client:
            yield broker, client


def create(client: RawClient, name: str, partitions: int = 2, **configs: str) -> None:
    entries = [CreatableTopicConfig(name=key.replace("_", "."), value=value) for key, value in configs.items()]
    topic = CreatableTopic(name=name, num_partitions=partitions, replication_factor=1, configs=entries)
    answer = client.call(CreateTopicsRequest(topics=[topic]), CreateTopicsResponse, 5)
    assert answer.topics[0].error_code == 0


def topic_id(client: RawClient, name: str) -> bytes:
    answer = client.call(MetadataRequest(topics=[MetadataRequestTopic(name=name)]), MetadataResponse, 12)
    return bytes(answer.topics[0].topic_id)


def frame(
    topic: str,
    data: bytes | None,
    version: int = 9,
    *,
    correlation_id: int = 1,
    partition: int = 0,
    acks: int = 1,
    timeout_ms: int = 30_000,
    id_: bytes = bytes(16),
    client_id: str = "c",
) -> bytes:
    request = produce_request(topic, data, partition=partition, acks=acks)
    request.timeout_ms = timeout_ms
    request.topic_data[0].topic_id = id_
    return encode_request(request, version, correlation_id, client_id)


def served_alike(broker: Held) -> list[int]:
    """How many shapes each connection knows."""

    def known(one: Connection) -> int:
        return sum(
            len(learned.shapes) for learned, _ in one.pipeline.learned.values() if isinstance(learned, ProduceAlike)
        )

    return broker.look(lambda: [known(one) for one in broker.shared.connections])


def answers(client: RawClient, frames: list[bytes]) -> list[bytes]:
    out = []
    for one in frames:
        client.send_bytes(one)
        out.append(client.receive_frame())
    return out


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_is_answered_as_when_it_is_decoded(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[bytes]] = []
    for alike in (True, False):
        with held(alike, monkeypatch) as (broker, client):
            create(client, "t")
            ids = topic_id(client, "t")
            frames = [
                frame("t", batch(b"x" * number), version, correlation_id=-number, acks=acks, id_=ids)
                for acks in (1, -1)
                for number in (1, 2, 200, 20_000)
            ]
            seen.append(answers(client, frames))
            # Version 7 brought zstd, which those before are asked about one by one.
            assert served_alike(broker) == ([2] if alike and version >= 7 else [0])
            assert broker.look(lambda: broker.server.partitions.topics["t"].traffic.appended_batches) == 8
            assert broker.look(lambda: broker.shared.memory.used_bytes) == 0
    assert seen[0] == seen[1]
    last, _ = decode(ProduceResponse, version, seen[0][-1], 5 if version >= 9 else 4)
    assert last.responses[0].partition_responses[0].base_offset == 7


def corrupted(data: bytes) -> bytes:
    return data[:-1] + bytes((data[-1] ^ 1,))


def test_what_is_no_success_is_answered_as_when_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[bytes]] = []
    good = batch(b"good")
    for alike in (True, False):
        with held(alike, monkeypatch) as (broker, client):
            create(client, "t")
            create(client, "own-time", message_timestamp_type="LogAppendTime")
            create(client, "small", max_message_bytes="100")
            create(client, "keys", cleanup_policy="compact")
            create(client, "gone")
            frames = []
            for topic in ("t", "own-time", "small", "keys", "gone"):
                frames += [frame(topic, good, acks=acks) for acks in (1, -1, 1, -1)]
            frames += [
                frame("t", corrupted(good)),
                frame("t", good[:-1]),
                frame("t", good + good),
                frame("t", batch(b"zstd", codec=4)),
                frame("t", good, acks=2),
                frame("t", good, partition=1),
                frame("t", good, partition=1),
                frame("t", good, partition=2),
                frame("t", good, partition=2),
                frame("t", b""),
                frame("t", None),
                frame("no-such", good),
                frame("no-such", good),
                frame("__consumer_offsets", good),
                frame("__consumer_offsets", good),
                frame("small", batch(b"x" * 200)),
                frame("keys", good),
            ]
            for sequence in (0, 0, 1, 5, 1, 2):
                one = batch(b"s", producer_id=7, producer_epoch=0, base_sequence=sequence)
                frames.append(frame("t", one, acks=-1))
            answered = answers(client, frames)
            deleted = DeleteTopicsRequest(topic_names=["gone"], timeout_ms=30_000)
            assert client.call(deleted, DeleteTopicsResponse, 5).responses[0].error_code == 0
            answered += answers(client, [frame("gone", good), frame("gone", good, acks=-1)])
            broker.engine.refuse = StorageFull("no room")
            answered += answers(client, [frame("t", good), frame("t", good, acks=-1)])
            broker.engine.refuse = None
            answered += answers(client, [frame("t", good), frame("t", good, acks=-1)])
            seen.append(answered)
    assert seen[0] == seen[1]
    codes = [decode(ProduceResponse, 9, one, 5)[0].responses[0].partition_responses[0].error_code for one in seen[0]]
    # The first of each shape is decoded: these were not.
    assert codes[:8] == [0] * 8 and codes[20:23] == [ErrorCode.CORRUPT_MESSAGE, *[ErrorCode.INVALID_RECORD] * 2]
    assert {ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER} <= set(codes)
    assert codes[-6:] == [3, 3, 56, 56, 0, 0]


@pytest.mark.parametrize("seed", range(8))
def test_flushes_that_come_late_or_fail(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests in flight side by side, answered in their order when the flush ends."""
    seen: list[list[bytes]] = []
    for alike in (True, False):
        chance = random.Random(seed)
        with held(alike, monkeypatch) as (broker, client):
            create(client, "t")
            answered = answers(client, [frame("t", batch(b"first"), partition=number) for number in (0, 1)])
            for _ in range(4):
                broker.engine.hold = True
                begun = requests(broker)
                for number in range(8):
                    data = batch(b"x" * chance.choice((1, 300)))
                    acks, partition = chance.choice((1, -1, -1)), chance.choice((0, 0, 1))
                    client.send_bytes(frame("t", data, acks=acks, partition=partition, correlation_id=number))
                wait(broker, lambda broker, due=begun + 8: requests(broker) == due)  # type: ignore[misc]
                end = broker.engine.fail if chance.random() < 0.3 else broker.engine.flush
                broker.engine.hold = False
                broker.look(end)
                answered += [client.receive_frame() for _ in range(8)]
                wait(broker, lambda broker: all(one.log is not None for one in broker.server.partitions))
            seen.append(answered)
            assert served_alike(broker) == ([4] if alike else [0])
            assert broker.look(lambda: broker.shared.memory.used_bytes) == 0
    assert seen[0] == seen[1]


@pytest.mark.parametrize("seed", range(12))
def test_many_in_one_read(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that arrive together, those alike appended together: nobody can tell."""
    seen: list[list[bytes]] = []
    logs: list[list[bytes]] = []
    for alike in (True, False):
        chance = random.Random(seed)
        with held(alike, monkeypatch) as (broker, client):
            create(client, "t", max_message_bytes="600")
            answered = answers(client, [frame("t", batch(b"x"), partition=number) for number in (0, 1)])
            sequence = 0
            for burst in range(6):
                frames = []
                for number in range(chance.choice((5, 70, 100))):
                    partition = chance.choice((0, 0, 0, 0, 0, 0, 1))
                    kind = chance.choice(
                        ("plain",) * 12 + ("several", "long", "corrupt", "sequenced", "repeated", "unset")
                    )
                    if kind == "plain":
                        data = batch(b"x" * chance.choice((1, 300)))
                    elif kind == "several":
                        data = batch(b"x", b"y", b"z")
                    elif kind == "long":
                        data = batch(b"x" * 600)
                    elif kind == "corrupt":
                        data = corrupted(batch(b"x"))
                    elif kind == "unset":
                        # Looked into: at once, or in a thread.
                        codec = chance.choice((0, 0, 3))
                        data = with_header(
                            batch(b"x", b"y", codec=codec), max_timestamp=chance.choice((-1, 0, 1 << 50))
                        )
                    else:
                        sequence += kind == "sequenced"
                        data = batch(b"s", producer_id=7 + partition, producer_epoch=0, base_sequence=sequence)
                    acks = -1 if chance.random() < 0.9 else 1
                    frames.append(frame("t", data, acks=acks, partition=partition, correlation_id=number))
                if burst == 3:
                    broker.engine.refuse = StorageFull("no room")
                client.send_bytes(b"".join(frames))
                answered += [client.receive_frame() for _ in frames]
                broker.engine.refuse = None
            seen.append(answered)
            logs.append(
                [
                    broker.look(lambda one=one: b"".join(one.read(0, 1 << 20, True)))
                    for one in broker.server.partitions.topics["t"].partitions
                ]
            )
            assert broker.look(lambda: broker.server.partitions.topics["t"].traffic.appended_batches) > 50
            assert broker.look(lambda: broker.shared.memory.used_bytes) == 0
    assert seen[0] == seen[1] and logs[0] == logs[1]
    times = {header.max_timestamp for log in logs[0] for header, _ in split_batches(log)}
    assert times == {read_header(batch(b"x")).max_timestamp}


def test_versions_mixed_in_one_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Produce requests of versions 7 and 8 have the same bytes, their responses have not."""
    seen: list[list[bytes]] = []
    for alike in (True, False):
        with held(alike, monkeypatch) as (_, client):
            create(client, "t")
            frames = [frame("t", batch(b"x"), version, correlation_id=version) for version in (7, 8)]
            answered = answers(client, frames)
            client.send_bytes(b"".join(frames[::-1] * 3))
            answered += [client.receive_frame() for _ in range(6)]
            seen.append(answered)
    assert seen[0] == seen[1]


def test_a_batch_that_was_there_speaks_for_itself_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two requests alike the first is durable already: the second waits for its flush."""
    with held(True, monkeypatch) as (broker, client):
        create(client, "t")
        known, new = (batch(b"s", producer_id=7, producer_epoch=0, base_sequence=number) for number in (0, 1))
        answers(client, [frame("t", known, acks=-1)])
        broker.engine.hold = True
        client.send_bytes(frame("t", known, acks=-1) + frame("t", new, acks=-1))
        client.receive_frame()
        assert broker.look(lambda: [one.pipeline.open_count for one in broker.shared.connections]) == [1]
        assert broker.look(lambda: broker.server.partitions.topics["t"].partitions[0].offsets().high_watermark) == 1
        broker.engine.hold = False
        broker.look(broker.engine.flush)
        client.receive_frame()


def requests(broker: Held) -> int:
    return broker.shared.dispatch.counters[0].requests


def wait(broker: Held, sign: Callable[[Held], bool]) -> None:
    until(lambda: broker.look(lambda: sign(broker)), "the broker is there")


def test_what_is_not_durable_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[bytes]] = []
    for alike in (True, False):
        with held(alike, monkeypatch) as (broker, client):
            create(client, "t")
            answered = answers(client, [frame("t", batch(b"x"), acks=-1, timeout_ms=ms) for ms in (1, -1)])
            broker.engine.hold = True
            answered += answers(client, [frame("t", batch(b"x"), acks=-1, timeout_ms=1)] * 2)
            # One that has all the time there is, and one behind it that has none: they are answered in their order.
            client.send_bytes(frame("t", batch(b"x"), acks=-1, timeout_ms=-1))
            client.send_bytes(frame("t", batch(b"x"), acks=-1, timeout_ms=1))
            wait(
                broker,
                lambda broker: any(one.pieces for each in broker.shared.connections for one in each.pipeline.open),
            )
            broker.engine.hold = False
            broker.look(broker.engine.flush)
            seen.append(answered + [client.receive_frame() for _ in range(2)])
    assert seen[0] == seen[1]
    codes = [decode(ProduceResponse, 9, one, 5)[0].responses[0].partition_responses[0].error_code for one in seen[0]]
    assert codes == [0, 0, 7, 7, 0, 7]


def test_a_client_that_leaves_takes_nothing_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with held(True, monkeypatch) as (broker, client):
        create(client, "t")
        answers(client, [frame("t", batch(b"x"), acks=-1)])
        broker.engine.hold = True
        client.send_bytes(frame("t", batch(b"x"), acks=-1, timeout_ms=1) + frame("t", batch(b"x"), acks=-1))
        wait(broker, lambda broker: requests(broker) == 3)
        client.socket.close()
        wait(broker, lambda broker: not broker.shared.connections)
        broker.look(broker.engine.flush)
        broker.engine.hold = False
        with RawClient(broker.port) as other:
            assert other.produce("t", batch(b"y")).base_offset == 3
        assert broker.look(lambda: broker.shared.memory.used_bytes) == 0


def test_acks_0(monkeypatch: pytest.MonkeyPatch) -> None:
    with held(True, monkeypatch) as (_, client):
        create(client, "t")
        client.send_bytes(frame("t", batch(b"x"), acks=0) * 3)
        assert client.produce("t", batch(b"y")).base_offset == 3
        client.send_bytes(frame("t", corrupted(batch(b"x")), acks=0))
        assert client.is_closed()


def transactional(**more: int) -> bytes:
    return batch(b"x", producer_id=7, producer_epoch=0, base_sequence=0, transactional=True, **more)


def asked_0(topic: str, *datas: bytes, transactional_id: str | None = None) -> bytes:
    """A request with acks=0 for as many partitions as there are batches."""
    data = [PartitionProduceData(index=index, records=one) for index, one in enumerate(datas)]
    topics = [TopicProduceData(name=topic, partition_data=data)]
    request = ProduceRequest(acks=0, timeout_ms=1, topic_data=topics, transactional_id=transactional_id)
    return encode_request(request, 9, 1, "c")


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize(
    "refused",
    [
        asked_0("keys", batch(b"without a key")),
        asked_0("keys", batch(b"without a key", codec=3)),
        asked_0("t", batch(b"x", codec=3, timestamp_ms=1 << 50)),
        asked_0("t", batch(b"taken"), batch(b"x", codec=3, timestamp_ms=1 << 50)),
        asked_0("t", transactional(), transactional_id="nobody"),
    ],
    ids=["no key", "no key, compressed", "time", "time, one of two", "no transaction"],
)
def test_what_is_refused_late_closes_a_connection_without_acks(
    refused: bytes, learned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with held(learned, monkeypatch) as (broker, client):
        create(client, "keys", cleanup_policy="compact")
        create(client, "t")
        keyed = batch_bytes(build_batch([NewRecord(b"k", b"v", 1_700_000_000_000)]))
        # What is looked at and taken is not answered, also when its time is over, and closes nothing.
        client.send_bytes(asked_0("keys", keyed) * 2 + asked_0("t", batch(b"x")) * 2)
        assert client.call(MetadataRequest(topics=[]), MetadataResponse, 9).topics == []
        client.send_bytes(refused)
        assert client.is_closed()
        wait(broker, lambda broker: not broker.shared.connections)
        assert broker.look(lambda: broker.shared.memory.used_bytes) == 0


def test_another_kind_of_request_waits_for_those_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with held(True, monkeypatch) as (broker, client):
        create(client, "t")
        answers(client, [frame("t", batch(b"x"), acks=-1)])
        broker.engine.hold = True
        client.send_bytes(frame("t", batch(b"x"), acks=-1))
        client.send(MetadataRequest(topics=[]), 9)
        client.send_bytes(frame("t", batch(b"x"), acks=-1))
        wait(broker, lambda broker: len(next(iter(broker.shared.connections)).pipeline.waiting) == 2)
        assert broker.look(lambda: len(broker.engine.held)) == 1
        broker.engine.hold = False
        broker.look(broker.engine.flush)
        client.receive(ProduceResponse, 9)
        client.receive(MetadataResponse, 9)
        assert client.receive(ProduceResponse, 9).responses[0].partition_responses[0].base_offset == 2


def test_it_waits_behind_a_fetch_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    with held(True, monkeypatch) as (broker, client):
        create(client, "t")
        create(client, "u")
        answers(client, [frame("t", batch(b"x"))])
        client.send(fetch_request("u", 60_000), 12)
        client.send_bytes(frame("t", batch(b"x")))
        wait(broker, lambda broker: any(one.pipeline.waiting for one in broker.shared.connections))
        assert requests(broker) == 1
        with RawClient(broker.port) as other:
            other.produce("u", batch(b"wake"))
        client.receive(FetchResponse, 12)
        assert client.receive(ProduceResponse, 9).responses[0].partition_responses[0].base_offset == 1


def test_shapes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(produce_alike, "SHAPES_MAX", 5)
    with held(True, monkeypatch) as (broker, client):
        create(client, "t")
        frames = [frame("t", batch(b"x"), client_id="c" * length) for length in range(10)]
        assert len(answers(client, frames)) == 10
        assert served_alike(broker) == [produce_alike.SHAPE_LENGTHS_MAX]
        frames = [frame("t", batch(b"x"), client_id=f"{number:03}") for number in range(10)]
        assert len(answers(client, frames * 2)) == 20
        assert served_alike(broker) == [5]


def test_two_partitions_or_none_are_no_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    with held(True, monkeypatch) as (broker, client):
        create(client, "t")
        data = [PartitionProduceData(index=index, records=batch(b"x")) for index in (0, 1)]
        for topics in (
            [TopicProduceData(name="t", partition_data=data)],
            [TopicProduceData(name="t", partition_data=[one]) for one in data],
            [TopicProduceData(name="t", partition_data=[])],
            [],
        ):
            client.call(ProduceRequest(acks=1, timeout_ms=1000, topic_data=topics), ProduceResponse, 9)
        assert served_alike(broker) == [0]


# --- what is said in other bytes -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def broker() -> Iterator[Held]:
    with Held() as broker, RawClient(broker.port) as client:
        create(client, "t")
        yield broker


def learned(broker: Held, data: bytes, records: bytes) -> Any:
    request = produce_request("t", records, acks=1)
    return broker.look(lambda: learn(data, 0, len(data), request, 9, broker.shared.dispatch.broker))


def test_only_what_is_understood_to_the_last_byte_is_learned(broker: Held) -> None:
    records = batch(b"x")
    plain = frame("t", records)
    shape = learned(broker, plain, records)
    assert shape is not None and plain[SHAPE_POSITION:].startswith(shape.key)
    assert bytes(shape.records(plain, 0, len(plain))) == records
    # A tag at the end; a length in more bytes than it needs.
    assert learned(broker, plain[:-1] + b"\1\0\0", records) is None
    at = plain.index(records)
    assert learned(broker, plain[: at - 1] + bytes((plain[at - 1] | 0x80, 0)) + plain[at:], records) is None


def test_what_is_cut_or_continued_is_not_alike(broker: Held) -> None:
    records = batch(b"x")
    plain = frame("t", records)
    shape = learned(broker, plain, records)
    for end in range(shape.end, len(plain)):
        assert shape.records(plain[:end], 0, end) is None
    assert shape.records(plain + b"\0", 0, len(plain) + 1) is None
    assert shape.records(plain[:-1] + b"\1", 0, len(plain)) is None
    at = plain.index(records)
    for length in (b"\0", b"\1", b"\xff\xff\xff\xff\xff", b"\xff\xff\xff\xff\x0f"):
        changed = plain[: at - 1] + length + plain[at:]
        assert shape.records(changed, 0, len(changed)) is None


def test_as_many_as_can_be_are_taken_from_a_buffer(broker: Held) -> None:
    """Requests that lie in one buffer, and in several: one run, up to one that is not like the others."""
    records = batch(b"x")
    one, other = frame("t", records, correlation_id=1), frame("t", records, partition=1, correlation_id=2)

    def served() -> None:
        shortcut = ProduceAlike(broker.shared.dispatch.broker, 9)
        assert shortcut.take(one, 0, len(one)) == 0, "nothing is learned"
        request = produce_request("t", records, acks=1)
        assert shortcut.learn(one, 0, len(one), request)
        buffer = b"behind" + one * 3 + other + one
        assert shortcut.take(buffer, 6, len(buffer)) == 3 * len(one)
        assert shortcut.take(other, 0, len(other)) == 0
        assert shortcut.take(one * 2, len(one), 2 * len(one)) == len(one)
        outcomes = shortcut.begin(False)
        assert outcomes is not None
        (written,) = outcomes
        assert isinstance(written, Begun) and written.requests == 4 and written.waits_for is None
        many = one * (produce_alike.ALIKE_MAX + 1)
        assert shortcut.take(many, 0, len(many)) == produce_alike.ALIKE_MAX * len(one)
        assert shortcut.take(one, 0, len(one)) == 0, "the run is full"
        assert shortcut.begin(False) is not None
        assert shortcut.take(one, 0, len(one)) == len(one), "the next run"
        assert shortcut.begin(False) is not None

    broker.look(served)


def test_any_byte_changed_is_answered_as_when_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every byte of a request, one after the other, on a connection that knows its shape."""
    seen: list[list[bytes]] = []
    plain = frame("t", batch(b"x"), acks=1)
    for alike in (True, False):
        with held(alike, monkeypatch) as (broker, client):
            create(client, "t")
            answered = []
            for position in range(4, len(plain)):
                changed = bytearray(plain)
                changed[position] ^= 1
                with RawClient(broker.port) as peer:
                    answers(peer, [plain])
                    # What follows tells that the connection goes on, or was closed.
                    peer.send_bytes(bytes(changed) + plain)
                    peer.socket.shutdown(socket.SHUT_WR)
                    answered.append(b"".join(iter(lambda: peer.socket.recv(65536), b"")))
            seen.append(answered)
    assert seen[0] == seen[1]
    assert len(set(map(len, seen[0]))) > 3
