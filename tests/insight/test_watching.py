"""The lags of a broker's groups: warned of before a loss, told of after it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from odradek.ages import Ages
from odradek.config import BrokerConfig
from odradek.engines.local.disk import Disk
from odradek.insight.lag import Verdict
from odradek.insight.watching import EVENTS_KEPT, WatchedPartition, Watching
from tests.adversity.serving_on_disk import ServingOnDisk
from tests.coordination.stories import VirtualClock
from tests.handlers.group_peer import GroupPeer
from tests.raw_client import RawClient, batch
from tests.serving import Serving

HOUR_MS = 3_600_000
LOOK_S = 10
T = WatchedPartition("t", 0)


@pytest.fixture(params=["memory", "local"])
def serving(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Serving]:
    settings = {"offsets__topic__num__partitions": "2", "log__message__timestamp__before__max__ms": str(1 << 60)}
    made = ServingOnDisk(tmp_path, Disk(), **settings) if request.param == "local" else Serving(**settings)
    with made as broker:
        yield broker


class Scene:
    """A broker, a virtual clock, and a topic that grows by a record a second."""

    def __init__(self, serving: Serving, retention_ms: int = HOUR_MS, **settings: str) -> None:
        self.serving = serving
        self.retention_ms = retention_ms
        self.clock = VirtualClock()
        server = serving.server
        config = BrokerConfig({name.replace("__", "."): value for name, value in settings.items()})
        self.watching = Watching(config, self.clock, Ages(self.clock), server.partitions, server.groups)
        self.client = RawClient(serving.port)
        self.peer = GroupPeer(serving.port, is_kafka=False)
        self.written = 0

    def __enter__(self) -> Scene:
        admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{self.serving.port}"})
        made = admin.create_topics([NewTopic("t", 2, config={"retention.ms": str(self.retention_ms)})])
        made["t"].result()
        self.peer.until_served("g")
        return self

    def __exit__(self, *_: object) -> None:
        self.client.socket.close()
        self.peer.client.socket.close()

    def go_on(self, seconds: int, reads_of_ten: int) -> None:
        """A record a second, of which the group commits so many of ten; a look every ten."""
        for _ in range(seconds // LOOK_S):
            for _ in range(LOOK_S):
                self.clock.elapsed_ms += 1000
                value = batch(b"v" * 100, timestamp_ms=self.clock.now_ms())
                assert self.client.produce("t", value).error_code == 0
                self.written += 1
            if reads_of_ten:
                self.peer.commit("g", {"t": {0: self.written * reads_of_ten // 10}}, version=2)
            self.look()

    def look(self) -> None:
        self.serving.run(self.watching.look())

    @property
    def lag(self) -> Any:
        return self.watching.lags["g"][T]


def test_who_keeps_up_is_well(serving: Serving) -> None:
    with Scene(serving) as scene:
        scene.go_on(300, reads_of_ten=10)
        assert scene.lag.verdict is Verdict.OK
        assert (scene.lag.records_behind, scene.lag.bytes_behind, scene.lag.seconds_behind) == (0, 0, 0.0)
        assert not scene.watching.events and scene.watching.lost_records == {}
        assert round(scene.lag.minute.appended_records_per_s, 1) == 1.0


def test_a_loss_is_foretold_and_told(serving: Serving) -> None:
    """Half as fast as what comes, and retention takes after an hour: the age of what is unread grows by half a second a
    second, so that it is an hour after two."""
    with Scene(serving) as scene:
        scene.go_on(600, reads_of_ten=5)
        lag = scene.lag
        assert lag.verdict is Verdict.WILL_LOSE
        assert lag.records_behind == 300 and lag.seconds_behind == pytest.approx(299, abs=2)
        assert not lag.bytes_estimated and lag.bytes_behind == 300 * len(batch(b"v" * 100))
        assert lag.time_to_loss_s == pytest.approx(6600, rel=0.05) and lag.loss_by == "retention.ms"
        (event,) = [one for one in scene.watching.events if one.verdict is Verdict.WILL_LOSE]
        assert event.group_id == "g" and event.place == T and event.how.startswith("will lose at ")
        # Retention comes.
        partition = serving.server.partitions.get("t", 0)
        assert partition is not None
        serving.run(partition.delete_records(400))
        scene.look()
        assert scene.lag.verdict is Verdict.HAS_LOST and scene.lag.lost_records == 100
        assert (scene.lag.losses[-1].from_offset, scene.lag.losses[-1].to_offset) == (300, 400)
        last = scene.watching.events[-1]
        assert (last.verdict, last.lost_records) == (Verdict.HAS_LOST, 100)
        assert last.how.startswith("has lost 100 records: offsets 300 to 399 were deleted unread")
        assert scene.watching.lost_records == {"g": 100}
        # Told once.
        scene.look()
        assert scene.watching.lost_records == {"g": 100} and scene.watching.events[-1] is last
        # It has caught up, and keeps up: after a while all is well.
        scene.go_on(3700, reads_of_ten=10)
        assert scene.lag.verdict is Verdict.OK and scene.watching.events[-1].verdict is Verdict.OK


def test_who_stops_is_stalled(serving: Serving) -> None:
    with Scene(serving, retention_ms=-1) as scene:
        scene.go_on(120, reads_of_ten=10)
        scene.go_on(240, reads_of_ten=0)
        assert scene.lag.verdict is not Verdict.STALLED, "it may just be slow"
        scene.go_on(180, reads_of_ten=0)
        assert Verdict.STALLED in {one.verdict for one in scene.watching.events}
        assert scene.lag.records_behind == 420


def test_what_has_gone_is_forgotten(serving: Serving) -> None:
    with Scene(serving) as scene:
        scene.go_on(20, reads_of_ten=5)
        scene.peer.commit("other", {"t": {1: 0}}, version=2)
        scene.look()
        assert set(scene.watching.lags) == {"g", "other"}
        scene.peer.delete("other")
        scene.look()
        assert set(scene.watching.lags) == {"g"}
        assert len(scene.watching._pairs) == len(scene.watching._appends) == 1
        # A topic made again is another.
        admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{serving.port}"})
        admin.delete_topics(["t"])["t"].result()
        scene.look()
        assert scene.watching.lags == {} and not scene.watching._pairs and not scene.watching._appends


def test_it_is_bounded(serving: Serving) -> None:
    with Scene(serving, odradek__insight__offsets__max="1", odradek__insight__reads__max="0") as scene:
        scene.peer.commit("g", {"t": {0: 0, 1: 0}}, version=2)
        scene.go_on(20, reads_of_ten=0)
        assert len(scene.watching._pairs) == 1 and scene.watching.passed_over == 1
        assert scene.lag.records_behind == 20 and scene.lag.bytes_estimated and scene.lag.seconds_behind is None
        assert scene.watching.events.maxlen == EVENTS_KEPT


def test_the_end_of_a_transaction_is_nothing_unread(serving: Serving) -> None:
    """Clients of librdkafka commit the offset behind their last record, and never go past a marker."""
    with Scene(serving) as scene:
        producer = Producer({"bootstrap.servers": f"127.0.0.1:{serving.port}", "transactional.id": "x"})
        producer.init_transactions(30)
        producer.begin_transaction()
        producer.produce("t", b"v", partition=0)
        producer.commit_transaction(30)
        partition = serving.server.partitions.get("t", 0)
        assert partition is not None and partition.log is not None
        opened = partition.log
        deadline = time.monotonic() + 30
        while serving.look(lambda: opened.durable_end) < 2:
            assert time.monotonic() < deadline
        scene.peer.commit("g", {"t": {0: 1}}, version=2)
        scene.look()
        assert (scene.lag.records_behind, scene.lag.bytes_behind, scene.lag.seconds_behind) == (0, 0, 0.0)
        scene.peer.commit("g", {"t": {0: 0}}, version=2)
        scene.look()
        assert scene.lag.records_behind == 2 and scene.lag.seconds_behind is not None
