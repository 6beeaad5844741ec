"""Reads the subscriptions and assignments of consumers in classic groups. (Kafka's ConsumerProtocol.)

In the classic protocol both are opaque bytes for the broker. It reads them all the same: a group's subscriptions decide
which of its offsets may expire or be deleted, and its assignments are shown. Bytes that cannot be read are no error: a
classic group need not consist of consumers. Sans-IO.
"""

from __future__ import annotations

from odradek.coordination.groups.records import prefix_of
from odradek.protocol.decoding import decode
from odradek.protocol.errors import DecodeError
from odradek.protocol.records.consumer_assignment import ConsumerProtocolAssignment
from odradek.protocol.records.consumer_subscription import ConsumerProtocolSubscription

CONSUMER_PROTOCOL = "consumer"
"""The protocol type of groups that consist of consumers."""
_VERSION_SIZE = 2


def subscribed_topics(metadata: bytes) -> frozenset[str] | None:
    """The topics in a consumer's subscription; None if it cannot be read. As in Kafka, only the fields of version 0 are
    read, whatever the version, and the bytes after them are ignored."""
    try:
        if prefix_of(metadata) < 0:
            return None
        return frozenset(decode(ConsumerProtocolSubscription, 0, metadata, _VERSION_SIZE)[0].topics)
    except DecodeError:
        return None


def assigned_partitions(assignment: bytes) -> dict[str, list[int]] | None:
    """The partitions in a consumer's assignment, by topic; None if it cannot be read."""
    try:
        version = prefix_of(assignment)
        if version < 0:
            return None
        version = min(version, ConsumerProtocolAssignment.valid_versions.last)
        read, _ = decode(ConsumerProtocolAssignment, version, assignment, _VERSION_SIZE)
        return {topic.topic: topic.partitions for topic in read.assigned_partitions}
    except DecodeError:
        return None
