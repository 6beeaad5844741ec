"""Connections: frames however they arrive, answers in order, and every bound."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import uvloop

from odradek.errors import ErrorCode
from odradek.network.frames import DIRECT_BYTES, FRAME_FIRST_BYTES, RECEIVE_BYTES
from odradek.protocol.framing import encode_request
from odradek.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from odradek.protocol.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic
from odradek.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from odradek.protocol.messages.produce import ProduceResponse
from tests.raw_client import Closed, RawClient, batch, produce_request, records_of
from tests.serving import Serving

WAIT_S = 20.0


def until(condition: Callable[[], bool], what: str) -> None:
    """Waits for a state that another thread reaches."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"never came: {what}"
        threading.Event().wait(0.002)


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def broker(request: pytest.FixtureRequest) -> Iterator[Serving]:
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
    with Serving(factory) as serving:
        yield serving


@pytest.fixture
def client(broker: Serving) -> Iterator[RawClient]:
    with RawClient(broker.port) as connected:
        yield connected


def make_topic(client: RawClient, name: str) -> None:
    answer = client.call(MetadataRequest(topics=[MetadataRequestTopic(name=name)]), MetadataResponse, 5)
    assert answer.topics[0].error_code == 0


def test_a_frame_split_at_every_byte(client: RawClient) -> None:
    make_topic(client, "split")
    frame = encode_request(produce_request("split", batch(b"x")), 9, 1, "c")
    for cut in range(1, len(frame)):
        client.send_bytes(frame[:cut])
        client.send_bytes(frame[cut:])
        answer = client.receive(ProduceResponse, 9)
        assert answer.responses[0].partition_responses[0].base_offset == cut - 1


def test_many_frames_in_one_piece_are_answered_in_order(client: RawClient) -> None:
    count = 3000
    frames = b"".join(
        encode_request(ApiVersionsRequest(client_software_name="a", client_software_version="1"), 3, number, "c")
        for number in range(count)
    )
    threading.Thread(target=client.send_bytes, args=(frames,)).start()
    for number in range(count):
        client.receive(ApiVersionsResponse, 3)
        assert client.last_correlation_id == number


@pytest.mark.parametrize(
    "size", [DIRECT_BYTES - 100, DIRECT_BYTES + 100, RECEIVE_BYTES - 80, RECEIVE_BYTES + 1000, 900_000]
)
def test_large_frames_arrive_whole_among_small_ones(client: RawClient, size: int) -> None:
    make_topic(client, f"large-{size}")
    value = bytes(range(256)) * (size // 256)
    for round_ in range(3):
        client.send(produce_request(f"large-{size}", batch(b"small")), 9)
        client.send(produce_request(f"large-{size}", batch(value)), 9)
        client.send(produce_request(f"large-{size}", batch(b"small")), 9)
        for number in range(3):
            answer = client.receive(ProduceResponse, 9)
            assert answer.responses[0].partition_responses[0].base_offset == 3 * round_ + number
    records = records_of(client.fetch(f"large-{size}", 1).records)
    assert records[0].value == value


def test_a_frame_larger_than_its_first_buffer(broker: Serving, client: RawClient) -> None:
    make_topic(client, "huge")
    huge = batch(bytes(50 * FRAME_FIRST_BYTES))
    answer = client.produce("huge", huge)
    assert answer.error_code == ErrorCode.MESSAGE_TOO_LARGE
    assert client.produce("huge", batch(b"x")).base_offset == 0
    assert broker.look(lambda: broker.shared.memory.used_bytes) == 0


def fetch_request(topic: str, max_wait_ms: int, max_bytes: int = 1 << 20) -> FetchRequest:
    wanted = [FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=max_bytes)]
    return FetchRequest(max_wait_ms=max_wait_ms, min_bytes=1, topics=[FetchTopic(topic=topic, partitions=wanted)])


def test_a_waiting_fetch_holds_back_the_rest_of_its_connection_only(broker: Serving, client: RawClient) -> None:
    make_topic(client, "waiting")
    client.send(fetch_request("waiting", 60_000), 12)
    client.send(ApiVersionsRequest(client_software_name="a", client_software_version="1"), 3)
    with RawClient(broker.port) as other:
        # The other connection works, and what it writes wakes the fetch.
        assert other.produce("waiting", batch(b"wake")).error_code == 0
    woken = client.receive(FetchResponse, 12)
    assert [r.value for r in records_of(woken.responses[0].partitions[0].records)] == [b"wake"]
    client.receive(ApiVersionsResponse, 3)


def test_a_fetch_waits_its_time_and_no_longer(client: RawClient) -> None:
    make_topic(client, "idle")
    started = time.monotonic()
    answer = client.fetch("idle", 0, max_wait_ms=200)
    assert not records_of(answer.records) and time.monotonic() - started >= 0.19


def test_a_client_that_leaves_while_it_waits_leaves_nothing_behind(broker: Serving, client: RawClient) -> None:
    make_topic(client, "left")
    with RawClient(broker.port) as gone:
        gone.send(fetch_request("left", 600_000), 12)
        partition = broker.server.partitions.get("left", 0)
        assert partition is not None
        until(lambda: bool(partition.progress.parking.fetches), "the fetch is parked")
    until(lambda: not partition.progress.parking.fetches, "the fetch is given up")


def test_acks_0_is_not_answered_and_an_error_closes_the_connection(broker: Serving, client: RawClient) -> None:
    make_topic(client, "silent")
    client.send(produce_request("silent", batch(b"a"), acks=0), 9)
    client.send(produce_request("silent", batch(b"b"), acks=1), 9)
    assert client.receive(ProduceResponse, 9).responses[0].partition_responses[0].base_offset == 1
    with RawClient(broker.port) as wrong:
        wrong.send(produce_request("nowhere", batch(b"a"), acks=0), 9)
        assert wrong.is_closed()


def test_nothing_is_held_when_everything_is_answered(broker: Serving, client: RawClient) -> None:
    make_topic(client, "tidy")
    for _ in range(20):
        client.produce("tidy", batch(b"x" * 1000))
    assert broker.look(lambda: broker.shared.memory.used_bytes) == 0


@pytest.mark.parametrize(
    "settings",
    [
        {"odradek__connection__max__requests": "2"},
        {"odradek__connection__max__request__bytes": "500"},
        {"queued__max__request__bytes": "500"},
    ],
    ids=str,
)
def test_beyond_its_bounds_a_connection_is_not_read_and_goes_on_afterwards(settings: dict[str, str]) -> None:
    with Serving(**settings) as broker, RawClient(broker.port) as client, RawClient(broker.port) as other:
        make_topic(client, "bound")
        client.send(fetch_request("bound", 60_000), 12)
        flood = encode_request(produce_request("bound", batch(b"x" * 20_000)), 9, 5, "c")
        sender = threading.Thread(target=client.send_bytes, args=(flood * 400,))
        sender.start()
        (connection,) = broker.look(lambda: [c for c in broker.shared.connections if c.pipeline.open])
        until(lambda: not connection.pipeline.is_reading, "reading has stopped")
        # 8 MB were sent; what is held is one read beyond the bound.
        assert broker.look(lambda: broker.shared.memory.used_bytes) <= RECEIVE_BYTES + 21_000
        if "queued__max__request__bytes" not in settings:
            assert other.produce("bound", batch(b"wake")).error_code == 0
        else:
            # Over all connections there is no room: the fetch is ended by its client's own end of patience.
            broker.look(lambda: next(iter(connection.pipeline.awaited)).set_result(FetchResponse()))
        client.receive(FetchResponse, 12)
        for _ in range(400):
            assert client.receive(ProduceResponse, 9).responses[0].partition_responses[0].error_code == 0
        sender.join()
        assert broker.look(lambda: broker.shared.memory.used_bytes) == 0


def test_half_requests_over_all_connections_do_not_wait_for_each_other() -> None:
    with Serving(queued__max__request__bytes="100000") as broker:
        clients = [RawClient(broker.port) for _ in range(6)]
        make_topic(clients[0], "half")
        frame = encode_request(produce_request("half", batch(b"x" * 60_000)), 9, 1, "c")
        for client in clients:
            client.send_bytes(frame[:50_000])
        until(lambda: broker.look(lambda: broker.shared.memory.used_bytes) >= 100_000, "there is no room")
        senders = [threading.Thread(target=client.send_bytes, args=(frame[50_000:],)) for client in clients]
        for sender in senders:
            sender.start()
        for client in clients:
            assert client.receive(ProduceResponse, 9).responses[0].partition_responses[0].error_code == 0
            client.socket.close()
        for sender in senders:
            sender.join()


def test_a_peer_that_does_not_read_is_not_answered_without_end() -> None:
    with Serving(odradek__connection__max__response__bytes="65536") as broker, RawClient(broker.port) as client:
        make_topic(client, "unread")
        for _ in range(8):
            client.produce("unread", batch(b"x" * 500_000))
        for _ in range(100):
            client.send(fetch_request("unread", 0), 12)
        (connection,) = broker.look(lambda: list(broker.shared.connections))
        until(lambda: connection.pipeline.peer_is_slow, "the peer is found slow")
        transport = connection.transport
        assert transport is not None
        held = broker.look(transport.get_write_buffer_size)
        assert held <= 65536 + 2 * (1 << 20)
        for _ in range(100):
            assert records_of(client.receive(FetchResponse, 12).responses[0].partitions[0].records)


def test_connections_are_bounded_over_all_and_by_address() -> None:
    for settings in ({"max__connections": "3"}, {"max__connections__per__ip": "3"}):
        with Serving(**settings) as broker:
            admitted = [RawClient(broker.port) for _ in range(3)]
            for client in admitted:
                make_topic(client, "t")
            with RawClient(broker.port) as refused:
                assert refused.is_closed()
            admitted.pop().socket.close()
            until(lambda: broker.look(lambda: len(broker.shared.connections)) == 2, "the place is free")
            with RawClient(broker.port) as client:
                make_topic(client, "t")
            for client in admitted:
                client.socket.close()


def test_silent_connections_are_closed_and_waiting_ones_are_not() -> None:
    with (
        Serving(connections__max__idle__ms="300") as broker,
        RawClient(broker.port) as silent,
        RawClient(broker.port) as half,
        RawClient(broker.port) as waiting,
    ):
        make_topic(waiting, "t")
        waiting.send(fetch_request("t", 2000), 12)
        half.send_bytes(struct.pack(">i", 1000) + b"begun")
        assert silent.is_closed() and half.is_closed()
        assert waiting.receive(FetchResponse, 12).error_code == 0


def test_a_stop_answers_what_has_started_and_closes_the_rest() -> None:
    with Serving() as broker:
        idle, waiting = RawClient(broker.port), RawClient(broker.port)
        make_topic(waiting, "t")
        waiting.send(fetch_request("t", 600_000), 12)
        assert waiting.socket is not None
        started = time.monotonic()
    assert time.monotonic() - started < 5
    assert idle.is_closed()
    with pytest.raises(Closed):
        waiting.receive(FetchResponse, 12)
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", broker.port), timeout=1)


def test_a_half_closed_connection_ends(broker: Serving) -> None:
    with RawClient(broker.port) as client:
        make_topic(client, "t")
        client.socket.shutdown(socket.SHUT_WR)
        assert client.is_closed()


@pytest.mark.parametrize(
    "garbage",
    [struct.pack(">i", -1), struct.pack(">i", 3) + b"abc", struct.pack(">ihhih", 10, 0, 9, 7, 30_000)],
    ids=["impossible size", "no header", "a produce that cannot be read"],
)
def test_what_came_before_garbage_is_answered(client: RawClient, garbage: bytes) -> None:
    make_topic(client, "before-garbage")
    first = encode_request(produce_request("before-garbage", batch(b"x")), 9, 1, "c")
    client.send_bytes(first * 5 + garbage + first)
    offsets = [client.receive(ProduceResponse, 9).responses[0].partition_responses[0].base_offset for _ in range(5)]
    assert offsets == list(range(offsets[0], offsets[0] + 5))
    assert client.is_closed()


def test_an_answer_in_version_0_before_garbage_arrives(client: RawClient) -> None:
    client.send_bytes(struct.pack(">ihhih", 10, 18, 99, 7, -1) + struct.pack(">i", -1))
    assert client.receive(ApiVersionsResponse, 0).error_code == ErrorCode.UNSUPPORTED_VERSION
    assert client.is_closed()


def test_what_came_before_a_silent_produce_that_fails_is_answered(client: RawClient) -> None:
    make_topic(client, "before-silence")
    good = encode_request(produce_request("before-silence", batch(b"x")), 9, 1, "c")
    client.send_bytes(good * 3 + encode_request(produce_request("nowhere", batch(b"x"), acks=0), 9, 2, "c"))
    for offset in range(3):
        assert client.receive(ProduceResponse, 9).responses[0].partition_responses[0].base_offset == offset
    assert client.is_closed()


def test_peers_that_ask_and_never_read_are_ended() -> None:
    settings = {"connections__max__idle__ms": "400", "odradek__connection__max__response__bytes": "65536"}
    with Serving(**settings) as own, RawClient(own.port) as unread, RawClient(own.port) as refused:
        make_topic(unread, "unread")
        for _ in range(30):
            assert unread.produce("unread", batch(b"x" * 500_000)).error_code == 0
        for client in (unread, refused):
            client.send(fetch_request("unread", 0, max_bytes=1 << 24), 12)
        refused.send_bytes(struct.pack(">i", -1))
        until(lambda: own.look(lambda: not own.shared.connections), "both are gone")


def test_a_slow_reader_that_goes_on_is_not_ended() -> None:
    with Serving(connections__max__idle__ms="400") as own, RawClient(own.port) as client:
        make_topic(client, "slowly")
        for _ in range(30):
            assert client.produce("slowly", batch(b"x" * 500_000)).error_code == 0
        client.send(fetch_request("slowly", 0, max_bytes=1 << 24), 12)
        size = struct.unpack(">i", client.receive_bytes(4))[0]
        started = time.monotonic()
        # Longer than the timeout in all, never so long without a byte.
        while size > 0:
            size -= len(client.receive_bytes(min(size, 1_000_000)))
            threading.Event().wait(0.08)
        assert time.monotonic() - started > 0.8
