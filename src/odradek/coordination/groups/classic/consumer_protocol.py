"""What consumers write into the members' metadata and assignments of their classic groups. (Kafka's ConsumerProtocol.)

To the classic protocol both are bytes that only the members understand. The broker reads them all the same: which
topics a group reads decides which of its offsets may expire or be deleted, and who reads which partition is shown.
Bytes that cannot be read are nothing wrong: a group need not be one of consumers. Sans-IO.
"""

from __future__ import annotations

from odradek.coordination.groups.records import prefix_of
from odradek.protocol.decoding import decode
from odradek.protocol.errors import DecodeError
from odradek.protocol.records.consumer_assignment import ConsumerProtocolAssignment
from odradek.protocol.records.consumer_subscription import ConsumerProtocolSubscription

CONSUMER_PROTOCOL = "consumer"
"""The protocol type of groups of consumers."""
_VERSION_SIZE = 2


def subscribed_topics(metadata: bytes) -> frozenset[str] | None:
    """The topics in a consumer's subscription; None where it cannot be read. As in Kafka, of any version only the
    first one's fields are looked at: what follows them may be anything."""
    try:
        if prefix_of(metadata) < 0:
            return None
        return frozenset(decode(ConsumerProtocolSubscription, 0, metadata, _VERSION_SIZE)[0].topics)
    except DecodeError:
        return None


def assigned_partitions(assignment: bytes) -> dict[str, list[int]] | None:
    """The partitions in a consumer's assignment; None where it cannot be read."""
    try:
        version = prefix_of(assignment)
        if version < 0:
            return None
        version = min(version, ConsumerProtocolAssignment.valid_versions.last)
        read, _ = decode(ConsumerProtocolAssignment, version, assignment, _VERSION_SIZE)
        return {topic.topic: topic.partitions for topic in read.assigned_partitions}
    except DecodeError:
        return None
