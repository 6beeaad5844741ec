"""A clock that goes faster makes things age faster, and hurries nobody."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import pytest
from confluent_kafka import Producer

import odradek
from odradek.ages import LEAP_MS, Ages
from odradek.clock import FastClock
from odradek.config import BrokerConfig
from odradek.coordination.operation import Outcome
from odradek.coordination.transactions.shard import TransactionShard
from odradek.errors import ErrorCode
from odradek.protocol.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from odradek.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from odradek.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse
from odradek.protocol.messages.sync_group import SyncGroupRequest, SyncGroupResponse
from odradek.records.builder import NewRecord
from tests.raw_client import RawClient, batch
from tests.test_ages import HOUR_MS, YEAR_MS, LeapingClock

SESSION_MS = 1500
HEARTBEAT_S = 0.05
TIMEOUT_MS = 60_000
DEADLINE_S = 20.0


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not done():
        assert time.monotonic() < deadline


def test_what_ages_is_fast_and_what_waits_is_not() -> None:
    before_ms, before_s = time.time_ns() // 1_000_000, time.monotonic()
    clock = FastClock(1_000_000)
    began_s = clock.ageing()
    until(lambda: clock.now_ms() - before_ms > 60_000 and clock.ageing() - began_s > 60)
    passed_s = time.monotonic() - before_s
    assert 0 <= clock.monotonic() - before_s <= passed_s + 1 and passed_s < 60


def test_a_fast_clock_is_no_leap(caplog: pytest.LogCaptureFixture) -> None:
    clock = FastClock(1_000_000)
    ages = Ages(clock, BrokerConfig({}))
    began_ms = clock.now_ms()
    with caplog.at_level(logging.INFO, "odradek"):
        for looks in range(1, 6):
            until(lambda looks=looks: clock.now_ms() - began_ms > looks * 10 * LEAP_MS)  # type: ignore[misc]
            before_ms = clock.now_ms()
            assert before_ms <= ages.now_ms()
    assert caplog.records == []


def test_members_keep_their_sessions_while_the_clock_is_fast() -> None:
    """A session is what a client measures itself: it is machine time, whatever the age of records is."""
    settings = {"group_min_session_timeout_ms": 100}
    with odradek.Broker(clock=FastClock(10_000), **settings) as broker, RawClient(broker.port) as client:
        client.call(FindCoordinatorRequest(coordinator_keys=["g"]), FindCoordinatorResponse, 4)
        joining = JoinGroupRequest(
            group_id="g",
            session_timeout_ms=SESSION_MS,
            rebalance_timeout_ms=60_000,
            protocol_type="consumer",
            protocols=[JoinGroupRequestProtocol(name="range", metadata=b"")],
        )
        joined = client.call(joining, JoinGroupResponse, 3)
        assert joined.error_code == 0
        member = {"group_id": "g", "member_id": joined.member_id, "generation_id": joined.generation_id}
        assert client.call(SyncGroupRequest(**member), SyncGroupResponse, 3).error_code == 0

        def heartbeat() -> int:
            return client.call(HeartbeatRequest(**member), HeartbeatResponse, 3).error_code

        end = time.monotonic() + SESSION_MS / 1000 + 0.5
        while time.monotonic() < end:
            assert heartbeat() == 0
            time.sleep(HEARTBEAT_S)  # the member's own pace, not a wait for something
        # Without them the session ends, when its time is over.
        silent_since = time.monotonic()
        with RawClient(broker.port) as other:
            joining.member_id = ""
            assert other.call(joining, JoinGroupResponse, 3).error_code == 0
        assert time.monotonic() - silent_since > SESSION_MS / 1000 / 2
        assert heartbeat() == ErrorCode.UNKNOWN_MEMBER_ID


def test_transactions_keep_their_time_while_the_clock_is_fast() -> None:
    """Nor is a transaction's timeout anything but the producer's own time."""
    sweep_ms = 20
    settings = {"transaction_abort_timed_out_transaction_cleanup_interval_ms": sweep_ms}
    with odradek.Broker(clock=FastClock(10_000), **settings) as broker:
        broker.create_topic("t", message_timestamp_type="LogAppendTime")
        producer = Producer(
            {
                "bootstrap.servers": broker.bootstrap_servers,
                "transactional.id": "x",
                "transaction.timeout.ms": TIMEOUT_MS,
            }
        )
        producer.init_transactions(DEADLINE_S)
        producer.begin_transaction()
        producer.produce("t", b"x")
        assert producer.flush(DEADLINE_S) == 0
        # By the fast clock the minute is over after 6 ms; the broker looks for it every 20.
        end = time.monotonic() + 10 * sweep_ms / 1000
        with RawClient(broker.port) as client:
            while time.monotonic() < end:
                assert client.produce("t", batch(b"meanwhile")).error_code == 0
        producer.commit_transaction(DEADLINE_S)
        del producer


@pytest.mark.parametrize("leap_ms", [HOUR_MS, YEAR_MS, -HOUR_MS, -YEAR_MS])
def test_a_leap_ends_no_transaction(leap_ms: int) -> None:
    clock = LeapingClock()
    log: list[NewRecord] = []

    def make() -> TransactionShard:
        shard = TransactionShard(clock)
        for record in log:
            shard.replay(record.key or b"", record.value)
        shard.prepare()
        shard.loaded()
        return shard

    def keep(out: Outcome) -> None:
        log.extend(out.records)
        for record in out.records:
            shard.replay(record.key or b"", record.value)

    shard = make()
    began = Outcome()
    producer = shard.init("x", TIMEOUT_MS, None, 7, began)
    assert producer is not None
    keep(began)
    added = Outcome()
    shard.add_partitions("x", *producer, frozenset({("t", 0)}), 2, added)
    keep(added)
    clock.wrong_ms = leap_ms
    assert shard.out_of_time() == []
    clock.passed_ms += TIMEOUT_MS + 1
    assert [name for name, _ in shard.out_of_time()] == ["x"]
    # A broker that starts knows only what time the transaction says it began at.
    clock.wrong_ms = 0
    shard = make()
    assert [name for name, _ in shard.out_of_time()] == ["x"]
    clock.passed_ms -= 2
    shard = make()
    assert shard.out_of_time() == []


def test_records_age_by_the_fast_clock() -> None:
    settings = {"log_retention_check_interval_ms": 20}
    with odradek.Broker(clock=FastClock(10_000), **settings) as broker, RawClient(broker.port) as client:
        broker.create_topic("t", retention_ms=600_000, segment_ms=1, message_timestamp_type="LogAppendTime")
        assert client.produce("t", batch(b"x")).error_code == 0
        until(lambda: client.fetch("t", 1).log_start_offset == 1)
