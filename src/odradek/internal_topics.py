"""The internal topics: their names, their settings, and what clients may do to them.

Role: decide this for all handlers, with Apache Kafka's answers. Requests without a check here treat internal topics
like any other: as in Kafka, clients may describe, fetch, enlarge, configure and delete internal topics, commit offsets
of them, and end transactions on them.

Invariants: pure. Only clients that Kafka permits may write or delete records of an internal topic: what coordinators
have acknowledged is stored nowhere else. An internal topic gets its own settings whichever request creates it: with the
defaults of other topics, retention would delete its records after some days.
"""

from __future__ import annotations

from odradek.config.layers import BrokerConfig
from odradek.errors import ErrorCode

OFFSETS_TOPIC = "__consumer_offsets"
TRANSACTIONS_TOPIC = "__transaction_state"
SHARES_TOPIC = "__share_group_state"
EVENTS_TOPIC = "__odradek_events"
"""Odradek's own; it is treated like the others, so that only the broker writes its events."""
INTERNAL_TOPICS = frozenset({OFFSETS_TOPIC, TRANSACTIONS_TOPIC, SHARES_TOPIC, EVENTS_TOPIC})
METADATA_TOPIC = "__cluster_metadata"
"""The name of the metadata log, which is no topic: clients do not see it and cannot create a topic of this name."""
ADMIN_CLIENT_ID = "__admin_client"


def check_produce(topic: str, client_id: str | None) -> ErrorCode:
    """INVALID_TOPIC_EXCEPTION unless the client may write the topic. As in Kafka, only a client with the id
    `ADMIN_CLIENT_ID` may write internal topics; the coordinator then replays its records."""
    refused = topic in INTERNAL_TOPICS and client_id != ADMIN_CLIENT_ID
    return ErrorCode.INVALID_TOPIC_EXCEPTION if refused else ErrorCode.NONE


def check_delete_records(topic: str) -> ErrorCode:
    """INVALID_TOPIC_EXCEPTION unless clients may use DeleteRecords on the topic."""
    return ErrorCode.INVALID_TOPIC_EXCEPTION if topic in INTERNAL_TOPICS else ErrorCode.NONE


def check_add_to_transaction(topic: str) -> ErrorCode:
    """TOPIC_AUTHORIZATION_FAILED unless producers may add the topic's partitions to a transaction. (The broker itself
    adds the partitions of `__consumer_offsets`, for groups' offsets.)"""
    return ErrorCode.TOPIC_AUTHORIZATION_FAILED if topic in INTERNAL_TOPICS else ErrorCode.NONE


def check_create(topic: str) -> ErrorCode:
    """INVALID_REQUEST unless a topic of this name may be created."""
    return ErrorCode.INVALID_REQUEST if topic == METADATA_TOPIC else ErrorCode.NONE


def made_with(topic: str, config: BrokerConfig) -> tuple[int, dict[str, str]]:
    """An internal topic's default number of partitions and settings; -1 and no settings for any other topic."""
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
