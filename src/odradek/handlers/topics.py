"""What the handlers of topics share: how a topic looks to a client."""

from __future__ import annotations

from odradek.handlers.context import Broker

# Kafka's bits of what an authorizer would allow; without one, everything (KIP-430).
TOPIC_OPERATIONS = 3576
CLUSTER_OPERATIONS = 8096
OPERATIONS_NOT_ASKED = -(2**31)


def leader_epoch(broker: Broker, topic: str, index: int) -> int:
    """A partition's leader epoch, which the engine owns."""
    partition = broker.partitions.get(topic, index)
    return partition.leader_epoch if partition is not None else 0
