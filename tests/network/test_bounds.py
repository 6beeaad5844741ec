"""The bounds over all connections: who asks for much, reads nothing or stops half way takes it from nobody else."""

from __future__ import annotations

import contextlib
import struct
import threading

from odradek.network.frames import RECEIVE_BYTES
from odradek.network.request_memory import SHARE_MIN_BYTES, RequestMemory
from odradek.protocol.framing import encode_request
from odradek.protocol.messages.fetch import FetchResponse, ForgottenTopic
from odradek.protocol.messages.produce import ProduceResponse
from tests.network.test_connection import fetch_request, make_topic, until
from tests.raw_client import Closed, RawClient, batch, produce_request, records_of
from tests.serving import Serving


def half_of_a_request(client: RawClient, size: int) -> None:
    """Sends a request of so many bytes but for its last 1,000, or as much of it as is read."""
    client.send_bytes(struct.pack(">i", size))
    client.socket.settimeout(0.2)
    with contextlib.suppress(TimeoutError):
        client.send_bytes(bytes(size - 1000))


def test_half_requests_silence_nobody_who_sends_small_ones() -> None:
    with Serving(queued__max__request__bytes="4000000") as broker, RawClient(broker.port) as bystander:
        make_topic(bystander, "t")
        halves = [RawClient(broker.port) for _ in range(6)]
        for client in halves:
            half_of_a_request(client, 8_000_000)
        assert broker.look(lambda: broker.shared.memory.used_bytes) >= 2_000_000
        for _ in range(20):
            assert bystander.produce("t", batch(b"x" * 20_000)).error_code == 0
        with RawClient(broker.port) as later:
            assert later.produce("t", batch(b"x" * 20_000)).error_code == 0
        # One of them may go on, and has sent all of its 8 MB; the others share half of the bound.
        assert broker.look(lambda: broker.shared.memory.used_bytes) < 8_000_000 + 2_000_000 + 6 * RECEIVE_BYTES
        for client in halves:
            client.socket.close()


def test_large_requests_that_wait_for_others_silence_nobody_who_sends_small_ones() -> None:
    with Serving(queued__max__request__bytes="4000000") as broker, RawClient(broker.port) as bystander:
        make_topic(bystander, "t")
        waiting = [RawClient(broker.port) for _ in range(6)]
        for client in waiting:
            large = fetch_request("t", 60_000)
            large.forgotten_topics_data = [ForgottenTopic(topic="y" * 30_000, partitions=[0]) for _ in range(25)]
            client.send(large, 12)
        until(lambda: broker.look(lambda: broker.shared.memory.used_bytes) >= 2_000_000, "memory is short")
        for _ in range(20):
            assert bystander.call(fetch_request("t", 1), FetchResponse, 12).error_code == 0
        for client in waiting:
            client.socket.close()


def test_an_address_has_no_more_because_it_has_more_connections() -> None:
    memory = RequestMemory(1_000_000)
    memory.hosts.update({"a": 99, "b": 1})
    assert memory.share_bytes("b") == 250_000
    assert memory.share_bytes("a") == SHARE_MIN_BYTES
    memory.hosts["a"] = 2
    assert memory.share_bytes("a") == 125_000


def test_a_large_request_has_a_time_to_arrive_in() -> None:
    settings = {"odradek__request__receive__timeout__ms": "300", "queued__max__request__bytes": "4000000"}
    with Serving(**settings) as broker, RawClient(broker.port) as late, RawClient(broker.port) as small:
        make_topic(small, "t")
        frame = encode_request(produce_request("t", batch(b"x" * 60_000)), 9, 1, "c")
        small.send_bytes(frame[:50_000])
        late.send_bytes(struct.pack(">i", 1_000_000) + bytes(70_000))
        # It goes on sending, and so is never silent for long.
        with contextlib.suppress(OSError, Closed):
            for _ in range(1000):
                late.send_bytes(bytes(900))
                threading.Event().wait(0.005)
        assert late.is_closed()
        assert broker.look(lambda: broker.shared.counters.late_closed) == 1
        small.send_bytes(frame[50_000:])
        assert small.receive(ProduceResponse, 9).responses[0].partition_responses[0].error_code == 0


class Holder:
    """A connection that the memory knows, and nobody else."""

    def resume(self) -> None:
        pass


def test_what_waits_for_memory_is_not_late() -> None:
    with Serving(queued__max__request__bytes="400000") as broker, RawClient(broker.port) as client:
        make_topic(client, "t")
        (connection,) = broker.look(lambda: list(broker.shared.connections))
        # Somebody else's requests fill the memory; the exemption is somebody else's, too.
        memory, holder = broker.shared.memory, Holder()
        broker.look(lambda: memory.take(300_000))
        assert not broker.look(lambda: memory.must_stop(holder, "b", 300_000, True))
        frame = encode_request(produce_request("t", batch(b"x" * 900_000)), 9, 1, "c")
        sender = threading.Thread(target=client.send_bytes, args=(frame,))
        sender.start()
        until(lambda: not connection.pipeline.is_reading, "it is not read")
        assert not broker.look(lambda: connection.end_if_late(broker.loop.time() + 1000))
        broker.look(lambda: memory.forget(holder))
        broker.look(lambda: memory.give_back(300_000))
        assert client.receive(ProduceResponse, 9).responses[0].partition_responses[0].error_code == 0
        sender.join()
        assert broker.look(lambda: memory.used_bytes) == 0


def test_peers_that_read_nothing_are_cut_off_when_all_of_them_hold_too_much() -> None:
    """A Fetch always has a batch in it, and other APIs ask for no room."""
    limit = 5_000_000
    with Serving(odradek__queued__max__response__bytes=str(limit)) as broker, RawClient(broker.port) as bystander:
        make_topic(bystander, "t")
        assert bystander.produce("t", batch(b"x" * 900_000)).error_code == 0
        unread = broker.shared.dispatch.broker.unread_responses
        deaf = [RawClient(broker.port) for _ in range(20)]
        for client in deaf:
            for _ in range(10):
                client.send(fetch_request("t", 0), 12)
        until(lambda: broker.look(lambda: broker.shared.counters.unread_closed) > 0, "some are cut off")
        until(lambda: broker.look(lambda: unread.held_bytes) <= limit, "the bound holds")
        assert records_of(bystander.fetch("t", 0).records)[0].offset == 0
        for client in deaf:
            client.socket.close()
        until(lambda: broker.look(lambda: unread.held_bytes) == 0, "nothing is held for anybody")
