"""Shared by the handlers that deal with topics: finds the topic that a request means, describes topics to clients, and
creates topics and partitions.

A version of an API has either topic names or topic ids (KIP-516); the other field is empty. The handler says which, by
`by_id`. `metadata/changes.py` decides what a change does to topics.
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


# --- finding a topic -------------------------------------------------------------------------------------------------


def find_topic(partitions: Partitions, name: str, topic_id: bytes, by_id: bool) -> Topic | None:
    """The topic that a request means; None if it does not exist."""
    return partitions.topics_by_id.get(topic_id) if by_id else partitions.topics.get(name)


def finder(partitions: Partitions, name: str, topic_id: bytes, by_id: bool) -> Callable[[], Topic | None]:
    """A function that returns the same as `find_topic` each time, without a call of Python code."""
    return partial(partitions.topics_by_id.get, topic_id) if by_id else partial(partitions.topics.get, name)


def unknown(topic: Topic | None, by_id: bool) -> ErrorCode:
    """The error code for a partition that does not exist; `topic` is its topic, if that exists."""
    return ErrorCode.UNKNOWN_TOPIC_ID if by_id and topic is None else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def why_unknown(name: str) -> ErrorCode:
    """The error code for a topic that does not exist in the metadata."""
    try:
        check_name(name)
    except KafkaError as error:
        return error.code
    return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


# --- describing a topic ----------------------------------------------------------------------------------------------


def leader_epoch(broker: BrokerParts, topic: str, index: int) -> int:
    """A partition's leader epoch, which the engine owns."""
    partition = broker.partitions.get(topic, index)
    return partition.leader_epoch if partition is not None else 0


# --- creating topics and partitions ----------------------------------------------------------------------------------


class Named(Protocol):
    """A topic in a request."""

    name: str


async def add_partitions(
    broker: BrokerParts,
    topics: Sequence[Named],
    change: Callable[[MetadataImage], Change],
    validate_only: bool,
) -> list[TopicOutcome]:
    """Carries out a change that needs room on the disk, or with `validate_only` only checks it; returns the outcome for
    each topic."""

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
