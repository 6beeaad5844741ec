"""What the handlers of topics share: how a request says which topic it means, how a topic looks to a client, and how
one is made or enlarged.

A version of an API has either topics' names or their ids (KIP-516); the field of the other kind is empty. Which it is
the handler says: `by_id`. What a change does to topics is decided in `metadata/changes.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import BrokerParts
from odradek.metadata.changes import Change, TopicOutcome, check_name
from odradek.metadata.image import MetadataImage
from odradek.partitions.registry import Partitions, Topic

# Kafka's bits of what an authorizer would allow; without one, everything (KIP-430).
TOPIC_OPERATIONS = 3576
CLUSTER_OPERATIONS = 8096
OPERATIONS_NOT_ASKED = -(2**31)


# --- which topic is meant --------------------------------------------------------------------------------------------


def find_topic(partitions: Partitions, name: str, topic_id: bytes, by_id: bool) -> Topic | None:
    """The topic that a request means, if it is here."""
    return partitions.topics_by_id.get(topic_id) if by_id else partitions.topics.get(name)


def finder(partitions: Partitions, name: str, topic_id: bytes, by_id: bool) -> Callable[[], Topic | None]:
    """`find_topic` for the same topic again and again, without a call of ours each time."""
    return partial(partitions.topics_by_id.get, topic_id) if by_id else partial(partitions.topics.get, name)


def unknown(topic: Topic | None, by_id: bool) -> ErrorCode:
    """The error of a partition that is not here: its topic may be, without so many partitions."""
    return ErrorCode.UNKNOWN_TOPIC_ID if by_id and topic is None else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def why_unknown(name: str) -> ErrorCode:
    """The error of a topic that the metadata does not have."""
    try:
        check_name(name)
    except KafkaError as error:
        return error.code
    return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


# --- how a topic looks to a client -----------------------------------------------------------------------------------


def leader_epoch(broker: BrokerParts, topic: str, index: int) -> int:
    """A partition's leader epoch, which the engine owns."""
    partition = broker.partitions.get(topic, index)
    return partition.leader_epoch if partition is not None else 0


# --- how topics are made and enlarged --------------------------------------------------------------------------------


class Named(Protocol):
    """A topic in a request."""

    name: str


async def add_partitions(
    broker: BrokerParts,
    topics: Sequence[Named],
    change: Callable[[MetadataImage], Change],
    validate_only: bool,
) -> list[TopicOutcome]:
    """Carries out a change that needs room on the disk, or says what it would do; what became of each of the topics."""

    def checked(image: MetadataImage) -> Change:
        records, outcomes = yield from change(image)
        if validate_only or not records:
            return [], outcomes
        broker.partitions.space.check()
        return records, outcomes

    try:
        return await broker.metadata.change(checked)
    except KafkaError as error:
        return [TopicOutcome(topic.name, error.code, error.message) for topic in topics]
