"""What each client writes, each client reads, whole; and finds by offset and by time."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from odradek.records.batch import split_batches
from tests.broker import BrokerProcess
from tests.clients.driver import CODECS, Acknowledged, ClientError, Driver, Feature, Record, Stored
from tests.clients.every import case, every_client
from tests.raw_client import RawClient

BASE_MS = 1_700_000_000_000

# Text, so that kcat's JSON shows it whole; one order of timestamps that is not the order of offsets.
CORPUS = (
    Record(b"key", b"value", (), BASE_MS),
    Record(None, b"a value without a key", (), BASE_MS + 500),
    Record(b"a tombstone", None, (), BASE_MS + 200),
    Record(b"", b"", (), BASE_MS + 300),
    Record(b"headers", b"v", (("one", b"1"), ("two", b""), ("one", b"again")), BASE_MS + 300),
    Record("schlüssel".encode(), "värde ✓".encode(), (("ключ", "значение".encode()),), BASE_MS + 300),
    Record(b"long", b"abcdefghij" * 3000, (), BASE_MS + 400),
)
NEITHER = Record(None, None, (), BASE_MS + 450)
NULL_HEADER = Record(b"null header", b"v", (("none", None), ("some", b"1")), BASE_MS + 450)
BINARY = Record(bytes(range(256)), bytes(range(255, -1, -1)), (("bytes", bytes(range(256))),), BASE_MS + 450)
# All that kcat's producer can send.
PLAIN = tuple(Record(b"k%d" % index, b"v%d" % index if index % 3 else None, (("h", b"1"),)) for index in range(8))
PLAIN += (Record(b"long", b"abcdefghij" * 3000, (("h", b"1"),)),)

Written = Callable[[Driver], tuple[str, list[Record]]]


@pytest.fixture(scope="session")
def written(bootstrap: str, drivers: dict[str, Driver]) -> Written:
    """What a client has written, with every codec: the topic, and the records in order; written at the first call."""
    done: dict[str, tuple[str, list[Record]]] = {}

    def write(writer: Driver) -> tuple[str, list[Record]]:
        if writer.name not in done:
            topic, records = f"written-by-{writer.name}", []
            drivers["confluent-kafka"].create_topic(bootstrap, topic, 1)
            corpus = list(CORPUS if Feature.WHOLE_RECORDS in writer.features else PLAIN)
            if Feature.NULL_HEADER_VALUES in writer.features:
                corpus.append(NULL_HEADER)
            if Feature.NEITHER_KEY_NOR_VALUE in writer.features:
                corpus.append(NEITHER)
            for codec in CODECS:
                told = writer.produce(bootstrap, topic, corpus, codec=codec)
                if Feature.WHOLE_RECORDS in writer.features:
                    assert told == [
                        Acknowledged(0, len(records) + index, told[index].timestamp_ms and record.timestamp_ms)
                        for index, record in enumerate(corpus)
                    ]
                records += corpus
            done[writer.name] = topic, records
        return done[writer.name]

    return write


@pytest.fixture
def writer(request: pytest.FixtureRequest, drivers: dict[str, Driver]) -> Driver:
    return drivers[request.param]


@pytest.fixture
def reader(request: pytest.FixtureRequest, drivers: dict[str, Driver]) -> Driver:
    return drivers[request.param]


def without_times(records: list[Record]) -> list[Record]:
    return [record._replace(timestamp_ms=None) for record in records]


def by_header_name(records: list[Record]) -> list[Record]:
    """The values of one name stay in their order."""
    return [record._replace(headers=tuple(sorted(record.headers, key=lambda one: one[0]))) for record in records]


@case("plain producer, read whole by all others")
@every_client(argument="reader")
@every_client(argument="writer")
def test_what_one_writes_another_reads(bootstrap: str, written: Written, writer: Driver, reader: Driver) -> None:
    topic, sent = written(writer)
    found = reader.read(bootstrap, topic, count=len(sent))
    assert [one.offset for one in found] == list(range(len(sent)))
    read = [one.record for one in found]
    assert all(record.timestamp_ms is not None for record in read)
    if Feature.WHOLE_RECORDS not in writer.features:
        read = without_times(read)
    if Feature.HEADERS_IN_ORDER not in reader.features:
        read, sent = by_header_name(read), by_header_name(sent)
    assert read == sent


@case("codec {codec}")
@pytest.mark.parametrize("codec", CODECS)
@every_client(argument="writer")
def test_the_codec_is_kept(broker: BrokerProcess, written: Written, writer: Driver, codec: str) -> None:
    topic, sent = written(writer)
    with RawClient(broker.port) as raw:
        data = raw.fetch(topic, 0).records
    each = len(sent) // len(CODECS)
    first = CODECS.index(codec) * each
    found = {CODECS[header.codec] for header, _ in split_batches(data) if first <= header.base_offset < first + each}
    # librdkafka leaves a batch uncompressed when that is smaller.
    assert codec in found and found <= {codec, "none"}


@case("any bytes, headers, nulls; large records")
@every_client(Feature.WHOLE_RECORDS)
def test_any_bytes(bootstrap: str, admin: Driver, driver: Driver, topic: str) -> None:
    admin.create_topic(bootstrap, topic, 1)
    driver.produce(bootstrap, topic, [BINARY])
    assert driver.read(bootstrap, topic, count=1) == [Stored(0, BINARY)]


@case("idempotent producer")
@every_client()
def test_an_idempotent_producer(
    broker: BrokerProcess, bootstrap: str, admin: Driver, driver: Driver, topic: str
) -> None:
    admin.create_topic(bootstrap, topic, 1)
    driver.produce(bootstrap, topic, PLAIN, idempotent=True)
    assert without_times([one.record for one in driver.read(bootstrap, topic, count=len(PLAIN))]) == list(PLAIN)
    with RawClient(broker.port) as raw:
        headers = [header for header, _ in split_batches(raw.fetch(topic, 0).records)]
    assert headers[0].producer_id >= 0
    assert [header.base_sequence for header in headers] == [header.base_offset for header in headers]


@case("any bytes, headers, nulls; large records")
@every_client(Feature.WHOLE_RECORDS)
def test_a_large_record_and_one_too_large(bootstrap: str, admin: Driver, driver: Driver, topic: str) -> None:
    admin.create_topic(bootstrap, topic, 1)
    large = Record(b"large", random.Random(1).randbytes(900_000), (), BASE_MS)
    driver.produce(bootstrap, topic, [large])
    with pytest.raises(ClientError) as refused:
        driver.produce(bootstrap, topic, [large._replace(value=bytes(1_100_000))])
    assert refused.value.name in ("MESSAGE_TOO_LARGE", "RECORD_TOO_LARGE")
    assert driver.read(bootstrap, topic, count=1) == [Stored(0, large)]
    assert driver.watermarks(bootstrap, topic) == (0, 1)


@pytest.fixture(scope="session")
def ten(bootstrap: str, drivers: dict[str, Driver]) -> str:
    """A topic with ten records, 100 ms apart, in the second of two partitions."""
    confluent = drivers["confluent-kafka"]
    confluent.create_topic(bootstrap, "ten", 2)
    records = [Record(None, b"%d" % index, (), BASE_MS + index * 100) for index in range(10)]
    confluent.produce(bootstrap, "ten", records, partition=1)
    return "ten"


@case("beginning, end, seek by offset and time")
@every_client()
def test_seek_by_offset(bootstrap: str, driver: Driver, ten: str) -> None:
    found = driver.read(bootstrap, ten, partition=1, start=7, count=3)
    assert [(one.offset, one.record.value) for one in found] == [(7, b"7"), (8, b"8"), (9, b"9")]


@case("beginning, end, seek by offset and time")
@every_client()
def test_seek_by_time(bootstrap: str, driver: Driver, ten: str) -> None:
    assert driver.offset_for_time(bootstrap, ten, BASE_MS - 1, partition=1) == 0
    assert driver.offset_for_time(bootstrap, ten, BASE_MS + 300, partition=1) == 3
    assert driver.offset_for_time(bootstrap, ten, BASE_MS + 301, partition=1) == 4
    assert driver.offset_for_time(bootstrap, ten, BASE_MS + 901, partition=1) is None
    assert driver.offset_for_time(bootstrap, ten, BASE_MS, partition=0) is None


@case("beginning, end, seek by offset and time")
@every_client()
def test_beginning_and_end(bootstrap: str, driver: Driver, ten: str) -> None:
    assert driver.watermarks(bootstrap, ten, partition=1) == (0, 10)
    assert driver.watermarks(bootstrap, ten, partition=0) == (0, 0)


TRANSACTIONS = 5


@case("transactions committed and aborted")
@every_client(Feature.TRANSACTIONS)
def test_transactions(bootstrap: str, driver: Driver, admin: Driver) -> None:
    """What was aborted is in the log, and read by nobody who reads committed records."""
    topic = f"transactions-{driver.name}"
    admin.create_topic(bootstrap, topic, 1)
    driver.transact(bootstrap, f"{driver.name}-transactions", topic, TRANSACTIONS)
    assert committed(bootstrap, topic) == [b"committed"] * TRANSACTIONS
    everything = committed(bootstrap, topic, isolation="read_uncommitted")
    assert sorted(everything) == [b"aborted"] * TRANSACTIONS + [b"committed"] * TRANSACTIONS


def committed(bootstrap: str, topic: str, isolation: str = "read_committed") -> list[bytes | None]:
    """A topic's only partition, read to its end."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": topic,
            "isolation.level": isolation,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
        }
    )
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    found = []
    try:
        while True:
            message = consumer.poll(30)
            assert message is not None, found
            if (error := message.error()) is None:
                found.append(message.value())
            else:
                assert error.code() == KafkaError._PARTITION_EOF, error
                return found
    finally:
        consumer.close()
