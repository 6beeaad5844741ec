"""Keys sampled from a broker's logs, for topics that ask for it; and what they are good for in advice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer

import odradek
from odradek.config import BrokerConfig
from odradek.engines.interface import OffsetOutOfRange, Unknown
from odradek.engines.local.disk import Disk
from odradek.insight import hot_keys
from odradek.insight.balance import HotKey, Load, balance_of
from odradek.insight.hot_keys import HotKeys
from odradek.partitions.partition import Partition
from tests.adversity.serving_on_disk import ServingOnDisk
from tests.insight.test_lag_api import SETTINGS, Asked, consumer, until
from tests.serving import Serving


@pytest.fixture(params=["memory", "local"])
def serving(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Serving]:
    settings = {"odradek__hot__keys__enable": "true"}
    made = ServingOnDisk(tmp_path, Disk(), **settings) if request.param == "local" else Serving(**settings)
    with made as broker:
        yield broker


class Scene:
    def __init__(self, serving: Serving, **settings: str) -> None:
        self.serving = serving
        self.producer = Producer({"bootstrap.servers": f"127.0.0.1:{serving.port}", "linger.ms": 0, **settings})
        self.sampler = HotKeys(BrokerConfig(), serving.server.partitions)
        self.produce(b"first", 1)
        self.look()

    def produce(self, key: bytes | None, records: int, topic: str = "t") -> None:
        for _ in range(records):
            self.producer.produce(topic, b"v", key=key, partition=0)
        assert self.producer.flush(30) == 0

    def look(self) -> None:
        self.serving.run(self.sampler.look())

    def partition(self, topic: str = "t") -> Partition:
        found = self.serving.server.partitions.get(topic, 0)
        assert found is not None
        return found

    def top(self) -> dict[bytes | None, float]:
        keys = self.sampler.of(self.partition())
        assert keys is not None
        return {one.key: one.share_at_least for one in keys.top(10)}


@pytest.mark.parametrize("codec", ["none", "lz4", "zstd"])
def test_keys_of_what_comes_are_counted(serving: Serving, codec: str) -> None:
    scene = Scene(serving, **{"compression.type": codec})
    # What was there when it began was not asked for.
    assert scene.top() == {}
    scene.produce(b"a", 30)
    scene.produce(None, 10)
    scene.look()
    assert scene.top() == {b"a": 0.75, None: 0.25}
    # Each is counted once, and nothing where nothing comes.
    scene.look()
    assert scene.top() == {b"a": 0.75, None: 0.25}
    scene.produce(b"b", 40)
    scene.look()
    assert scene.top() == {b"b": 0.5, b"a": 0.375, None: 0.125}


def test_a_look_is_bounded(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(serving)
    monkeypatch.setattr(hot_keys, "RECORDS_OF_ONE", 7)
    scene.produce(b"a", 20)
    scene.look()
    keys = scene.sampler.of(scene.partition())
    assert keys is not None and keys.total == 7
    # What was left out stays out: the next sample is of what comes next.
    scene.produce(b"b", 3)
    scene.look()
    assert keys.total == 10 and scene.top() == {b"a": 0.7, b"b": 0.3}


def test_partitions_take_turns(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(serving)
    scene.produce(b"first", 1, "u")
    scene.look()
    monkeypatch.setattr(hot_keys, "RECORDS_A_LOOK", 5)
    for _ in range(2):
        for topic in ("t", "u"):
            scene.produce(b"a", 5, topic)
        scene.look()
    found = [scene.sampler.of(scene.partition(topic)) for topic in ("t", "u")]
    assert [keys.total for keys in found if keys is not None] == [5, 5]


def test_what_no_longer_asks_is_forgotten(serving: Serving) -> None:
    scene = Scene(serving)
    scene.produce(b"a", 5)
    scene.look()
    config = scene.partition().config

    async def configure() -> None:
        import dataclasses

        await serving.server.partitions.configure("t", dataclasses.replace(config, hot_keys=False))

    serving.run(configure())
    scene.look()
    assert scene.sampler.of(scene.partition()) is None and scene.sampler._sampled == {}


@pytest.mark.parametrize("failure", [OffsetOutOfRange("retention was here"), Unknown("the disk failed"), OSError("so")])
def test_what_cannot_be_read_now_harms_nobody(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    scene = Scene(serving)
    scene.produce(b"a", 3)

    async def fail() -> list[bytes]:
        raise failure

    monkeypatch.setattr(scene.partition().log, "read", lambda *arguments: fail())
    scene.look()
    monkeypatch.undo()
    scene.produce(b"b", 2)
    scene.look()
    assert scene.top() == {b"b": 1.0}


def test_damage_is_told_and_harms_nobody(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(serving)
    scene.produce(b"a", 5)

    def damaged(*arguments: object) -> object:
        raise hot_keys.InvalidBatch("torn")

    monkeypatch.setattr(hot_keys, "iterate", damaged)
    scene.look()
    monkeypatch.undo()
    scene.produce(b"b", 5)
    scene.look()
    assert scene.top() == {b"b": 1.0}


# --- what they are good for ------------------------------------------------------------------------------------------


def test_advice_names_the_key_of_a_hot_partition() -> None:
    loads = {("orders", 0): Load(100, 8000), ("orders", 1): Load(10, 1000), ("orders", 2): Load(10, 1000)}
    assignment = {"a": [("orders", 0)], "b": [("orders", 1)], "c": [("orders", 2)]}
    keys = {("orders", 0): HotKey("the key acme", 0.62)}
    (advice,) = balance_of(assignment, loads, keys.get).advice
    assert advice == (
        "partition 0 of orders carries 80% of the bytes, 62% of its records have the key acme: "
        "more members will not help, its keys must be spread"
    )


def test_keys_are_seen_over_http_and_in_advice() -> None:
    with odradek.Broker(**SETTINGS) as broker:
        broker.create_topic("orders", 2, **{"odradek.hot.keys.enable": True})
        broker.create_topic("plain", 1)
        members: list[Consumer] = [consumer(broker, "g") for _ in range(2)]
        producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
        asked = Asked(broker)
        try:
            for member in members:
                member.subscribe(["orders"])

            def advice() -> list[str]:
                for number in range(20):
                    producer.produce("orders", b"v" * 1000, key=b"acme" if number else b"other", partition=number < 18)
                producer.flush(30)
                for member in members:
                    message = member.poll(0.01)
                    if message is not None and message.error() is None:
                        member.commit(message, asynchronous=False)
                status, body = asked.text("/api/groups/g")
                found: list[str] = (json.loads(body)["balance"] or {}).get("advice", []) if status == 200 else []
                return [sentence for sentence in found if "acme" in sentence]

            (sentence,) = until(advice, lambda found: found)
            assert (
                sentence.startswith("partition 1 of orders carries ")
                and "% of its records have the key acme:" in sentence
            )
            found = asked.json("/api/topics/orders/keys")
            first = next(one for one in found["partitions"] if one["partition"] == 1)
            assert first["sampled_records"] >= 100
            assert first["keys"][0]["key"] == "acme" and first["keys"][0]["share_at_least"] > 0.8
            assert asked.text("/api/topics/plain/keys")[0] == asked.text("/api/topics/nothing/keys")[0] == 404
        finally:
            for member in members:
                member.close()
