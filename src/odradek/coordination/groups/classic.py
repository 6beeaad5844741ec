"""A classic group: its members, its state, and what follows from them. (Kafka's protocol before KIP-848.)

Role: the soft state of one group, with the few rules that concern nothing else: which protocols fit, which one wins,
who leads, who is still missing. Requests, timers and answers are `membership.py`'s; records are `shard.py`'s.

Invariants: `leader_id` is a member whenever there are members; every static member's instance id names a member;
`supported` counts, for each protocol, the members that have it; who joins or syncs and waits holds a reply, and who
holds none does not wait.

Two clocks: `state_ms` is wall time, for records; deadlines live in the shard's timers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import Enum

from odradek.coordination.groups.records import subscribed_topics
from odradek.coordination.operation import Reply
from odradek.errors import ErrorCode, KafkaError
from odradek.protocol.messages.join_group import JoinGroupRequestProtocol, JoinGroupResponseMember
from odradek.protocol.records.group import GroupMetadataValue, MemberMetadata

CONSUMER_PROTOCOL = "consumer"


class GroupState(Enum):
    """By the names that DescribeGroups and ListGroups give."""

    EMPTY = "Empty"
    """No members; perhaps offsets."""
    PREPARING_REBALANCE = "PreparingRebalance"
    """Members are to join again."""
    COMPLETING_REBALANCE = "CompletingRebalance"
    """All have joined; the leader is to say who gets what."""
    STABLE = "Stable"
    DEAD = "Dead"
    """Only in answers: there is no such group."""


class Member:
    """One member of a group."""

    __slots__ = (
        "assignment",
        "client_host",
        "client_id",
        "instance_id",
        "is_new",
        "join_reply",
        "member_id",
        "protocols",
        "rebalance_timeout_ms",
        "session_timeout_ms",
        "sync_reply",
    )

    def __init__(
        self,
        member_id: str,
        instance_id: str | None,
        client_id: str,
        client_host: str,
        rebalance_timeout_ms: int,
        session_timeout_ms: int,
        protocols: dict[str, bytes],
        assignment: bytes = b"",
    ) -> None:
        self.member_id = member_id
        self.instance_id = instance_id
        self.client_id = client_id
        self.client_host = client_host
        self.rebalance_timeout_ms = rebalance_timeout_ms
        self.session_timeout_ms = session_timeout_ms
        self.protocols = protocols
        """Name to metadata, in the order of the member's preference."""
        self.assignment = assignment
        self.is_new = False
        """It has joined and not yet got an answer: it may not know its id, and cannot heartbeat."""
        self.join_reply: Reply | None = None
        self.sync_reply: Reply | None = None

    def has_protocols(self, protocols: dict[str, bytes]) -> bool:
        """Whether these are what it has, in the same order."""
        return list(self.protocols.items()) == list(protocols.items())


def protocols_of(asked: Iterable[JoinGroupRequestProtocol]) -> dict[str, bytes]:
    """A JoinGroup's protocols by name, the first of equal names."""
    protocols: dict[str, bytes] = {}
    for protocol in asked:
        protocols.setdefault(protocol.name, bytes(protocol.metadata))
    return protocols


class ClassicGroup:
    """One group's members and state."""

    __slots__ = (
        "generation",
        "group_id",
        "initial_delay_ms",
        "initial_remaining_ms",
        "leader_id",
        "members",
        "new_member_added",
        "pending_joins",
        "pending_syncs",
        "previous_state",
        "protocol",
        "protocol_type",
        "state",
        "state_ms",
        "static_members",
        "subscribed",
        "supported",
    )

    def __init__(self, group_id: str, now_ms: int) -> None:
        self.group_id = group_id
        self.state = GroupState.EMPTY
        self.previous_state = GroupState.EMPTY
        self.state_ms = now_ms
        self.generation = 0
        self.protocol_type: str | None = None
        self.protocol: str | None = None
        self.leader_id: str | None = None
        self.members: dict[str, Member] = {}
        self.static_members: dict[str, str] = {}
        """Instance id to member id."""
        self.pending_joins: set[str] = set()
        """Ids given with MEMBER_ID_REQUIRED whose owners have not joined yet."""
        self.pending_syncs: set[str] = set()
        """Members of this generation that have not synced yet."""
        self.supported: Counter[str] = Counter()
        self.subscribed: frozenset[str] | None = None
        """The topics of all consumers, where they can be read."""
        self.new_member_added = False
        """Somebody joined during the delay of a first rebalance: this delay, and what is left of all of it."""
        self.initial_delay_ms = 0
        self.initial_remaining_ms = 0

    @classmethod
    def from_record(cls, group_id: str, value: GroupMetadataValue) -> ClassicGroup:
        """The group as it was written: stable, or empty."""
        group = cls(group_id, value.current_state_timestamp)
        group.generation = value.generation
        group.protocol_type = value.protocol_type
        group.protocol = value.protocol
        for one in value.members:
            rebalance_timeout_ms = one.rebalance_timeout if one.rebalance_timeout >= 0 else one.session_timeout
            member = Member(
                one.member_id,
                one.group_instance_id,
                one.client_id,
                one.client_host,
                rebalance_timeout_ms,
                one.session_timeout,
                {value.protocol or "": bytes(one.subscription)},
                bytes(one.assignment),
            )
            group.add(member)
        if group.members:
            group.leader_id = value.leader if value.leader in group.members else next(iter(group.members))
            group.state = GroupState.STABLE
        group.protocol_type = value.protocol_type or None
        group.subscribed = group.topics_of_all()
        return group

    def to_record(self, assignments: dict[str, bytes]) -> GroupMetadataValue:
        """The group as it is to be kept, with these assignments."""
        protocol = self.protocol or ""
        return GroupMetadataValue(
            protocol_type=self.protocol_type or "",
            generation=self.generation,
            protocol=self.protocol,
            leader=self.leader_id,
            current_state_timestamp=self.state_ms,
            members=[
                MemberMetadata(
                    member_id=member.member_id,
                    group_instance_id=member.instance_id,
                    client_id=member.client_id,
                    client_host=member.client_host,
                    rebalance_timeout=member.rebalance_timeout_ms,
                    session_timeout=member.session_timeout_ms,
                    subscription=member.protocols.get(protocol, b""),
                    assignment=assignments.get(member.member_id, b""),
                )
                for member in self.members.values()
            ],
        )

    # --- members -------------------------------------------------------------------------------------------------

    def add(self, member: Member) -> None:
        if not self.members:
            self.leader_id = member.member_id
        self.members[member.member_id] = member
        if member.instance_id is not None:
            self.static_members[member.instance_id] = member.member_id
        self.supported.update(member.protocols.keys())
        self.pending_joins.discard(member.member_id)

    def remove(self, member_id: str) -> Member:
        """Takes a member out, the leader too. Whoever waits for it is the caller's to answer."""
        member = self.members.pop(member_id)
        self.supported.subtract(member.protocols.keys())
        self.pending_syncs.discard(member_id)
        if member.instance_id is not None:
            del self.static_members[member.instance_id]
        if self.leader_id == member_id:
            self.leader_id = next(iter(self.members), None)
        return member

    def replace_static(self, instance_id: str, member_id: str) -> tuple[str, Member]:
        """Gives a static member a new id; returns the old one, and the member."""
        old_id = self.static_members[instance_id]
        member = self.members[old_id]
        # In its old place: the order of members is the order in which they joined.
        self.members = {(member_id if one_id == old_id else one_id): one for one_id, one in self.members.items()}
        member.member_id = member_id
        self.static_members[instance_id] = member_id
        if old_id in self.pending_syncs:
            self.pending_syncs.discard(old_id)
            self.pending_syncs.add(member_id)
        if self.leader_id == old_id:
            self.leader_id = member_id
        return old_id, member

    def update_protocols(self, member: Member, protocols: dict[str, bytes]) -> None:
        self.supported.subtract(member.protocols.keys())
        self.supported.update(protocols.keys())
        member.protocols = protocols

    def validate_member(self, member_id: str, instance_id: str | None) -> Member:
        """The member, if it is one, and the one that has the instance id now (KIP-345). Raises `KafkaError`."""
        if instance_id is not None:
            known_id = self.static_members.get(instance_id)
            if known_id is None:
                raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID)
            if known_id != member_id:
                raise KafkaError(ErrorCode.FENCED_INSTANCE_ID)
        member = self.members.get(member_id)
        if member is None:
            raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID)
        return member

    # --- protocols -----------------------------------------------------------------------------------------------

    def supports(self, protocol_type: str, protocols: dict[str, bytes]) -> bool:
        """Whether somebody with these could join: the same type, and one protocol that all members have."""
        if self.state is GroupState.EMPTY:
            return bool(protocol_type) and bool(protocols)
        if protocol_type != self.protocol_type:
            return False
        return any(self.supported[name] == len(self.members) for name in protocols)

    def select_protocol(self) -> str:
        """The protocol most members prefer, of those that all have; of equals the one the leader would rather have."""
        assert self.members and self.leader_id is not None
        count = len(self.members)
        candidates = {name for name, having in self.supported.items() if having == count}
        votes = Counter(
            next(name for name in member.protocols if name in candidates) for member in self.members.values()
        )
        most = max(votes.values())
        return next(name for name in self.members[self.leader_id].protocols if votes.get(name) == most)

    def topics_of_all(self) -> frozenset[str] | None:
        """What all members subscribe to together; None where that is not to be known."""
        if not self.members:
            return frozenset()
        if self.protocol_type != CONSUMER_PROTOCOL or self.protocol is None:
            return None
        topics: set[str] = set()
        for member in self.members.values():
            subscribed = subscribed_topics(member.protocols.get(self.protocol, b""))
            if subscribed is None:
                return None
            topics |= subscribed
        return frozenset(topics)

    def is_subscribed_to(self, topic: str) -> bool:
        """Consumers whose subscriptions cannot be read may read anything."""
        return self.protocol_type == CONSUMER_PROTOCOL if self.subscribed is None else topic in self.subscribed

    # --- state ---------------------------------------------------------------------------------------------------

    def move_to(self, state: GroupState, now_ms: int) -> None:
        self.previous_state = self.state
        self.state = state
        self.state_ms = now_ms

    def next_generation(self, now_ms: int) -> None:
        """All who will have joined; without members the group is empty."""
        self.generation += 1
        self.pending_syncs.clear()
        if self.members:
            self.protocol = self.select_protocol()
            self.subscribed = self.topics_of_all()
            self.move_to(GroupState.COMPLETING_REBALANCE, now_ms)
        else:
            self.protocol = None
            self.subscribed = frozenset()
            self.move_to(GroupState.EMPTY, now_ms)

    def has_all_joined(self) -> bool:
        return not self.pending_joins and all(member.join_reply is not None for member in self.members.values())

    def waiting_to_join(self) -> int:
        return sum(member.join_reply is not None for member in self.members.values())

    def elect_joined_leader(self) -> bool:
        """Makes sure that the leader is one who has joined; False if nobody has."""
        if self.leader_id is None:
            return False
        if self.members[self.leader_id].join_reply is None:
            joined = next((one.member_id for one in self.members.values() if one.join_reply is not None), None)
            if joined is None:
                return False
            self.leader_id = joined
        return True

    def rebalance_timeout_ms(self) -> int:
        # Somebody with an id may still be expected when the last member goes: then, as in Kafka, nobody is waited for.
        return max((member.rebalance_timeout_ms for member in self.members.values()), default=0)

    def joined_members(self) -> list[JoinGroupResponseMember]:
        """What the leader is told of the members."""
        assert self.protocol is not None
        return [
            JoinGroupResponseMember(
                member_id=member.member_id,
                group_instance_id=member.instance_id,
                metadata=member.protocols[self.protocol],
            )
            for member in self.members.values()
        ]

    def assignments(self) -> dict[str, bytes]:
        return {member_id: member.assignment for member_id, member in self.members.items()}

    @property
    def rests(self) -> bool:
        """Nobody is in it, or about to be."""
        return not self.members and not self.pending_joins
