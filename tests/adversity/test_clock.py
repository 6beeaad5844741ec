"""The machine's clock leaps by an hour and by a year, either way, under a broker with members, data and offsets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from odradek.engines.local import Disk
from tests.adversity.serving_on_disk import ServingOnDisk
from tests.raw_client import RawClient, batch, records_of
from tests.test_ages import HOUR_MS, START_MS, YEAR_MS, LeapingClock

WAIT_S = 20.0
LEAPS = [HOUR_MS, -HOUR_MS, YEAR_MS, -YEAR_MS]
PERIODIC = (
    "log.retention.check.interval.ms",
    "offsets.retention.check.interval.ms",
    "producer.id.expiration.check.interval.ms",
)


class Running:
    """A broker whose clock the test moves, and what was there before it leapt."""

    def __init__(self, serving: ServingOnDisk, clock: LeapingClock) -> None:
        self.serving = serving
        self.clock = clock
        self.bootstrap = serving.bootstrap
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        # What is kept for half an hour: a leap of an hour would be enough to lose it.
        config = {"retention.ms": str(HOUR_MS // 2), "segment.bytes": str(1 << 20)}
        admin.create_topics([NewTopic("t", 1, 1, config=config)])["t"].result(WAIT_S)
        self.sequence = 0

    def produce(self, client: RawClient, sequence: int | None = None) -> tuple[int, int]:
        """One record of an idempotent producer, at the time that the broker has; its error and offset."""
        if sequence is None:
            sequence, self.sequence = self.sequence, self.sequence + 1
        data = batch(
            b"%d" % sequence,
            timestamp_ms=self.clock.now_ms(),
            producer_id=7,
            producer_epoch=0,
            base_sequence=sequence,
        )
        answer = client.produce("t", data)
        return answer.error_code, answer.base_offset

    def maintain(self) -> None:
        """All that deletes what is old looks now."""
        server = self.serving.server
        self.serving.run(server.partitions.retain())
        self.serving.run(server.groups.expire())
        self.serving.run(server._expire_producers())

    def committed(self, group: str) -> int:
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": group, "log_level": 0})
        try:
            return consumer.committed([TopicPartition("t", 0)], WAIT_S)[0].offset
        finally:
            consumer.close()

    def commit(self, group: str, offset: int) -> None:
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": group, "log_level": 0})
        consumer.commit(offsets=[TopicPartition("t", 0, offset)], asynchronous=False)
        consumer.close()


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Callable[[Running, RawClient], None]], None]:
    def run(work: Callable[[Running, RawClient], None]) -> None:
        clock = LeapingClock()
        given = {name.replace(".", "__"): "1000000000" for name in PERIODIC}
        settings = {"offsets__retention__minutes": "30", "producer__id__expiration__ms": str(HOUR_MS // 2)}
        with ServingOnDisk(tmp_path, Disk(), clock, **given, **settings) as serving, RawClient(serving.port) as client:
            work(Running(serving, clock), client)

    return run


@pytest.mark.parametrize("leap_ms", LEAPS)
def test_nothing_grows_old_at_once(run: Callable[..., None], leap_ms: int) -> None:
    def work(running: Running, client: RawClient) -> None:
        assert [running.produce(client) for _ in range(3)] == [(0, 0), (0, 1), (0, 2)]
        running.commit("g", 2)
        for wrong_ms in (leap_ms, 0):
            running.clock.passed_ms += 60_000
            running.clock.wrong_ms = wrong_ms
            running.maintain()
            assert running.committed("g") == 2
            answer = client.fetch("t", 0)
            assert answer.log_start_offset == 0 and len(records_of(answer.records)) >= 3
            # The producer is not forgotten: what it repeats is kept once.
            end = answer.high_watermark
            assert running.produce(client, running.sequence - 1) == (0, end - 1)
            assert running.produce(client) == (0, end)

    run(work)


@pytest.mark.parametrize("leap_ms", [HOUR_MS, YEAR_MS])
def test_a_leap_ahead_that_lasts_counts_after_the_grace(run: Callable[..., None], leap_ms: int) -> None:
    def work(running: Running, client: RawClient) -> None:
        running.produce(client)
        running.commit("g", 1)
        running.clock.wrong_ms = leap_ms
        running.maintain()
        running.clock.passed_ms = HOUR_MS
        assert running.produce(client) == (0, 1)
        running.maintain()
        assert running.committed("g") == -1001, "as offsets of a group without members are after their time"
        assert [record.offset for record in records_of(client.fetch("t", 1).records)][-1] == 1, "it is of now"
        running.clock.passed_ms += HOUR_MS
        running.maintain()
        assert client.fetch("t", 2).log_start_offset == 2

    run(work)


def test_members_keep_their_sessions(run: Callable[..., None]) -> None:

    def work(running: Running, client: RawClient) -> None:
        lost: list[object] = []
        consumer = Consumer(
            {
                "bootstrap.servers": running.bootstrap,
                "group.id": "members",
                "session.timeout.ms": 6000,
                "heartbeat.interval.ms": 100,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "log_level": 0,
            }
        )
        consumer.subscribe(["t"], on_revoke=lambda _, partitions: lost.append(partitions))
        running.produce(client)
        message = consumer.poll(WAIT_S)
        assert message is not None and message.error() is None

        def heartbeats() -> int:
            server = running.serving.server
            return server.listeners.shared.dispatch.count(12).requests

        for wrong_ms in (HOUR_MS, -HOUR_MS, YEAR_MS, -YEAR_MS, 0):
            running.clock.wrong_ms = wrong_ms
            before = running.serving.look(heartbeats)
            while running.serving.look(heartbeats) == before:
                pass
            consumer.commit(message, asynchronous=False)
            running.produce(client)
            message = consumer.poll(WAIT_S)
            assert message is not None and message.error() is None
        assert lost == []
        consumer.close()

    run(work)


def test_the_broker_of_these_tests_has_the_clock_of_the_test(run: Callable[..., None]) -> None:
    def work(running: Running, client: RawClient) -> None:
        assert running.serving.server.clock.now_ms() == START_MS
        assert client.produce("t", batch(b"x", timestamp_ms=START_MS + YEAR_MS)).error_code == 32

    run(work)
