"""What groups mean for the rest of a running broker: the offsets topic, its files, starts and stops."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from odradek.protocol.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from odradek.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse
from odradek.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from odradek.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from odradek.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
    OffsetFetchResponse,
)
from odradek.server import STOP_GRACE_S
from tests.broker import BrokerProcess
from tests.raw_client import RawClient, batch

INVALID_TOPIC_EXCEPTION = 17
COORDINATOR_LOAD_IN_PROGRESS = 14
MEMBER_ID_REQUIRED = 79


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path) as running:
        yield running


def find(client: RawClient, key: str, key_type: int = 0) -> FindCoordinatorResponse:
    return client.call(FindCoordinatorRequest(key_type=key_type, coordinator_keys=[key]), FindCoordinatorResponse, 4)


def commit(client: RawClient, group: str, topic: str, offset: int) -> int:
    wanted = OffsetCommitRequestPartition(partition_index=0, committed_offset=offset, committed_metadata="")
    request = OffsetCommitRequest(group_id=group, topics=[OffsetCommitRequestTopic(name=topic, partitions=[wanted])])
    return client.call(request, OffsetCommitResponse, 8).topics[0].partitions[0].error_code


def committed(client: RawClient, group: str, topic: str) -> int:
    asked = OffsetFetchRequestGroup(
        group_id=group, topics=[OffsetFetchRequestTopics(name=topic, partition_indexes=[0])]
    )
    while True:
        (answer,) = client.call(OffsetFetchRequest(groups=[asked]), OffsetFetchResponse, 8).groups
        if answer.error_code != COORDINATOR_LOAD_IN_PROGRESS:
            assert answer.error_code == 0
            return answer.topics[0].partitions[0].committed_offset


def make(client: RawClient, topic: str) -> None:
    answer = client.call(MetadataRequest(topics=[MetadataRequestTopic(name=topic)]), MetadataResponse, 9)
    assert answer.topics[0].error_code == 0


def test_a_commit_may_be_kept_beyond_all_times(broker: BrokerProcess) -> None:
    with RawClient(broker.port) as client:
        make(client, "t")
        assert find(client, "kept").coordinators[0].error_code == 0
        wanted = OffsetCommitRequestPartition(partition_index=0, committed_offset=5, committed_metadata="")
        request = OffsetCommitRequest(
            group_id="kept",
            retention_time_ms=2**63 - 1,
            topics=[OffsetCommitRequestTopic(name="t", partitions=[wanted])],
        )
        assert client.call(request, OffsetCommitResponse, 4).topics[0].partitions[0].error_code == 0
        assert committed(client, "kept", "t") == 5


def test_nobody_writes_to_the_offsets_topic(broker: BrokerProcess) -> None:
    with RawClient(broker.port) as client:
        assert find(client, "g").coordinators[0].error_code == 0
        for partition in (0, 7, 49):
            answer = client.produce("__consumer_offsets", batch(b"x"), partition=partition)
            assert answer.error_code == INVALID_TOPIC_EXCEPTION


def test_the_coordinator_of_transactions_is_here(broker: BrokerProcess) -> None:
    with RawClient(broker.port) as client:
        (answer,) = find(client, "some-id", key_type=1).coordinators
        assert (answer.error_code, answer.port) == (0, broker.port)


@pytest.mark.parametrize("ending", ["stop", "kill"])
def test_offsets_outlive_the_broker(tmp_path: Path, ending: str) -> None:
    broker = BrokerProcess(tmp_path)
    with broker, RawClient(broker.port) as client:
        make(client, "t")
        assert find(client, "g").coordinators[0].error_code == 0
        for number in range(20):
            assert commit(client, f"group-{number}", "t", number) == 0
        assert commit(client, "group-3", "t", 33) == 0
        getattr(broker, ending)()
    snapshots = list(tmp_path.rglob("*.coordinator-snapshot"))
    assert bool(snapshots) == (ending == "stop")
    with BrokerProcess(tmp_path) as again, RawClient(again.port) as client:
        assert find(client, "g").coordinators[0].error_code == 0
        found = [committed(client, f"group-{number}", "t") for number in range(20)]
        assert found == [0, 1, 2, 33, *range(4, 20)]


def test_a_stop_does_not_wait_for_who_waits_to_join(broker: BrokerProcess) -> None:
    """A parked JoinGroup must not cost the stop its grace."""
    with RawClient(broker.port) as first, RawClient(broker.port) as second:
        assert find(first, "g").coordinators[0].error_code == 0

        def join(member_id: str) -> JoinGroupRequest:
            return JoinGroupRequest(
                group_id="g",
                session_timeout_ms=10_000,
                rebalance_timeout_ms=60_000,
                member_id=member_id,
                protocol_type="consumer",
                protocols=[JoinGroupRequestProtocol(name="range", metadata=b"")],
            )

        # Two are expected, one comes: it waits.
        given = first.call(join(""), JoinGroupResponse, 5).member_id
        assert second.call(join(""), JoinGroupResponse, 5).error_code == MEMBER_ID_REQUIRED
        first.send(join(given), 5)
        assert second.call(join(""), JoinGroupResponse, 5).error_code == MEMBER_ID_REQUIRED
        begun = time.monotonic()
        assert broker.stop() == 0
        assert time.monotonic() - begun < STOP_GRACE_S
        assert first.is_closed()
