"""The requests of consumer groups in a line each, over as many connections as a scenario has members.

Answers are made comparable by `Peer`; member ids end in a random uuid, which becomes the order in which it was met:
`named` does that to a whole result, so that a scenario can use the real ids while it runs.
"""

from __future__ import annotations

import re
import select
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from odradek.protocol.encoding import encode
from odradek.protocol.fields import ZERO_UUID, Message
from odradek.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from odradek.protocol.messages.delete_groups import DeleteGroupsRequest, DeleteGroupsResponse
from odradek.protocol.messages.describe_groups import DescribeGroupsRequest, DescribeGroupsResponse
from odradek.protocol.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from odradek.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from odradek.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse
from odradek.protocol.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse, MemberIdentity
from odradek.protocol.messages.list_groups import ListGroupsRequest, ListGroupsResponse
from odradek.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
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
from odradek.protocol.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse
from odradek.protocol.records.consumer_subscription import ConsumerProtocolSubscription
from tests.handlers.comparison import Peer, Plain, differences, numbered
from tests.raw_client import RawClient

UUID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
# How long a request that is to wait must have had no answer.
OPEN_MS = 200
STATE_TIMEOUT_S = 20.0
# How a member's metadata is called in a JoinGroup, in a DescribeGroups, and in the log.
METADATA = ("metadata", "member_metadata", "subscription")
GROUPS_TOPIC = "__consumer_offsets"
# What scenarios commit offsets of.
TOPICS = {"one": 2, "two": 1}
# The newest versions of the requests, used where a scenario is not about versions.
NEWEST = {"join": 9, "sync": 5, "heartbeat": 4, "leave": 5, "describe": 6, "list": 5, "delete": 3}


def named(value: Plain, met: dict[str, str] | None = None) -> Plain:
    """A result with the random part of each member id replaced by when it was first met."""
    met = {} if met is None else met
    if isinstance(value, dict):
        return {key: named(item, met) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [named(item, met) for item in value]
    if isinstance(value, str):
        return UUID.sub(lambda found: met.setdefault(found[0], f"<{len(met)}>"), value)
    return bytes(value) if isinstance(value, bytearray | memoryview) else value


def subscription(*topics: str, version: int = 1, user_data: bytes | None = None) -> bytes:
    """What a consumer says when it joins."""
    body = encode(ConsumerProtocolSubscription(topics=list(topics), user_data=user_data), version)
    return version.to_bytes(2, "big") + body


class Pending:
    """A request that was sent on a connection of its own; its answer is asked for later."""

    def __init__(self, peer: GroupPeer, client: RawClient, response: type[Message], version: int) -> None:
        self.peer = peer
        self.client = client
        self.response = response
        self.version = version

    def answer(self) -> Plain:
        return self.peer.plain(self.client.receive(self.response, self.version))

    def is_open(self) -> bool:
        """Whether there is no answer, after some time to give one."""
        poll = select.poll()
        poll.register(self.client.socket, select.POLLIN)
        return not poll.poll(OPEN_MS)


class GroupPeer(Peer):
    """One of the two brokers. A context manager: connections opened with `connect` end with it."""

    def __init__(self, port: int, is_kafka: bool) -> None:
        self.port = port
        self.stack = ExitStack()
        self.topic_names: dict[bytes, str] = {}
        self.met: list[str] = []
        super().__init__(self.connect(), is_kafka)

    def __enter__(self) -> GroupPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def connect(self) -> RawClient:
        return self.stack.enter_context(RawClient(self.port))

    def send(self, request: Message, response: type[Message], version: int) -> Pending:
        client = self.connect()
        client.send(request, version)
        return Pending(self, client, response, version)

    def plain(self, value: Any, name: str = "") -> Plain:
        """Sorts members, topics and partitions: Kafka's order is that of its hash tables."""
        if isinstance(value, JoinGroupResponse):
            self.met.append(value.member_id)
        found = super().plain(value, name)
        if not (isinstance(found, list) and found and isinstance(found[0], dict)):
            return found
        if name == "partitions":
            found.sort(key=lambda one: int(one["partition_index"]))
        elif name == "topics":
            # Ids are random: sorted by the names that a scenario knows them by.
            found.sort(key=lambda one: str(one["name"] or self.topic_names.get(bytes(one.get("topic_id", b"")), "")))
        elif name == "members" and any(one in found[0] for one in METADATA):
            found.sort(key=self._member_order)
        elif name == "groups" and "group_state" in found[0]:
            found.sort(key=lambda one: str(one["group_id"]))
        return found

    def _member_order(self, member: Plain) -> tuple[str, bytes, int]:
        """By instance, by metadata, and by when this peer was given the id: what is the same with both brokers."""
        known = self.met.index(member["member_id"]) if member["member_id"] in self.met else len(self.met)
        (metadata,) = (member[name] for name in METADATA if name in member)
        return str(member["group_instance_id"]), bytes(metadata), known

    # --- classic members ---------------------------------------------------------------------------------------------

    def join_request(
        self,
        group: str,
        member: str = "",
        instance: str | None = None,
        protocols: Sequence[tuple[str, bytes]] = (("range", b"m"),),
        kind: str = "consumer",
        session_ms: int = 30_000,
        rebalance_ms: int = 30_000,
    ) -> JoinGroupRequest:
        return JoinGroupRequest(
            group_id=group,
            session_timeout_ms=session_ms,
            rebalance_timeout_ms=rebalance_ms,
            member_id=member,
            group_instance_id=instance,
            protocol_type=kind,
            protocols=[JoinGroupRequestProtocol(name=name, metadata=data) for name, data in protocols],
        )

    def join(self, group: str, member: str = "", version: int = NEWEST["join"], **more: Any) -> Plain:
        return self.call(self.join_request(group, member, **more), JoinGroupResponse, version)

    def join_later(self, group: str, member: str = "", version: int = NEWEST["join"], **more: Any) -> Pending:
        return self.send(self.join_request(group, member, **more), JoinGroupResponse, version)

    def sync_request(
        self,
        group: str,
        generation: int,
        member: str,
        assignments: dict[str, bytes] | None = None,
        instance: str | None = None,
        kind: str | None = None,
        protocol: str | None = None,
    ) -> SyncGroupRequest:
        return SyncGroupRequest(
            group_id=group,
            generation_id=generation,
            member_id=member,
            group_instance_id=instance,
            protocol_type=kind,
            protocol_name=protocol,
            assignments=[
                SyncGroupRequestAssignment(member_id=member_id, assignment=data)
                for member_id, data in (assignments or {}).items()
            ],
        )

    def sync(self, *arguments: Any, version: int = NEWEST["sync"], **more: Any) -> Plain:
        return self.call(self.sync_request(*arguments, **more), SyncGroupResponse, version)

    def sync_later(self, *arguments: Any, version: int = NEWEST["sync"], **more: Any) -> Pending:
        return self.send(self.sync_request(*arguments, **more), SyncGroupResponse, version)

    def heartbeat(
        self, group: str, generation: int, member: str, instance: str | None = None, version: int = NEWEST["heartbeat"]
    ) -> Plain:
        request = HeartbeatRequest(
            group_id=group, generation_id=generation, member_id=member, group_instance_id=instance
        )
        return self.call(request, HeartbeatResponse, version)

    def leave(self, group: str, *members: str | tuple[str, str | None], version: int = NEWEST["leave"]) -> Plain:
        """Before version 3 exactly one member."""
        request = LeaveGroupRequest(group_id=group)
        pairs = [(one, None) if isinstance(one, str) else one for one in members]
        if version >= 3:
            request.members = [MemberIdentity(member_id=member, group_instance_id=name) for member, name in pairs]
        else:
            ((request.member_id, _),) = pairs
        return self.call(request, LeaveGroupResponse, version)

    # --- groups seen from outside ------------------------------------------------------------------------------------

    def describe(self, *groups: str, operations: bool = False, version: int = NEWEST["describe"]) -> list[Plain]:
        request = DescribeGroupsRequest(groups=list(groups), include_authorized_operations=operations)
        found: list[Plain] = self.call(request, DescribeGroupsResponse, version)["groups"]
        return found

    def state(self, group: str) -> str:
        return str(self.describe(group)[0]["group_state"])

    def until_state(self, group: str, state: str) -> None:
        """Asks until the group is in that state."""
        deadline = time.monotonic() + STATE_TIMEOUT_S
        while (found := self.state(group)) != state:
            assert time.monotonic() < deadline, f"{group} is {found}, not {state}"

    def listed(
        self,
        states: Sequence[str] = (),
        types: Sequence[str] = (),
        prefix: str = "",
        version: int = NEWEST["list"],
    ) -> Plain:
        """The groups whose names begin so, in their order."""
        request = ListGroupsRequest(states_filter=[*states], types_filter=[*types])
        answer = self.call(request, ListGroupsResponse, version)
        found = [group for group in answer["groups"] if group["group_id"].startswith(prefix)]
        answer["groups"] = found
        return answer

    def delete(self, *groups: str, version: int = NEWEST["delete"]) -> list[Plain]:
        answer = self.call(DeleteGroupsRequest(groups_names=[*groups]), DeleteGroupsResponse, version)
        return sorted(answer["results"], key=lambda result: str(result["group_id"]))

    def find(self, *keys: str, kind: int = 0, version: int = 6) -> Plain:
        request = FindCoordinatorRequest(key_type=kind)
        if version >= 4:
            request.coordinator_keys = [*keys]
        else:
            (request.key,) = keys
        return self.call(request, FindCoordinatorResponse, version)

    def until_served(self, *groups: str) -> None:
        """Asks until these groups' coordinators are there: at first their topic has to be made."""
        deadline = time.monotonic() + STATE_TIMEOUT_S
        for group in groups:
            while code := self.describe(group, version=5)[0]["error_code"] or self.listed()["error_code"]:
                assert code in (14, 15, 16), code
                assert time.monotonic() < deadline, f"no coordinator for {group}"
                self.find(group)

    # --- topics ------------------------------------------------------------------------------------------------------

    def make_topics(self, **partitions: int) -> dict[str, bytes]:
        """Makes topics; returns their ids."""
        topics = [
            CreatableTopic(name=name, num_partitions=count, replication_factor=1) for name, count in partitions.items()
        ]
        request = CreateTopicsRequest(topics=topics, timeout_ms=30_000)
        for made in self.client.call(request, CreateTopicsResponse, 5).topics:
            assert made.error_code in (0, 36), made
        for name, count in partitions.items():
            self.until_led(name, partitions=count)
        asked = MetadataRequest(topics=[MetadataRequestTopic(name=name) for name in partitions])
        ids = {str(topic.name): bytes(topic.topic_id) for topic in self.client.call(asked, MetadataResponse, 12).topics}
        self.topic_names.update({topic_id: name for name, topic_id in ids.items()})
        return ids

    # --- offsets -----------------------------------------------------------------------------------------------------

    def commit(
        self,
        group: str,
        offsets: dict[str | bytes, dict[int, int | tuple[int, int, str | None]]],
        member: str = "",
        generation: int = -1,
        instance: str | None = None,
        version: int = 9,
        retention_ms: int = -1,
    ) -> Plain:
        """Topics are names, or ids (version 10). An offset comes alone, or with a leader epoch and metadata."""
        request = OffsetCommitRequest(
            group_id=group,
            generation_id_or_member_epoch=generation,
            member_id=member,
            group_instance_id=instance,
            retention_time_ms=retention_ms,
        )
        for topic, partitions in offsets.items():
            entry = OffsetCommitRequestTopic(
                name=topic if isinstance(topic, str) else "", topic_id=ZERO_UUID if isinstance(topic, str) else topic
            )
            for index, what in partitions.items():
                offset, epoch, metadata = what if isinstance(what, tuple) else (what, -1, "")
                entry.partitions.append(
                    OffsetCommitRequestPartition(
                        partition_index=index,
                        committed_offset=offset,
                        committed_leader_epoch=epoch,
                        committed_metadata=metadata,
                    )
                )
            request.topics.append(entry)
        return self.call(request, OffsetCommitResponse, version)

    def fetch_offsets(
        self,
        group: str,
        topics: dict[str, list[int]] | None,
        version: int = 7,
        require_stable: bool = False,
    ) -> Plain:
        """One group, before version 8."""
        request = OffsetFetchRequest(group_id=group, require_stable=require_stable)
        request.topics = (
            None
            if topics is None
            else [OffsetFetchRequestTopic(name=name, partition_indexes=wanted) for name, wanted in topics.items()]
        )
        return self.call(request, OffsetFetchResponse, version)

    def fetch_groups(
        self,
        *groups: tuple[str, Any] | tuple[str, Any, str | None, int],
        version: int = 9,
        require_stable: bool = False,
    ) -> Plain:
        """Several groups, from version 8 on: name, topics, and if wanted member id and epoch."""
        request = OffsetFetchRequest(require_stable=require_stable)
        for group, topics, *member in groups:
            entry = OffsetFetchRequestGroup(group_id=group)
            if member:
                entry.member_id, entry.member_epoch = member  # type: ignore[assignment]
            entry.topics = (
                None
                if topics is None
                else [
                    OffsetFetchRequestTopics(
                        name=topic if isinstance(topic, str) else "",
                        topic_id=ZERO_UUID if isinstance(topic, str) else topic,
                        partition_indexes=wanted,
                    )
                    for topic, wanted in topics.items()
                ]
            )
            request.groups.append(entry)
        return self.call(request, OffsetFetchResponse, version)

    def delete_offsets(self, group: str, topics: dict[str, list[int]]) -> Plain:
        request = OffsetDeleteRequest(
            group_id=group,
            topics=[
                OffsetDeleteRequestTopic(
                    name=name,
                    partitions=[OffsetDeleteRequestPartition(partition_index=index) for index in partitions],
                )
                for name, partitions in topics.items()
            ],
        )
        return self.call(request, OffsetDeleteResponse, 0)


class Brokers:
    """Apache Kafka and this broker, asked the same."""

    def __init__(self, kafka_port: int, port: int) -> None:
        self.kafka_port = kafka_port
        self.port = port
        self.before: tuple[Plain, Plain] | None = None

    def both(self, scenario: Callable[[GroupPeer], Plain]) -> tuple[Plain, Plain]:
        """What a scenario gives with Kafka, and here."""
        with GroupPeer(self.kafka_port, is_kafka=True) as kafka, GroupPeer(self.port, is_kafka=False) as here:
            return numbered(named(scenario(kafka))), numbered(named(scenario(here)))

    def compare(self, scenario: Callable[[GroupPeer], Plain]) -> Plain:
        """Equal results are returned."""
        theirs, ours = self.both(scenario)
        assert not (different := differences(theirs, ours)), "\n".join(different)
        return ours

    def serve(self) -> None:
        """The first time: asks what is only answered before there is a coordinator, and then has one made."""
        if self.before is None:
            self.before = self.both(before_the_first_coordinator)
            self.both(begin_to_serve)


def begin_to_serve(peer: GroupPeer) -> None:
    """Has the topic of groups made, and those of the tests."""
    peer.until_served(*"abcdefgh")
    peer.make_topics(**TOPICS)


def before_the_first_coordinator(peer: GroupPeer) -> Plain:
    """Every request while there is no topic for groups."""
    name = "early"
    return {
        "described": [peer.describe(name, version=version) for version in range(7)],
        "listed": [peer.listed(version=version) for version in range(6)],
        "deleted": [peer.delete(name, "", version=version) for version in range(4)],
        "heartbeats": [peer.heartbeat(name, 1, "m", version=version) for version in range(5)],
        "joins": [peer.join(name, version=version) for version in range(10)],
        "joins of a member": peer.join(name, "m")["error_code"],
        "joins of nothing": peer.join(name, protocols=[]),
        "syncs": [peer.sync(name, 1, "m", version=version) for version in range(6)],
        "sync with a protocol": peer.sync(name, 1, "m", kind="consumer", protocol="range"),
        "leaves": [peer.leave(name, "m", version=version) for version in range(6)],
        "leave of nobody": peer.leave(name),
        "empty names": [
            peer.heartbeat("", 1, "m"),
            peer.join(""),
            peer.sync("", 1, "m", version=4),
            peer.leave("", "m"),
            peer.describe(""),
        ],
        "commits": [peer.commit(name, {"no-such-topic": {0: 1}}, version=version) for version in range(2, 10)],
        "fetches": [peer.fetch_offsets(name, {"no-such-topic": [0]}, version=version) for version in range(1, 8)],
        "fetches of all": [peer.fetch_offsets(name, None, version=version) for version in range(2, 8)],
        "fetches of groups": [
            peer.fetch_groups((name, {"no-such-topic": [0]}), (name, None), version=version) for version in (8, 9)
        ],
        "offsets deleted": [peer.delete_offsets(name, {"no-such-topic": [0]}), peer.delete_offsets("", {})],
    }
