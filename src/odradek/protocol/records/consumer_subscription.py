"""The subscription that a consumer sends to its group's leader. The broker reads only its topics."""

from __future__ import annotations

from odradek.protocol.fields import Message, Struct, byte_string, field, int32, string


class TopicPartition(Struct):
    topic: string = field("1+")
    partitions: list[int32] = field("1+")


class ConsumerProtocolSubscription(Message, versions="0-3", flexible="none"):
    topics: list[string] = field("0+")
    user_data: byte_string | None = field("0+", default=None, nullable="0+")
    owned_partitions: list[TopicPartition] = field("1+")
    generation_id: int32 = field("2+", default=-1)
    rack_id: string | None = field("3+", default=None, nullable="3+")
