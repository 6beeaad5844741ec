"""The records of the metadata log (KRaft), with Kafka's type numbers. Records of features that the broker does not
serve are stored, but have no effect."""

from __future__ import annotations

from odradek.protocol.fields import (
    Message,
    Struct,
    boolean,
    byte_string,
    field,
    float64,
    int8,
    int16,
    int32,
    int64,
    string,
    uint16,
    uuid,
)


class BrokerEndpoint(Struct):
    name: string = field("0+")
    host: string = field("0+")
    port: uint16 = field("0+")
    security_protocol: int16 = field("0+")


class BrokerFeature(Struct):
    name: string = field("0+")
    min_supported_version: int16 = field("0+")
    max_supported_version: int16 = field("0+")


class RegisterBrokerRecord(Message, api_key=0, versions="0-4", flexible="0+"):
    broker_id: int32 = field("0+")
    is_migrating_zk_broker: boolean = field("2+", default=False)
    incarnation_id: uuid = field("0+")
    broker_epoch: int64 = field("0+")
    end_points: list[BrokerEndpoint] = field("0+")
    features: list[BrokerFeature] = field("0+")
    rack: string | None = field("0+", nullable="0+")
    fenced: boolean = field("0+", default=True)
    in_controlled_shutdown: boolean = field("1+", default=False)
    log_dirs: list[uuid] = field("3+", tag=0)
    cordoned_log_dirs: list[uuid] | None = field("4+", default=None, nullable="4+", tag=1)


class UnregisterBrokerRecord(Message, api_key=1, versions="0", flexible="0+"):
    broker_id: int32 = field("0+")
    broker_epoch: int64 = field("0+")


class TopicRecord(Message, api_key=2, versions="0", flexible="0+"):
    name: string = field("0+")
    topic_id: uuid = field("0+")


class PartitionRecord(Message, api_key=3, versions="0-2", flexible="0+"):
    partition_id: int32 = field("0+", default=-1)
    topic_id: uuid = field("0+")
    replicas: list[int32] = field("0+")
    isr: list[int32] = field("0+")
    removing_replicas: list[int32] = field("0+")
    adding_replicas: list[int32] = field("0+")
    leader: int32 = field("0+", default=-1)
    leader_recovery_state: int8 = field("0+", default=0, tag=0)
    leader_epoch: int32 = field("0+", default=-1)
    partition_epoch: int32 = field("0+", default=-1)
    directories: list[uuid] = field("1+")
    eligible_leader_replicas: list[int32] | None = field("2+", default=None, nullable="2+", tag=1)
    last_known_elr: list[int32] | None = field("2+", default=None, nullable="2+", tag=2)


class ConfigRecord(Message, api_key=4, versions="0", flexible="0+"):
    resource_type: int8 = field("0+")
    resource_name: string = field("0+")
    name: string = field("0+")
    value: string | None = field("0+", nullable="0+")


class PartitionChangeRecord(Message, api_key=5, versions="0-2", flexible="0+"):
    partition_id: int32 = field("0+", default=-1)
    topic_id: uuid = field("0+")
    isr: list[int32] | None = field("0+", default=None, nullable="0+", tag=0)
    leader: int32 = field("0+", default=-2, tag=1)
    replicas: list[int32] | None = field("0+", default=None, nullable="0+", tag=2)
    removing_replicas: list[int32] | None = field("0+", default=None, nullable="0+", tag=3)
    adding_replicas: list[int32] | None = field("0+", default=None, nullable="0+", tag=4)
    leader_recovery_state: int8 = field("0+", default=-1, tag=5)
    directories: list[uuid] | None = field("1+", default=None, nullable="1+", tag=8)
    eligible_leader_replicas: list[int32] | None = field("2+", default=None, nullable="2+", tag=6)
    last_known_elr: list[int32] | None = field("2+", default=None, nullable="2+", tag=7)


class FenceBrokerRecord(Message, api_key=7, versions="0", flexible="0+"):
    id: int32 = field("0+")
    epoch: int64 = field("0+")


class UnfenceBrokerRecord(Message, api_key=8, versions="0", flexible="0+"):
    id: int32 = field("0+")
    epoch: int64 = field("0+")


class RemoveTopicRecord(Message, api_key=9, versions="0", flexible="0+"):
    topic_id: uuid = field("0+")


class DelegationTokenRecord(Message, api_key=10, versions="0", flexible="0+"):
    owner: string = field("0+")
    requester: string = field("0+")
    renewers: list[string] = field("0+")
    issue_timestamp: int64 = field("0+")
    max_timestamp: int64 = field("0+")
    expiration_timestamp: int64 = field("0+")
    token_id: string = field("0+")


class UserScramCredentialRecord(Message, api_key=11, versions="0", flexible="0+"):
    name: string = field("0+")
    mechanism: int8 = field("0+")
    salt: byte_string = field("0+")
    stored_key: byte_string = field("0+")
    server_key: byte_string = field("0+")
    iterations: int32 = field("0+")


class FeatureLevelRecord(Message, api_key=12, versions="0", flexible="0+"):
    name: string = field("0+")
    feature_level: int16 = field("0+")


class EntityData(Struct):
    entity_type: string = field("0+")
    entity_name: string | None = field("0+", nullable="0+")


class ClientQuotaRecord(Message, api_key=14, versions="0", flexible="0+"):
    entity: list[EntityData] = field("0+")
    key: string = field("0+")
    value: float64 = field("0+")
    remove: boolean = field("0+")


class ProducerIdsRecord(Message, api_key=15, versions="0", flexible="0+"):
    broker_id: int32 = field("0+")
    broker_epoch: int64 = field("0+", default=-1)
    next_producer_id: int64 = field("0+")


class BrokerRegistrationChangeRecord(Message, api_key=17, versions="0-3", flexible="0+"):
    broker_id: int32 = field("0+")
    broker_epoch: int64 = field("0+")
    fenced: int8 = field("0+", tag=0)
    in_controlled_shutdown: int8 = field("1+", tag=1)
    log_dirs: list[uuid] = field("2+", tag=2)
    cordoned_log_dirs: list[uuid] | None = field("3+", default=None, nullable="3+", tag=3)


class AccessControlEntryRecord(Message, api_key=18, versions="0", flexible="0+"):
    id: uuid = field("0+")
    resource_type: int8 = field("0+")
    resource_name: string = field("0+")
    pattern_type: int8 = field("0+")
    principal: string = field("0+")
    host: string = field("0+")
    operation: int8 = field("0+")
    permission_type: int8 = field("0+")


class RemoveAccessControlEntryRecord(Message, api_key=19, versions="0", flexible="0+"):
    id: uuid = field("0+")


class NoOpRecord(Message, api_key=20, versions="0", flexible="0+"):
    pass


class ZkMigrationStateRecord(Message, api_key=21, versions="0", flexible="0+"):
    zk_migration_state: int8 = field("0+")


class RemoveUserScramCredentialRecord(Message, api_key=22, versions="0", flexible="0+"):
    name: string = field("0+")
    mechanism: int8 = field("0+")


class BeginTransactionRecord(Message, api_key=23, versions="0", flexible="0+"):
    name: string | None = field("0+", default=None, nullable="0+", tag=0)


class EndTransactionRecord(Message, api_key=24, versions="0", flexible="0+"):
    pass


class AbortTransactionRecord(Message, api_key=25, versions="0", flexible="0+"):
    reason: string | None = field("0+", default=None, nullable="0+", tag=0)


class RemoveDelegationTokenRecord(Message, api_key=26, versions="0", flexible="0+"):
    token_id: string = field("0+")


class ControllerEndpoint(Struct):
    name: string = field("0+")
    host: string = field("0+")
    port: uint16 = field("0+")
    security_protocol: int16 = field("0+")


class ControllerFeature(Struct):
    name: string = field("0+")
    min_supported_version: int16 = field("0+")
    max_supported_version: int16 = field("0+")


class RegisterControllerRecord(Message, api_key=27, versions="0", flexible="0+"):
    controller_id: int32 = field("0+")
    incarnation_id: uuid = field("0+")
    zk_migration_ready: boolean = field("0+")
    end_points: list[ControllerEndpoint] = field("0+")
    features: list[ControllerFeature] = field("0+")


class ClearElrRecord(Message, api_key=28, versions="0", flexible="0+"):
    topic_name: string = field("0+")


class UnregisterControllerRecord(Message, api_key=29, versions="0", flexible="0+"):
    controller_id: int32 = field("0+")


BY_TYPE: dict[int, type[Message]] = {
    cls.api_key: cls
    for cls in (
        RegisterBrokerRecord,
        UnregisterBrokerRecord,
        TopicRecord,
        PartitionRecord,
        ConfigRecord,
        PartitionChangeRecord,
        FenceBrokerRecord,
        UnfenceBrokerRecord,
        RemoveTopicRecord,
        DelegationTokenRecord,
        UserScramCredentialRecord,
        FeatureLevelRecord,
        ClientQuotaRecord,
        ProducerIdsRecord,
        BrokerRegistrationChangeRecord,
        AccessControlEntryRecord,
        RemoveAccessControlEntryRecord,
        NoOpRecord,
        ZkMigrationStateRecord,
        RemoveUserScramCredentialRecord,
        BeginTransactionRecord,
        EndTransactionRecord,
        AbortTransactionRecord,
        RemoveDelegationTokenRecord,
        RegisterControllerRecord,
        ClearElrRecord,
        UnregisterControllerRecord,
    )
}
