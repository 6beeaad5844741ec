"""Fetch requests served without decoding them: the very bytes that decoding would have been answered with."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from odradek.engines.interface import FileSpan
from odradek.engines.local import Disk
from odradek.engines.local.disk import WouldWait
from odradek.handlers import fetch_alike
from odradek.handlers.fetch_alike import FetchAlike, FetchShape
from odradek.protocol.framing import encode_request
from odradek.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse
from odradek.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from tests.adversity.serving_on_disk import ServingOnDisk
from tests.network.test_connection import until
from tests.network.test_produce_alike import create, topic_id
from tests.raw_client import Closed, RawClient, batch, records_of
from tests.serving import Serving

VERSIONS = range(4, 19)


@contextmanager
def serving(alike: bool, folder: Path | None, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Serving, RawClient]]:
    """A broker that serves requests alike, or one that decodes each."""
    with monkeypatch.context() as patched:
        if not alike:
            patched.setattr(fetch_alike, "SHAPES_MAX", 0)
        settings = {"auto__create__topics__enable": "false"}
        made = Serving(**settings) if folder is None else ServingOnDisk(folder / str(alike), Disk(), **settings)
        with made as broker, RawClient(broker.port) as client:
            yield broker, client


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What shapes were asked, and answered: 1, or left to the handler: 0."""
    seen: list[int] = []
    answer = FetchShape.answer

    def watched(self: FetchShape, buffer: bytes, start: int, spans: bool) -> Any:
        pieces = answer(self, buffer, start, spans)
        seen.append(pieces is not None)
        return pieces

    monkeypatch.setattr(FetchShape, "answer", watched)
    return seen


def frame(
    topic: str,
    offset: int,
    version: int = 11,
    *,
    correlation_id: int = 1,
    id_: bytes = bytes(16),
    partition: int = 0,
    max_wait_ms: int = 0,
    min_bytes: int = 1,
    max_bytes: int = 1 << 20,
    partition_max_bytes: int = 1 << 20,
    client_id: str = "c",
    session_epoch: int = -1,
    isolation_level: int = 0,
    **more: Any,
) -> bytes:
    wanted = FetchPartition(partition=partition, fetch_offset=offset, partition_max_bytes=partition_max_bytes, **more)
    request = FetchRequest(
        max_wait_ms=max_wait_ms,
        min_bytes=min_bytes,
        max_bytes=max_bytes,
        session_epoch=session_epoch,
        isolation_level=isolation_level,
        topics=[FetchTopic(topic=topic, topic_id=id_, partitions=[wanted])],
    )
    return encode_request(request, version, correlation_id, client_id)


def answers(client: RawClient, frames: list[bytes]) -> list[bytes]:
    out = []
    for one in frames:
        client.send_bytes(one)
        out.append(client.receive_frame())
    return out


def fill(client: RawClient, topic: str, count: int = 20) -> None:
    chance = random.Random(3)
    for number in range(count):
        values = [b"%d" % number * chance.choice((1, 30)) for _ in range(chance.choice((1, 3)))]
        assert client.produce(topic, batch(*values, timestamp_ms=1_700_000_000_000 + number)).error_code == 0


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_is_answered_as_when_it_is_decoded(
    version: int, on_disk: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: list[int]
) -> None:
    seen: list[list[bytes]] = []
    for alike in (True, False):
        with serving(alike, tmp_path if on_disk else None, monkeypatch) as (broker, client):
            create(client, "t")
            fill(client, "t")
            end = broker.look(lambda: broker.server.partitions.topics["t"].partitions[0].offsets().high_watermark)
            ids = topic_id(client, "t")
            offsets = [*range(end), 3, 5, end, end + 1, -1, 7]
            frames = [frame("t", at, version, correlation_id=-at, id_=ids) for at in offsets]
            # Where a batch is cut, and where nothing but the first batch fits.
            frames += [frame("t", at, version, id_=ids, partition_max_bytes=100) for at in range(6)]
            frames += [frame("t", at, version, id_=ids, max_bytes=250) for at in range(6)]
            before = broker.look(lambda: broker.server.partitions.topics["t"].traffic.fetched_bytes)
            answered = [one.replace(ids, b"-" * 16) for one in answers(client, frames)]
            after = broker.look(lambda: broker.server.partitions.topics["t"].traffic.fetched_bytes)
            requests = broker.look(lambda: broker.shared.dispatch.counters[1].requests)
            assert broker.look(lambda: broker.shared.memory.used_bytes) == 0
            seen.append([*answered, b"%d %d" % (after - before, requests)])
    assert seen[0] == seen[1]
    # The first of each of the three was decoded, and what is not in the log was left to the handler.
    assert sum(served) == (end + 3 - 1 + 10 if version >= 10 else 0)


def test_what_is_no_plain_answer_is_left_to_the_handler(monkeypatch: pytest.MonkeyPatch, served: list[int]) -> None:
    seen: list[list[bytes]] = []
    for alike in (True, False):
        with serving(alike, None, monkeypatch) as (_, client):
            create(client, "t")
            create(client, "gone")
            for topic in ("t", "gone"):
                fill(client, topic)
            both = [frame("t", at) for at in (0, 4)]
            both += [frame("t", 0, min_bytes=size) for size in (100, 1 << 30, 100, 1 << 30)]
            both += [frame("t", at, current_leader_epoch=epoch) for epoch in (0, 1, 0) for at in (1, 2)]
            both += [frame("t", at, version=12, last_fetched_epoch=0) for at in (1, 2)]
            both += [frame("t", at, isolation_level=1) for at in (1, 2)]
            both += [frame("t", at, partition=2) for at in (1, 2)]
            both += [frame("no-such", at) for at in (1, 2)]
            both += [frame("gone", at) for at in (1, 2)]
            answered = answers(client, both)
            deleted = DeleteTopicsRequest(topic_names=["gone"], timeout_ms=30_000)
            assert client.call(deleted, DeleteTopicsResponse, 5).responses[0].error_code == 0
            seen.append(answered + answers(client, [frame("gone", 3), frame("t", 3)]))
    assert seen[0] == seen[1] and 0 < sum(served) < len(served)


def test_any_byte_changed_is_answered_as_when_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[bytes]] = []
    for alike in (True, False):
        with serving(alike, None, monkeypatch) as (broker, client):
            create(client, "t")
            fill(client, "t", 4)
            one = frame("t", 1, 12)
            first, again = answers(client, [one, frame("t", 2, 12)])
            out = [first, again]
            # Behind the key and the version, which say what it is, and the session, which draws numbers.
            for place in range(8, len(one)):
                for bit in (0, 7):
                    changed = bytearray(one)
                    changed[place] ^= 1 << bit
                    with RawClient(broker.port) as other:
                        other.send_bytes(one)
                        out.append(other.receive_frame())
                        other.send_bytes(bytes(changed) + one)
                        other.socket.settimeout(5)
                        out.append(until_closed(other, 2))
            seen.append(out)
    assert seen[0] == seen[1]


def until_closed(client: RawClient, most: int) -> bytes:
    """What comes: responses, their session ids left out, or an end."""
    out = b""
    for _ in range(most):
        try:
            out += client.receive_frame()[14:]
        except (Closed, OSError):
            return out + b"closed"
    return out


def test_a_waiting_fetch_is_woken_though_others_were_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(True, None, monkeypatch) as (broker, client), RawClient(broker.port) as producer:
        create(client, "t")
        fill(client, "t", 2)
        end = broker.look(lambda: broker.server.partitions.topics["t"].partitions[0].offsets().high_watermark)
        answers(client, [frame("t", 0, max_wait_ms=60_000), frame("t", 0, max_wait_ms=60_000)])
        # One behind it waits for it, whatever it is alike.
        waiting = frame("t", end, max_wait_ms=60_000)
        client.send_bytes(waiting + frame("t", 0, max_wait_ms=60_000, correlation_id=2))
        until(lambda: broker.look(lambda: broker.server.partitions.counters.parked_fetches) == 1, "it waits")
        assert producer.produce("t", batch(b"new")).error_code == 0
        assert b"new" in client.receive_frame()
        assert client.receive_frame()[:4] == b"\0\0\0\2"


def test_a_fetch_waits_for_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(True, None, monkeypatch) as (broker, client), RawClient(broker.port) as producer:
        create(client, "t")
        fill(client, "t", 2)
        size = len(client.fetch("t", 0).records)
        answers(client, [frame("t", 0, min_bytes=size, max_wait_ms=60_000)] * 2)
        client.send_bytes(frame("t", 1, min_bytes=size, max_wait_ms=60_000))
        until(lambda: broker.look(lambda: broker.server.partitions.counters.parked_fetches) == 1, "it waits")
        assert producer.produce("t", batch(b"new" * size)).error_code == 0
        assert b"new" in client.receive_frame()


class ColdDisk(Disk):
    """On which nothing is in memory while `cold`."""

    cold = False

    def read_at(self, fd: int, size: int, position: int, wait: bool = True) -> bytearray:
        if self.cold and not wait:
            raise WouldWait
        return super().read_at(fd, size, position, wait)

    def span(self, fd: int, size: int, position: int) -> FileSpan | None:
        return None if self.cold else super().span(fd, size, position)


def test_what_is_not_in_memory_is_waited_for(tmp_path: Path, served: list[int]) -> None:
    disk = ColdDisk()
    with ServingOnDisk(tmp_path, disk) as broker, RawClient(broker.port) as client:
        create(client, "t")
        fill(client, "t")
        answers(client, [frame("t", 0), frame("t", 1)])
        assert served == [1]
        disk.cold = True
        (answer,) = answers(client, [frame("t", 0)])
        disk.cold = False
        assert served == [1, 0]
        assert answers(client, [frame("t", 0)]) == [answer]


def test_shapes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(True, None, monkeypatch) as (broker, client):
        create(client, "t")
        fill(client, "t", 2)
        for number in range(2 * fetch_alike.LEARNED_MAX):
            answers(client, [frame("t", 0, client_id="c" * (number % 7), max_wait_ms=number)])
        (one,) = broker.look(lambda: list(broker.shared.connections))
        (known,) = (learned for learned, _ in one.pipeline.learned.values() if isinstance(learned, FetchAlike))
        assert len(known.shapes) <= fetch_alike.SHAPES_MAX
        assert known.learned <= fetch_alike.LEARNED_MAX
        assert records_of(client.fetch("t", 0).records)[0].offset == 0
