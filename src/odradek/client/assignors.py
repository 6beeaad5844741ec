"""Who reads what in a consumer group: what members subscribe to, how the leader shares it out, and the bytes of both.

Role: the two assignors of which every client knows at least one, `range` (what most prefer) and `roundrobin` (the only
one of some), computed as Kafka's own do, so that it makes no difference which member leads. Both take back everything
at each rebalance (the eager protocol). SANS-IO; when to join and to share out is `group_member`'s.

Invariants: each partition of a topic that somebody subscribes to has exactly one owner, who subscribes to it; the
result depends on nothing but the arguments.
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
# What both carry is in their first version already; later fields are for assignors that remember.
_VERSION = 0
_VERSION_BYTES = 2


class Subscriber(NamedTuple):
    """A member of the group, as its leader sees it."""

    member_id: str
    instance_id: str | None
    topics: frozenset[str]

    @property
    def rank(self) -> tuple[bool, str]:
        # Kafka's order: static members first, whose names outlive their ids.
        return (self.instance_id is None, self.instance_id or self.member_id)


Shares = dict[str, list[TopicPartition]]
Assignor = Callable[[Sequence[Subscriber], Mapping[str, int]], Shares]


def by_range(members: Sequence[Subscriber], counts: Mapping[str, int]) -> Shares:
    """Each topic by itself in runs of neighbours, the first members one longer; `counts` are partitions by topic."""
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
    """All partitions in order dealt to the members in turn, over those who do not subscribe to the topic."""
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


# In the order of preference; the coordinator takes one that all members know.
ASSIGNORS: dict[str, Assignor] = {"range": by_range, "roundrobin": round_robin}


def encode_subscription(topics: Sequence[str]) -> bytes:
    """What a member tells the leader."""
    return _with_version(encode(ConsumerProtocolSubscription(topics=list(topics), user_data=None), _VERSION))


def decode_subscription(data: bytes) -> frozenset[str]:
    """The topics of a subscription of any version. Raises `DecodeError`."""
    subscription, _ = decode(ConsumerProtocolSubscription, _VERSION, _body(data), _VERSION_BYTES)
    return frozenset(subscription.topics)


def encode_assignment(partitions: Sequence[TopicPartition]) -> bytes:
    """What the leader gives a member."""
    topics: dict[str, list[int]] = {}
    for topic, partition in partitions:
        topics.setdefault(topic, []).append(partition)
    assigned = [AssignedTopic(topic=topic, partitions=indexes) for topic, indexes in topics.items()]
    return _with_version(encode(ConsumerProtocolAssignment(assigned_partitions=assigned, user_data=None), _VERSION))


def decode_assignment(data: bytes) -> list[TopicPartition]:
    """The partitions of an assignment of any version; none in no bytes at all. Raises `DecodeError`."""
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
