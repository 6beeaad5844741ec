"""The assignment that a group leader makes for a member. The broker does not interpret it: it passes it on to the
member, and shows it to tools."""

from __future__ import annotations

from odradek.protocol.fields import Message, Struct, byte_string, field, int32, string


class TopicPartition(Struct):
    topic: string = field("0+")
    partitions: list[int32] = field("0+")


class ConsumerProtocolAssignment(Message, versions="0-3", flexible="none"):
    assigned_partitions: list[TopicPartition] = field("0+")
    user_data: byte_string | None = field("0+", default=None, nullable="0+")
