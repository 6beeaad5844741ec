"""The retention guard on a broker: retention waits for a group's commits, up to limits; the loss beyond is reported."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType

from odradek.config import BrokerConfig
from odradek.coordination.groups.coordinator import GroupCoordinator
from odradek.coordination.groups.types import group_types
from odradek.coordination.retention_guard import RetentionGuards
from odradek.coordination.runtime import ShardState
from odradek.engines.local.disk import Disk
from odradek.errors import ErrorCode
from odradek.insight.lag import Verdict
from odradek.partitions.partition import Partition
from tests.adversity.serving_on_disk import ServingOnDisk
from tests.handlers.group_peer import GroupPeer
from tests.raw_client import RawClient, batch
from tests.serving import Serving

TIMEOUT_S = 20.0
GROUPS, BYTES, MS, LIMIT = (f"odradek.retention.guard.{name}" for name in ("groups", "max.bytes", "max.ms", "on.limit"))
# Larger than half of the smallest segment that a topic can have: each record gets one.
VALUE = b"v" * 600_000
SETTINGS = {
    "offsets__topic__num__partitions": "1",
    "odradek__retention__guard__interval__ms": "10",
    "message__max__bytes": "1000000",
}


@pytest.fixture(params=["memory", "local"])
def serving(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Serving]:
    made = ServingOnDisk(tmp_path, Disk(), **SETTINGS) if request.param == "local" else Serving(**SETTINGS)
    with made as broker:
        yield broker


def record() -> bytes:
    return batch(VALUE, timestamp_ms=time.time_ns() // 1_000_000)


class Scene:
    """A topic that keeps nothing, with a guard; groups that commit."""

    def __init__(self, serving: Serving, **configs: str) -> None:
        self.serving = serving
        self.admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{serving.port}"})
        given = {"retention.bytes": "0", "segment.bytes": "1048576", GROUPS: "slow"}
        given |= {name.replace("__", "."): value for name, value in configs.items()}
        self.admin.create_topics([NewTopic("t", 1, config=given)])["t"].result()
        self.client = RawClient(serving.port)
        self.peer = GroupPeer(serving.port, is_kafka=False)
        self.peer.until_served("slow")

    def __enter__(self) -> Scene:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.socket.close()
        self.peer.client.socket.close()

    @property
    def partition(self) -> Partition:
        found = self.serving.server.partitions.get("t", 0)
        assert found is not None
        return found

    def produce(self, records: int) -> None:
        for _ in range(records):
            assert self.client.produce("t", record()).error_code == 0

    def refused(self) -> bool:
        code = self.client.produce("t", record()).error_code
        assert code in (ErrorCode.NONE, ErrorCode.NOT_ENOUGH_REPLICAS)
        return code != ErrorCode.NONE

    def commit(self, group: str, offset: int) -> None:
        self.peer.commit(group, {"t": {0: offset}}, version=2)

    def retain(self) -> int:
        """Where the log begins when retention has been."""
        self.serving.run(self.serving.server.partitions.retain())
        opened = self.partition.log
        assert opened is not None
        return opened.start_offset

    def until(self, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not self.serving.look(is_so):
            assert time.monotonic() < deadline

    def configure(self, **configs: str) -> None:
        entries = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in configs.items()
        ]
        (done,) = self.admin.incremental_alter_configs(
            [ConfigResource(ResourceType.TOPIC, "t", incremental_configs=entries)]
        ).values()
        done.result()


def test_retention_waits_for_the_group(serving: Serving) -> None:
    with Scene(serving) as scene:
        scene.produce(4)
        scene.commit("slow", 0)
        assert scene.retain() == 0
        assert scene.serving.look(lambda: sum(serving.server.partitions.counters.guarded_bytes.values())) > 3 * len(
            VALUE
        )
        scene.commit("slow", 3)
        assert scene.retain() == 3
        scene.commit("slow", 4)
        assert scene.retain() == 4
        assert not serving.look(lambda: serving.server.partitions.counters.guarded_bytes)
        assert serving.server.watching is None or not serving.server.watching.lost_records


def test_the_slowest_of_the_named_groups_counts(serving: Serving) -> None:
    with Scene(serving, **{GROUPS: "billing-*,sl?w"}) as scene:
        scene.produce(4)
        for group, offset in (("slow", 3), ("billing-1", 4), ("billing-2", 2), ("other", 0)):
            scene.peer.until_served(group)
            scene.commit(group, offset)
        assert scene.retain() == 2


def test_a_group_that_is_deleted_or_never_came_holds_nothing(serving: Serving) -> None:
    with Scene(serving) as scene:
        scene.produce(2)
        assert scene.retain() == 2
        scene.produce(2)
        scene.commit("slow", 2)
        assert scene.retain() == 2
        scene.admin.delete_consumer_groups(["slow"])["slow"].result()
        assert scene.retain() == 4


def test_beyond_the_limit_the_loss_is_reported_at_once(serving: Serving, caplog: pytest.LogCaptureFixture) -> None:
    with Scene(serving, **{BYTES: "1300000"}) as scene:
        scene.produce(4)
        scene.commit("slow", 1)
        assert scene.retain() == 2
        # Before any periodic look, and although the group goes on now.
        scene.commit("slow", 4)
        watching = serving.server.watching
        assert watching is not None
        (event,) = serving.look(lambda: list(watching.events))
        assert (event.group_id, event.verdict, event.lost_records) == ("slow", Verdict.HAS_LOST, 1)
        assert event.how.startswith("has lost 1 record: offsets 1 to 1 were deleted unread")
        assert serving.look(lambda: watching.lost_records) == {"slow": 1}
        assert [record for record in caplog.records if "has lost records" in record.getMessage()]


def test_the_limit_of_time(serving: Serving) -> None:
    with Scene(serving, **{MS: "0"}) as scene:
        scene.produce(2)
        scene.commit("slow", 0)
        sent_ms = time.time_ns() // 1_000_000
        scene.configure(**{MS: "3600000"})
        assert scene.retain() == 0
        scene.configure(**{MS: "0"})
        scene.until(lambda: serving.server.ages.now_ms() > sent_ms)
        assert scene.retain() == 2


def test_who_blocks_refuses_producers_until_the_group_has_caught_up(serving: Serving) -> None:
    with Scene(serving, **{BYTES: "1000000", LIMIT: "block"}) as scene:
        counters = serving.server.partitions.counters
        scene.commit("slow", 0)
        scene.produce(2)
        scene.until(lambda: bool(counters.blocked))
        assert scene.refused() and scene.refused()
        assert counters.guard_refusals == 2
        assert scene.retain() == 0
        scene.commit("slow", 1)
        scene.until(lambda: not counters.blocked)
        assert not scene.refused()
        # What is there was all acknowledged, what was refused is not there.
        scene.until(lambda: bool(counters.blocked))
        opened = scene.partition.log
        assert opened is not None and opened.end_offset == 3 and opened.start_offset == 0
        assert serving.server.watching is None or not serving.server.watching.lost_records


def test_the_refusal_says_why(serving: Serving) -> None:
    with Scene(serving, **{BYTES: "0", LIMIT: "block"}) as scene:
        scene.commit("slow", 0)
        scene.produce(1)
        scene.until(lambda: bool(serving.server.partitions.counters.blocked))
        answer = scene.client.produce("t", record())
        assert answer.error_code == ErrorCode.NOT_ENOUGH_REPLICAS
        assert answer.error_message == (
            "retention waits for group slow, which is at offset 0, and has reached odradek.retention.guard.max.bytes"
        )


@pytest.mark.parametrize("way", ["settings", "the group is deleted", "the limit is raised"])
def test_a_block_ends_with_what_made_it(serving: Serving, way: str) -> None:
    with Scene(serving, **{BYTES: "0", LIMIT: "block"}) as scene:
        counters = serving.server.partitions.counters
        scene.commit("slow", 0)
        scene.produce(1)
        scene.until(lambda: bool(counters.blocked))
        if way == "settings":
            scene.configure(**{GROUPS: ""})
        elif way == "the limit is raised":
            scene.configure(**{BYTES: "-1"})
        else:
            scene.admin.delete_consumer_groups(["slow"])["slow"].result()
        scene.until(lambda: not counters.blocked)
        assert not scene.refused()


def test_a_policy_that_deletes_nothing_blocks_nothing(serving: Serving) -> None:
    with Scene(serving, **{BYTES: "0", LIMIT: "block"}) as scene:
        counters = serving.server.partitions.counters
        scene.commit("slow", 0)
        scene.produce(1)
        scene.until(lambda: bool(counters.blocked))
        scene.configure(**{"cleanup.policy": "compact"})
        scene.until(lambda: not counters.blocked)


def test_a_deleted_topic_blocks_nothing(serving: Serving) -> None:
    with Scene(serving, **{BYTES: "0", LIMIT: "block"}) as scene:
        counters = serving.server.partitions.counters
        scene.commit("slow", 0)
        scene.produce(1)
        scene.until(lambda: bool(counters.blocked))
        scene.admin.delete_topics(["t"])["t"].result()
        assert serving.look(lambda: (len(counters.blocked), len(counters.guarded_bytes))) == (0, 0)


def test_while_groups_are_being_loaded_nothing_counts_as_read(serving: Serving) -> None:
    with Scene(serving) as scene:
        scene.produce(2)
        scene.commit("slow", 2)
        groups = serving.server.groups
        (shard,) = groups.shards()

        def load_again() -> None:
            shard.state = ShardState.LOADING

        serving.look(load_again)
        assert scene.retain() == 0

        def loaded() -> None:
            shard.state = ShardState.ACTIVE

        serving.look(loaded)
        assert scene.retain() == 2


def test_before_there_are_groups_nothing_counts_as_read(serving: Serving) -> None:
    """As when the disk is full at the start: retention looks before groups are loaded."""

    async def never(name: str) -> None:
        raise AssertionError

    with Scene(serving) as scene:
        scene.produce(2)
        scene.commit("slow", 2)
        server = serving.server
        topic = server.partitions.topics["t"]
        config = BrokerConfig()
        groups = GroupCoordinator(
            config, server.scheduler, random.Random(1), server.partitions, never, server.ages, group_types(config)
        )
        guards = RetentionGuards(lambda: groups).of(topic)
        assert {partition: guard.offset for partition, guard in guards.items()} == {0: 0}
