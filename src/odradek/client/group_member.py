"""A member of a consumer group: joins, learns its partitions, stays alive, commits, leaves.

Role: the classic group protocol from the client's side, for one topic. `consumer` reads the partitions. The caller
calls the methods from one thread, heartbeats included: a reader that stalls for the session timeout loses its
partitions, as it should.

Invariants: offsets are committed only in the generation that assigned their partitions; a member that joins again has
no generation until `join` returns. When the coordinator is lost, the member keeps its generation and looks for the
coordinator until the session timeout is over. Every wait ends at a deadline, or when the user wants to stop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Any

from odradek.client.assignors import (
    ASSIGNORS,
    PROTOCOL_TYPE,
    Subscriber,
    decode_assignment,
    decode_subscription,
    encode_assignment,
    encode_subscription,
)
from odradek.client.cluster import Client
from odradek.client.deadline import Deadline
from odradek.client.error_codes import sentence
from odradek.client.failures import ClientFailed, ConnectionLost, InstanceFenced
from odradek.client.group_coordinator import MOVED, GroupClient, NotYet, commit_codes, commit_request
from odradek.clock import SystemClock
from odradek.errors import ErrorCode
from odradek.protocol.errors import DecodeError
from odradek.protocol.fields import Message
from odradek.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from odradek.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse
from odradek.protocol.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse, MemberIdentity
from odradek.protocol.messages.offset_commit import OffsetCommitResponse
from odradek.protocol.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse

# The defaults of Kafka's own consumer.
SESSION_TIMEOUT_S = 45.0
REBALANCE_TIMEOUT_S = 300.0
HEARTBEAT_INTERVAL_S = 3.0
# Seconds between two attempts to find a lost coordinator.
RETRY_INTERVAL_S = 0.5
# Time to wait for a JoinGroup response beyond the rebalance timeout, as Kafka's consumer does.
_JOIN_GRACE_S = 5.0
_NOTE_AFTER_S = 3.0
_LOOK_AROUND_S = 0.25
# How often the leader checks whether topics have more partitions than it assigned.
METADATA_INTERVAL_S = 30.0
# The most attempts to join that may end because the group rebalances again; the coordinator answers each of them.
JOIN_ROUNDS = 1000
_OFFSETS_BY_NAME = 9
_NO_GENERATION = -1

_clock = SystemClock()


class Standing(Enum):
    """The member's state according to the coordinator."""

    STABLE = auto()
    REBALANCING = auto()  # it should join again; it keeps its partitions until then
    EXPELLED = auto()  # its partitions may be assigned to other members already


class Stopped(Exception):
    """The user wants to stop, so a wait for the other members was ended."""


_STANDINGS = {
    ErrorCode.NONE: Standing.STABLE,
    ErrorCode.REBALANCE_IN_PROGRESS: Standing.REBALANCING,
    ErrorCode.UNKNOWN_MEMBER_ID: Standing.EXPELLED,
    ErrorCode.ILLEGAL_GENERATION: Standing.EXPELLED,
}


class GroupMember:
    """A member that subscribes to `topic`. During long waits `stopping` is called: where it returns True, the wait ends
    with `Stopped`. `note` is called with messages for the user."""

    def __init__(
        self,
        client: Client,
        group: str,
        topic: str,
        instance_id: str | None = None,
        note: Callable[[str], None] = lambda text: None,
        stopping: Callable[[], bool] = lambda: False,
        heartbeat_interval_s: float = HEARTBEAT_INTERVAL_S,
    ) -> None:
        self.group_client = GroupClient(client, group)
        self.member_id = ""
        self.generation = _NO_GENERATION
        self._client = client
        self._group = group
        self._topic = topic
        self._instance_id = instance_id
        self._note = note
        self._stopping = stopping
        self._heartbeat_interval_s = heartbeat_interval_s
        self._heartbeat_at = 0.0
        self._answered_at = 0.0
        self._given_away: dict[str, int] | None = None  # for the leader, the numbers of partitions assigned, by topic
        self._metadata_at = 0.0

    @property
    def is_in_generation(self) -> bool:
        """Whether this member, as far as it knows, owns its assigned partitions and may commit."""
        return self.generation != _NO_GENERATION

    # --- joining -----------------------------------------------------------------------------------------------------

    def join(self) -> list[int]:
        """Joins the group, or joins it again; returns the topic's partitions now assigned to this member. Raises
        `ClientFailed`, `Stopped`."""
        self.generation = _NO_GENERATION
        deadline = Deadline(self._client.timeout_s)
        for _ in range(JOIN_ROUNDS):
            try:
                joined = self._join()
                assigned = None if joined is None else self._sync(joined)
            except NotYet as error:
                if self._stopping():
                    raise Stopped from None
                if not deadline.pause():
                    raise ClientFailed(
                        f"gave up after {self._client.timeout_s:g} s to join group {self._group!r}: "
                        f"{str(error).rstrip('.')}."
                    ) from error
                continue
            if assigned is not None:
                self._answered()
                return sorted(partition for topic, partition in assigned if topic == self._topic)
            if self._stopping():
                raise Stopped
            # The coordinator has answered, so the timeout for it starts anew: rebalances may take long.
            deadline = Deadline(self._client.timeout_s)
        raise ClientFailed(f"cannot join group {self._group!r}: it formed anew {JOIN_ROUNDS} times in a row.")

    def _join(self) -> JoinGroupResponse | None:
        metadata = encode_subscription([self._topic])
        request = JoinGroupRequest(
            group_id=self._group,
            session_timeout_ms=int(SESSION_TIMEOUT_S * 1000),
            rebalance_timeout_ms=int(REBALANCE_TIMEOUT_S * 1000),
            member_id=self.member_id,
            group_instance_id=self._instance_id,
            protocol_type=PROTOCOL_TYPE,
            protocols=[JoinGroupRequestProtocol(name=name, metadata=metadata) for name in ASSIGNORS],
        )
        response: JoinGroupResponse = self._wait_for_others(request, JoinGroupResponse)
        code = response.error_code
        if code == ErrorCode.MEMBER_ID_REQUIRED:  # KIP-394: so that a lost response leaves no unknown member behind
            self.member_id = response.member_id
            return None
        if code == ErrorCode.UNKNOWN_MEMBER_ID:
            self.member_id = ""
            return None
        if code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL:
            raise ClientFailed(
                f"cannot join group {self._group!r}: its members share partitions in a way that this client does not "
                f"know ({', '.join(ASSIGNORS)}), or are no consumers ({sentence(code)})."
            )
        self._refuse(code, "join")
        if code:
            return None
        self.member_id = response.member_id
        return response

    def _sync(self, joined: JoinGroupResponse) -> list[tuple[str, int]] | None:
        leads = joined.leader == joined.member_id
        shares = self._share_out(joined) if leads and not joined.skip_assignment else []
        if not leads:
            self._given_away = None
        request = SyncGroupRequest(
            group_id=self._group,
            generation_id=joined.generation_id,
            member_id=self.member_id,
            group_instance_id=self._instance_id,
            protocol_type=PROTOCOL_TYPE,
            protocol_name=joined.protocol_name,
            assignments=shares,
        )
        response: SyncGroupResponse = self._wait_for_others(request, SyncGroupResponse)
        self._refuse(response.error_code, "join")
        if response.error_code:
            if _STANDINGS.get(ErrorCode(response.error_code)) is Standing.EXPELLED:
                self.member_id = ""
            return None
        self.generation = joined.generation_id
        try:
            return decode_assignment(bytes(response.assignment))
        except DecodeError as error:
            raise ClientFailed(
                f"the leader of group {self._group!r} assigned partitions in a form that is not known: {error}."
            ) from None

    def _share_out(self, joined: JoinGroupResponse) -> list[SyncGroupRequestAssignment]:
        try:
            members = [
                Subscriber(member.member_id, member.group_instance_id, decode_subscription(bytes(member.metadata)))
                for member in joined.members
            ]
        except DecodeError as error:
            raise ClientFailed(
                f"a member of group {self._group!r} subscribes in a form that is not known: {error}."
            ) from None
        try:
            self._given_away = self._partition_counts({topic for member in members for topic in member.topics})
        except ConnectionLost as error:
            raise NotYet(str(error)) from error
        shares = ASSIGNORS[joined.protocol_name or ""](members, self._given_away)
        return [
            SyncGroupRequestAssignment(member_id=member_id, assignment=encode_assignment(share))
            for member_id, share in shares.items()
        ]

    def _partition_counts(self, topics: set[str]) -> dict[str, int]:
        self._metadata_at = _clock.monotonic()
        found = self._client.metadata(sorted(topics)).topics if topics else []
        return {topic.name or "": len(topic.partitions) for topic in found if topic.partitions}

    def _wait_for_others(self, request: Message, response: type[Message]) -> Any:
        """Sends a request that is answered only when the other members have joined or the leader has assigned; returns
        the response. Raises `ClientFailed`, `NotYet`, `Stopped`."""
        connection = self.group_client.connection()
        deadline = Deadline(REBALANCE_TIMEOUT_S + _JOIN_GRACE_S)
        note_at = deadline.left_s() - _NOTE_AFTER_S
        try:
            connection.start(request, response)
            while not connection.is_answering(_LOOK_AROUND_S):
                if self._stopping():
                    # Nothing takes the response, so the connection cannot be used for other requests.
                    self._client.drop(connection)
                    raise Stopped
                if deadline.left_s() < note_at:
                    self._note(f"group {self._group}: waiting for the other members")
                    note_at = float("-inf")
                if deadline.left_s() < 0:
                    raise ClientFailed(f"the members of group {self._group!r} did not come together in time.")
            answer = connection.finish()
        except ConnectionLost as error:
            self._client.drop(connection)
            self.group_client.moved()
            raise NotYet(str(error)) from error
        if answer.error_code in MOVED:
            self.group_client.moved()
            raise NotYet(sentence(answer.error_code))
        return answer

    # --- staying -----------------------------------------------------------------------------------------------------

    def check(self) -> Standing:
        """Sends a heartbeat, if one is due; returns the member's state. Raises `ClientFailed`."""
        now = _clock.monotonic()
        if now < self._heartbeat_at:
            return Standing.STABLE
        request = HeartbeatRequest(
            group_id=self._group,
            generation_id=self.generation,
            member_id=self.member_id,
            group_instance_id=self._instance_id,
        )
        try:
            response: HeartbeatResponse = self.group_client.attempt(
                request, HeartbeatResponse, lambda answer: (answer.error_code,)
            )
        except NotYet as error:
            self._heartbeat_at = now + RETRY_INTERVAL_S
            if now - self._answered_at > max(self._client.timeout_s, SESSION_TIMEOUT_S):
                why = str(error).rstrip(".")
                raise ClientFailed(f"lost the coordinator of group {self._group!r} for too long: {why}.") from error
            return Standing.STABLE
        self._answered()
        standing = self._standing(response.error_code)
        if standing is Standing.STABLE and self._has_more_partitions(now):
            self._note(f"group {self._group}: there are new partitions to share out")
            return Standing.REBALANCING
        return standing

    def _answered(self) -> None:
        self._answered_at = _clock.monotonic()
        self._heartbeat_at = self._answered_at + self._heartbeat_interval_s

    def _has_more_partitions(self, now: float) -> bool:
        if self._given_away is None or now - self._metadata_at < METADATA_INTERVAL_S:
            return False
        try:
            return self._partition_counts(set(self._given_away) | {self._topic}) != self._given_away
        except ConnectionLost as error:
            self._note(f"group {self._group}: {error}")
            return False

    def _standing(self, code: int, doing: str = "stay in") -> Standing:
        self._refuse(code, doing)
        standing = _STANDINGS[ErrorCode(code)]
        if standing is Standing.EXPELLED:
            self.generation = _NO_GENERATION
            if code == ErrorCode.UNKNOWN_MEMBER_ID:
                self.member_id = ""
        return standing

    def _refuse(self, code: int, doing: str) -> None:
        if code == ErrorCode.FENCED_INSTANCE_ID:
            self.member_id, self.generation = "", _NO_GENERATION
            raise InstanceFenced(
                f"another consumer has joined group {self._group!r} as {self._instance_id!r}, and this one is out."
            )
        if code == ErrorCode.GROUP_MAX_SIZE_REACHED:
            raise ClientFailed(f"cannot join group {self._group!r}: it is full ({sentence(code)}).")
        if code not in _STANDINGS:
            self.group_client.refuse(code, doing)

    # --- committing and leaving --------------------------------------------------------------------------------------

    def commit(
        self, offsets: Mapping[int, int], leader_epochs: Mapping[int, int] | None = None, retry: bool = True
    ) -> Standing:
        """Commits the next offsets of the topic's partitions; they are committed only if it returns STABLE. Raises
        `ClientFailed`. Without `retry` it makes one attempt, which may raise `NotYet`."""
        request = commit_request(
            self._group,
            {(self._topic, partition): offset for partition, offset in offsets.items()},
            self.generation,
            self.member_id,
            self._instance_id,
            {(self._topic, partition): epoch for partition, epoch in (leader_epochs or {}).items()},
        )
        response: OffsetCommitResponse
        if retry:
            response = self.group_client.ask(
                request, OffsetCommitResponse, commit_codes, "commit offsets to", _OFFSETS_BY_NAME
            )
        else:
            response = self.group_client.attempt(request, OffsetCommitResponse, commit_codes, _OFFSETS_BY_NAME)
        # The first error code stands for all: it concerns the whole member, or ends the commit with an error.
        return self._standing(next((code for code in commit_codes(response) if code), 0), "commit offsets to")

    def leave(self) -> None:
        """Leaves the group, in one attempt, so that the other members need not wait for the session timeout. A member
        with an instance id does not leave, because it may come back. Raises `ClientFailed`."""
        if not self.member_id or self._instance_id is not None:
            return
        request = LeaveGroupRequest(
            group_id=self._group,
            member_id=self.member_id,
            members=[MemberIdentity(member_id=self.member_id, reason="the consumer is being closed")],
        )
        self.member_id, self.generation = "", _NO_GENERATION
        response: LeaveGroupResponse = self.group_client.attempt(
            request, LeaveGroupResponse, lambda answer: (answer.error_code,)
        )
        if response.error_code != ErrorCode.UNKNOWN_MEMBER_ID:
            self.group_client.refuse(response.error_code, "leave")
