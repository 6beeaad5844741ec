"""The table of all APIs that this broker serves: key, messages, and versions.

ApiVersions responses, the dispatcher and the README's table are made from it. An API that is not in it is neither
served nor announced.

`announced` is wider than `served` in one case, as in Kafka: Produce 0-2 are announced because librdkafka reads
compression support from that range, yet a request in those versions closes the connection (KAFKA-18659).
"""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

from odradek.protocol.fields import Message, Versions


class Api(NamedTuple):
    """One API: its name and key, the module of its messages, and the versions served and announced."""

    name: str
    key: int
    module: str
    served: Versions
    announced: Versions

    @property
    def request(self) -> type[Message]:
        return getattr(import_module(f"odradek.protocol.messages.{self.module}"), f"{self.name}Request")  # type: ignore[no-any-return]

    @property
    def response(self) -> type[Message]:
        return getattr(import_module(f"odradek.protocol.messages.{self.module}"), f"{self.name}Response")  # type: ignore[no-any-return]


def _api(name: str, key: int, module: str, served: str, announced: str | None = None) -> Api:
    return Api(name, key, module, Versions.parse(served), Versions.parse(announced or served))


APIS: tuple[Api, ...] = (
    _api("Produce", 0, "produce", "3-13", announced="0-13"),
    _api("Fetch", 1, "fetch", "4-18"),
    _api("ListOffsets", 2, "list_offsets", "1-11"),
    _api("Metadata", 3, "metadata", "0-13"),
    _api("OffsetCommit", 8, "offset_commit", "2-10"),
    _api("OffsetFetch", 9, "offset_fetch", "1-10"),
    _api("FindCoordinator", 10, "find_coordinator", "0-6"),
    _api("JoinGroup", 11, "join_group", "0-9"),
    _api("Heartbeat", 12, "heartbeat", "0-4"),
    _api("LeaveGroup", 13, "leave_group", "0-5"),
    _api("SyncGroup", 14, "sync_group", "0-5"),
    _api("DescribeGroups", 15, "describe_groups", "0-6"),
    _api("ListGroups", 16, "list_groups", "0-5"),
    _api("ApiVersions", 18, "api_versions", "0-5"),
    _api("CreateTopics", 19, "create_topics", "2-7"),
    _api("DeleteTopics", 20, "delete_topics", "1-6"),
    _api("DeleteRecords", 21, "delete_records", "0-2"),
    _api("InitProducerId", 22, "init_producer_id", "0-5"),
    _api("OffsetForLeaderEpoch", 23, "offset_for_leader_epoch", "2-4"),
    _api("AddPartitionsToTxn", 24, "add_partitions_to_txn", "0-5"),
    _api("AddOffsetsToTxn", 25, "add_offsets_to_txn", "0-4"),
    _api("EndTxn", 26, "end_txn", "0-5"),
    _api("WriteTxnMarkers", 27, "write_txn_markers", "1-2"),
    _api("TxnOffsetCommit", 28, "txn_offset_commit", "0-6"),
    _api("DescribeConfigs", 32, "describe_configs", "1-4"),
    _api("AlterConfigs", 33, "alter_configs", "0-2"),
    _api("DescribeLogDirs", 35, "describe_log_dirs", "1-5"),
    _api("CreatePartitions", 37, "create_partitions", "0-3"),
    _api("DeleteGroups", 42, "delete_groups", "0-3"),
    _api("IncrementalAlterConfigs", 44, "incremental_alter_configs", "0-1"),
    _api("OffsetDelete", 47, "offset_delete", "0"),
    _api("DescribeCluster", 60, "describe_cluster", "0-2"),
    _api("DescribeProducers", 61, "describe_producers", "0"),
    _api("DescribeTransactions", 65, "describe_transactions", "0"),
    _api("ListTransactions", 66, "list_transactions", "0-2"),
    _api("ListConfigResources", 74, "list_config_resources", "0-1"),
    _api("DescribeTopicPartitions", 75, "describe_topic_partitions", "0"),
)

BY_KEY: dict[int, Api] = {api.key: api for api in APIS}
BY_NAME: dict[str, Api] = {api.name: api for api in APIS}
