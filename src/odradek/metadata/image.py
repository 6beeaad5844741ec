"""The metadata image: the state that results from replaying the records of the metadata log.

Sans-IO. Only `replay` changes the image, record by record. The records are KRaft's, so a log that Apache Kafka wrote
can be replayed, too: records of features that are not served here (ACLs, quotas, ...) are kept unchanged and written
into snapshots. A kept record is dropped when a later one replaces or revokes it, so that their number does not grow
with every start of a Kafka controller.

Invariants: replaying `records()` makes the same image; a topic's partitions are numbered from 0 without gaps once a
change is complete. The records of a KRaft metadata transaction (Begin, End, Abort) take effect when it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, NamedTuple

from odradek.protocol.decoding import decode
from odradek.protocol.encoding import encode
from odradek.protocol.errors import DecodeError
from odradek.protocol.fields import Message
from odradek.protocol.records.metadata import (
    BY_TYPE,
    AbortTransactionRecord,
    AccessControlEntryRecord,
    BeginTransactionRecord,
    BrokerRegistrationChangeRecord,
    ClearElrRecord,
    ClientQuotaRecord,
    ConfigRecord,
    DelegationTokenRecord,
    EndTransactionRecord,
    FeatureLevelRecord,
    FenceBrokerRecord,
    NoOpRecord,
    PartitionChangeRecord,
    PartitionRecord,
    ProducerIdsRecord,
    RegisterBrokerRecord,
    RegisterControllerRecord,
    RemoveAccessControlEntryRecord,
    RemoveDelegationTokenRecord,
    RemoveTopicRecord,
    RemoveUserScramCredentialRecord,
    TopicRecord,
    UnfenceBrokerRecord,
    UnregisterBrokerRecord,
    UnregisterControllerRecord,
    UserScramCredentialRecord,
)
from odradek.protocol.varints import encode_uvarint, read_uvarint

FRAME_VERSION = 1
METADATA_VERSION_FEATURE = "metadata.version"
# Config resource types (Kafka's ConfigResource).
TOPIC_RESOURCE = 2
BROKER_RESOURCE = 4
# Version 1 of PartitionRecord has the replicas' directories; version 2 adds the eligible leader replicas (KIP-966),
# which only a Kafka controller writes.
PARTITION_VERSION = 1
PARTITION_WITH_ELR_VERSION = 2
# In a PartitionChangeRecord: the leader, or its recovery state, did not change.
NO_LEADER_CHANGE = -2
NO_RECOVERY_CHANGE = -1

# For each type of record that is kept unchanged, the subject of a record. A later record about the same subject
# replaces it; one of `_ENDING` only removes it.
_SUBJECTS: dict[type[Message], Callable[[Any], tuple[object, ...]]] = {
    RegisterControllerRecord: lambda record: ("controller", record.controller_id),
    UnregisterControllerRecord: lambda record: ("controller", record.controller_id),
    AccessControlEntryRecord: lambda record: ("acl", bytes(record.id)),
    RemoveAccessControlEntryRecord: lambda record: ("acl", bytes(record.id)),
    UserScramCredentialRecord: lambda record: ("scram", record.name, record.mechanism),
    RemoveUserScramCredentialRecord: lambda record: ("scram", record.name, record.mechanism),
    DelegationTokenRecord: lambda record: ("token", record.token_id),
    RemoveDelegationTokenRecord: lambda record: ("token", record.token_id),
    ClientQuotaRecord: lambda record: (
        "quota",
        record.key,
        *sorted((part.entity_type, part.entity_name or "") for part in record.entity),
        *(part.entity_type for part in record.entity if part.entity_name is None),
    ),
}
_ENDING = (
    UnregisterControllerRecord,
    RemoveAccessControlEntryRecord,
    RemoveUserScramCredentialRecord,
    RemoveDelegationTokenRecord,
)
# Records that have a topic's id.
_OF_TOPICS = frozenset({TopicRecord, PartitionRecord, PartitionChangeRecord, RemoveTopicRecord})


class MetadataRecord(NamedTuple):
    """One record of the log: its type and version, and its message, or its bytes if the type or version is unknown."""

    type: int
    version: int
    message: Message | None
    raw: bytes = b""


def encode_record(record: MetadataRecord) -> bytes:
    """A record's value in KRaft's frame: frame version, type and version as varints, then the message."""
    body = encode(record.message, record.version) if record.message is not None else record.raw
    return encode_uvarint(FRAME_VERSION) + encode_uvarint(record.type) + encode_uvarint(record.version) + body


def decode_record(value: bytes) -> MetadataRecord:
    """Decodes a record's value. A record of an unknown type or version keeps its bytes. Raises `DecodeError`."""
    try:
        frame, position = read_uvarint(value, 0)
        record_type, position = read_uvarint(value, position)
        version, position = read_uvarint(value, position)
    except IndexError:
        raise DecodeError("a metadata record is shorter than its frame") from None
    if frame != FRAME_VERSION:
        raise DecodeError(f"metadata record frame version {frame} is unknown")
    cls = BY_TYPE.get(record_type)
    if cls is None or version not in cls.valid_versions:
        return MetadataRecord(record_type, version, None, value[position:])
    message, _ = decode(cls, version, value, position)
    return MetadataRecord(record_type, version, message)


def record_of(message: Message, version: int | None = None) -> MetadataRecord:
    """The record of a message, in the message's newest version unless `version` is given."""
    return MetadataRecord(message.api_key, message.valid_versions.last if version is None else version, message)


class TopicImage:
    """A topic: its name, its id (16 bytes), and the records of its partitions by index."""

    __slots__ = ("id", "name", "partition_records")

    def __init__(self, name: str, topic_id: bytes) -> None:
        self.name = name
        self.id = topic_id
        self.partition_records: dict[int, PartitionRecord] = {}

    @property
    def partition_count(self) -> int:
        return len(self.partition_records)


class Delta:
    """The effects of a change, for listeners of the metadata."""

    __slots__ = ("broker_configs", "configured", "created", "deleted", "enlarged")

    def __init__(self) -> None:
        self.created: dict[str, TopicImage] = {}
        self.deleted: dict[str, TopicImage] = {}
        self.enlarged: dict[str, TopicImage] = {}
        self.configured: set[str] = set()
        """Names of topics whose settings changed."""
        self.broker_configs = False


class MetadataImage:
    """The whole state. `offset` is the offset after the last record that was replayed."""

    def __init__(self) -> None:
        self.offset = 0
        self.topics: dict[str, TopicImage] = {}
        self.topics_by_id: dict[bytes, TopicImage] = {}
        self.configs: dict[tuple[int, str], dict[str, str]] = {}
        """Settings by (resource type, resource name)."""
        self.features: dict[str, int] = {}
        self.features_offset = -1
        """The image's offset when a feature level last changed."""
        self.next_producer_id = 0
        self.producer_ids_broker = (-1, -1)
        self.brokers: dict[int, RegisterBrokerRecord] = {}
        self._kept: dict[tuple[object, ...], MetadataRecord] = {}
        self._others = count()
        self._transaction: list[MetadataRecord] | None = None

    @property
    def open_transaction(self) -> bool:
        """Whether a KRaft metadata transaction is open."""
        return self._transaction is not None

    def topic_config(self, name: str) -> dict[str, str]:
        """The settings that a topic overrides."""
        return self.configs.get((TOPIC_RESOURCE, name), {})

    def resource_of(self, record: MetadataRecord) -> object:
        """What a record is about: equal for those that are about one topic."""
        message: Any = record.message
        if type(message) in _OF_TOPICS:
            return message.topic_id
        if isinstance(message, ConfigRecord):
            topic = self.topics.get(message.resource_name) if message.resource_type == TOPIC_RESOURCE else None
            return (message.resource_type, message.resource_name) if topic is None else topic.id
        return None

    def replay(self, record: MetadataRecord, delta: Delta) -> None:
        """Applies one record and notes its effects in `delta`."""
        message = record.message
        if isinstance(message, BeginTransactionRecord):
            self._transaction = []
        elif isinstance(message, EndTransactionRecord | AbortTransactionRecord):
            pending, self._transaction = self._transaction or [], None
            if isinstance(message, EndTransactionRecord):
                for earlier in pending:
                    self._apply(earlier, delta)
        elif self._transaction is not None:
            self._transaction.append(record)
        else:
            self._apply(record, delta)

    def _apply(self, record: MetadataRecord, delta: Delta) -> None:
        message: Any = record.message
        if isinstance(message, TopicRecord):
            topic = TopicImage(message.name, message.topic_id)
            self.topics[message.name] = self.topics_by_id[message.topic_id] = topic
            delta.created[message.name] = topic
        elif isinstance(message, PartitionRecord):
            topic = self.topics_by_id[message.topic_id]
            topic.partition_records[message.partition_id] = message
            if topic.name not in delta.created:
                delta.enlarged[topic.name] = topic
        elif isinstance(message, PartitionChangeRecord):
            self._change_partition(message)
        elif isinstance(message, RemoveTopicRecord):
            topic = self.topics_by_id.pop(message.topic_id)
            del self.topics[topic.name]
            self.configs.pop((TOPIC_RESOURCE, topic.name), None)
            if delta.created.pop(topic.name, None) is None:
                delta.deleted[topic.name] = topic
            delta.enlarged.pop(topic.name, None)
            delta.configured.discard(topic.name)
        elif isinstance(message, ConfigRecord):
            self._configure(message, delta)
        elif isinstance(message, FeatureLevelRecord):
            if message.feature_level:
                self.features[message.name] = message.feature_level
            else:
                self.features.pop(message.name, None)
            self.features_offset = self.offset
        elif isinstance(message, ProducerIdsRecord):
            self.next_producer_id = message.next_producer_id
            self.producer_ids_broker = (message.broker_id, message.broker_epoch)
        elif isinstance(message, RegisterBrokerRecord):
            self.brokers[message.broker_id] = message
        elif isinstance(message, UnregisterBrokerRecord):
            self.brokers.pop(message.broker_id, None)
        elif isinstance(message, BrokerRegistrationChangeRecord):
            self._change_broker(message)
        elif isinstance(message, FenceBrokerRecord | UnfenceBrokerRecord):
            self.brokers[message.id].fenced = isinstance(message, FenceBrokerRecord)
        elif isinstance(message, ClearElrRecord):
            self._clear_eligible_leaders(message.topic_name)
        elif not isinstance(message, NoOpRecord):
            self._keep(record)

    def _keep(self, record: MetadataRecord) -> None:
        """Keeps a record of a feature that is not served, until a later record replaces or removes it."""
        message: Any = record.message
        about = _SUBJECTS.get(type(message))
        subject = about(message) if about is not None else ("another", next(self._others))
        self._kept.pop(subject, None)
        if not isinstance(message, _ENDING) and not (isinstance(message, ClientQuotaRecord) and message.remove):
            self._kept[subject] = record

    def _change_broker(self, change: BrokerRegistrationChangeRecord) -> None:
        broker = self.brokers[change.broker_id]
        # 1 fences the broker, -1 unfences it, 0 changes nothing.
        if change.fenced:
            broker.fenced = change.fenced > 0
        if change.in_controlled_shutdown:
            broker.in_controlled_shutdown = change.in_controlled_shutdown > 0
        if change.log_dirs:
            broker.log_dirs = change.log_dirs
        if change.cordoned_log_dirs is not None:
            broker.cordoned_log_dirs = change.cordoned_log_dirs

    def _clear_eligible_leaders(self, name: str) -> None:
        """Clears the eligible leader replicas of one topic, or of all topics if the name is empty."""
        for topic in [self.topics[name]] if name else self.topics.values():
            for partition in topic.partition_records.values():
                partition.eligible_leader_replicas = partition.last_known_elr = None

    def _change_partition(self, change: PartitionChangeRecord) -> None:
        partition = self.topics_by_id[change.topic_id].partition_records[change.partition_id]
        if change.isr is not None:
            partition.isr = change.isr
        if change.replicas is not None:
            partition.replicas = change.replicas
        if change.leader != NO_LEADER_CHANGE:
            partition.leader = change.leader
            partition.leader_epoch += 1
        if change.directories is not None:
            partition.directories = change.directories
        if change.removing_replicas is not None:
            partition.removing_replicas = change.removing_replicas
        if change.adding_replicas is not None:
            partition.adding_replicas = change.adding_replicas
        if change.leader_recovery_state != NO_RECOVERY_CHANGE:
            partition.leader_recovery_state = change.leader_recovery_state
        # An empty list means the same as null, and null needs no newer version of the record.
        if change.eligible_leader_replicas is not None:
            partition.eligible_leader_replicas = change.eligible_leader_replicas or None
        if change.last_known_elr is not None:
            partition.last_known_elr = change.last_known_elr or None
        partition.partition_epoch += 1

    def _configure(self, record: ConfigRecord, delta: Delta) -> None:
        key = (record.resource_type, record.resource_name)
        settings = self.configs.setdefault(key, {})
        if record.value is None:
            settings.pop(record.name, None)
            if not settings:
                del self.configs[key]
        else:
            settings[record.name] = record.value
        if record.resource_type == TOPIC_RESOURCE:
            delta.configured.add(record.resource_name)
        elif record.resource_type == BROKER_RESOURCE:
            delta.broker_configs = True

    def records(self) -> Iterator[MetadataRecord]:
        """Records whose replay makes this image, for a snapshot. Records of an open transaction are not included."""
        # `metadata.version`, the version of the records themselves, comes first: Kafka's readers need it there.
        for name, level in sorted(self.features.items(), key=lambda item: item[0] != METADATA_VERSION_FEATURE):
            yield record_of(FeatureLevelRecord(name=name, feature_level=level))
        for broker in self.brokers.values():
            yield record_of(broker)
        for topic in self.topics.values():
            yield record_of(TopicRecord(name=topic.name, topic_id=topic.id))
            for partition in topic.partition_records.values():
                with_elr = partition.eligible_leader_replicas or partition.last_known_elr
                yield record_of(partition, PARTITION_WITH_ELR_VERSION if with_elr else PARTITION_VERSION)
        for (resource_type, resource_name), settings in self.configs.items():
            for name, value in settings.items():
                yield record_of(
                    ConfigRecord(resource_type=resource_type, resource_name=resource_name, name=name, value=value)
                )
        if self.next_producer_id:
            broker_id, broker_epoch = self.producer_ids_broker
            yield record_of(
                ProducerIdsRecord(
                    broker_id=broker_id, broker_epoch=broker_epoch, next_producer_id=self.next_producer_id
                )
            )
        yield from self._kept.values()
