"""What the HTTP port and the topic of events say of groups, and that it is as the OpenAPI document says."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

import odradek
from tests.handlers.group_peer import GroupPeer
from tests.raw_client import RawClient, batch

SETTINGS = {"odradek.http.listen": "127.0.0.1:0", "odradek.insight.interval.ms": 100}
EVENTS = "__odradek_events"


@pytest.fixture
def broker() -> Iterator[odradek.Broker]:
    with odradek.Broker(**SETTINGS) as broker:
        yield broker


class Asked:
    """The HTTP port of a broker whose looks come quickly."""

    def __init__(self, broker: odradek.Broker) -> None:
        assert broker.http_url is not None
        host, _, port = broker.http_url.removeprefix("http://").rpartition(":")
        self.address = host, int(port)

    def text(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(*self.address, timeout=30)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def until(self, path: str, holds: Any) -> Any:
        """Asks until the answer is as wanted: looks are ten a second."""
        for _ in range(2_000):
            status, body = self.text(path)
            if status == 200 and holds(body):
                return body
        raise AssertionError(body)

    def json(self, path: str) -> Any:
        status, body = self.text(path)
        assert status == 200, body
        return json.loads(body)

    def events(self, count: int, after: int = 0) -> list[dict[str, Any]]:
        """The next events."""
        connection = http.client.HTTPConnection(*self.address, timeout=30)
        try:
            connection.request("GET", "/api/events", headers={"Last-Event-ID": str(after)})
            response = connection.getresponse()
            assert response.getheader("content-type", "").startswith("text/event-stream")
            found: list[dict[str, Any]] = []
            while len(found) < count:
                lines: list[str] = []
                while not lines or lines[-1]:
                    lines.append(response.readline().decode().rstrip("\n"))
                if lines[0].startswith(":"):
                    continue
                assert lines[1] == "event: lag"
                found.append(json.loads(lines[2].removeprefix("data: ")))
                assert lines[0] == f"id: {found[-1]['number']}"
            return found
        finally:
            connection.close()


def test_a_loss_is_seen_by_whoever_asks(broker: odradek.Broker) -> None:
    port = broker.port
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    admin.create_topics([NewTopic("t", 1)])["t"].result()
    with RawClient(port) as client, GroupPeer(port, is_kafka=False) as peer:
        peer.until_served("a/group")
        for _ in range(10):
            assert client.produce("t", batch(b"v")).error_code == 0
        peer.commit("a/group", {"t": {0: 4}}, version=2)
        asked = Asked(broker)
        (group,) = json.loads(asked.until("/api/groups", lambda body: "a/group" in body))
        assert (group["group"], group["records_behind"], group["verdict"]) == ("a/group", 6, "ok")
        assert group["bytes_behind"] == 6 * len(batch(b"v")) and group["lost_records"] == 0
        admin.delete_records([TopicPartition("t", 0, 7)])
        one = json.loads(asked.until("/api/groups/a/group", lambda body: "has lost" in body))
        assert (one["verdict"], one["lost_records"]) == ("has lost", 3)
        (partition,) = one["partitions"]
        assert (partition["topic"], partition["partition"], partition["records_behind"]) == ("t", 0, 3)
        assert [(loss["from_offset"], loss["to_offset"]) for loss in partition["losses"]] == [(4, 7)]
        (event,) = asked.events(1)
        assert (event["group"], event["verdict"], event["lost_records"]) == ("a/group", "has lost", 3)
        status, metrics = asked.text("/metrics")
        assert status == 200
        for line in (
            'odradek_group_lag_records{group="a/group"} 3.0',
            'odradek_group_lost_records_total{group="a/group"} 3.0',
            'odradek_group_verdict{group="a/group"} 4.0',
            "odradek_groups_without_series 0.0",
            "odradek_offsets_unwatched 0.0",
        ):
            assert line in metrics.splitlines(), line
        assert asked.text("/api/groups/nobody")[0] == 404


def test_a_stream_of_events_ends_with_the_broker(caplog: pytest.LogCaptureFixture) -> None:
    with odradek.Broker(**SETTINGS) as broker:
        asked = Lost(broker, ["one"]).asked
        connection = http.client.HTTPConnection(*asked.address, timeout=30)
        connection.request("GET", "/api/events")
        response = connection.getresponse()
        assert response.readline() == b"id: 1\n"
    # It ended as it should, and was not cut off.
    assert response.read().endswith(b"\n\n")
    connection.close()
    assert not [record for record in caplog.records if record.name.startswith("uvicorn")]


# --- the topic of events ---------------------------------------------------------------------------------------------


class Lost:
    """Groups that each have lost a record of a topic of ten."""

    def __init__(self, broker: odradek.Broker, groups: list[str]) -> None:
        self.admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
        broker.create_topic("t", 1)
        with RawClient(broker.port) as client, GroupPeer(broker.port, is_kafka=False) as peer:
            for _ in range(10):
                assert client.produce("t", batch(b"v")).error_code == 0
            for group in groups:
                peer.until_served(group)
                peer.commit(group, {"t": {0: 4}}, version=2)
            self.asked = Asked(broker)
            self.asked.until("/api/groups", lambda body: all(group in body for group in groups))
            self.admin.delete_records([TopicPartition("t", 0, 5)])[TopicPartition("t", 0)].result()


def consumer(broker: odradek.Broker, group: str, **settings: Any) -> Consumer:
    given = {"bootstrap.servers": broker.bootstrap_servers, "group.id": group, "auto.offset.reset": "earliest"}
    return Consumer({**given, **settings})


def test_events_are_records_that_anyone_can_consume(broker: odradek.Broker) -> None:
    lost = Lost(broker, ["one", "two", "three"])
    told = lost.asked.events(3)
    reader = consumer(broker, "reader", **{"enable.auto.commit": False})
    try:
        reader.assign([TopicPartition(EVENTS, 0, 0)])
        messages = []
        while len(messages) < 3:
            message = reader.poll(30)
            assert message is not None
            # Until the topic has been made.
            if message.error() is None:
                messages.append(message)
        assert [json.loads(message.value() or b"") for message in messages] == told
        assert [message.key() for message in messages] == [event["group"].encode() for event in told]
        assert [message.timestamp()[1] for message in messages] == [event["at_ms"] for event in told]
        assert {event["group"] for event in told} == {"one", "two", "three"}
        assert [event["number"] for event in lost.asked.events(1, after=2)] == [3]
    finally:
        reader.close()


def test_the_topic_of_events_is_the_brokers_own(broker: odradek.Broker) -> None:
    lost = Lost(broker, ["one"])
    lost.asked.events(1)
    until(lambda: lost.admin.list_topics().topics, lambda topics: EVENTS in topics)
    failed: list[Any] = []
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
    producer.produce(EVENTS, b"not true", on_delivery=lambda error, _: failed.append(error))
    producer.flush(30)
    assert failed[0].name() == "TOPIC_EXCEPTION"


def test_without_the_topic_of_events_there_is_none() -> None:
    with odradek.Broker(**SETTINGS, **{"odradek.events.topic.enable": False}) as broker:
        assert Lost(broker, ["one"]).asked.events(1)
        admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
        assert EVENTS not in admin.list_topics().topics


# --- balance ---------------------------------------------------------------------------------------------------------


def test_balance_by_member_with_advice(broker: odradek.Broker) -> None:
    broker.create_topic("orders", 3)
    members = [consumer(broker, "uneven", **{"client.id": f"c-{number}"}) for number in range(2)]
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
    asked = Asked(broker)
    try:
        for member in members:
            member.subscribe(["orders"])

        def balance() -> Any:
            for member in members:
                member.poll(0.01)
            # Partition 0 gets eight of ten, and more than a member's share.
            for number in range(10):
                producer.produce("orders", b"v" * 1000, partition=max(0, number - 7))
            producer.flush(30)
            for member in members:
                # There is nothing to commit, or a rebalance.
                with contextlib.suppress(KafkaException):
                    member.commit(asynchronous=False)
            status, body = asked.text("/api/groups/uneven")
            return json.loads(body)["balance"] if status == 200 else None

        def shared_out(found: Any) -> bool:
            return bool(found) and sorted(member["partitions"] for member in found["members"]) == [1, 2]

        found = until(balance, lambda one: shared_out(one) and len(one["advice"]) == 2)
        assert {member["client_id"] for member in found["members"]} == {"c-0", "c-1"}
        assert found["partition_skew"] == pytest.approx(4 / 3) and found["unassigned"] == []
        assert 1.5 < found["byte_skew"] <= 2
        hot, uneven = found["advice"]
        assert hot.startswith("partition 0 of orders carries ") and "of the bytes" in hot
        assert uneven == "3 partitions over 2 members: one carries 2; 3 members would be even"
        # Who has gone has no share.
        for member in members:
            member.close()
        asked.until("/api/groups/uneven", lambda body: json.loads(body)["balance"] is None)
    finally:
        producer.flush(30)


def until(ask: Callable[[], Any], holds: Callable[[Any], object]) -> Any:
    for _ in range(2_000):
        found = ask()
        if holds(found):
            return found
    raise AssertionError(found)


# --- the document ----------------------------------------------------------------------------------------------------


def test_answers_are_as_the_document_says(broker: odradek.Broker) -> None:
    lost = Lost(broker, ["one", "a/b"])
    broker.create_topic("keyed", 1, **{"odradek.hot.keys.enable": True})
    asked = lost.asked
    reader = consumer(broker, "reader")
    reader.subscribe(["t"])
    try:

        def balance() -> Any:
            reader.poll(0.01)
            status, body = asked.text("/api/groups/reader")
            return json.loads(body)["balance"] if status == 200 else None

        until(balance, lambda found: found)
        document = asked.json("/api/openapi.json")
        validate(document)

        def check(path: str, answer: Any, status: str = "200") -> None:
            content = document["paths"][path]["get"]["responses"][status]["content"]["application/json"]
            schema = {**content["schema"], "components": document["components"]}
            Draft202012Validator(schema).validate(answer)

        check("/api/groups", asked.json("/api/groups"))
        for group in ("one", "a/b", "reader"):
            check("/api/groups/{group}", asked.json(f"/api/groups/{group}"))
        status, body = asked.text("/api/groups/nobody")
        assert status == 404
        check("/api/groups/{group}", json.loads(body), "404")
        check("/api/openapi.json", document)
        until(lambda: asked.text("/api/topics/keyed/keys")[0], lambda status: status == 200)
        check("/api/topics/{topic}/keys", asked.json("/api/topics/keyed/keys"))
        check("/api/topics/{topic}/keys", json.loads(asked.text("/api/topics/t/keys")[1]), "404")
        event = {"$ref": "#/components/schemas/Event", "components": document["components"]}
        for one in asked.events(2):
            Draft202012Validator(event).validate(one)
        # And nothing is served that it does not say.
        for path in document["paths"]:
            assert "{" in path or path == "/api/events" or asked.text(path)[0] == 200, path
    finally:
        reader.close()
