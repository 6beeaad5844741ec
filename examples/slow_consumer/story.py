"""A consumer that is too slow for a short retention: warned of, prevented, or reported; and a group that is uneven.

    python story.py                     two minutes of the broker's time a second
    python story.py --times 20          slower, to watch

Two topics get the same records, and keep them for ten minutes. One consumer, the group `billing`, reads both, at half
the rate at which they come. `orders` is as it would be with Apache Kafka; `payments` has a retention guard. What the
broker says of it is read from the topic `__odradek_events`, as anyone can. Then a group of two members reads a topic of
three partitions, one of which carries nearly everything.
"""

from __future__ import annotations

import argparse
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

import odradek
from odradek.clock import FastClock

RETENTION_MS = 600_000
EVENTS = "__odradek_events"
TOPICS = ("orders", "payments")
RECORDS_A_MINUTE = 10  # of the broker's time
PATIENCE_S = 60
LOOK_QUICKLY = {
    "odradek.http.listen": "127.0.0.1:0",
    "odradek.insight.interval.ms": 100,
    "log.retention.check.interval.ms": 50,
}


class SlowConsumer:
    """The group `billing`: reads a record of each topic, commits it, and takes its time."""

    def __init__(self, broker: odradek.Broker) -> None:
        self.consumer = Consumer(
            {
                "bootstrap.servers": broker.bootstrap_servers,
                "group.id": "billing",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                # It does not hoard what it has not read: only what the broker keeps is there for it.
                "queued.min.messages": 1,
                "queued.max.messages.kbytes": 1,
                "fetch.message.max.bytes": 200,
                "fetch.queue.backoff.ms": 5,
            }
        )
        self.consumer.assign([TopicPartition(topic, 0, 0) for topic in TOPICS])
        self.next = dict.fromkeys(TOPICS, 0)
        self.missed: dict[str, list[int]] = {topic: [] for topic in TOPICS}

    def read(self) -> None:
        """One record, if there is one."""
        message = self.consumer.poll(0.01)
        if message is None:
            return
        topic, offset, error = message.topic(), message.offset(), message.error()
        assert topic is not None and offset is not None
        if error is not None:
            # What it wanted to read is not there any more: it goes on with what is.
            assert error.code() == KafkaError._AUTO_OFFSET_RESET, error
            first, _ = self.consumer.get_watermark_offsets(TopicPartition(topic, 0))
            self.missed[topic] += range(self.next[topic], first)
            self.next[topic] = first
            self.consumer.assign([TopicPartition(topic, 0, self.next[topic]) for topic in TOPICS])
            return
        self.next[topic] = offset + 1
        self.consumer.commit(message, asynchronous=False)


class Events:
    """What the broker says, from its topic."""

    def __init__(self, broker: odradek.Broker) -> None:
        self.consumer = Consumer(
            {"bootstrap.servers": broker.bootstrap_servers, "group.id": "watcher", "enable.auto.commit": False}
        )
        self.consumer.assign([TopicPartition(EVENTS, 0, 0)])
        self.heard: list[dict[str, Any]] = []

    def listen(self) -> list[dict[str, Any]]:
        """What is new."""
        new = []
        while (message := self.consumer.poll(0)) is not None:
            # The topic is made by the first event; until then it is unknown.
            if message.error() is None:
                new.append(json.loads(message.value() or b""))
        self.heard += new
        return new

    def of(self, topic: str, verdict: str) -> list[dict[str, Any]]:
        return [event for event in self.heard if (event["topic"], event["verdict"]) == (topic, verdict)]


def too_slow(times: float) -> None:
    """The loss, foretold and told; and how the guard prevents it."""
    clock = FastClock(times)
    began_ms = clock.now_ms()
    with odradek.Broker(clock=clock, **LOOK_QUICKLY) as broker:
        common = {"retention.ms": RETENTION_MS, "message.timestamp.type": "LogAppendTime"}
        broker.create_topic("orders", 1, **common)
        broker.create_topic("payments", 1, **common, **{"odradek.retention.guard.groups": "billing"})
        producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "linger.ms": 0})
        consumer, events = SlowConsumer(broker), Events(broker)
        interval_s = 60 / times / RECORDS_A_MINUTE
        due_s, sent = time.monotonic(), 0
        deadline = due_s + PATIENCE_S
        while not (events.of("orders", "has lost") and consumer.missed["orders"]):
            assert time.monotonic() < deadline, events.heard
            if time.monotonic() >= due_s:
                due_s += interval_s
                sent += 1
                for topic in TOPICS:
                    producer.produce(topic, b"v" * 100, partition=0)
                producer.poll(0)
                # One record for every two that come, of one topic and then of the other.
                consumer.read()
            for event in events.listen():
                minutes = (event["at_ms"] - began_ms) / 60_000
                print(f"minute {minutes:4.1f}: {event['group']} on {event['topic']} {event['how']}")
        warned, lost = events.of("orders", "will lose")[0], events.of("orders", "has lost")[0]
        minutes = (lost["at_ms"] - warned["at_ms"]) / 60_000
        assert minutes > 1
        print(f"orders: the warning came {minutes:.0f} minutes before the loss of offsets that nobody had read.")
        # Nothing more comes, and the consumer catches up with what is there.
        producer.flush(30)
        while any(consumer.next[topic] < sent for topic in TOPICS):
            assert time.monotonic() < deadline, consumer.next
            consumer.read()
        print(f"orders: {len(consumer.missed['orders'])} of {sent} records were gone when billing came to them.")
        events.listen()
        assert not events.of("payments", "has lost") and consumer.missed["payments"] == []
        print(f"payments: the guard kept them, and billing has read all {sent}.")
        consumer.consumer.close()
        events.consumer.close()


def uneven() -> None:
    """Three partitions, two members, and keys that all go to one partition."""
    with odradek.Broker(**LOOK_QUICKLY) as broker:
        broker.create_topic("parcels", 3)
        settings = {"bootstrap.servers": broker.bootstrap_servers, "group.id": "dispatch"}
        members = [Consumer({**settings, "client.id": f"dispatch-{number}"}) for number in (1, 2)]
        producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
        for member in members:
            member.subscribe(["parcels"])

        def balance() -> dict[str, Any] | None:
            for number in range(10):
                producer.produce("parcels", b"v" * 1000, partition=max(0, number - 7))
            producer.flush(30)
            for member in members:
                message = member.poll(0.01)
                if message is not None and message.error() is None:
                    member.commit(message, asynchronous=False)
            try:
                with urllib.request.urlopen(f"{broker.http_url}/api/groups/dispatch") as response:
                    found: dict[str, Any] | None = json.load(response)["balance"]
            except urllib.error.HTTPError:
                return None  # it has not committed anything yet
            # Until the partitions have been shared out, and enough has come.
            shared_out = found is not None and all(member["partitions"] for member in found["members"])
            return found if shared_out and len(found["advice"]) == 2 else None

        found = until(balance)
        for member in found["members"]:
            share = f"{member['partitions']} partitions, {member['bytes_per_s'] / 1000:.0f} KB/s"
            print(f"{member['client_id']}: {share}")
        for advice in found["advice"]:
            print(f"advice: {advice}")
        for member in members:
            member.close()


def until(ask: Callable[[], dict[str, Any] | None]) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_S
    while (found := ask()) is None:
        assert time.monotonic() < deadline
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=float, default=120.0, help="how fast the broker's clock goes")
    too_slow(parser.parse_args().times)
    uneven()


if __name__ == "__main__":
    main()
