"""VotersRecord: the value of the control record that lists KRaft's voters."""

from __future__ import annotations

from odradek.protocol.fields import Message, Struct, field, int16, int32, string, uint16, uuid


class Endpoint(Struct):
    name: string = field("0+")
    host: string = field("0+")
    port: uint16 = field("0+")


class KRaftVersionFeature(Struct):
    min_supported_version: int16 = field("0+")
    max_supported_version: int16 = field("0+")


class Voter(Struct):
    voter_id: int32 = field("0+")
    voter_directory_id: uuid = field("0+")
    endpoints: list[Endpoint] = field("0+")
    k_raft_version_feature: KRaftVersionFeature = field("0+")


class VotersRecord(Message, versions="0", flexible="0+"):
    version: int16 = field("0+")
    voters: list[Voter] = field("0+")
