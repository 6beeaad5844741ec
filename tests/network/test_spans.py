"""Records that go from a file to the socket: the same bytes, in the same order, whatever the socket takes."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from odradek.engines.interface import SPAN_MIN_BYTES, FileSpan
from odradek.engines.local.disk import Disk
from odradek.network import spans
from odradek.network.connection import Connection
from odradek.protocol.framing import encode_request
from odradek.protocol.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic
from tests.adversity.serving_on_disk import ServingOnDisk
from tests.network.test_fetch_alike import create
from tests.raw_client import TIMEOUT_S, RawClient, batch, records_of

VALUE_BYTES = 50_000
RECORDS = 60


class Transport(asyncio.Transport):
    """Keeps what the socket did not take."""

    def __init__(self, held_back: int = 0) -> None:
        super().__init__()
        self.held_back = held_back
        self.written = b""

    def get_write_buffer_size(self) -> int:
        return self.held_back

    def writelines(self, list_of_data: object) -> None:
        assert isinstance(list_of_data, list)
        self.written += b"".join(bytes(one) for one in list_of_data)


@pytest.mark.parametrize("room_bytes", [0, 4_000, 100_000, 10_000_000])
@pytest.mark.parametrize("held_back", [0, 1])
def test_pieces_arrive_in_order(tmp_path: Path, room_bytes: int, held_back: int) -> None:
    data = random.Random(3).randbytes(300_000)
    (tmp_path / "log").write_bytes(data)
    fd = os.open(tmp_path / "log", os.O_RDONLY)
    before = len(os.listdir("/proc/self/fd"))
    pieces: list[spans.Piece] = [b"head", FileSpan(os.dup(fd), 1_000, 200_000), memoryview(b"between")]
    pieces += [FileSpan(os.dup(fd), 0, 100), bytearray(b"end")]
    expected = b"head" + data[1_000:201_000] + b"between" + data[:100] + b"end"
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, max(room_bytes, 1))
        ours.setblocking(False)
        theirs.setblocking(False)
        transport = Transport(held_back)
        spans.write(transport, ours.fileno(), pieces)
        received = b""
        try:
            while piece := theirs.recv(1 << 20):
                received += piece
        except BlockingIOError:
            pass
        assert received + transport.written == expected
        assert bool(received) == (not held_back)
        assert spans.has_spans(pieces)
        pieces.clear()
    # Two sockets are gone, and so are the spans' descriptors.
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(fd)


def test_a_file_that_is_shorter_than_it_was_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"short")
    span = FileSpan(os.open(tmp_path / "log", os.O_RDONLY), 0, 100)
    with pytest.raises(OSError, match="shorter"):
        spans.write(Transport(1), -1, [span])


def test_only_what_is_in_memory_is_a_span(tmp_path: Path) -> None:
    disk = Disk()
    (tmp_path / "log").write_bytes(bytes(1 << 20))
    fd = os.open(tmp_path / "log", os.O_RDWR)
    span = disk.span(fd, 200_000, 5_000)
    if span is None:
        pytest.skip("this system cannot tell what is in memory")
    assert len(span) == 200_000 and span.read(199_990) == bytes(10)
    os.fdatasync(fd)
    disk.drop_cache(fd, 0)
    assert disk.span(fd, 200_000, 5_000) is None
    os.close(fd)


class NoSpans(Disk):
    def span(self, fd: int, size: int, position: int) -> None:
        pass


class CountedSpans(Disk):
    given = 0

    def span(self, fd: int, size: int, position: int) -> FileSpan | None:
        found = super().span(fd, size, position)
        CountedSpans.given += found is not None
        return found


def fetch(offset: int, **more: int) -> FetchRequest:
    wanted = FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=1 << 20)
    return FetchRequest(max_wait_ms=0, min_bytes=1, topics=[FetchTopic(topic="t", partitions=[wanted])], **more)


def fetched(folder: Path, disk: Disk) -> list[FetchResponse]:
    """What a broker answers to large fetches: alike ones, in a session, under read_committed, to a slow reader."""
    CountedSpans.given = 0
    with ServingOnDisk(folder, disk) as broker, RawClient(broker.port) as client:
        create(client, "t")
        chance = random.Random(5)
        for _ in range(RECORDS):
            assert client.produce("t", batch(chance.randbytes(VALUE_BYTES), timestamp_ms=1_000)).error_code == 0
        answers = []
        for offset, committed in ((0, 0), (7, 0), (7, 0), (8, 0), (9, 1), (9, 1)):
            request = fetch(offset, isolation_level=committed)
            answers.append(client.call(request, FetchResponse, 12))
        answers.append(client.call(fetch(11, session_epoch=0), FetchResponse, 12))
        # Many at once, that are read late: the socket does not take them all.
        for offset in range(40):
            client.send(fetch(offset), 12)
        answers += [client.receive(FetchResponse, 12) for _ in range(40)]
        for answer in answers:
            answer.session_id = 0
        return answers


def test_answers_are_the_same(tmp_path: Path) -> None:
    with_spans = fetched(tmp_path / "one", CountedSpans())
    given = CountedSpans.given
    without = fetched(tmp_path / "other", NoSpans())
    assert with_spans == without
    assert given > 40 or Disk().span(0, 1, 0) is None
    records = with_spans[0].responses[0].partitions[0].records
    assert len(bytes(records or b"")) > SPAN_MIN_BYTES and records_of(records)[0].offset == 0


class Kept(Transport):
    """Of a connection without a peer."""

    def __init__(self, extra: dict[str, object]) -> None:
        super().__init__()
        self._extra = extra

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: object) -> None:
        self.writelines([data])

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


def test_what_goes_to_the_socket_by_itself_asks_whether_it_may(tmp_path: Path) -> None:
    """Under TLS the transport still gives the raw socket: what is not encrypted must not be written to it."""

    with ServingOnDisk(tmp_path, CountedSpans()) as broker, RawClient(broker.port) as client:
        create(client, "t")
        for _ in range(2):
            assert client.produce("t", batch(bytes(SPAN_MIN_BYTES))).error_code == 0

        def asked(extra: dict[str, object]) -> tuple[int, int]:
            """How many spans a connection over such a transport is given, and the bytes that the transport gets."""
            transport = Kept(extra)
            connection = Connection(broker.shared, "PLAINTEXT")
            connection.connection_made(transport)
            CountedSpans.given = 0
            # Decoded, and alike.
            for number in range(3):
                request = encode_request(fetch(number % 2), 12, number, "c")
                connection.get_buffer(-1)[: len(request)] = request
                connection.buffer_updated(len(request))
            connection.connection_lost(None)
            return CountedSpans.given, len(transport.written)

        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            given, _ = broker.look(lambda: asked({"socket": ours}))
            assert given == 3 or Disk().span(0, 1, 0) is None
            given, written = broker.look(lambda: asked({"socket": ours, "ssl_object": object()}))
            assert given == 0 and written > 3 * SPAN_MIN_BYTES


class TlsClient(RawClient):
    """Speaks to a port through TLS; believes any certificate."""

    def __init__(self, port: int) -> None:
        believes_all = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        believes_all.check_hostname = False
        believes_all.verify_mode = ssl.CERT_NONE
        self.socket = believes_all.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S))
        self.correlation_id = 0


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_a_connection_through_tls_reads_what_one_without_reads(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=odradek"]
    subprocess.run([*made, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    with ServingOnDisk(tmp_path / "data", CountedSpans()) as broker:

        async def listen() -> asyncio.Server:
            return await broker.loop.create_server(
                lambda: Connection(broker.shared, "PLAINTEXT"), "127.0.0.1", 0, ssl=context
            )

        listening = broker.run(listen())
        with RawClient(broker.port) as plain, TlsClient(listening.sockets[0].getsockname()[1]) as client:
            create(client, "t")
            for _ in range(3):
                assert client.produce("t", batch(random.Random(3).randbytes(2 * SPAN_MIN_BYTES))).error_code == 0
            # Decoded and alike; then many at once, read late.
            CountedSpans.given = 0
            through = [client.call(fetch(number % 3), FetchResponse, 12) for number in range(6)]
            for number in range(40):
                client.send(fetch(number % 3), 12)
            through += [client.receive(FetchResponse, 12) for _ in range(40)]
            assert CountedSpans.given == 0
            assert through == [plain.call(fetch(number % 3), FetchResponse, 12) for number in [*range(6), *range(40)]]
        broker.look(listening.close)
