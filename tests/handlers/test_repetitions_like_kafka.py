"""Requests that name an element more than once: what each of them is answered equals Apache Kafka's answer.

The order of answers is not compared where Kafka's is that of its hash tables; how many there are is. (WriteTxnMarkers
is not here: a partition that is named twice in it has Kafka answer nothing.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from odradek.protocol.messages.add_partitions_to_txn import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse,
    AddPartitionsToTxnTopic,
    AddPartitionsToTxnTransaction,
)
from odradek.protocol.messages.delete_groups import DeleteGroupsRequest, DeleteGroupsResponse
from odradek.protocol.messages.describe_groups import DescribeGroupsRequest, DescribeGroupsResponse
from odradek.protocol.messages.describe_producers import DescribeProducersRequest, DescribeProducersResponse
from odradek.protocol.messages.describe_producers import TopicRequest as ProducersOfTopic
from odradek.protocol.messages.describe_transactions import DescribeTransactionsRequest, DescribeTransactionsResponse
from odradek.protocol.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from odradek.protocol.messages.list_groups import ListGroupsRequest, ListGroupsResponse
from odradek.protocol.messages.list_transactions import ListTransactionsRequest, ListTransactionsResponse
from odradek.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from odradek.protocol.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
    OffsetDeleteResponse,
)
from odradek.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
    OffsetFetchResponse,
)
from odradek.protocol.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
    TxnOffsetCommitResponse,
)
from tests.handlers.comparison import Plain
from tests.handlers.group_peer import TOPICS, GroupPeer
from tests.handlers.test_transactions_like_kafka import compare as compare_txn  # noqa: F401 - a fixture
from tests.handlers.txn_peer import TxnPeer

Compare = Callable[[Callable[[GroupPeer], Plain]], Plain]
CompareTxn = Callable[[Callable[[TxnPeer], Plain]], Plain]


def in_order(answers: list[Plain]) -> list[Plain]:
    """For answers whose order says nothing."""
    return sorted(answers, key=repr)


def commit(peer: GroupPeer, group_id: str) -> None:
    peer.make_topics(**TOPICS)
    peer.commit(group_id, {"one": {0: 5, 1: 6}}, version=8)


def test_find_coordinator(compare: Compare) -> None:
    keys = ["a", "b", "a", "a"]
    request = FindCoordinatorRequest(key_type=0, coordinator_keys=keys)
    answer = compare(lambda peer: peer.call(request, FindCoordinatorResponse, 4))
    assert [one["key"] for one in answer["coordinators"]] == keys


def test_describe_groups(compare: Compare) -> None:
    def scenario(peer: GroupPeer) -> Plain:
        member = str(peer.join("repeated", version=3)["member_id"])
        peer.sync("repeated", 1, member, version=4)
        request = DescribeGroupsRequest(groups=["repeated", "unknown", "repeated", "unknown"])
        groups = peer.call(request, DescribeGroupsResponse, 5)["groups"]
        peer.leave("repeated", member)
        return [(one["group_id"], one["group_state"], len(one["members"])) for one in groups]

    compare(scenario)


def test_list_groups(compare: Compare) -> None:
    def scenario(peer: GroupPeer) -> Plain:
        commit(peer, "listed-twice")
        request = ListGroupsRequest(states_filter=["Empty", "Empty", "empty"], types_filter=["classic", "classic"])
        groups = peer.call(request, ListGroupsResponse, 5)["groups"]
        return [one["group_id"] for one in groups if one["group_id"].startswith("listed-twice")]

    compare(scenario)


def test_delete_groups(compare: Compare) -> None:
    def scenario(peer: GroupPeer) -> Plain:
        commit(peer, "deleted-twice")
        request = DeleteGroupsRequest(groups_names=["deleted-twice", "no", "deleted-twice", "no"])
        return in_order(peer.call(request, DeleteGroupsResponse, 2)["results"])

    compare(scenario)


def test_offset_commit(compare: Compare) -> None:
    def scenario(peer: GroupPeer) -> Plain:
        peer.make_topics(**TOPICS)
        offsets = [
            OffsetCommitRequestPartition(partition_index=index, committed_offset=at)
            for index, at in ((0, 1), (1, 2), (0, 3), (9, 1), (9, 2))
        ]
        topics = [
            OffsetCommitRequestTopic(name="one", partitions=offsets),
            OffsetCommitRequestTopic(name="one", partitions=offsets[:1]),
        ]
        request = OffsetCommitRequest(group_id="committed-twice", generation_id_or_member_epoch=-1, topics=topics)
        answer = peer.call(request, OffsetCommitResponse, 8)
        return [
            in_order([partition for one in answer["topics"] for partition in one["partitions"]]),
            len(answer["topics"]),
            peer.fetch_offsets("committed-twice", None),
        ]

    compare(scenario)


def test_txn_offset_commit(compare_txn: CompareTxn) -> None:  # noqa: F811
    def scenario(peer: TxnPeer) -> Plain:
        peer.make_topics(**TOPICS)
        producer = peer.begin("commits-twice")
        offsets = [
            TxnOffsetCommitRequestPartition(partition_index=index, committed_offset=at)
            for index, at in ((0, 1), (1, 2), (0, 3), (9, 1), (9, 2))
        ]
        request = TxnOffsetCommitRequest(
            transactional_id="commits-twice",
            group_id="commits-twice",
            producer_id=producer[0],
            producer_epoch=producer[1],
            generation_id_or_member_epoch=-1,
            topics=[TxnOffsetCommitRequestTopic(name="one", partitions=some) for some in (offsets, offsets[:1])],
        )
        answer = peer.patient(lambda: peer.call(request, TxnOffsetCommitResponse, 5))
        peer.end("commits-twice", producer, True, 3)
        return [in_order([part for one in answer["topics"] for part in one["partitions"]]), len(answer["topics"])]

    compare_txn(scenario)


@pytest.mark.parametrize("version", [7, 8])
def test_offset_fetch(compare: Compare, version: int) -> None:
    def scenario(peer: GroupPeer) -> Plain:
        name = f"fetched-twice-{version}"
        commit(peer, name)
        if version < 8:
            old = [OffsetFetchRequestTopic(name="one", partition_indexes=[0, 1, 0])] * 2
            return peer.call(OffsetFetchRequest(group_id=name, topics=old), OffsetFetchResponse, version)["topics"]
        topics = [OffsetFetchRequestTopics(name="one", partition_indexes=[0, 1, 0])] * 2
        groups: list[Any] = [OffsetFetchRequestGroup(group_id=name, topics=topics)] * 2
        groups += [OffsetFetchRequestGroup(group_id=name, topics=None)] * 2
        groups += [OffsetFetchRequestGroup(group_id="unknown", topics=None)] * 2
        return peer.call(OffsetFetchRequest(groups=groups), OffsetFetchResponse, version)["groups"]

    compare(scenario)


def test_offset_delete(compare: Compare) -> None:
    def scenario(peer: GroupPeer) -> Plain:
        commit(peer, "forgotten-twice")
        topics = [
            OffsetDeleteRequestTopic(
                name=name, partitions=[OffsetDeleteRequestPartition(partition_index=index) for index in (0, 0, 9, 9)]
            )
            for name in ("one", "one", "no-such-topic", "no-such-topic")
        ]
        request = OffsetDeleteRequest(group_id="forgotten-twice", topics=topics)
        answer = peer.call(request, OffsetDeleteResponse, 0)
        return [answer["error_code"], in_order([(t["name"], in_order(t["partitions"])) for t in answer["topics"]])]

    compare(scenario)


def test_add_partitions(compare_txn: CompareTxn) -> None:  # noqa: F811
    def scenario(peer: TxnPeer) -> Plain:
        producer = peer.begin("repeated-adds")
        topics = [AddPartitionsToTxnTopic(name="one", partitions=[0, 1, 0])] * 2
        request = AddPartitionsToTxnRequest(
            v3_and_below_transactional_id="repeated-adds",
            v3_and_below_producer_id=producer[0],
            v3_and_below_producer_epoch=producer[1],
            v3_and_below_topics=topics,
        )
        old = peer.patient(lambda: peer.call(request, AddPartitionsToTxnResponse, 3))
        one = AddPartitionsToTxnTransaction(
            transactional_id="repeated-adds",
            producer_id=producer[0],
            producer_epoch=producer[1],
            verify_only=True,
            topics=topics,
        )
        new = peer.patient(
            lambda: peer.call(AddPartitionsToTxnRequest(transactions=[one, one]), AddPartitionsToTxnResponse, 4)
        )
        peer.end("repeated-adds", producer, True, 3)
        return [old, new]

    compare_txn(scenario)


def test_describe_transactions(compare_txn: CompareTxn) -> None:  # noqa: F811
    def scenario(peer: TxnPeer) -> Plain:
        peer.begin("described-twice")
        request = DescribeTransactionsRequest(transactional_ids=["described-twice", "no", "described-twice", "no"])
        answer = peer.call(request, DescribeTransactionsResponse, 0)["transaction_states"]
        return [(one["transactional_id"], one["error_code"]) for one in answer]

    compare_txn(scenario)


def test_list_transactions(compare_txn: CompareTxn) -> None:  # noqa: F811
    def scenario(peer: TxnPeer) -> Plain:
        producer = peer.begin("filtered-twice")
        request = ListTransactionsRequest(
            state_filters=["Empty", "Empty", "no", "no"], producer_id_filters=[producer[0]] * 3
        )
        answer = peer.call(request, ListTransactionsResponse, 1)
        return [answer["unknown_state_filters"], [one["transactional_id"] for one in answer["transaction_states"]]]

    compare_txn(scenario)


def test_describe_producers(compare_txn: CompareTxn) -> None:  # noqa: F811
    def scenario(peer: TxnPeer) -> Plain:
        peer.make_topics(one=2)
        topics = [ProducersOfTopic(name=name, partition_indexes=[0, 0, 7, 7]) for name in ("one", "one", "no", "no")]
        answer = peer.call(DescribeProducersRequest(topics=topics), DescribeProducersResponse, 0)
        return [
            (one["name"], [(part["partition_index"], part["error_code"]) for part in one["partitions"]])
            for one in answer["topics"]
        ]

    compare_txn(scenario)
