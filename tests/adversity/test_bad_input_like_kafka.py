"""The same bad input to Apache Kafka and to Odradek: the same code, or a closed connection from both."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator

import pytest

from odradek.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from tests.adversity.test_bad_input import GOOD, lying_body, patched, signed
from tests.raw_client import Closed, RawClient, batch
from tests.serving import Serving

BATCHES: dict[str, bytes | None] = {
    "none": None,
    "empty": b"",
    "header cut": GOOD[:20],
    "body cut": GOOD[:-1],
    "two": GOOD + GOOD,
    "bytes after": GOOD + b"\0",
    "wrong checksum": patched(len(GOOD) - 1, b"?"),
    "negative length": patched(8, struct.pack(">i", -1)),
    "length 0": patched(8, struct.pack(">i", 0)),
    "length of a header less one": patched(8, struct.pack(">i", 48)),
    "length too long": patched(8, struct.pack(">i", 2**31 - 1)),
    "magic 0": patched(16, b"\0"),
    "magic 1": patched(16, b"\1"),
    "magic 3": patched(16, b"\3"),
    "magic -1": patched(16, b"\xff"),
    "count too high": signed(record_count=5),
    "count negative": signed(record_count=-1),
    "delta too high": signed(last_offset_delta=5),
    "nothing in it": signed(record_count=0, last_offset_delta=-1),
    "control": signed(attributes=0x20),
    "codec 5": signed(attributes=5),
    "codec 7": signed(attributes=7),
    "future": signed(base_timestamp=10**15, max_timestamp=10**15),
    "base offset 7": patched(0, struct.pack(">q", 7)),
    "producer without sequence": signed(producer_id=5),
    "producer without epoch": signed(producer_id=5, base_sequence=0),
    "too large": batch(bytes(1_100_000)),
}
# Where we differ, and mean to: Kafka's code, or None where it never answers, and ours.
DIFFERENT: dict[str, tuple[int | None, int]] = {
    "none": (None, 87),
    "length too long": (-1, 87),
    "codec 5": (-1, 87),
    "codec 7": (-1, 87),
    # Kafka drops what it cannot read there, and takes an id without an epoch.
    "bytes after": (0, 87),
    "producer without epoch": (0, 87),
}
# Lengths below -1 are no lengths; Kafka takes them for -1.
STRICTER_FRAMES = {"client id of length -2", "array of length -2"}
FRAMES: dict[str, bytes] = {
    "size 0": struct.pack(">i", 0),
    "size -1": struct.pack(">i", -1),
    "size 2 GiB": struct.pack(">i", 2**31 - 1),
    "size 3": struct.pack(">i", 3) + b"abc",
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "unknown api": struct.pack(">ihhih", 10, 999, 0, 1, -1),
    "negative api": struct.pack(">ihhih", 10, -1, 0, 1, -1),
    "unknown version": struct.pack(">ihhih", 10, 3, 99, 1, -1),
    "negative version": struct.pack(">ihhih", 10, 3, -1, 1, -1),
    "produce 2": struct.pack(">ihhih", 10, 0, 2, 1, -1),
    "client id too long": struct.pack(">ihhih", 10, 18, 0, 1, 1000),
    "client id of length -2": struct.pack(">ihhih", 10, 18, 0, 1, -2),
    "array too long": struct.pack(">ihhihi", 14, 3, 1, 1, -1, 2**31 - 1),
    "array of length -2": struct.pack(">ihhihi", 14, 3, 1, 1, -1, -2),
    "bytes after": struct.pack(">ihhihi", 18, 3, 1, 1, -1, 0) + b"more",
}


@pytest.fixture(scope="module")
def ports(kafka_port: int) -> Iterator[tuple[int, int]]:
    with Serving() as own:
        yield kafka_port, own.port


@pytest.fixture(scope="module")
def topic(ports: tuple[int, int]) -> str:
    name = f"bad-{uuid.uuid4().hex[:8]}"
    for port in ports:
        with RawClient(port) as client:
            made = create(client, name)
            assert made == 0
            # Kafka's leader is there a moment after the topic is.
            for _ in range(200):
                if client.produce(name, GOOD).error_code == 0:
                    break
            else:
                raise AssertionError("the topic never came")
    return name


def create(client: RawClient, name: str) -> int:
    wanted = CreatableTopic(name=name, num_partitions=1, replication_factor=1)
    request = CreateTopicsRequest(topics=[wanted], timeout_ms=10_000)
    return client.call(request, CreateTopicsResponse, 5).topics[0].error_code


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("acks", [-1, 1])
def test_batches(ports: tuple[int, int], topic: str, name: str, acks: int) -> None:
    kafkas, ours = DIFFERENT.get(name, (None, None))
    answers: list[tuple[int, bool]] = []
    for port in ports:
        if name in DIFFERENT and kafkas is None and port == ports[0]:
            continue
        with RawClient(port) as client:
            answer = client.produce(topic, BATCHES[name], acks=acks)
            answers.append((answer.error_code, answer.base_offset >= 0))
    if ours is None:
        assert answers[0] == answers[1]
    else:
        assert [code for code, _ in answers] == [code for code in (kafkas, ours) if code is not None]


@pytest.mark.parametrize("acks", [2, 5, -2])
def test_acks(ports: tuple[int, int], topic: str, acks: int) -> None:
    answers = []
    for port in ports:
        with RawClient(port) as client:
            answers.append(client.produce(topic, GOOD, acks=acks).error_code)
    assert answers[0] == answers[1]


@pytest.mark.parametrize("name", FRAMES)
def test_frames(ports: tuple[int, int], name: str) -> None:
    """Both answer with a response, or both close."""
    answered = []
    for port in ports:
        with RawClient(port) as client:
            client.send_bytes(FRAMES[name])
            try:
                client.receive_frame()
                answered.append(True)
            except Closed:
                answered.append(False)
    assert answered == ([True, False] if name in STRICTER_FRAMES else [answered[0]] * 2)


@pytest.mark.parametrize("name", ["../x", "", ".", "..", "x" * 249, "x" * 250, "a/b", "a\0b", "grün", "a b"])
def test_names(ports: tuple[int, int], name: str) -> None:
    answers = []
    for port in ports:
        with RawClient(port) as client:
            answers.append((create(client, name), client.produce(name + "?", GOOD).error_code))
    assert answers[0] == answers[1]


def test_a_body_that_lies_is_refused_by_both_or_kept_by_ours(ports: tuple[int, int], topic: str) -> None:
    """Kafka looks into the records of every batch; a plain topic here does not, which its readers must survive."""
    codes = []
    for port in ports:
        with RawClient(port) as client:
            codes.append(client.produce(topic, lying_body(b"\xff" * 40)).error_code)
    assert codes[0] != 0 and codes[1] == 0
