"""The topics that are the broker's own: their names, what they are made with, and what clients may do to them.

Role: the one place that decides it. Handlers ask here; what they do not ask is as with any other topic: Apache Kafka,
whose answers these are, lets clients describe, fetch, enlarge, configure and delete internal topics, commit offsets of
them, and end transactions on them.

Invariants: pure. No client that Kafka would not let do it takes away a record of an internal topic, or adds one: what
coordinators have acknowledged stands nowhere else. Whoever has an internal topic made, it is made with its own
settings: those of other topics would have its records deleted when they are some days old.
"""

from __future__ import annotations

from odradek.config.layers import BrokerConfig
from odradek.errors import ErrorCode

OFFSETS_TOPIC = "__consumer_offsets"
TRANSACTIONS_TOPIC = "__transaction_state"
SHARES_TOPIC = "__share_group_state"
EVENTS_TOPIC = "__odradek_events"
"""Not Kafka's; treated as the others are, so that what stands there is what the broker has told."""
INTERNAL_TOPICS = frozenset({OFFSETS_TOPIC, TRANSACTIONS_TOPIC, SHARES_TOPIC, EVENTS_TOPIC})
METADATA_TOPIC = "__cluster_metadata"
"""The name of a log that is no topic: clients do not see it, and can make no topic of that name."""
ADMIN_CLIENT_ID = "__admin_client"


def check_produce(topic: str, client_id: str | None) -> ErrorCode:
    """Whether a client may write a topic. Only who calls itself an administrator writes internal ones, where the
    coordinator takes over what it wrote."""
    refused = topic in INTERNAL_TOPICS and client_id != ADMIN_CLIENT_ID
    return ErrorCode.INVALID_TOPIC_EXCEPTION if refused else ErrorCode.NONE


def check_delete_records(topic: str) -> ErrorCode:
    """Whether a client may have the beginning of a topic's partitions deleted."""
    return ErrorCode.INVALID_TOPIC_EXCEPTION if topic in INTERNAL_TOPICS else ErrorCode.NONE


def check_add_to_transaction(topic: str) -> ErrorCode:
    """Whether a producer may make a topic's partitions part of its transaction. (Brokers may: so the partitions of
    groups' offsets come into it.)"""
    return ErrorCode.TOPIC_AUTHORIZATION_FAILED if topic in INTERNAL_TOPICS else ErrorCode.NONE


def check_create(topic: str) -> ErrorCode:
    """Whether there may be a topic of that name."""
    return ErrorCode.INVALID_REQUEST if topic == METADATA_TOPIC else ErrorCode.NONE


def made_with(topic: str, config: BrokerConfig) -> tuple[int, dict[str, str]]:
    """An internal topic's number of partitions, and its settings, where nobody says otherwise; -1 and none for any
    other topic."""
    if topic == OFFSETS_TOPIC:
        return config.integer("offsets.topic.num.partitions"), {
            "cleanup.policy": "compact",
            "compression.type": "producer",
            "segment.bytes": str(config.integer("offsets.topic.segment.bytes")),
        }
    if topic == TRANSACTIONS_TOPIC:
        return config.integer("transaction.state.log.num.partitions"), {
            "cleanup.policy": "compact",
            "compression.type": "uncompressed",
            "segment.bytes": str(config.integer("transaction.state.log.segment.bytes")),
        }
    if topic == SHARES_TOPIC:
        return config.integer("share.coordinator.state.topic.num.partitions"), {
            "cleanup.policy": "delete",
            "compression.type": "producer",
            "segment.bytes": str(config.integer("share.coordinator.state.topic.segment.bytes")),
            "retention.ms": "-1",
        }
    if topic == EVENTS_TOPIC:
        return 1, {}
    return -1, {}
