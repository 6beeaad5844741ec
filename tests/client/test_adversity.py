"""The client against brokers that fail, move, lie or keep silent: what was written is written once and in order, what
is read is true, and the end is one sentence."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest

from odradek.client.cluster import Client
from odradek.client.consumer import Consumer
from odradek.client.failures import ClientFailed, ConnectionLost
from odradek.client.producer import Producer
from odradek.errors import ErrorCode
from odradek.protocol.framing import encode_response
from odradek.protocol.messages.api_versions import ApiVersionsResponse
from odradek.protocol.messages.fetch import FetchableTopicResponse, FetchResponse, PartitionData
from odradek.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from odradek.protocol.messages.list_offsets import (
    ListOffsetsPartitionResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)
from odradek.protocol.messages.produce import (
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceResponse,
)
from odradek.records.batch import check_batch
from odradek.records.builder import NewRecord, batch_bytes, build_batch
from odradek.records.iteration import iterate
from tests.client.scripted_broker import TOPIC, Answer, Close, ScriptedBroker, Silence, scripted

PRODUCER_ID = 4242


class Log:
    """A leader that keeps sequence numbers as Kafka does, and fails by a seed."""

    def __init__(self, seed: int, trouble: float) -> None:
        self.random = random.Random(seed)
        self.trouble = trouble
        self.values: dict[int, list[bytes]] = {}
        self.next_sequence: dict[int, int] = {}
        self.last: dict[int, int] = {}

    def append(self, partition: int, data: Any) -> int:
        batch = check_batch(bytes(data)).header
        assert batch.producer_id == PRODUCER_ID
        expected = self.next_sequence.get(partition, 0)
        if batch.base_sequence == self.last.get(partition):
            return ErrorCode.NONE  # a duplicate, answered like the first
        if batch.base_sequence != expected:
            return ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        self.values.setdefault(partition, []).extend(r.value or b"" for r in iterate(batch, data))
        self.last[partition] = expected
        self.next_sequence[partition] = batch.last_sequence + 1
        return ErrorCode.NONE

    def __call__(self, request: Any, version: int) -> Answer:
        if isinstance(request, InitProducerIdRequest):
            return InitProducerIdResponse(producer_id=PRODUCER_ID, producer_epoch=0)
        assert isinstance(request, ProduceRequest)
        kind = self.random.random() / self.trouble if self.trouble else 9.0
        if kind < 0.3:
            return Close()  # before the write
        answers = []
        for data in request.topic_data[0].partition_data:
            if 0.3 <= kind < 0.6 and self.random.random() < 0.5:
                code: int = self.random.choice(
                    [ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.KAFKA_STORAGE_ERROR]
                )
            else:
                code = self.append(data.index, data.records)
            answers.append(PartitionProduceResponse(index=data.index, error_code=code))
        if 0.6 <= kind < 1:
            return Close()  # after the write
        return ProduceResponse(responses=[TopicProduceResponse(name=TOPIC, partition_responses=answers)])


@pytest.mark.parametrize("seed", range(6))
def test_every_record_is_written_once_and_in_order(seed: int) -> None:
    log = Log(seed, trouble=0.4)
    with scripted(log, partitions=3) as broker, Client(broker.address, timeout_s=20) as client:
        producer = Producer(client, TOPIC, batch_bytes=300, random_source=random.Random(seed))
        chooser = random.Random(seed + 1)
        given: dict[int, list[bytes]] = {}
        for i in range(1500):
            partition = chooser.randrange(3)
            value = b"%d" % i
            producer.add(None, value, 1000 + i, partition=partition)
            given.setdefault(partition, []).append(value)
        producer.flush()
        assert log.values == given
        assert producer.sent_records == 1500


def test_large_amounts_are_sent_while_more_is_collected() -> None:
    log = Log(0, trouble=0)
    with scripted(log) as broker, Client(broker.address) as client:
        producer = Producer(client, TOPIC, batch_bytes=262_144)
        for _ in range(60):
            producer.add(None, bytes(100_000), 1)
        assert producer.sent_records > 0
        producer.flush()
        assert len(log.values[0]) == 60


def test_sequence_numbers_wrap() -> None:
    log = Log(0, trouble=0)
    with scripted(log) as broker, Client(broker.address) as client:
        producer = Producer(client, TOPIC, batch_bytes=1024)
        start = 2**31 - 100
        producer._sequences[0] = log.next_sequence[0] = start
        log.last[0] = -1

        def wrapping(request: Any, version: int) -> Answer:
            answer = log(request, version)
            log.next_sequence[0] &= 0x7FFFFFFF
            return answer

        broker.script = wrapping
        for i in range(1000):
            producer.add(None, b"%d" % i, 1)
        producer.flush()
        assert log.values[0] == [b"%d" % i for i in range(1000)]


def test_what_cannot_pass_by_itself_ends_at_once() -> None:
    def refuse(request: Any, version: int) -> Answer:
        if isinstance(request, InitProducerIdRequest):
            return InitProducerIdResponse(producer_id=1, producer_epoch=0)
        answer = PartitionProduceResponse(
            index=0, error_code=ErrorCode.TOPIC_AUTHORIZATION_FAILED, error_message="Not yours."
        )
        return ProduceResponse(responses=[TopicProduceResponse(name=TOPIC, partition_responses=[answer])])

    with scripted(refuse) as broker, Client(broker.address) as client:
        producer = Producer(client, TOPIC)
        producer.add(None, b"x", 1)
        with pytest.raises(ClientFailed, match=r"Not yours \(TOPIC_AUTHORIZATION_FAILED\) \(0 records"):
            producer.flush()


@pytest.mark.parametrize("answer", [Close(), Silence()])
def test_a_broker_that_never_answers_is_given_up(answer: Answer) -> None:
    def script(request: Any, version: int) -> Answer:
        if isinstance(request, InitProducerIdRequest):
            return InitProducerIdResponse(producer_id=1, producer_epoch=0)
        return answer

    with scripted(script) as broker, Client(broker.address, timeout_s=0.5) as client:
        producer = Producer(client, TOPIC)
        producer.add(None, b"x", 1)
        with pytest.raises(ClientFailed, match=r"gave up after 0\.5 s"):
            producer.flush()
    with scripted(script) as broker, Client(broker.address, timeout_s=0.5) as client:
        client.topic(TOPIC)
        with pytest.raises(ClientFailed, match=r"gave up after 0\.5 s"):
            client.offsets(TOPIC, {0: -1})
        consumer = Consumer(client, TOPIC, {0: 0})
        with pytest.raises(ClientFailed, match=r"gave up after 0\.5 s"):
            while True:
                assert list(consumer.poll()) == []


# --- connecting ------------------------------------------------------------------------------------------------------


def never(request: Any, version: int) -> Answer:
    raise AssertionError("not to be asked")


def test_an_older_broker_is_asked_again_in_its_own_version() -> None:
    def old(request: Any, version: int) -> Answer:
        if version == 0:
            return broker.answer_api_versions(request, version)
        # Such a broker answers in version 0, whatever was asked.
        pieces = encode_response(ApiVersionsResponse(error_code=ErrorCode.UNSUPPORTED_VERSION), 0, 1)
        return b"".join(bytes(piece) for piece in pieces)

    with scripted(never) as broker:
        broker.api_versions = old
        with Client(broker.address) as client:
            assert [topic.name for topic in client.metadata(None).topics] == [TOPIC]


def test_a_version_that_neither_knows() -> None:
    with scripted(never) as broker:
        broker.ranges[22] = (90, 99)
        with Client(broker.address) as client, pytest.raises(ClientFailed, match="does not serve InitProducerId"):
            Producer(client, TOPIC)


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "a response of"),
        (struct.pack(">i", -1), "a response of -1 bytes"),
        (struct.pack(">ii", 5, 1) + b"\0", "not Kafka's protocol"),
        (struct.pack(">iih", 8, 1, 0) + b"\x7f\xff", "not Kafka's protocol"),
    ],
)
def test_what_does_not_speak_kafka(frame: bytes, why: str) -> None:
    with scripted(never) as broker:
        broker.api_versions = lambda request, version: frame
        with Client(broker.address) as client, pytest.raises(ConnectionLost, match=why):
            client.metadata(None)


def test_an_answer_to_another_question() -> None:
    def other(request: Any, version: int) -> Answer:
        return b"".join(bytes(p) for p in encode_response(InitProducerIdResponse(), version, 999))

    with (
        scripted(other) as broker,
        Client(broker.address) as client,
        pytest.raises(ConnectionLost, match="was not asked"),
    ):
        Producer(client, TOPIC)


# --- reading ---------------------------------------------------------------------------------------------------------


def batch(base_offset: int, *values: bytes, **fields: Any) -> bytes:
    return batch_bytes(build_batch([NewRecord(None, value, 1) for value in values], base_offset=base_offset, **fields))


def fetched(records: bytes, code: int = 0) -> FetchResponse:
    data = PartitionData(partition_index=0, error_code=code, high_watermark=100, records=records)
    return FetchResponse(responses=[FetchableTopicResponse(topic=TOPIC, partitions=[data])])


def read(broker: ScriptedBroker, position: int, end: int, notes: list[str] | None = None) -> list[tuple[int, bytes]]:
    with Client(broker.address, timeout_s=5) as client:
        client.topic(TOPIC)
        consumer = Consumer(client, TOPIC, {0: position}, {0: end}, note=(notes if notes is not None else []).append)
        out = []
        while not consumer.is_done:
            out += [(record.offset, record.value or b"") for _, _, record in consumer.poll()]
        return out


def test_records_before_the_position_and_cut_batches_are_left_out() -> None:
    stored = [batch(0, b"a", b"b", b"c"), batch(3, b"d", b"e", codec=4), batch(5, b"f")]

    def script(request: Any, version: int) -> Answer:
        offset = request.topics[0].partitions[0].fetch_offset
        index = 0 if offset < 3 else 1 if offset < 5 else 2
        data = b"".join(stored[index:])
        return fetched(data[: len(stored[index]) + 20])

    with scripted(script) as broker:
        assert read(broker, 1, 6) == [(1, b"b"), (2, b"c"), (3, b"d"), (4, b"e"), (5, b"f")]


def test_control_records_are_passed_over() -> None:
    control = batch_bytes(
        build_batch([NewRecord(b"\0\0\0\1", b"", 1)], base_offset=1, control=True, producer_id=1, producer_epoch=0)
    )
    with scripted(lambda request, version: fetched(batch(0, b"a") + control + batch(2, b"b"))) as broker:
        assert read(broker, 0, 3) == [(0, b"a"), (2, b"b")]


def damaged(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (damaged(batch(0, b"a")), "checksum"),
        (batch(0, b"a")[:16] + b"\1" + batch(0, b"a")[17:], "old format"),
        (batch(0, b"a")[:50], "no whole batch"),
    ],
)
def test_what_is_damaged_is_never_passed_over(data: bytes, why: str) -> None:
    with (
        scripted(lambda request, version: fetched(data)) as broker,
        pytest.raises(ClientFailed, match=f"{TOPIC}-0 at offset 0: .*{why}"),
    ):
        read(broker, 0, 1)


def test_a_partition_that_moves_and_loses_its_beginning() -> None:
    answers = [
        fetched(b"", ErrorCode.NOT_LEADER_OR_FOLLOWER),
        fetched(batch(0, b"a")),
        Close(),
        fetched(b"", ErrorCode.OFFSET_OUT_OF_RANGE),
        fetched(b""),
        fetched(batch(7, b"b")),
    ]

    def script(request: Any, version: int) -> Answer:
        if isinstance(request, ListOffsetsRequest):
            found = ListOffsetsPartitionResponse(partition_index=0, offset=7)
            return ListOffsetsResponse(topics=[ListOffsetsTopicResponse(name=TOPIC, partitions=[found])])
        return answers.pop(0)

    notes: list[str] = []
    with scripted(script) as broker:
        assert read(broker, 0, 8, notes) == [(0, b"a"), (7, b"b")]
    assert len(notes) == 1 and "begins at offset 7" in notes[0]
