"""The values of control records, and their key (ControlRecordTypeSchema)."""

from __future__ import annotations

from odradek.protocol.fields import Message, Struct, field, int16, int32, int64, uuid


class SnapshotHeaderRecord(Message, versions="0", flexible="0+"):
    version: int16 = field("0+")
    last_contained_log_timestamp: int64 = field("0+")


class SnapshotFooterRecord(Message, versions="0", flexible="0+"):
    version: int16 = field("0+")


class KRaftVersionRecord(Message, versions="0", flexible="0+"):
    version: int16 = field("0+")
    k_raft_version: int16 = field("0+")


class EndTxnMarker(Message, versions="0", flexible="none"):
    coordinator_epoch: int32 = field("0+")


class ControlRecordTypeSchema(Message, versions="0", flexible="none"):
    type: int16 = field("0+")


class Voter(Struct):
    voter_id: int32 = field("0+")
    voter_directory_id: uuid = field("1+")


class LeaderChangeMessage(Message, versions="0-1", flexible="0+"):
    version: int16 = field("0+")
    leader_id: int32 = field("0+")
    voters: list[Voter] = field("0+")
    granting_voters: list[Voter] = field("0+")
