"""A broker inside this process: ready at once, given back at the end, wrong on request."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer

import odradek
from odradek.config import InvalidSetting
from odradek.errors import ErrorCode
from odradek.handlers import fetch_alike, produce_alike
from odradek.handlers.table import HANDLERS
from odradek.protocol.encoding import encode
from odradek.protocol.fields import Message
from odradek.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from odradek.protocol.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from odradek.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse
from odradek.protocol.messages.produce import ProduceRequest
from odradek.protocol.registry import BY_NAME
from tests.raw_client import Closed, RawClient, batch, produce_request, records_of


def used() -> tuple[int, int]:
    """Threads, and descriptors."""
    return threading.active_count(), len(os.listdir("/proc/self/fd"))


def test_clients_talk_to_it_and_nothing_is_left() -> None:
    with odradek.Broker():  # what is imported and opened once
        pass
    before = used()
    with odradek.Broker(num_partitions=3) as broker, RawClient(broker.port) as client:
        assert broker.create_topic("t") == "t" and broker.topics() == ["t"]
        assert client.produce("t", batch(b"hello"), partition=2).error_code == 0
        assert [one.value for one in records_of(client.fetch("t", 0, partition=2).records)] == [b"hello"]
        with pytest.raises(odradek.BrokerFailed, match="'t' already exists"):
            broker.create_topic("t")
        broker.create_topic("__mine")
        broker.create_topic("__consumer_offsets")
        assert broker.topics() == ["__mine", "t"], "those of the broker's own are left out, whatever they begin with"
    assert used() == before
    with pytest.raises(RuntimeError, match="not running"):
        _ = broker.bootstrap_servers


def test_requests_alike_are_served_as_by_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those like an earlier one are not decoded, but while there is a rule, which may ask what is in them."""
    taken: list[str] = []

    def watched(kind: type[Any], name: str) -> None:
        plain = getattr(kind, name)

        def watching(self: Any, *arguments: Any) -> Any:
            result = plain(self, *arguments)
            if result is not None:
                taken.append(kind.__name__)
            return result

        monkeypatch.setattr(kind, name, watching)

    watched(produce_alike.Shape, "handle")
    watched(fetch_alike.FetchShape, "answer")
    with odradek.Broker() as broker, RawClient(broker.port) as client:
        broker.create_topic("t")

        def ask(produced: int = 0) -> list[str]:
            """What a Produce and a Fetch were served by, without decoding them."""
            taken.clear()
            assert client.produce("t", batch(b"x")).error_code == produced
            assert client.fetch("t", 0).error_code == 0
            return list(taken)

        assert ask() == []
        assert ask() == ["Shape", "FetchShape"]
        with broker.faults.refuse("Produce", "NOT_LEADER_OR_FOLLOWER") as fault:
            assert ask(ErrorCode.NOT_LEADER_OR_FOLLOWER) == [] and fault.hits == 1
        assert ask() == ["Shape", "FetchShape"]
        broker.faults.delay("Metadata", 0, times=1)
        assert ask() == []
        broker.faults.clear()
        assert ask() == ["Shape", "FetchShape"]


def test_ten_side_by_side() -> None:
    before = used()
    brokers = [odradek.Broker() for _ in range(10)]
    for broker in brokers:
        broker.start()
    assert len({broker.port for broker in brokers}) == 10
    for number, broker in enumerate(brokers):
        with RawClient(broker.port) as client:
            broker.create_topic(f"only-{number}")
            assert client.produce(f"only-{number}", batch(b"x")).error_code == 0
            assert broker.topics() == [f"only-{number}"]
    for broker in brokers:
        broker.stop()
        broker.stop()
    assert used() == before


def test_in_an_event_loop_and_on_disk(tmp_path: Path) -> None:
    async def write() -> None:
        async with odradek.Broker(data_dir=tmp_path) as broker:
            await asyncio.to_thread(broker.create_topic, "kept", retention_ms=-1)

            def produce() -> int:
                with RawClient(broker.port) as client:
                    return client.produce("kept", batch(b"still here")).error_code

            assert await asyncio.to_thread(produce) == 0

    asyncio.run(write())
    with odradek.Broker(data_dir=tmp_path) as broker, RawClient(broker.port) as client:
        assert [one.value for one in records_of(client.fetch("kept", 0).records)] == [b"still here"]


def test_what_cannot_be_is_told_at_once() -> None:
    before = used()
    with pytest.raises(InvalidSetting, match=r"no\.such"):
        odradek.Broker(no_such=1)
    with pytest.raises(InvalidSetting, match=r"num\.partitions"):
        odradek.Broker(num_partitions="many")
    with odradek.Broker() as broker:
        with pytest.raises(RuntimeError, match="running already"):
            broker.start()
        with pytest.raises(OSError):
            odradek.Broker(port=broker.port).start()
    assert used() == before


def test_a_stop_does_not_wait_for_clients() -> None:
    """One waits in a Fetch: its connection is closed."""
    with odradek.Broker() as broker:
        broker.create_topic("t")
        client = RawClient(broker.port)

        def fetch() -> None:
            with pytest.raises(Closed):
                client.fetch("t", 0, max_wait_ms=60_000)

        waiting = threading.Thread(target=fetch)
        waiting.start()
    waiting.join(20)
    assert not waiting.is_alive()
    client.socket.close()


def join_request(member_id: str) -> JoinGroupRequest:
    protocols = [JoinGroupRequestProtocol(name="range", metadata=b"\0\1\0\0\0\1\0\1t\0\0\0\0")]
    return JoinGroupRequest(
        group_id="g",
        session_timeout_ms=60_000,
        rebalance_timeout_ms=60_000,
        member_id=member_id,
        protocol_type="consumer",
        protocols=protocols,
    )


def join(client: RawClient) -> str:
    """Joins as a new member; its id. Raises where the join has to wait."""
    told = client.call(join_request(""), JoinGroupResponse, 9)
    assert told.error_code == ErrorCode.MEMBER_ID_REQUIRED
    return told.member_id


def test_nothing_is_left_where_the_program_fails_in_the_middle() -> None:
    """With a fetch and a join that wait, data that nobody read, and an exception that goes through."""
    with odradek.Broker():
        pass
    before = used()
    with pytest.raises(ZeroDivisionError), odradek.Broker() as broker:
        broker.create_topic("t")
        clients = [RawClient(broker.port) for _ in range(3)]
        first, second, third = clients
        first.call(FindCoordinatorRequest(coordinator_keys=["g"]), FindCoordinatorResponse, 4)
        first_id = join(first)
        assert first.call(join_request(first_id), JoinGroupResponse, 9).generation_id == 1
        # The second's join waits for the first to come again.
        second.send(join_request(join(second)), 9)
        fetch = FetchRequest(
            max_wait_ms=60_000, min_bytes=1, topics=[FetchTopic(topic="t", partitions=[FetchPartition()])]
        )
        third.send(fetch, 12)
        first.produce("t", batch(b"x"))
        _ = 1 // 0
    for client in clients:
        client.socket.close()
    assert used() == before


def test_errors_a_number_of_times() -> None:
    with odradek.Broker() as broker, RawClient(broker.port) as client:
        broker.create_topic("t")
        broker.create_topic("u")
        fault = broker.faults.refuse("Produce", "NOT_LEADER_OR_FOLLOWER", times=2, topic="t")
        assert client.produce("u", batch(b"other")).error_code == 0
        assert [client.produce("t", batch(b"x")).error_code for _ in range(3)] == [6, 6, 0]
        assert fault.hits == 2
        # A producer tries again by itself, and the record is there once.
        with broker.faults.refuse("Produce", "NOT_LEADER_OR_FOLLOWER", times=3) as fault:
            producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "retry.backoff.ms": 10})
            producer.produce("t", b"y")
            assert producer.flush(20) == 0
        assert fault.hits == 3
        assert [one.value for one in records_of(client.fetch("t", 0).records)] == [b"x", b"y"]
        del producer


def test_an_answer_is_lost_and_the_record_is_there_once() -> None:
    with odradek.Broker() as broker, RawClient(broker.port) as client:
        broker.create_topic("t")
        fault = broker.faults.disconnect("Produce", after=True, times=1)
        settings = {"bootstrap.servers": broker.bootstrap_servers, "enable.idempotence": True, "retry.backoff.ms": 10}
        producer = Producer(settings)
        producer.produce("t", b"once")
        assert producer.flush(20) == 0 and fault.hits == 1
        assert [one.value for one in records_of(client.fetch("t", 0).records)] == [b"once"]
        del producer


def test_connections_are_cut_and_rules_removed() -> None:
    with odradek.Broker() as broker:
        broker.create_topic("t")
        with broker.faults.disconnect(), RawClient(broker.port) as client, pytest.raises(Closed):
            client.produce("t", batch(b"x"))
        with broker.faults.delay("Produce", 0.01, times=1) as fault, RawClient(broker.port) as client:
            assert client.produce("t", batch(b"x")).error_code == 0 and fault.hits == 1
        broker.faults.disconnect("Produce")
        broker.faults.clear()
        with RawClient(broker.port) as client:
            assert client.produce("t", batch(b"x")).error_code == 0
        faults = broker.faults
        for wrong in (
            lambda: faults.delay("Nonsense", 1),
            lambda: faults.refuse("NoSuchApi", 1),
            lambda: faults.refuse("Fetch", "NO_SUCH_ERROR"),
        ):
            with pytest.raises(ValueError, match=r"Nonsense|NoSuchApi|NO_SUCH_ERROR"):
                wrong()


@pytest.mark.parametrize("api", sorted(BY_NAME))
def test_a_refusal_can_be_sent_in_every_version(api: str) -> None:
    served = BY_NAME[api].served
    for version in range(served.first, served.last + 1):
        request = BY_NAME[api].request()
        if isinstance(request, ProduceRequest):
            request.acks = 1  # to none there is no answer
        answer = HANDLERS[BY_NAME[api].key].refused(request, ErrorCode.REQUEST_TIMED_OUT, version)
        assert isinstance(answer, Message) and encode(answer, version)


def test_a_refusal_without_acks_cuts_the_connection() -> None:
    """An answer would be taken for that of the next request."""
    with odradek.Broker() as broker, RawClient(broker.port) as client:
        broker.create_topic("t")
        fault = broker.faults.refuse("Produce", "NOT_LEADER_OR_FOLLOWER", times=1)
        client.send(produce_request("t", batch(b"x"), acks=0), 9)
        assert client.is_closed() and fault.hits == 1


def test_a_group_rebalances_when_told_to() -> None:
    with odradek.Broker() as broker:
        broker.create_topic("t", 2)
        with pytest.raises(odradek.BrokerFailed):
            broker.rebalance("g")
        consumer = Consumer(
            {"bootstrap.servers": broker.bootstrap_servers, "group.id": "g", "heartbeat.interval.ms": 100}
        )
        assigned: list[int] = []
        consumer.subscribe(["t"], on_assign=lambda consumer, partitions: assigned.append(len(partitions)))
        while not assigned:
            consumer.poll(0.1)
        broker.rebalance("g")
        while len(assigned) < 2:
            consumer.poll(0.1)
        assert assigned == [2, 2]
        consumer.close()


def test_the_fixtures(odradek_broker: odradek.Broker, odradek_topic: str, clean_odradek_broker: odradek.Broker) -> None:
    assert odradek_topic in odradek_broker.topics() and odradek_topic.startswith("test_the_fixtures".replace("_", "-"))
    assert clean_odradek_broker.topics() == []


@pytest.mark.parametrize("odradek_topic", [3], indirect=True)
def test_a_topic_with_partitions(odradek_broker: odradek.Broker, odradek_topic: str) -> None:
    with RawClient(odradek_broker.port) as client:
        assert client.produce(odradek_topic, batch(b"x"), partition=2).error_code == 0
