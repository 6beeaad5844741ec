"""The partition assignors of a consumer group, and the encoding of subscriptions and assignments.

Role: the assignors `range` (which most clients prefer) and `roundrobin` (the only one of some clients): every client
knows at least one of them. They compute the same assignments as Kafka's own, so that it makes no difference which
member leads. Both use the eager protocol, in which members give up all partitions at each rebalance. Sans-IO;
`group_member` decides when to join and to assign.

Invariants: each partition of a topic with subscribers is assigned to exactly one of them; the result depends only on
the arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from odradek.protocol.decoding import decode
from odradek.protocol.encoding import encode
from odradek.protocol.errors import DecodeError
from odradek.protocol.records.consumer_assignment import ConsumerProtocolAssignment
from odradek.protocol.records.consumer_assignment import TopicPartition as AssignedTopic
from odradek.protocol.records.consumer_subscription import ConsumerProtocolSubscription
from odradek.topic_partition import TopicPartition

PROTOCOL_TYPE = "consumer"
# Version 0 of subscription and assignment has all that these assignors need; later fields are for sticky assignors.
_VERSION = 0
_VERSION_BYTES = 2


class Subscriber(NamedTuple):
    """A member of the group, as its leader sees it."""

    member_id: str
    instance_id: str | None
    topics: frozenset[str]

    @property
    def rank(self) -> tuple[bool, str]:
        # Kafka's order: static members first, by instance id, which outlives their member ids.
        return (self.instance_id is None, self.instance_id or self.member_id)


Shares = dict[str, list[TopicPartition]]
Assignor = Callable[[Sequence[Subscriber], Mapping[str, int]], Shares]


def by_range(members: Sequence[Subscriber], counts: Mapping[str, int]) -> Shares:
    """The range assignor: divides each topic into runs of consecutive partitions, one a member; the first members get
    one partition more where they do not divide evenly. `counts` are the numbers of partitions by topic."""
    shares: Shares = {member.member_id: [] for member in members}
    for topic in sorted(counts):
        readers = sorted((member for member in members if topic in member.topics), key=lambda member: member.rank)
        if not readers:
            continue
        share, rest = divmod(counts[topic], len(readers))
        first = 0
        for position, reader in enumerate(readers):
            end = first + share + (position < rest)
            shares[reader.member_id] += [(topic, partition) for partition in range(first, end)]
            first = end
    return shares


def round_robin(members: Sequence[Subscriber], counts: Mapping[str, int]) -> Shares:
    """The round-robin assignor: assigns all partitions in order to the members in turn, and skips members that do not
    subscribe to the topic."""
    shares: Shares = {member.member_id: [] for member in members}
    circle = sorted(members, key=lambda member: member.rank)
    position = 0
    for topic in sorted(counts):
        if not any(topic in member.topics for member in circle):
            continue
        for partition in range(counts[topic]):
            while topic not in circle[position % len(circle)].topics:
                position += 1
            shares[circle[position % len(circle)].member_id].append((topic, partition))
            position += 1
    return shares


# In the order of preference; the coordinator selects one that all members know.
ASSIGNORS: dict[str, Assignor] = {"range": by_range, "roundrobin": round_robin}


def encode_subscription(topics: Sequence[str]) -> bytes:
    """The bytes of a member's subscription, which the leader reads."""
    return _with_version(encode(ConsumerProtocolSubscription(topics=list(topics), user_data=None), _VERSION))


def decode_subscription(data: bytes) -> frozenset[str]:
    """The topics of a subscription of any version. Raises `DecodeError`."""
    subscription, _ = decode(ConsumerProtocolSubscription, _VERSION, _body(data), _VERSION_BYTES)
    return frozenset(subscription.topics)


def encode_assignment(partitions: Sequence[TopicPartition]) -> bytes:
    """The bytes of a member's assignment, which the leader sends."""
    topics: dict[str, list[int]] = {}
    for topic, partition in partitions:
        topics.setdefault(topic, []).append(partition)
    assigned = [AssignedTopic(topic=topic, partitions=indexes) for topic, indexes in topics.items()]
    return _with_version(encode(ConsumerProtocolAssignment(assigned_partitions=assigned, user_data=None), _VERSION))


def decode_assignment(data: bytes) -> list[TopicPartition]:
    """The partitions of an assignment of any version; an empty list for empty bytes. Raises `DecodeError`."""
    if not data:
        return []
    assignment, _ = decode(ConsumerProtocolAssignment, _VERSION, _body(data), _VERSION_BYTES)
    return [(topic.topic, partition) for topic in assignment.assigned_partitions for partition in topic.partitions]


def _with_version(data: bytes) -> bytes:
    return _VERSION.to_bytes(_VERSION_BYTES, "big") + data


def _body(data: bytes) -> bytes:
    if len(data) < _VERSION_BYTES or data[0] & 0x80:
        raise DecodeError("no version of the consumer protocol")
    return data
