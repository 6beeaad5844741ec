"""Requests to the coordinator of a consumer group: finds it, sends requests, and retries them.

Role: a client's requests about one group. `group_member` is a member of a group; the caller explains responses to the
user.

Invariants: passing errors (the coordinator has moved, is loading its state, or cannot be reached) are retried until the
client's timeout; where the coordinator has moved or cannot be reached, it is looked up again. A request that is not
idempotent is not sent again after its response was lost. Requests name topics by name, in versions that allow this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from odradek.client.cluster import Client
from odradek.client.connection import BrokerConnection
from odradek.client.deadline import Deadline
from odradek.client.error_codes import sentence
from odradek.client.failures import ClientFailed, ConnectionLost, UnknownGroup
from odradek.errors import ErrorCode
from odradek.protocol.fields import Message
from odradek.protocol.messages.delete_groups import DeleteGroupsRequest, DeleteGroupsResponse
from odradek.protocol.messages.describe_groups import DescribedGroup, DescribeGroupsRequest, DescribeGroupsResponse
from odradek.protocol.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from odradek.protocol.messages.list_groups import ListedGroup, ListGroupsRequest, ListGroupsResponse
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
from odradek.topic_partition import TopicPartition

DEAD = "Dead"
_GROUP = 0  # FindCoordinator's type of key
# Versions from 10 on name topics by id; names also serve older brokers, and topics that do not exist any more.
_OFFSETS_BY_NAME = 9
_NO_GENERATION = -1

# Errors after which the coordinator is looked up again: it may have moved, or be ready by then.
MOVED = frozenset(
    {ErrorCode.NOT_COORDINATOR, ErrorCode.COORDINATOR_NOT_AVAILABLE, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS}
)
_PASSING = MOVED | {
    ErrorCode.UNSTABLE_OFFSET_COMMIT,
    ErrorCode.REQUEST_TIMED_OUT,
    ErrorCode.NOT_ENOUGH_REPLICAS,
}

Codes = Callable[[Any], Iterable[int]]


class NotYet(ClientFailed):
    """The coordinator cannot answer at the moment; a retry may succeed."""


class CommittedOffset(NamedTuple):
    offset: int
    metadata: str


class GroupClient:
    """Sends requests about one group to its coordinator."""

    def __init__(self, client: Client, group: str) -> None:
        self.client = client
        self.group = group
        self._coordinator: int | None = None

    def coordinator(self) -> int:
        """The broker id of the coordinator; looks it up if it is not known. Raises `NotYet`, `ClientFailed`."""
        if self._coordinator is None:
            request = FindCoordinatorRequest(key=self.group, key_type=_GROUP, coordinator_keys=[self.group])
            try:
                response: FindCoordinatorResponse = self.client.ask_any(request, FindCoordinatorResponse)
            except ConnectionLost as error:
                raise NotYet(str(error)) from error
            found = response.coordinators[0] if response.coordinators else response
            if found.error_code in _PASSING:
                raise NotYet(sentence(found.error_code, found.error_message))
            if found.error_code:
                raise ClientFailed(f"{self._cannot('find the coordinator of')}: {sentence(found.error_code)}.")
            self.client.know_broker(found.node_id, found.host, found.port)
            self._coordinator = found.node_id
        return self._coordinator

    def connection(self) -> BrokerConnection:
        """The connection to the coordinator. Raises `NotYet`, `ClientFailed`."""
        node_id = self.coordinator()
        try:
            return self.client.connection(node_id)
        except ConnectionLost as error:
            self.moved()
            raise NotYet(str(error)) from error

    def moved(self) -> None:
        """Forgets the coordinator's broker id, so that it is looked up again."""
        self._coordinator = None

    def attempt(
        self, request: Message, response: type[Message], codes: Codes, at_most: int | None = None, twice: bool = True
    ) -> Any:
        """Sends one request to the coordinator; returns the response. `codes` extracts the response's error codes.
        Raises `NotYet` for a passing error code or a lost connection. `twice` says whether the request may be sent
        twice: where it may not, a connection lost while sending or waiting raises `ConnectionLost`."""
        connection = self.connection()
        try:
            connection.start(request, response, at_most)
            answer = connection.finish()
        except ConnectionLost as error:
            self.client.drop(connection)
            self.moved()
            if not twice:
                raise
            raise NotYet(str(error)) from error
        passing = next((code for code in codes(answer) if code in _PASSING), 0)
        if passing in MOVED:
            self.moved()
        if passing:
            raise NotYet(sentence(passing))
        return answer

    def ask(
        self,
        request: Message,
        response: type[Message],
        codes: Codes,
        doing: str,
        at_most: int | None = None,
        twice: bool = True,
    ) -> Any:
        """`attempt`, repeated until it succeeds or the client's timeout is over. Raises `ClientFailed`."""
        deadline = Deadline(self.client.timeout_s)
        while True:
            try:
                return self.attempt(request, response, codes, at_most, twice)
            except NotYet as error:
                if not deadline.pause():
                    why = str(error).rstrip(".")
                    raise ClientFailed(
                        f"gave up after {self.client.timeout_s:g} s to {doing} group {self.group!r}: {why}."
                    ) from error

    def refuse(self, code: int, doing: str, message: str | None = None) -> None:
        """Raises `ClientFailed` unless the error code is 0."""
        if code == ErrorCode.GROUP_ID_NOT_FOUND:
            raise UnknownGroup(f"{self._cannot(doing)}: there is no such group.")
        if code == ErrorCode.NON_EMPTY_GROUP:
            raise ClientFailed(f"{self._cannot(doing)}: it has members; stop its consumers first.")
        if code:
            raise ClientFailed(f"{self._cannot(doing)}: {sentence(code, message)}.")

    def _cannot(self, doing: str) -> str:
        return f"cannot {doing} group {self.group!r}"

    # --- reading -----------------------------------------------------------------------------------------------------

    def listed(self) -> ListedGroup | None:
        """The group's entry in ListGroups, which also has groups of types that DescribeGroups does not know; None where
        it does not exist."""
        doing = "describe"
        response: ListGroupsResponse = self.ask(
            ListGroupsRequest(), ListGroupsResponse, lambda answer: (answer.error_code,), doing
        )
        self.refuse(response.error_code, doing)
        return next((group for group in response.groups if group.group_id == self.group), None)

    def described(self) -> DescribedGroup | None:
        """The group with its members; None where it does not exist, or is of a type with a describe request of its
        own."""
        response: DescribeGroupsResponse = self.ask(
            DescribeGroupsRequest(groups=[self.group]),
            DescribeGroupsResponse,
            lambda answer: (group.error_code for group in answer.groups),
            "describe",
        )
        [found] = response.groups
        if found.error_code == ErrorCode.GROUP_ID_NOT_FOUND or (not found.error_code and found.group_state == DEAD):
            return None
        self.refuse(found.error_code, "describe", found.error_message)
        return found

    def committed(self, partitions: Iterable[TopicPartition] | None = None) -> dict[TopicPartition, CommittedOffset]:
        """The committed offsets of these partitions, or of all; partitions without one are left out."""
        topics: dict[str, list[int]] | None = None
        if partitions is not None:
            topics = {}
            for name, partition in partitions:
                topics.setdefault(name, []).append(partition)
        named = None if topics is None else topics.items()
        request = OffsetFetchRequest(
            group_id=self.group,
            topics=None if named is None else [OffsetFetchRequestTopic(name=t, partition_indexes=p) for t, p in named],
            groups=[
                OffsetFetchRequestGroup(
                    group_id=self.group,
                    topics=None
                    if named is None
                    else [OffsetFetchRequestTopics(name=t, partition_indexes=p) for t, p in named],
                )
            ],
            require_stable=True,
        )
        doing = "read the offsets of"
        response: OffsetFetchResponse = self.ask(
            request, OffsetFetchResponse, _offset_fetch_codes, doing, _OFFSETS_BY_NAME
        )
        found: dict[TopicPartition, CommittedOffset] = {}
        for whole in _offsets_of(response):
            # A group that does not exist has no offsets; some request versions answer with an error instead.
            if whole.error_code != ErrorCode.GROUP_ID_NOT_FOUND:
                self.refuse(whole.error_code, doing)
            for topic in whole.topics:
                for partition in topic.partitions:
                    self.refuse(partition.error_code, doing)
                    if partition.committed_offset >= 0:
                        found[topic.name, partition.partition_index] = CommittedOffset(
                            partition.committed_offset, partition.metadata or ""
                        )
        return found

    # --- changing ----------------------------------------------------------------------------------------------------

    def set_offsets(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commits offsets for a group without members."""
        request = commit_request(self.group, offsets)
        doing = "set offsets of"
        response: OffsetCommitResponse = self.ask(request, OffsetCommitResponse, commit_codes, doing, _OFFSETS_BY_NAME)
        for code in commit_codes(response):
            # Where the group has members, the coordinator answers a commit from outside with one of these errors.
            self.refuse(
                ErrorCode.NON_EMPTY_GROUP
                if code in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.ILLEGAL_GENERATION, ErrorCode.REBALANCE_IN_PROGRESS)
                else code,
                doing,
            )

    def delete(self) -> int:
        """Deletes the group; returns the coordinator's error code, 0 for success."""
        response: DeleteGroupsResponse = self.ask(
            DeleteGroupsRequest(groups_names=[self.group]),
            DeleteGroupsResponse,
            lambda answer: (result.error_code for result in answer.results),
            "delete",
            twice=False,
        )
        [result] = response.results
        return result.error_code

    def delete_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Deletes committed offsets; returns an error code for each partition, 0 for success."""
        topics: dict[str, list[int]] = {}
        for name, partition in partitions:
            topics.setdefault(name, []).append(partition)
        request = OffsetDeleteRequest(
            group_id=self.group,
            topics=[
                OffsetDeleteRequestTopic(
                    name=name, partitions=[OffsetDeleteRequestPartition(partition_index=p) for p in indexes]
                )
                for name, indexes in topics.items()
            ],
        )
        doing = "delete offsets of"
        response: OffsetDeleteResponse = self.ask(
            request, OffsetDeleteResponse, lambda answer: (answer.error_code,), doing
        )
        self.refuse(response.error_code, doing)
        return {(t.name, p.partition_index): p.error_code for t in response.topics for p in t.partitions}


def list_groups(client: Client, states: list[str]) -> list[ListedGroup]:
    """The groups of all brokers; each broker lists those that it coordinates. Raises `ClientFailed`."""
    client.metadata([])
    found: dict[str, ListedGroup] = {}
    for node_id in sorted(client.brokers):
        deadline = Deadline(client.timeout_s)
        while True:
            response: ListGroupsResponse = client.ask(
                node_id, ListGroupsRequest(states_filter=states), ListGroupsResponse
            )
            if response.error_code not in _PASSING or not deadline.pause():
                break
        if response.error_code:
            raise ClientFailed(f"cannot list the groups of broker {node_id}: {sentence(response.error_code)}.")
        # Brokers that know ListGroups only below version 4 neither filter by state nor return it.
        for group in response.groups:
            found[group.group_id] = group
    return [found[name] for name in sorted(found)]


def commit_request(
    group: str,
    offsets: Mapping[TopicPartition, int],
    generation: int = _NO_GENERATION,
    member_id: str = "",
    instance_id: str | None = None,
    leader_epochs: Mapping[TopicPartition, int] | None = None,
) -> OffsetCommitRequest:
    """An OffsetCommit request. Without a generation it comes from outside the group, which a group with members
    refuses."""
    topics: dict[str, list[OffsetCommitRequestPartition]] = {}
    for (name, partition), offset in offsets.items():
        topics.setdefault(name, []).append(
            OffsetCommitRequestPartition(
                partition_index=partition,
                committed_offset=offset,
                committed_leader_epoch=(leader_epochs or {}).get((name, partition), -1),
                committed_metadata="",
            )
        )
    return OffsetCommitRequest(
        group_id=group,
        generation_id_or_member_epoch=generation,
        member_id=member_id,
        group_instance_id=instance_id,
        topics=[OffsetCommitRequestTopic(name=name, partitions=partitions) for name, partitions in topics.items()],
    )


def commit_codes(response: OffsetCommitResponse) -> list[int]:
    """The error codes of an OffsetCommit response."""
    return [partition.error_code for topic in response.topics for partition in topic.partitions]


def _offset_fetch_codes(response: OffsetFetchResponse) -> list[int]:
    codes = [response.error_code]
    for whole in _offsets_of(response):
        codes.append(whole.error_code)
        codes += [partition.error_code for topic in whole.topics for partition in topic.partitions]
    return codes


def _offsets_of(response: OffsetFetchResponse) -> list[Any]:
    """The groups in the response. Before version 8 the response itself holds the topics of the one group."""
    return [*response.groups] or [response]
