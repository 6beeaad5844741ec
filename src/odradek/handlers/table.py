"""The table of handlers, by API key. It has exactly the APIs of `protocol/registry.py`, each with its handler and its
refusal.

The flags of an entry are what `network/` needs to know of an API beside its handler: it names no API.
"""

from __future__ import annotations

from collections.abc import Mapping

from odradek.handlers import (
    add_offsets_to_txn,
    add_partitions_to_txn,
    alter_configs,
    api_versions,
    create_partitions,
    create_topics,
    delete_groups,
    delete_records,
    delete_topics,
    describe_cluster,
    describe_configs,
    describe_groups,
    describe_log_dirs,
    describe_producers,
    describe_topic_partitions,
    describe_transactions,
    end_txn,
    fetch,
    fetch_alike,
    find_coordinator,
    heartbeat,
    incremental_alter_configs,
    init_producer_id,
    join_group,
    leave_group,
    list_config_resources,
    list_groups,
    list_offsets,
    list_transactions,
    metadata,
    offset_commit,
    offset_delete,
    offset_fetch,
    offset_for_leader_epoch,
    produce,
    produce_alike,
    sync_group,
    txn_offset_commit,
    write_txn_markers,
)
from odradek.handlers.served import Served
from odradek.protocol.registry import BY_KEY

HANDLERS: Mapping[int, Served] = {
    0: Served(produce.handle, produce.refused, shortcut=produce_alike.ProduceAlike, starts_early=True, appends=True),
    1: Served(fetch.handle, fetch.refused, shortcut=fetch_alike.FetchAlike, waits_for_others=True),
    2: Served(list_offsets.handle, list_offsets.refused),
    3: Served(metadata.handle, metadata.refused),
    8: Served(offset_commit.handle, offset_commit.refused),
    9: Served(offset_fetch.handle, offset_fetch.refused),
    10: Served(find_coordinator.handle, find_coordinator.refused),
    11: Served(join_group.handle, join_group.refused, waits_for_others=True),
    12: Served(heartbeat.handle, heartbeat.refused),
    13: Served(leave_group.handle, leave_group.refused),
    14: Served(sync_group.handle, sync_group.refused, waits_for_others=True),
    15: Served(describe_groups.handle, describe_groups.refused),
    16: Served(list_groups.handle, list_groups.refused),
    18: Served(api_versions.handle, api_versions.refused, unknown_version=api_versions.unsupported),
    19: Served(create_topics.handle, create_topics.refused),
    20: Served(delete_topics.handle, delete_topics.refused),
    21: Served(delete_records.handle, delete_records.refused),
    22: Served(init_producer_id.handle, init_producer_id.refused),
    23: Served(offset_for_leader_epoch.handle, offset_for_leader_epoch.refused),
    24: Served(add_partitions_to_txn.handle, add_partitions_to_txn.refused),
    25: Served(add_offsets_to_txn.handle, add_offsets_to_txn.refused),
    26: Served(end_txn.handle, end_txn.refused),
    27: Served(write_txn_markers.handle, write_txn_markers.refused),
    28: Served(txn_offset_commit.handle, txn_offset_commit.refused),
    32: Served(describe_configs.handle, describe_configs.refused),
    33: Served(alter_configs.handle, alter_configs.refused),
    35: Served(describe_log_dirs.handle, describe_log_dirs.refused),
    37: Served(create_partitions.handle, create_partitions.refused),
    42: Served(delete_groups.handle, delete_groups.refused),
    44: Served(incremental_alter_configs.handle, incremental_alter_configs.refused),
    47: Served(offset_delete.handle, offset_delete.refused),
    60: Served(describe_cluster.handle, describe_cluster.refused),
    61: Served(describe_producers.handle, describe_producers.refused),
    65: Served(describe_transactions.handle, describe_transactions.refused),
    66: Served(list_transactions.handle, list_transactions.refused),
    74: Served(list_config_resources.handle, list_config_resources.refused),
    75: Served(describe_topic_partitions.handle, describe_topic_partitions.refused),
}

_incomplete = HANDLERS.keys() ^ BY_KEY.keys()
assert not _incomplete, f"APIs announced without an entry, or the reverse: {sorted(_incomplete)}"
