"""Records of internal topics and control records in `odradek log dump`: decoded to fields and plain words.

Role: decoders for the records of `__consumer_offsets` and of the metadata log (`decoder_of`), and for control records,
which any log may contain. A record of an unknown type or version is no damage: its bytes are shown, with the reason.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from odradek.cli.log_dump.report import counted, quoted
from odradek.cli.record_format import moment
from odradek.coordination.groups.classic.consumer_protocol import assigned_partitions, subscribed_topics
from odradek.coordination.groups.classic.records import read_group, read_group_key
from odradek.coordination.groups.records import Committed, OffsetKey, read_committed, read_offset_key
from odradek.metadata.image import decode_record
from odradek.protocol.decoding import decode
from odradek.protocol.errors import DecodeError
from odradek.protocol.fields import ZERO_UUID, Message, Struct, resolve_fields
from odradek.protocol.records.control import (
    EndTxnMarker,
    KRaftVersionRecord,
    LeaderChangeMessage,
    SnapshotFooterRecord,
    SnapshotHeaderRecord,
)
from odradek.protocol.records.group import GroupMetadataValue, MemberMetadata
from odradek.protocol.records.voters import VotersRecord
from odradek.records.builder import read_control_key
from odradek.records.iteration import Record

GROUPS = "__consumer_offsets"
METADATA = "__cluster_metadata"
_SHORT = struct.Struct(">h")
_CONTROL: dict[int, tuple[str, type[Message]]] = {
    0: ("ABORT", EndTxnMarker),
    1: ("COMMIT", EndTxnMarker),
    2: ("LEADER_CHANGE", LeaderChangeMessage),
    3: ("SNAPSHOT_HEADER", SnapshotHeaderRecord),
    4: ("SNAPSHOT_FOOTER", SnapshotFooterRecord),
    5: ("KRAFT_VERSION", KRaftVersionRecord),
    6: ("KRAFT_VOTERS", VotersRecord),
}


class Decoded(NamedTuple):
    """A decoded record: its fields for JSON, `type` among them, and the same in words."""

    fields: dict[str, Any]
    words: str


class Unreadable(ValueError):
    """Raised for a record that cannot be decoded; the text says why. Its bytes are shown instead."""


Decoder = Callable[[Record], Decoded]


def decoder_of(topic: str | None) -> Decoder | None:
    """The decoder of a topic's records; None for users' topics. A decoder raises `Unreadable`."""
    return {GROUPS: _group_record, METADATA: _metadata_record}.get(topic or "")


def control_record(record: Record) -> Decoded:
    """Decodes a record of a control batch. Raises `Unreadable`."""
    key = read_control_key(record.key)
    if key is None or record.value is None:
        raise Unreadable("a control record without its type or value")
    name, message = _CONTROL.get(key[1], (None, None))
    if name is None or message is None:
        raise Unreadable(f"a control record of type {key[1]}, which is unknown")
    try:
        if message is EndTxnMarker:  # its value begins with its version
            value, _ = decode(message, 0, record.value, _SHORT.size)
        else:
            version = _SHORT.unpack_from(record.value)[0] if message is LeaderChangeMessage else 0
            value, _ = decode(message, version, record.value)
    except (DecodeError, struct.error, KeyError, AssertionError) as error:
        raise Unreadable(f"a control record {name} that cannot be read: {error}") from None
    fields = plain(value)
    return Decoded({"type": name, **fields}, f"{name}{_listed(fields)}")


def _metadata_record(record: Record) -> Decoded:
    if record.value is None:
        raise Unreadable("a metadata record without a value")
    try:
        found = decode_record(record.value)
    except DecodeError as error:
        raise Unreadable(str(error)) from None
    if found.message is None:
        raise Unreadable(f"metadata of type {found.type}, version {found.version}, which is not known here")
    fields = plain(found.message)
    name = type(found.message).__name__
    return Decoded({"type": name, "version": found.version, **fields}, f"{name}{_listed(fields)}")


def _group_record(record: Record) -> Decoded:
    if record.key is None:
        raise Unreadable("a group's record without a key")
    try:
        key = read_offset_key(record.key)
        if key is not None:
            committed = None if record.value is None else read_committed(record.key, record.value)
            return _offset(key, committed)
        group_id = read_group_key(record.key)
        if group_id is not None:
            return _group(group_id, None if record.value is None else read_group(record.value))
    except DecodeError as error:
        raise Unreadable(str(error)) from None
    raise Unreadable(f"a group's record of type {_SHORT.unpack_from(record.key)[0]}, which is not known here")


def _offset(key: OffsetKey, committed: Committed | None) -> Decoded:
    fields: dict[str, Any] = {"type": "offset", "group": key.group_id, "topic": key.topic, "partition": key.partition}
    partition = f"{key.topic}-{key.partition}"
    if committed is None:
        return Decoded({**fields, "committed": None}, f"group {key.group_id} has no offset of {partition} any more")
    fields["committed"] = {
        "offset": committed.offset,
        "leader_epoch": committed.leader_epoch if committed.leader_epoch >= 0 else None,
        "metadata": committed.metadata,
        "timestamp": committed.commit_ms,
        "expires": committed.expire_ms if committed.expire_ms >= 0 else None,
        "topic_id": None if committed.topic_id == ZERO_UUID else _id(committed.topic_id),
    }
    words = f"group {key.group_id} committed offset {committed.offset} of {partition}"
    if committed.leader_epoch >= 0:
        words += f", leader epoch {committed.leader_epoch}"
    if committed.metadata:
        words += f", metadata {quoted(committed.metadata)}"
    if committed.expire_ms >= 0:
        words += f", until {moment(committed.expire_ms)}"
    return Decoded(fields, words)


def _group(group_id: str, value: GroupMetadataValue | None) -> Decoded:
    if value is None:
        return Decoded({"type": "group", "group": group_id, "state": None}, f"group {group_id} is gone")
    members = [_member(one) for one in value.members]
    state = {
        "protocol_type": value.protocol_type,
        "protocol": value.protocol,
        "generation": value.generation,
        "leader": value.leader,
        "timestamp": value.current_state_timestamp,
        "members": members,
    }
    words = f"group {group_id}: generation {value.generation}"
    if value.protocol:
        words += f", {value.protocol_type} by {value.protocol}"
    words += f", {counted(len(members), 'member')}" if members else ", no members"
    for one in members:
        words += f"; {one['member_id']} at {one['client_host']}"
        if one["group_instance_id"] is not None:
            words += f" (static, {one['group_instance_id']})"
        if one["assigned"] is not None:
            assigned = (f"{name}-{number}" for name, numbers in one["assigned"].items() for number in numbers)
            words += f" has {', '.join(assigned) or 'nothing'}"
    return Decoded({"type": "group", "group": group_id, "state": state}, words)


def _member(member: MemberMetadata) -> dict[str, Any]:
    topics = subscribed_topics(bytes(member.subscription))
    return {
        "member_id": member.member_id,
        "group_instance_id": member.group_instance_id,
        "client_id": member.client_id,
        "client_host": member.client_host,
        "rebalance_timeout_ms": member.rebalance_timeout,
        "session_timeout_ms": member.session_timeout,
        "subscribed": None if topics is None else sorted(topics),
        "assigned": assigned_partitions(bytes(member.assignment)),
    }


# --- messages in general ---------------------------------------------------------------------------------------------


def plain(structure: Struct) -> dict[str, Any]:
    """A structure as JSON values: ids in Kafka's form, bytes as base64."""
    return {f.name: _value(getattr(structure, f.name), f.element) for f in resolve_fields(type(structure))}


def _value(value: Any, element: str) -> Any:
    if isinstance(value, list):
        return [_value(one, element) for one in value]
    if isinstance(value, Struct):
        return plain(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return _id(bytes(value)) if element == "uuid" else base64.b64encode(value).decode()
    return value


def _id(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def _listed(fields: dict[str, Any]) -> str:
    """Fields as text; null and empty ones are left out."""
    import msgspec

    def shown(value: Any) -> str:
        return value if isinstance(value, str) else msgspec.json.encode(value).decode()

    said = [f"{name} {shown(value)}" for name, value in fields.items() if value is not None and value not in ("", [])]
    return f": {', '.join(said)}" if said else ""
