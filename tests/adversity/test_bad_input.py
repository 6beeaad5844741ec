"""Bad input against the broker as its users run it: the peer gets Kafka's answer, the log names what was wrong, memory
stays bounded, nothing is lost, and a bystander who produces and fetches all the while notices nothing."""

from __future__ import annotations

import random
import re
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from odradek.errors import ErrorCode
from odradek.protocol.decoding import decode
from odradek.protocol.encoding import encode
from odradek.protocol.framing import encode_request
from odradek.protocol.messages.api_versions import ApiVersionsResponse
from odradek.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from odradek.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from odradek.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from odradek.protocol.messages.produce import ProduceResponse
from odradek.protocol.registry import APIS
from odradek.records.batch import HEADER_BYTES, RecordBatch, read_header
from odradek.records.builder import NewRecord, batch_bytes, build_batch
from tests.broker import BrokerProcess
from tests.protocol.random_messages import random_message
from tests.raw_client import Closed, RawClient, batch, produce_request, records_of

MEMORY_BOUND_MB = 60
GOOD = batch(b"value")


class Bystander(threading.Thread):
    """Produces and fetches, each record checked, until it is told to stop; what went wrong is in `failure`."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.stopping = threading.Event()
        self.failure: BaseException | None = None
        self.rounds = 0

    def run(self) -> None:
        try:
            with RawClient(self.port) as client:
                make_topic(client, "bystander")
                while not self.stopping.is_set():
                    value = b"%d" % self.rounds
                    written = client.produce("bystander", batch(value))
                    assert (written.error_code, written.base_offset) == (0, self.rounds)
                    (record,) = records_of(client.fetch("bystander", self.rounds).records)
                    assert record.value == value
                    self.rounds += 1
        except BaseException as error:  # noqa: BLE001 - told to the test, which asserts that there is none
            self.failure = error


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """One broker for all, with a bystander on it; at the end nothing was lost, and memory stayed bounded."""
    with BrokerProcess(tmp_path_factory.mktemp("broker"), "odradek.log.refusals.per.second=100000") as process:
        with RawClient(process.port) as client:
            make_topic(client, "t")
        before_mb = resident_mb(process.pid)
        bystander = Bystander(process.port)
        bystander.start()
        yield process
        bystander.stopping.set()
        bystander.join(30)
        assert bystander.failure is None and bystander.rounds > 10
        assert resident_mb(process.pid) - before_mb < MEMORY_BOUND_MB
        assert "Traceback" not in process.logged
        with RawClient(process.port) as client:
            last = client.fetch("bystander", bystander.rounds - 1)
            assert last.high_watermark == bystander.rounds


@pytest.fixture
def client(broker: BrokerProcess) -> Iterator[RawClient]:
    with RawClient(broker.port) as connected:
        yield connected


def resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", status)
    assert found is not None
    return int(found[1]) / 1000


def make_topic(client: RawClient, name: str) -> None:
    answer = client.call(MetadataRequest(topics=[MetadataRequestTopic(name=name)]), MetadataResponse, 5)
    assert answer.topics[0].error_code == 0


def address(client: RawClient) -> str:
    host, port = client.socket.getsockname()
    return f"{host}:{port}"


def assert_refused(broker: BrokerProcess, client: RawClient, why: str) -> None:
    """The connection is closed, and the log says why, naming the peer."""
    peer = address(client)
    assert client.is_closed()
    lines = [line for line in broker.logged.splitlines() if peer in line]
    assert any(why in line for line in lines), lines


# --- bytes that are no requests --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [-1, -(2**31), 2**31 - 1, 104_857_601])
def test_impossible_sizes(broker: BrokerProcess, client: RawClient, size: int) -> None:
    client.send_bytes(struct.pack(">i", size))
    assert_refused(broker, client, f"{size} bytes")


@pytest.mark.parametrize("size", range(8))
def test_requests_shorter_than_their_header(broker: BrokerProcess, client: RawClient, size: int) -> None:
    client.send_bytes(struct.pack(">i", size) + bytes(size))
    assert_refused(broker, client, "shorter than its header")


def test_http(broker: BrokerProcess, client: RawClient) -> None:
    client.send_bytes(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert_refused(broker, client, "HTTP")


def test_tls(broker: BrokerProcess) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", broker.port), timeout=20) as plain:
        peer = "{}:{}".format(*plain.getsockname())
        with pytest.raises((ssl.SSLError, ConnectionError)):
            context.wrap_socket(plain)
    assert any(peer in line and "TLS" in line for line in broker.logged.splitlines())


@pytest.mark.parametrize("seed", range(20))
def test_garbage(broker: BrokerProcess, client: RawClient, seed: int) -> None:
    choose = random.Random(seed)
    body = choose.randbytes(choose.randrange(1, 5000))
    client.send_bytes(struct.pack(">i", len(body)) + body)
    client.socket.shutdown(socket.SHUT_WR)
    # A header that happens to be one of ours may be answered; then the connection ends as well.
    while client.socket.recv(65536):
        pass


def test_announcing_much_and_sending_nothing_costs_nothing(broker: BrokerProcess) -> None:
    before_mb = resident_mb(broker.pid)
    clients = [RawClient(broker.port) for _ in range(50)]
    for client in clients:
        client.send_bytes(struct.pack(">i", 100_000_000) + b"\0" * 100)
    with RawClient(broker.port) as other:
        assert other.produce("t", GOOD).error_code == 0
    assert resident_mb(broker.pid) - before_mb < 20
    for client in clients:
        client.socket.close()


def test_a_flood_of_garbage_is_a_few_lines_of_log(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path, "odradek.log.refusals.per.second=2", memory=True) as broker:
        before = len(broker.logged.splitlines())
        started = time.monotonic()
        for _ in range(300):
            with RawClient(broker.port) as client:
                client.send_bytes(struct.pack(">i", -1))
                assert client.is_closed()
        seconds = int(time.monotonic() - started) + 2
        assert len(broker.logged.splitlines()) - before <= 2 * seconds < 300


# --- requests that are not served ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "version"), [(999, 0), (-1, 0), (0, 2), (0, 99), (3, -1), (3, 14), (22, 6), (29, 0)])
def test_an_api_or_version_that_is_not_served(broker: BrokerProcess, client: RawClient, key: int, version: int) -> None:
    body = struct.pack(">hhih", key, version, 1, -1)
    client.send_bytes(struct.pack(">i", len(body)) + body)
    assert_refused(broker, client, "served")


@pytest.mark.parametrize("version", [6, 99, -1, 32767])
def test_an_unknown_version_of_api_versions_is_answered_in_version_0(client: RawClient, version: int) -> None:
    body = struct.pack(">hhih", 18, version, 7, 1) + b"c\0\0\0\0"
    client.send_bytes(struct.pack(">i", len(body)) + body)
    answer = client.receive(ApiVersionsResponse, 0)
    assert client.last_correlation_id == 7 and answer.error_code == ErrorCode.UNSUPPORTED_VERSION
    assert [(a.api_key, a.min_version, a.max_version) for a in answer.api_keys] == [(18, 0, 5)]
    # The connection goes on.
    assert client.produce("t", GOOD).error_code == 0


def test_every_api_cut_at_every_byte_closes_the_connection(broker: BrokerProcess) -> None:
    for api in APIS:
        version = api.served.last
        data = min(
            (encode(random_message(api.request, version, random.Random(seed)), version) for seed in range(30)), key=len
        )
        header = encode_request(api.request(), version, 1, "c")[4:]
        prefix = header[: len(header) - len(encode(api.request(), version))]
        for cut in range(len(data)):
            with RawClient(broker.port) as client:
                body = prefix + data[:cut]
                client.send_bytes(struct.pack(">i", len(body)) + body)
                assert client.is_closed(), f"{api.name} cut at {cut}"


def test_array_lengths_that_lie(broker: BrokerProcess, client: RawClient) -> None:
    body = struct.pack(">hhih", 3, 1, 1, -1) + struct.pack(">i", 2**31 - 1) + bytes(100)
    client.send_bytes(struct.pack(">i", len(body)) + body)
    assert_refused(broker, client, "topics")


def test_more_elements_than_a_request_may_have(broker: BrokerProcess, client: RawClient) -> None:
    before_mb = resident_mb(broker.pid)
    body = struct.pack(">hhih", 3, 1, 1, -1) + struct.pack(">i", 200_001) + bytes(2 * 200_001)
    client.send_bytes(struct.pack(">i", len(body)) + body)
    assert_refused(broker, client, "topics")
    assert resident_mb(broker.pid) - before_mb < 20


# --- batches ---------------------------------------------------------------------------------------------------------


def patched(position: int, data: bytes, good: bytes = GOOD) -> bytes:
    return good[:position] + data + good[position + len(data) :]


def signed(**fields: int) -> bytes:
    """The good batch with other header fields and a true checksum."""
    whole = RecordBatch(read_header(GOOD), (GOOD,))
    return batch_bytes(whole.with_header(whole.header._replace(**fields)))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (None, ErrorCode.INVALID_RECORD),
        (b"", ErrorCode.INVALID_RECORD),
        (GOOD[:20], ErrorCode.INVALID_RECORD),
        (GOOD[:-1], ErrorCode.INVALID_RECORD),
        (GOOD + GOOD, ErrorCode.INVALID_RECORD),
        (patched(len(GOOD) - 1, b"?"), ErrorCode.CORRUPT_MESSAGE),
        (patched(8, struct.pack(">i", -1)), ErrorCode.CORRUPT_MESSAGE),
        (patched(16, b"\0"), ErrorCode.INVALID_RECORD),
        (patched(16, b"\1"), ErrorCode.INVALID_RECORD),
        (patched(16, b"\3"), ErrorCode.CORRUPT_MESSAGE),
        (signed(record_count=5), ErrorCode.INVALID_RECORD),
        (signed(last_offset_delta=5), ErrorCode.INVALID_RECORD),
        (signed(record_count=0, last_offset_delta=-1), ErrorCode.INVALID_RECORD),
        (signed(attributes=0x20), ErrorCode.INVALID_RECORD),
        (signed(attributes=7), ErrorCode.INVALID_RECORD),
        (signed(producer_id=5), ErrorCode.INVALID_RECORD),
        (signed(base_timestamp=10**15, max_timestamp=10**15), ErrorCode.INVALID_TIMESTAMP),
    ],
)
def test_batches_that_are_refused(client: RawClient, data: bytes | None, code: ErrorCode) -> None:
    answer = client.produce("t", data)
    assert (answer.error_code, answer.base_offset) == (code, -1)
    assert answer.error_message
    assert client.produce("t", GOOD).error_code == 0


@pytest.mark.parametrize("acks", [2, 5, -2, 32767])
def test_impossible_acks(client: RawClient, acks: int) -> None:
    assert client.produce("t", GOOD, acks=acks).error_code == ErrorCode.INVALID_REQUIRED_ACKS


@pytest.mark.parametrize("partition", [1, -1, 2**31 - 1, -(2**31)])
def test_partitions_that_do_not_exist(client: RawClient, partition: int) -> None:
    unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert client.produce("t", GOOD, partition=partition).error_code == unknown
    assert client.fetch("t", 0, partition=partition).error_code == unknown


@pytest.mark.parametrize("name", ["../x", "", ".", "..", "x" * 250, "a/b", "a\0b", "grün", "a b", "__cluster_metadata"])
def test_names_that_no_topic_can_have(broker: BrokerProcess, client: RawClient, name: str) -> None:
    topic = CreatableTopic(name=name, num_partitions=1, replication_factor=1)
    (made,) = client.call(CreateTopicsRequest(topics=[topic]), CreateTopicsResponse, 5).topics
    assert made.error_code in (ErrorCode.INVALID_TOPIC_EXCEPTION, ErrorCode.INVALID_REQUEST)
    looked = client.call(MetadataRequest(topics=[MetadataRequestTopic(name=name)]), MetadataResponse, 5)
    assert looked.topics[0].error_code != 0
    assert client.produce(name, GOOD).error_code != 0
    assert {path.name for path in broker.data.parent.iterdir()} <= {"data", "stderr"}


def lying_body(body: bytes, codec: int = 0) -> bytes:
    """A batch with a true header and checksum around any body."""
    header = read_header(GOOD)._replace(batch_length=HEADER_BYTES - 12 + len(body), attributes=codec)
    return batch_bytes(RecordBatch(header, (bytes(HEADER_BYTES), body)).with_header(header))


def test_bodies_that_lie_are_kept_and_survived(tmp_path: Path) -> None:
    """A plain topic does not look inside; whoever does must survive it."""
    with BrokerProcess(tmp_path) as broker:
        with RawClient(broker.port) as client:
            kept = keep_and_look(client)
        assert resident_mb(broker.pid) < 150
        broker.stop()
        broker.start()
        with RawClient(broker.port) as again:
            assert again.fetch("liars", 0).high_watermark == kept
        assert "Traceback" not in broker.logged


def keep_and_look(client: RawClient) -> int:
    make_topic(client, "liars")
    # Header counts, lengths and varints that lie, and a bomb.
    bomb = build_batch([NewRecord(None, bytes(100_000_000), 1_700_000_000_000)], codec=4)
    bodies = [b"", b"\xff" * 40, b"\x14\0\0\0\x01\x01\xfe\xff\xff\xff\x0f", b"\x0c\0\0\0\x01\x01\xff\xff\xff\xff\x0f"]
    kept = [lying_body(body) for body in bodies] + [lying_body(b"not zstd", 4), batch_bytes(bomb)]
    for data in kept:
        assert client.produce("liars", data).error_code == 0
    assert client.produce("liars", GOOD).error_code == 0
    for timestamp in (0, -3, 1_700_000_000_000):
        wanted = ListOffsetsPartition(partition_index=0, timestamp=timestamp)
        request = ListOffsetsRequest(replica_id=-1, topics=[ListOffsetsTopic(name="liars", partitions=[wanted])])
        (answer,) = client.call(request, ListOffsetsResponse, 7).topics[0].partitions
        assert answer.error_code == 0
    fetched = client.fetch("liars", 0)
    assert bytes(fetched.records).endswith(GOOD[21:])
    return len(kept) + 1


def test_a_compacted_topic_looks_inside_and_refuses_what_lies(client: RawClient) -> None:
    from odradek.protocol.messages.create_topics import CreatableTopicConfig

    topic = CreatableTopic(
        name="compacted",
        num_partitions=1,
        replication_factor=1,
        configs=[CreatableTopicConfig(name="cleanup.policy", value="compact")],
    )
    assert client.call(CreateTopicsRequest(topics=[topic]), CreateTopicsResponse, 5).topics[0].error_code == 0
    for body in (b"", b"\xff" * 40):
        assert client.produce("compacted", lying_body(body)).error_code == ErrorCode.CORRUPT_MESSAGE
    assert client.produce("compacted", GOOD).error_code == ErrorCode.INVALID_RECORD
    keyed = batch_bytes(build_batch([NewRecord(b"k", b"v", 1_700_000_000_000)]))
    assert client.produce("compacted", keyed).error_code == 0


# --- fetches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [-1, -(2**63), 2**63 - 1, 10**9])
def test_offsets_out_of_range(client: RawClient, offset: int) -> None:
    assert client.fetch("t", offset).error_code == ErrorCode.OFFSET_OUT_OF_RANGE


@pytest.mark.parametrize("value", [-(2**31), -1, 0, 2**31 - 1])
def test_impossible_numbers_in_a_fetch(client: RawClient, value: int) -> None:
    assert client.produce("t", GOOD).error_code == 0
    answer = client.fetch("t", 0, max_bytes=value, min_bytes=value if value < 10 else 1)
    assert answer.error_code == 0 and records_of(answer.records)


def test_a_request_that_is_longer_than_its_message_is_taken(client: RawClient) -> None:
    frame = encode_request(produce_request("t", GOOD), 9, 3, "c")[4:] + b"more"
    client.send_bytes(struct.pack(">i", len(frame)) + frame)
    assert client.receive(ProduceResponse, 9).responses[0].partition_responses[0].error_code == 0


def test_closed_is_what_the_raw_client_says(broker: BrokerProcess) -> None:
    with RawClient(broker.port) as client:
        client.send_bytes(struct.pack(">i", -1))
        with pytest.raises(Closed):
            client.receive_frame()


def test_decoding_is_what_it_seems() -> None:
    # The lying batches above are what they claim: a header that checks, and a body that does not.
    header = read_header(lying_body(b"\xff" * 40))
    assert header.record_count == 1 and header.size == HEADER_BYTES + 40
    assert decode(ProduceResponse, 9, encode(ProduceResponse(), 9))[0] == ProduceResponse()


def test_topics_that_look_inside_survive_whatever_is_there(tmp_path: Path) -> None:
    """Compacted topics and those that compress anew parse every record: random bodies in every codec."""
    from odradek.protocol.messages.create_topics import CreatableTopicConfig

    settings = [("cleanup.policy", "compact"), ("message.timestamp.before.max.ms", "1000")]
    settings += [("compression.type", codec) for codec in ("uncompressed", "gzip", "snappy", "lz4", "zstd")]
    topics = [
        CreatableTopic(
            name=f"{name}-{value}",
            num_partitions=1,
            replication_factor=1,
            configs=[CreatableTopicConfig(name=name, value=value)],
        )
        for name, value in settings
    ]
    refused = (ErrorCode.CORRUPT_MESSAGE, ErrorCode.INVALID_RECORD, ErrorCode.INVALID_TIMESTAMP)
    choose = random.Random(1)
    whole = [build_batch([NewRecord(b"k", b"v" * 50, 1_700_000_000_000)] * 3, codec=codec) for codec in range(5)]
    with BrokerProcess(tmp_path, memory=True) as broker, RawClient(broker.port) as client:
        made = client.call(CreateTopicsRequest(topics=topics), CreateTopicsResponse, 5).topics
        assert {topic.error_code for topic in made} == {0}
        for number in range(700):
            codec = choose.randrange(5)
            body = bytearray(batch_bytes(whole[codec])[HEADER_BYTES:])
            if number % 3:
                body = bytearray(choose.randbytes(choose.randrange(100)))
            elif body:
                body[choose.randrange(len(body))] ^= 1 << choose.randrange(8)
            answer = client.produce(topics[number % len(topics)].name, lying_body(bytes(body), codec))
            assert answer.error_code in (0, *refused), answer
        assert resident_mb(broker.pid) < 150
        assert "Traceback" not in broker.logged


def test_lies_and_bombs_read_from_the_command_line(tmp_path: Path) -> None:
    """`odradek consume` ends with a word about what it cannot read, not with a traceback; memory stays bounded."""
    with BrokerProcess(tmp_path, memory=True) as broker, RawClient(broker.port) as client:
        for name, data in (("liar", lying_body(b"\xff" * 40)), ("cut", lying_body(b"not zstd", 4))):
            make_topic(client, name)
            assert client.produce(name, GOOD).error_code == 0
            assert client.produce(name, data).error_code == 0
            command = [sys.executable, "-m", "odradek.cli.main", "consume", name, "--bootstrap-server"]
            ended = subprocess.run(
                [*command, broker.bootstrap, "--exit-at-end", "--output", "text"],
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert "value" in ended.stdout and ended.stderr and "Traceback" not in ended.stderr, ended
