"""A classic group: its members and its state. (Kafka's group protocol before KIP-848.)

Role: the soft state of one group, with the rules that need nothing else (which protocols are supported, which one is
selected, which member leads, which have not joined yet), and the interface of any group (`Group`). `membership.py`
adds and removes members, `rebalance.py` moves the group through its states, `groups.py` holds the groups of a shard.

Invariants: `leader_id` is a member whenever there are members; every static member's instance id names a member;
`supported` counts, for each protocol, the members that have it; a member holds a reply exactly while its JoinGroup or
SyncGroup request waits.

Two clocks: `state_ms` is wall time, for records; the shard's timers, which hold the deadlines (`deadlines.py`), use
monotonic time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import Enum
from typing import ClassVar

from odradek.coordination.groups.classic.consumer_protocol import (
    CONSUMER_PROTOCOL,
    assigned_partitions,
    subscribed_topics,
)
from odradek.coordination.groups.classic.deadlines import Deadlines
from odradek.coordination.groups.classic.member import Member
from odradek.coordination.groups.group import CLASSIC_TYPE, EMPTY_STATE, CommitCheck, Group, GroupMember
from odradek.coordination.groups.records import Committed
from odradek.errors import ErrorCode, KafkaError
from odradek.protocol.messages.describe_groups import DescribedGroup, DescribedGroupMember
from odradek.protocol.messages.join_group import JoinGroupResponseMember
from odradek.protocol.records.group import GroupMetadataValue, MemberMetadata


class GroupState(Enum):
    """The states of a classic group; the values are the names in DescribeGroups and ListGroups."""

    EMPTY = EMPTY_STATE
    """The group has no members. It may have offsets."""
    PREPARING_REBALANCE = "PreparingRebalance"
    """The members must join again."""
    COMPLETING_REBALANCE = "CompletingRebalance"
    """All members have joined; the leader must send the assignments."""
    STABLE = "Stable"
    DEAD = "Dead"
    """Only in responses: the group does not exist."""


class ClassicGroup(Group):
    """One group's members and state."""

    __slots__ = (
        "deadlines",
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
    type_name: ClassVar[str] = CLASSIC_TYPE

    def __init__(self, group_id: str, now_ms: int, deadlines: Deadlines) -> None:
        self.group_id = group_id
        self.deadlines = deadlines
        self.state = GroupState.EMPTY
        self.previous_state = GroupState.EMPTY
        self.state_ms = now_ms
        self.generation = 0
        self.protocol_type = None
        self.protocol: str | None = None
        self.leader_id: str | None = None
        self.members: dict[str, Member] = {}
        self.static_members: dict[str, str] = {}
        """Member ids by instance id."""
        self.pending_joins: set[str] = set()
        """Member ids that were given out with MEMBER_ID_REQUIRED and have not joined yet."""
        self.pending_syncs: set[str] = set()
        """Members of this generation that have not synced yet."""
        self.supported: Counter[str] = Counter()
        self.subscribed: frozenset[str] | None = None
        """The topics that the members subscribe to; None if they are not known."""
        self.new_member_added = False
        """Whether a member has joined during the present delay of a first rebalance."""
        self.initial_delay_ms = 0
        """The present delay."""
        self.initial_remaining_ms = 0
        """How much longer the delay may be extended after the present one."""

    @classmethod
    def from_record(cls, group_id: str, value: GroupMetadataValue, deadlines: Deadlines) -> ClassicGroup:
        """The group of a record: stable if it has members, otherwise empty."""
        group = cls(group_id, value.current_state_timestamp, deadlines)
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
        """The value of the group's record, with these assignments by member id."""
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
        """Removes a member and returns it; chooses another leader if it led. The caller answers its replies."""
        member = self.members.pop(member_id)
        self.supported.subtract(member.protocols.keys())
        self.pending_syncs.discard(member_id)
        if member.instance_id is not None:
            del self.static_members[member.instance_id]
        if self.leader_id == member_id:
            self.leader_id = next(iter(self.members), None)
        return member

    def replace_static(self, instance_id: str, member_id: str) -> tuple[str, Member]:
        """Gives a static member a new member id; returns the old id and the member."""
        old_id = self.static_members[instance_id]
        member = self.members[old_id]
        # The member keeps its place: members stay in the order in which they joined.
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
        """The member with this id. Raises `KafkaError` if there is none, or if another member has the instance id now
        (KIP-345)."""
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
        """Whether a client with these protocols may join: the protocol type must be the group's, and all members must
        have one of the protocols."""
        if self.state is GroupState.EMPTY:
            return bool(protocol_type) and bool(protocols)
        if protocol_type != self.protocol_type:
            return False
        return any(self.supported[name] == len(self.members) for name in protocols)

    def select_protocol(self) -> str:
        """The protocol that most members prefer among those that all members have; if several are preferred equally,
        the leader's preference decides."""
        assert self.members and self.leader_id is not None
        count = len(self.members)
        candidates = {name for name, having in self.supported.items() if having == count}
        votes = Counter(
            next(name for name in member.protocols if name in candidates) for member in self.members.values()
        )
        most = max(votes.values())
        return next(name for name in self.members[self.leader_id].protocols if votes.get(name) == most)

    def topics_of_all(self) -> frozenset[str] | None:
        """The union of the members' subscriptions; None unless they are consumers and all subscriptions can be read."""
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

    # --- state ---------------------------------------------------------------------------------------------------

    def move_to(self, state: GroupState, now_ms: int) -> None:
        self.previous_state = self.state
        self.state = state
        self.state_ms = now_ms

    def next_generation(self, now_ms: int) -> None:
        """Begins the next generation with the present members, in state COMPLETING_REBALANCE, or EMPTY without any."""
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
        """Chooses a leader that has joined, unless the present one has; returns False if no member has joined."""
        if self.leader_id is None:
            return False
        if self.members[self.leader_id].join_reply is None:
            joined = next((one.member_id for one in self.members.values() if one.join_reply is not None), None)
            if joined is None:
                return False
            self.leader_id = joined
        return True

    def rebalance_timeout_ms(self) -> int:
        # 0 without members, as in Kafka: pending joins alone are not waited for when the last member leaves.
        return max((member.rebalance_timeout_ms for member in self.members.values()), default=0)

    def joined_members(self) -> list[JoinGroupResponseMember]:
        """The members as the leader's JoinGroup response lists them."""
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
        """Whether the group has neither members nor pending joins."""
        return not self.members and not self.pending_joins

    # --- the interface of any group ------------------------------------------------------------------------------

    @property
    def state_name(self) -> str:
        return self.state.value

    @property
    def member_count(self) -> int:
        return len(self.members)

    @property
    def is_empty(self) -> bool:
        return self.state is GroupState.EMPTY

    @property
    def expires(self) -> bool:
        return self.is_empty and self.rests

    def describe(self) -> DescribedGroup:
        protocol = (self.protocol or "") if self.state is GroupState.STABLE else ""
        return DescribedGroup(
            group_id=self.group_id,
            group_state=self.state.value,
            protocol_type=self.protocol_type or "",
            protocol_data=protocol,
            members=[
                DescribedGroupMember(
                    member_id=member.member_id,
                    group_instance_id=member.instance_id,
                    client_id=member.client_id,
                    client_host=member.client_host,
                    member_metadata=member.protocols.get(protocol, b"") if protocol else b"",
                    member_assignment=member.assignment,
                )
                for member in self.members.values()
            ],
        )

    def consumers(self) -> tuple[Sequence[GroupMember], frozenset[str]] | None:
        if not self.members or self.protocol_type != CONSUMER_PROTOCOL or not self.subscribed:
            return None
        members: Sequence[GroupMember] = [
            GroupMember(
                member.member_id,
                member.client_id,
                member.client_host,
                [
                    (topic, partition)
                    for topic, partitions in (assigned_partitions(member.assignment) or {}).items()
                    for partition in partitions
                ],
            )
            for member in self.members.values()
        ]
        return members, self.subscribed

    def check_commit(
        self, member_id: str, instance_id: str | None, generation: int, version: int, is_transactional: bool
    ) -> CommitCheck | None:
        if generation < 0:
            if self.state is GroupState.EMPTY:
                return None
            if not member_id and instance_id is None:
                # TxnOffsetCommit without member fields is accepted: clients before KIP-447 do not send them.
                if is_transactional:
                    return None
                raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID)
        member = self.validate_member(member_id, instance_id)
        if generation != self.generation:
            raise KafkaError(ErrorCode.ILLEGAL_GENERATION)
        if self.state is GroupState.COMPLETING_REBALANCE and not is_transactional:
            raise KafkaError(ErrorCode.REBALANCE_IN_PROGRESS)
        self.deadlines.keep_session(self.group_id, member)
        return None

    def check_offset_delete(self) -> None:
        if self.state is not GroupState.EMPTY and self.protocol_type != CONSUMER_PROTOCOL:
            raise KafkaError(ErrorCode.NON_EMPTY_GROUP)

    def is_subscribed_to(self, topic: str) -> bool:
        """True for every topic if the members are consumers whose subscriptions cannot be read."""
        if not self.members:
            return False
        return self.protocol_type == CONSUMER_PROTOCOL if self.subscribed is None else topic in self.subscribed

    def subscribed_topics(self) -> frozenset[str]:
        return (self.subscribed or frozenset()) if self.members else frozenset()

    def grows_old_since_ms(self, topic: str, committed: Committed) -> int | None:
        """In a group that has never had members: since the commit. In an empty group: since it became empty, or since
        the commit if that was later (Kafka deletes an offset that an administrator sets in a long empty group within
        minutes). In a stable group: since the commit, only if no member subscribes to the topic."""
        if self.protocol_type is None:
            return committed.commit_ms
        if self.state is GroupState.EMPTY:
            return max(self.state_ms, committed.commit_ms)
        if self.state is GroupState.STABLE and self.subscribed is not None and topic not in self.subscribed:
            return committed.commit_ms
        return None
