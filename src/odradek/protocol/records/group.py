"""The records of `__consumer_offsets` for classic groups: keys (`api_key` is the record type) and values."""

from __future__ import annotations

from odradek.protocol.fields import Message, Struct, byte_string, field, int32, int64, string, uuid


class OffsetCommitKey(Message, api_key=1, versions="0", flexible="none"):
    group: string = field("0")
    topic: string = field("0")
    partition: int32 = field("0")


class OffsetCommitValue(Message, api_key=1, versions="0-4", flexible="4+"):
    offset: int64 = field("0+")
    leader_epoch: int32 = field("3+", default=-1)
    metadata: string = field("0+")
    commit_timestamp: int64 = field("0+")
    expire_timestamp: int64 = field("1", default=-1)
    topic_id: uuid = field("4+", tag=0)


class GroupMetadataKey(Message, api_key=2, versions="0", flexible="none"):
    group: string = field("0")


class MemberMetadata(Struct):
    member_id: string = field("0+")
    group_instance_id: string | None = field("3+", default=None, nullable="3+")
    client_id: string = field("0+")
    client_host: string = field("0+")
    rebalance_timeout: int32 = field("1+", default=-1)
    session_timeout: int32 = field("0+")
    subscription: byte_string = field("0+")
    assignment: byte_string = field("0+")


class GroupMetadataValue(Message, api_key=2, versions="0-4", flexible="4+"):
    protocol_type: string = field("0+")
    generation: int32 = field("0+")
    protocol: string | None = field("0+", nullable="0+")
    leader: string | None = field("0+", nullable="0+")
    current_state_timestamp: int64 = field("2+", default=-1)
    members: list[MemberMetadata] = field("0+")


class LegacyOffsetCommitKey(Message, api_key=0, versions="0", flexible="none"):
    group: string = field("0")
    topic: string = field("0")
    partition: int32 = field("0")


class LegacyOffsetCommitValue(Message, api_key=0, versions="0", flexible="none"):
    offset: int64 = field("0")
    metadata: string = field("0")
    commit_timestamp: int64 = field("0")
