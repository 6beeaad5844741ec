"""One request that names one thing thousands of times: for every API that takes a list.

A short request may ask for a long response: that is what these are for, and the size of what is repeated is chosen
accordingly. Each says how often it is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.stalls.cases import Request, Sent, case
from benchmarks.stalls.prepared import Prepared, commit, now_ms, produce_to
from odradek.protocol.fields import Message
from odradek.protocol.messages.add_partitions_to_txn import AddPartitionsToTxnRequest, AddPartitionsToTxnTopic
from odradek.protocol.messages.alter_configs import AlterableConfig, AlterConfigsRequest, AlterConfigsResource
from odradek.protocol.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsTopic
from odradek.protocol.messages.create_topics import CreatableTopic, CreatableTopicConfig, CreateTopicsRequest
from odradek.protocol.messages.delete_groups import DeleteGroupsRequest
from odradek.protocol.messages.delete_records import DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic
from odradek.protocol.messages.delete_topics import DeleteTopicsRequest
from odradek.protocol.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from odradek.protocol.messages.describe_groups import DescribeGroupsRequest
from odradek.protocol.messages.describe_log_dirs import DescribableLogDirTopic, DescribeLogDirsRequest
from odradek.protocol.messages.describe_producers import DescribeProducersRequest
from odradek.protocol.messages.describe_producers import TopicRequest as ProducersTopic
from odradek.protocol.messages.describe_topic_partitions import DescribeTopicPartitionsRequest
from odradek.protocol.messages.describe_topic_partitions import TopicRequest as DescribedTopic
from odradek.protocol.messages.describe_transactions import DescribeTransactionsRequest
from odradek.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from odradek.protocol.messages.find_coordinator import FindCoordinatorRequest
from odradek.protocol.messages.incremental_alter_configs import AlterableConfig as IncrementalConfig
from odradek.protocol.messages.incremental_alter_configs import AlterConfigsResource as IncrementalResource
from odradek.protocol.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from odradek.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from odradek.protocol.messages.leave_group import LeaveGroupRequest, MemberIdentity
from odradek.protocol.messages.list_config_resources import ListConfigResourcesRequest
from odradek.protocol.messages.list_groups import ListGroupsRequest
from odradek.protocol.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from odradek.protocol.messages.list_transactions import ListTransactionsRequest
from odradek.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from odradek.protocol.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from odradek.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
)
from odradek.protocol.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)
from odradek.protocol.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from odradek.protocol.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
)
from odradek.protocol.messages.write_txn_markers import (
    WritableTxnMarker,
    WritableTxnMarkerTopic,
    WriteTxnMarkersRequest,
)
from tests.raw_client import batch

TOPIC, BROKER = 2, 4
NODE_ID = "1"
"""Of both brokers."""
TIMEOUT_MS = 60_000
# Kafka keeps such lists as tables by name, in which equal names lie side by side.
CUBIC = "does not come to an answer (its time grows with the cube of the repetitions)"
UNANSWERED = "never answers a request that names a topic twice"


def _repeated(
    name: str, title: str, version: int, times: int, make: Callable[[Prepared, int], Message], not_kafka: str = ""
) -> None:
    """A case with one request."""

    def run(prepared: Prepared, times: int) -> Iterator[Sent]:
        yield Request(prepared.client, make(prepared, times), version)

    case(f"{name}-repeated", f"{title} named {{:,}} times", times, not_kafka=not_kafka)(run)


# --- topics and partitions -------------------------------------------------------------------------------------------


def _produce(prepared: Prepared, times: int) -> Message:
    return produce_to([(prepared.one(), 0)] * times, batch(b"x", timestamp_ms=now_ms()))


def _fetch(prepared: Prepared, times: int) -> Message:
    wanted = [FetchPartition(partition=0, partition_max_bytes=1 << 20)] * times
    topics = [FetchTopic(topic=prepared.one(), partitions=wanted)]
    return FetchRequest(max_wait_ms=0, max_bytes=50 << 20, topics=topics)


def _list_offsets(prepared: Prepared, times: int) -> Message:
    wanted = [ListOffsetsPartition(partition_index=0, timestamp=-1)] * times
    return ListOffsetsRequest(replica_id=-1, topics=[ListOffsetsTopic(name=prepared.one(), partitions=wanted)])


def _offset_for_leader_epoch(prepared: Prepared, times: int) -> Message:
    wanted = [OffsetForLeaderPartition(partition=0, leader_epoch=0)] * times
    return OffsetForLeaderEpochRequest(
        replica_id=-2, topics=[OffsetForLeaderTopic(topic=prepared.one(), partitions=wanted)]
    )


def _delete_records(prepared: Prepared, times: int) -> Message:
    wanted = [DeleteRecordsPartition(partition_index=0, offset=1)] * times
    topics = [DeleteRecordsTopic(name=prepared.one(), partitions=wanted)]
    return DeleteRecordsRequest(topics=topics, timeout_ms=TIMEOUT_MS)


def _metadata(prepared: Prepared, times: int) -> Message:
    topics = [MetadataRequestTopic(name=prepared.many())] * times
    return MetadataRequest(topics=topics, allow_auto_topic_creation=False)


def _describe_topic_partitions(prepared: Prepared, times: int) -> Message:
    topics = [DescribedTopic(name=prepared.many())] * times
    return DescribeTopicPartitionsRequest(topics=topics, response_partition_limit=1 << 30)


def _describe_log_dirs(prepared: Prepared, times: int) -> Message:
    wanted = list(range(prepared.many_partitions))
    topics = [DescribableLogDirTopic(topic=prepared.many(), partitions=wanted[:1] * times)]
    return DescribeLogDirsRequest(topics=topics)


def _describe_producers(prepared: Prepared, times: int) -> Message:
    return DescribeProducersRequest(topics=[ProducersTopic(name=prepared.one(), partition_indexes=[0] * times)])


def _create_topics(prepared: Prepared, times: int) -> Message:
    topics = [CreatableTopic(name="repeated", num_partitions=1, replication_factor=1)] * times
    return CreateTopicsRequest(topics=topics, timeout_ms=TIMEOUT_MS)


def _create_topics_configs(prepared: Prepared, times: int) -> Message:
    configs = [CreatableTopicConfig(name="retention.ms", value="86400000")] * times
    topic = CreatableTopic(name="repeated", num_partitions=1, replication_factor=1, configs=configs)
    return CreateTopicsRequest(topics=[topic], timeout_ms=TIMEOUT_MS, validate_only=True)


def _create_partitions(prepared: Prepared, times: int) -> Message:
    topics = [CreatePartitionsTopic(name=prepared.many(), count=1 << 15, assignments=None)] * times
    return CreatePartitionsRequest(topics=topics, timeout_ms=TIMEOUT_MS)


def _delete_topics(prepared: Prepared, times: int) -> Message:
    return DeleteTopicsRequest(topic_names=["nobody-has-this"] * times, timeout_ms=TIMEOUT_MS)


_repeated("produce", "Produce, one partition", 9, 100_000, _produce)
_repeated("fetch", "Fetch, one partition", 12, 150_000, _fetch)
_repeated("list-offsets", "ListOffsets, one partition", 7, 100_000, _list_offsets)
_repeated("offset-for-leader-epoch", "OffsetForLeaderEpoch, one partition", 4, 100_000, _offset_for_leader_epoch)
_repeated("delete-records", "DeleteRecords, one partition", 1, 100_000, _delete_records)
_repeated("metadata", "Metadata, one topic of 1,000 partitions", 9, 1_000, _metadata)
_repeated(
    "describe-topic-partitions",
    "DescribeTopicPartitions, one topic of 1,000 partitions",
    0,
    10_000,
    _describe_topic_partitions,
)
_repeated("describe-log-dirs", "DescribeLogDirs, one partition", 4, 100_000, _describe_log_dirs)
_repeated("describe-producers", "DescribeProducers, one partition", 0, 100_000, _describe_producers)
_repeated("create-topics", "CreateTopics, one topic", 5, 10_000, _create_topics, CUBIC)
_repeated("create-topics-configs", "CreateTopics, one setting", 5, 100_000, _create_topics_configs, CUBIC)
_repeated("create-partitions", "CreatePartitions, one topic", 2, 10_000, _create_partitions, CUBIC)
_repeated("delete-topics", "DeleteTopics, one unknown topic", 5, 100_000, _delete_topics)


# --- settings --------------------------------------------------------------------------------------------------------


def _describe_configs(prepared: Prepared, times: int) -> Message:
    resource = DescribeConfigsResource(resource_type=BROKER, resource_name=NODE_ID, configuration_keys=None)
    return DescribeConfigsRequest(resources=[resource] * times, include_synonyms=True, include_documentation=True)


def _describe_configs_keys(prepared: Prepared, times: int) -> Message:
    resource = DescribeConfigsResource(
        resource_type=TOPIC, resource_name=prepared.one(), configuration_keys=["retention.ms"] * times
    )
    return DescribeConfigsRequest(resources=[resource], include_synonyms=True, include_documentation=True)


def _alter_configs(prepared: Prepared, times: int) -> Message:
    configs = [AlterableConfig(name="retention.ms", value="86400000")]
    resource = AlterConfigsResource(resource_type=TOPIC, resource_name=prepared.one(), configs=configs)
    return AlterConfigsRequest(resources=[resource] * times)


def _incremental_alter_configs(prepared: Prepared, times: int) -> Message:
    configs = [IncrementalConfig(name="retention.ms", config_operation=0, value="86400000")]
    resource = IncrementalResource(resource_type=TOPIC, resource_name=prepared.one(), configs=configs)
    return IncrementalAlterConfigsRequest(resources=[resource] * times)


def _incremental_alter_configs_keys(prepared: Prepared, times: int) -> Message:
    """A list that is appended to, which may be named more than once in no other way."""
    configs = [IncrementalConfig(name="cleanup.policy", config_operation=2, value="compact")] * times
    resource = IncrementalResource(resource_type=TOPIC, resource_name=prepared.one(), configs=configs)
    return IncrementalAlterConfigsRequest(resources=[resource], validate_only=True)


def _list_config_resources(prepared: Prepared, times: int) -> Message:
    prepared.topics()
    return ListConfigResourcesRequest(resource_types=[TOPIC] * times)


_repeated("describe-configs", "DescribeConfigs, the broker", 4, 3_000, _describe_configs)
_repeated("describe-configs-keys", "DescribeConfigs, one setting", 4, 100_000, _describe_configs_keys)
_repeated("alter-configs", "AlterConfigs, one topic", 2, 10_000, _alter_configs, UNANSWERED)
_repeated(
    "incremental-alter-configs", "IncrementalAlterConfigs, one topic", 1, 10_000, _incremental_alter_configs, CUBIC
)
_repeated(
    "incremental-alter-configs-keys",
    "IncrementalAlterConfigs, one setting",
    1,
    100_000,
    _incremental_alter_configs_keys,
    CUBIC,
)
_repeated("list-config-resources", "ListConfigResources, one type", 1, 1_000, _list_config_resources)


# --- groups ----------------------------------------------------------------------------------------------------------


def _find_coordinator(prepared: Prepared, times: int) -> Message:
    prepared.peer.until_served("g")
    return FindCoordinatorRequest(coordinator_keys=["g"] * times)


def _offset_commit(prepared: Prepared, times: int) -> Message:
    prepared.peer.until_served("offset-commit")
    return commit("offset-commit", [(prepared.one(), 0)] * times)


def _offset_fetch(prepared: Prepared, times: int) -> Message:
    group = OffsetFetchRequestGroup(group_id=prepared.group_with_offsets(), topics=None)
    return OffsetFetchRequest(groups=[group] * times)


def _offset_fetch_partitions(prepared: Prepared, times: int) -> Message:
    topics = [OffsetFetchRequestTopics(name=prepared.topics()[0], partition_indexes=[0] * times)]
    return OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=prepared.group_with_offsets(), topics=topics)])


def _offset_delete(prepared: Prepared, times: int) -> Message:
    prepared.peer.until_served("offset-commit")
    topic = prepared.one()
    prepared.peer.commit("offset-commit", {topic: {0: 1}}, version=7)
    wanted = [OffsetDeleteRequestPartition(partition_index=0)] * times
    return OffsetDeleteRequest(
        group_id="offset-commit", topics=[OffsetDeleteRequestTopic(name=topic, partitions=wanted)]
    )


def _describe_groups(prepared: Prepared, times: int) -> Message:
    return DescribeGroupsRequest(groups=[prepared.large_group()] * times)


def _list_groups(prepared: Prepared, times: int) -> Message:
    prepared.groups()
    return ListGroupsRequest(states_filter=["Stable"] * times, types_filter=["classic"])


def _delete_groups(prepared: Prepared, times: int) -> Message:
    return DeleteGroupsRequest(groups_names=[prepared.large_group()] * times)


def _join_group(prepared: Prepared, times: int) -> Message:
    group = f"join-{prepared.another()}"
    prepared.peer.until_served(group)
    protocols = [JoinGroupRequestProtocol(name="range", metadata=b"")] * times
    return JoinGroupRequest(
        group_id=group,
        session_timeout_ms=10_000,
        rebalance_timeout_ms=10_000,
        protocol_type="consumer",
        protocols=protocols,
    )


def _sync_group(prepared: Prepared, times: int) -> Message:
    group = prepared.large_group()
    assignments = [SyncGroupRequestAssignment(member_id="m", assignment=b"")] * times
    return SyncGroupRequest(group_id=group, generation_id=1, member_id="m", assignments=assignments)


def _leave_group(prepared: Prepared, times: int) -> Message:
    return LeaveGroupRequest(group_id=prepared.large_group(), members=[MemberIdentity(member_id="nobody")] * times)


_repeated("find-coordinator", "FindCoordinator, one group", 4, 190_000, _find_coordinator)
_repeated("offset-commit", "OffsetCommit, one partition", 7, 100_000, _offset_commit)
_repeated("offset-fetch", "OffsetFetch, one group of 10,000 offsets", 8, 100, _offset_fetch)
_repeated("offset-fetch-partitions", "OffsetFetch, one partition", 8, 100_000, _offset_fetch_partitions)
_repeated("offset-delete", "OffsetDelete, one partition", 0, 100_000, _offset_delete, CUBIC)
_repeated("describe-groups", "DescribeGroups, one group of 200 KB", 5, 500, _describe_groups)
_repeated("list-groups", "ListGroups, one state", 4, 100_000, _list_groups)
_repeated("delete-groups", "DeleteGroups, one group with a member", 2, 100_000, _delete_groups)
_repeated("join-group", "JoinGroup, one protocol", 3, 100_000, _join_group, CUBIC)
_repeated("sync-group", "SyncGroup, one member of no group", 3, 100_000, _sync_group)
_repeated("leave-group", "LeaveGroup, one member of no group", 4, 100_000, _leave_group)


# --- transactions ----------------------------------------------------------------------------------------------------


def _add_partitions_to_txn(prepared: Prepared, times: int) -> Message:
    producer_id, epoch = prepared.producer()
    return AddPartitionsToTxnRequest(
        v3_and_below_transactional_id="transaction",
        v3_and_below_producer_id=producer_id,
        v3_and_below_producer_epoch=epoch,
        v3_and_below_topics=[AddPartitionsToTxnTopic(name=prepared.one(), partitions=[0] * times)],
    )


def _txn_offset_commit(prepared: Prepared, times: int) -> Message:
    producer_id, epoch = prepared.transaction()
    prepared.peer.until_served("in-transaction")
    prepared.peer.add_offsets("transaction", (producer_id, epoch), "in-transaction")
    wanted = [TxnOffsetCommitRequestPartition(partition_index=0, committed_offset=1, committed_metadata="")] * times
    return TxnOffsetCommitRequest(
        transactional_id="transaction",
        group_id="in-transaction",
        producer_id=producer_id,
        producer_epoch=epoch,
        topics=[TxnOffsetCommitRequestTopic(name=prepared.one(), partitions=wanted)],
    )


def _write_txn_markers(prepared: Prepared, times: int) -> Message:
    prepared.peer.until_found("transaction")
    marker = WritableTxnMarker(
        producer_id=prepared.peer.init(None)["producer_id"],
        producer_epoch=0,
        transaction_result=True,
        topics=[WritableTxnMarkerTopic(name=prepared.one(), partition_indexes=[0])],
        coordinator_epoch=0,
    )
    return WriteTxnMarkersRequest(markers=[marker] * times)


def _describe_transactions(prepared: Prepared, times: int) -> Message:
    prepared.transaction()
    return DescribeTransactionsRequest(transactional_ids=["transaction"] * times)


def _list_transactions(prepared: Prepared, times: int) -> Message:
    prepared.transactional_ids()
    return ListTransactionsRequest(state_filters=["Empty"] * times, producer_id_filters=[1] * times)


_repeated("add-partitions-to-txn", "AddPartitionsToTxn, one partition", 3, 100_000, _add_partitions_to_txn, CUBIC)
_repeated("txn-offset-commit", "TxnOffsetCommit, one partition", 3, 100_000, _txn_offset_commit)
_repeated("write-txn-markers", "WriteTxnMarkers, one marker", 1, 10_000, _write_txn_markers)
_repeated(
    "describe-transactions",
    "DescribeTransactions, one of 10,000 partitions",
    0,
    100,
    _describe_transactions,
)
_repeated("list-transactions", "ListTransactions, a state and a producer id", 2, 90_000, _list_transactions)
