"""One request about ten thousand groups, or the offsets of one group in ten thousand partitions."""

from __future__ import annotations

import http.client
import socket
from collections import Counter
from collections.abc import Iterator

from benchmarks.stalls.cases import Request, Sent, case
from benchmarks.stalls.prepared import Prepared, commit
from odradek.protocol.messages.delete_groups import DeleteGroupsRequest
from odradek.protocol.messages.describe_groups import DescribeGroupsRequest
from odradek.protocol.messages.find_coordinator import FindCoordinatorRequest
from odradek.protocol.messages.list_groups import ListGroupsRequest
from odradek.protocol.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from odradek.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
)


@case("find-coordinator", "FindCoordinator of {:,} groups", 190_000)
def find_coordinator(prepared: Prepared, groups: int) -> Iterator[Sent]:
    prepared.peer.until_served("g")
    yield Request(
        prepared.client, FindCoordinatorRequest(coordinator_keys=[f"g-{number}" for number in range(groups)]), 4
    )


@case("offset-commit", "OffsetCommit of {:,} partitions", 10_000)
def offset_commit(prepared: Prepared, partitions: int) -> Iterator[Sent]:
    group = prepared.group_with_offsets()
    yield Request(prepared.client, commit(group, [(name, 0) for name in prepared.topics()[:partitions]]), 7)


@case("offset-fetch", "OffsetFetch of {:,} partitions", 10_000)
def offset_fetch(prepared: Prepared, partitions: int) -> Iterator[Sent]:
    group = prepared.group_with_offsets()
    topics = [OffsetFetchRequestTopics(name=name, partition_indexes=[0]) for name in prepared.topics()[:partitions]]
    yield Request(
        prepared.client, OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=group, topics=topics)]), 8
    )


@case("describe-groups", "DescribeGroups of {:,} groups", 10_000)
def describe_groups(prepared: Prepared, groups: int) -> Iterator[Sent]:
    yield Request(prepared.client, DescribeGroupsRequest(groups=prepared.groups()[:groups]), 5)


@case("list-groups", "ListGroups, {:,} groups", 10_000)
def list_groups(prepared: Prepared, _: int) -> Iterator[Sent]:
    prepared.groups()
    yield Request(prepared.client, ListGroupsRequest(), 4)


class Scrape:
    """A page of the HTTP port."""

    def __init__(self, port: int, path: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._connection.connect()
        assert isinstance(self._connection.sock, socket.socket)
        self._path = path

    def __call__(self) -> int:
        self._connection.request("GET", self._path)
        with self._connection.getresponse() as answer:
            assert answer.status == 200, answer.status
            return len(answer.read())

    def settle(self) -> None:
        self._connection.close()

    def codes(self) -> Counter[int]:
        return Counter()


@case("metrics", "/metrics, {:,} groups", 10_000, not_kafka="has no such page")
def metrics(prepared: Prepared, _: int) -> Iterator[Sent]:
    prepared.groups()
    yield Scrape(prepared.http_port, "/metrics")


@case("offset-delete", "OffsetDelete of {:,} partitions", 10_000, once=True)
def offset_delete(prepared: Prepared, partitions: int) -> Iterator[Sent]:
    group = prepared.group_with_offsets()
    wanted = [OffsetDeleteRequestPartition(partition_index=0)]
    topics = [OffsetDeleteRequestTopic(name=name, partitions=wanted) for name in prepared.topics()[:partitions]]
    prepared.forget("offsets")
    yield Request(prepared.client, OffsetDeleteRequest(group_id=group, topics=topics), 0)


@case("delete-groups", "DeleteGroups, {:,} groups", 10_000, once=True)
def delete_groups(prepared: Prepared, groups: int) -> Iterator[Sent]:
    request = DeleteGroupsRequest(groups_names=prepared.groups()[:groups])
    prepared.forget("groups")
    yield Request(prepared.client, request, 2)
