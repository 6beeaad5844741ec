"""The image: what records add up to, what a snapshot of it gives back, and records that Apache Kafka writes."""

from __future__ import annotations

import random

import pytest

from odradek.metadata.image import (
    Delta,
    MetadataImage,
    MetadataRecord,
    decode_record,
    encode_record,
    record_of,
)
from odradek.metadata.snapshots import read_snapshot, snapshot_batches
from odradek.protocol.errors import DecodeError
from odradek.protocol.fields import Message
from odradek.protocol.records.metadata import (
    AbortTransactionRecord,
    AccessControlEntryRecord,
    BeginTransactionRecord,
    BrokerRegistrationChangeRecord,
    ClearElrRecord,
    ClientQuotaRecord,
    ConfigRecord,
    EndTransactionRecord,
    EntityData,
    FeatureLevelRecord,
    FenceBrokerRecord,
    NoOpRecord,
    PartitionChangeRecord,
    PartitionRecord,
    ProducerIdsRecord,
    RegisterBrokerRecord,
    RegisterControllerRecord,
    RemoveAccessControlEntryRecord,
    RemoveTopicRecord,
    TopicRecord,
    UnfenceBrokerRecord,
    UnregisterBrokerRecord,
    UnregisterControllerRecord,
)
from odradek.replay.snapshots import SnapshotDamaged

A, B = b"a" * 16, b"b" * 16


def replay(image: MetadataImage, *messages: Message) -> Delta:
    delta = Delta()
    for message in messages:
        image.replay(record_of(message), delta)
        image.offset += 1
    return delta


def write_snapshot(image: MetadataImage, leader_epoch: int, now_ms: int) -> bytes:
    return b"".join(snapshot_batches(image, leader_epoch, now_ms))


def topic(name: str, topic_id: bytes, partitions: int) -> list[Message]:
    return [
        TopicRecord(name=name, topic_id=topic_id),
        *(
            PartitionRecord(
                partition_id=index,
                topic_id=topic_id,
                replicas=[1],
                isr=[1],
                leader=1,
                leader_epoch=0,
                partition_epoch=0,
            )
            for index in range(partitions)
        ),
    ]


def config(name: str, value: str | None, resource: str = "t", kind: int = 2) -> ConfigRecord:
    return ConfigRecord(resource_type=kind, resource_name=resource, name=name, value=value)


def test_a_topic_is_made_enlarged_configured_and_removed() -> None:
    image = MetadataImage()
    delta = replay(image, *topic("t", A, 2), config("retention.ms", "5"))
    assert set(delta.created) == {"t"} and not delta.enlarged and delta.configured == {"t"}
    assert image.topics["t"].partition_count == 2 and image.topic_config("t") == {"retention.ms": "5"}
    delta = replay(image, PartitionRecord(partition_id=2, topic_id=A, replicas=[1], isr=[1], leader=1))
    assert set(delta.enlarged) == {"t"} and not delta.created and image.topics["t"].partition_count == 3
    delta = replay(image, config("retention.ms", None))
    assert delta.configured == {"t"} and image.topic_config("t") == {} and not image.configs
    delta = replay(image, config("segment.bytes", "9"), RemoveTopicRecord(topic_id=A))
    assert set(delta.deleted) == {"t"} and not image.topics and not image.topics_by_id and not image.configs


def test_a_name_used_again_is_another_topic() -> None:
    image = MetadataImage()
    replay(image, *topic("t", A, 1))
    delta = replay(image, RemoveTopicRecord(topic_id=A), *topic("t", B, 4))
    assert delta.deleted["t"].id == A and delta.created["t"].id == B
    assert image.topics["t"].id == B and A not in image.topics_by_id


def test_transactions_of_the_metadata_log_take_effect_at_their_end() -> None:
    image = MetadataImage()
    delta = replay(image, BeginTransactionRecord(name="x"), *topic("t", A, 1))
    assert not image.topics and not delta.created and image.open_transaction
    delta = replay(image, EndTransactionRecord())
    assert set(image.topics) == {"t"} and set(delta.created) == {"t"} and not image.open_transaction
    replay(image, BeginTransactionRecord(name="y"), *topic("u", B, 1), AbortTransactionRecord(reason="no"))
    assert set(image.topics) == {"t"}


def test_a_partition_change_by_a_kafka_controller_is_followed() -> None:
    image = MetadataImage()
    replay(image, *topic("t", A, 1), PartitionChangeRecord(partition_id=0, topic_id=A, leader=2, isr=[2], replicas=[2]))
    partition = image.topics["t"].partition_records[0]
    assert (partition.leader, partition.isr, partition.leader_epoch, partition.partition_epoch) == (2, [2], 1, 1)
    replay(image, PartitionChangeRecord(partition_id=0, topic_id=A, isr=[1, 2]))
    assert (partition.leader, partition.isr, partition.leader_epoch) == (2, [1, 2], 1)


def test_replicas_that_may_become_leader_are_kept_until_they_are_cleared() -> None:
    image = MetadataImage()
    replay(image, *topic("t", A, 1), PartitionChangeRecord(topic_id=A, partition_id=0, eligible_leader_replicas=[2]))
    (record,) = [r for r in image.records() if isinstance(r.message, PartitionRecord)]
    assert record.version == 2
    assert read_snapshot(write_snapshot(image, 0, 0), 1).topics["t"].partition_records[0].eligible_leader_replicas == [
        2
    ]
    replay(image, PartitionChangeRecord(topic_id=A, partition_id=0, leader_recovery_state=1, last_known_elr=[]))
    assert image.topics["t"].partition_records[0].leader_recovery_state == 1
    replay(image, ClearElrRecord(topic_name="t"))
    (record,) = [r for r in image.records() if isinstance(r.message, PartitionRecord)]
    assert record.version == 1 and image.topics["t"].partition_records[0].eligible_leader_replicas is None


def test_a_broker_s_registration_changes() -> None:
    image = MetadataImage()
    replay(image, RegisterBrokerRecord(broker_id=1, incarnation_id=A, broker_epoch=3, rack=None))
    replay(image, BrokerRegistrationChangeRecord(broker_id=1, broker_epoch=3, fenced=-1))
    assert image.brokers[1].fenced is False
    replay(image, BrokerRegistrationChangeRecord(broker_id=1, in_controlled_shutdown=1, log_dirs=[B]))
    assert (image.brokers[1].fenced, image.brokers[1].in_controlled_shutdown) == (False, True)
    assert image.brokers[1].log_dirs == [B]
    replay(image, FenceBrokerRecord(id=1, epoch=3))
    assert image.brokers[1].fenced is True
    replay(image, UnfenceBrokerRecord(id=1, epoch=3))
    assert image.brokers[1].fenced is False
    assert len(list(image.records())) == 1
    replay(image, UnregisterBrokerRecord(broker_id=1, broker_epoch=3))
    assert list(image.records()) == []


def quota(value: float, remove: bool = False, user: str | None = "u") -> ClientQuotaRecord:
    entity = [EntityData(entity_type="user", entity_name=user)]
    return ClientQuotaRecord(entity=entity, key="producer_byte_rate", value=value, remove=remove)


def test_what_is_kept_goes_when_it_is_replaced_or_taken_back() -> None:
    image = MetadataImage()
    for incarnation in (A, B):
        replay(image, RegisterControllerRecord(controller_id=1, incarnation_id=incarnation))
        replay(image, quota(1), quota(2), quota(3, user=None), quota(4, user=""))
    kept = [record.message for record in image.records()]
    assert [m.incarnation_id for m in kept if isinstance(m, RegisterControllerRecord)] == [B]
    assert [m.value for m in kept if isinstance(m, ClientQuotaRecord)] == [2, 3, 4]
    replay(
        image,
        AccessControlEntryRecord(id=A, resource_name="t", principal="User:x", host="*"),
        RemoveAccessControlEntryRecord(id=A),
        UnregisterControllerRecord(controller_id=1),
        quota(0, remove=True),
        quota(0, remove=True, user=None),
        quota(0, remove=True, user=""),
    )
    assert list(image.records()) == []
    for _ in range(2):
        image.replay(MetadataRecord(99, 0, None, b"same"), Delta())
    assert [record.raw for record in image.records()] == [b"same", b"same"]


def full_image() -> MetadataImage:
    image = MetadataImage()
    messages: list[Message] = [
        FeatureLevelRecord(name="metadata.version", feature_level=33),
        RegisterBrokerRecord(broker_id=1, incarnation_id=b"i" * 16, broker_epoch=3, rack=None, fenced=False),
        *topic("t", A, 3),
        *topic("u", B, 1),
        config("retention.ms", "5"),
        config("log.retention.ms", "7", resource="", kind=4),
        ProducerIdsRecord(broker_id=1, broker_epoch=3, next_producer_id=2000),
        NoOpRecord(),
        AccessControlEntryRecord(id=b"c" * 16, resource_name="t", principal="User:x", host="*"),
    ]
    replay(image, *messages)
    image.replay(MetadataRecord(99, 7, None, b"of the future"), Delta())
    return image


def test_a_snapshot_gives_back_the_image_with_what_it_does_not_understand() -> None:
    image = full_image()
    again = read_snapshot(write_snapshot(image, 4, 1000), image.offset)
    assert list(map(encode_record, again.records())) == list(map(encode_record, image.records()))
    assert again.offset == image.offset and again.next_producer_id == 2000
    assert any(record.type == 99 and record.raw == b"of the future" for record in again.records())
    assert any(isinstance(record.message, AccessControlEntryRecord) for record in again.records())


def test_a_large_image_is_many_batches() -> None:
    image = MetadataImage()
    replay(image, *topic("t", A, 2500))
    again = read_snapshot(write_snapshot(image, 0, 1000), 7)
    assert again.topics["t"].partition_count == 2500


def test_a_damaged_snapshot_is_never_used() -> None:
    data = write_snapshot(full_image(), 4, 1000)
    for cut in range(len(data)):
        with pytest.raises(SnapshotDamaged):
            read_snapshot(data[:cut], 9)
    choose = random.Random(3)
    for _ in range(300):
        position = choose.randrange(len(data))
        damaged = bytearray(data)
        damaged[position] ^= 1 << choose.randrange(8)
        try:
            again = read_snapshot(bytes(damaged), 9)
        except SnapshotDamaged:
            continue
        # Offset and leader epoch are outside the checksum, and outside the image.
        assert list(map(encode_record, again.records())) == list(map(encode_record, full_image().records()))


@pytest.mark.parametrize("value", [b"", b"\x01", b"\x01\x02", b"\x02\x02\x00", b"\x01\x02\x00", b"\xff" * 9])
def test_what_is_no_metadata_record_is_refused(value: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_record(value)
