"""What users hold keeps its name: the public Python API, the fixtures, metrics, paths of the HTTP port, settings.

A name may be added. One that goes needs a line in CHANGELOG.md that says what replaced it, and goes from here then.
"""

from __future__ import annotations

import importlib
import inspect

import pytest

import odradek
from odradek.config import BROKER_SETTINGS, TOPIC_SETTINGS
from odradek.insight import metrics
from odradek.insight.openapi import openapi

PARAMETERS = {
    "odradek.Broker": ["data_dir", "host", "port", "clock", "settings"],
    "odradek.Broker.create_topic": ["name", "partitions", "configs"],
    "odradek.Broker.rebalance": ["group_id"],
    "odradek.Broker.start": [],
    "odradek.Broker.stop": [],
    "odradek.faults.Faults.refuse": ["api", "error", "times", "topic", "client_id"],
    "odradek.faults.Faults.delay": ["api", "seconds", "times", "topic", "client_id"],
    "odradek.faults.Faults.disconnect": ["api", "after", "times", "topic", "client_id"],
    "odradek.faults.Faults.clear": [],
    "odradek.faults.Fault.remove": [],
    "odradek.clock.FastClock": ["times"],
}
ATTRIBUTES = {
    "odradek": ["Broker", "BrokerFailed", "__version__"],
    "odradek.Broker": ["bootstrap_servers", "http_url", "is_running", "port", "topics"],
    "odradek.clock": ["Clock", "FastClock", "SystemClock"],
    "odradek.clock.FastClock": ["now_ms", "monotonic"],
    "odradek.config": ["BROKER_SETTINGS", "BrokerConfig", "InvalidSetting", "LogConfig", "Setting", "TOPIC_SETTINGS"],
    "odradek.pytest_plugin": ["clean_odradek_broker", "odradek_broker", "odradek_settings", "odradek_topic"],
}
METRICS = [
    "odradek_appended_batches",
    "odradek_appended_bytes",
    "odradek_appended_records",
    "odradek_build_info",
    "odradek_connections",
    "odradek_connections_ended",
    "odradek_connections_opened",
    "odradek_connections_refused",
    "odradek_disk_free_bytes",
    "odradek_disk_readonly",
    "odradek_disk_refused_batches",
    "odradek_disk_total_bytes",
    "odradek_event_loop_delay_seconds",
    "odradek_fetched_bytes",
    "odradek_fetches_parked",
    "odradek_flush_duration_seconds",
    "odradek_flush_failures",
    "odradek_flushed_bytes",
    "odradek_group_lag_bytes",
    "odradek_group_lag_records",
    "odradek_group_lag_seconds",
    "odradek_group_lost_records",
    "odradek_group_members",
    "odradek_group_offset_commits",
    "odradek_group_rebalances",
    "odradek_group_shards_loading",
    "odradek_group_time_to_loss_seconds",
    "odradek_group_verdict",
    "odradek_groups",
    "odradek_groups_without_series",
    "odradek_log_failures",
    "odradek_log_reopenings",
    "odradek_log_size_bytes",
    "odradek_network_received_bytes",
    "odradek_network_sent_bytes",
    "odradek_offsets_unwatched",
    "odradek_partitions",
    "odradek_partitions_blocked",
    "odradek_partitions_offline",
    "odradek_request_duration_seconds",
    "odradek_request_errors",
    "odradek_request_memory_bytes",
    "odradek_requests",
    "odradek_retention_deleted_bytes",
    "odradek_retention_guard_refused_batches",
    "odradek_retention_guarded_bytes",
    "odradek_topic_appended_batches",
    "odradek_topic_appended_bytes",
    "odradek_topic_appended_records",
    "odradek_topic_fetched_bytes",
    "odradek_topic_partitions",
    "odradek_topic_size_bytes",
    "odradek_topics",
    "odradek_topics_without_series",
    "odradek_unflushed_bytes",
]
PATHS = [
    "/api/groups",
    "/api/groups/{group}",
    "/api/events",
    "/api/topics/{topic}/keys",
    "/api/openapi.json",
    "/metrics",
    "/live",
    "/ready",
]

SETTINGS = [
    "odradek.batch.decompressed.max.bytes",
    "odradek.clock.leap.grace.ms",
    "odradek.connection.max.request.bytes",
    "odradek.connection.max.requests",
    "odradek.connection.max.response.bytes",
    "odradek.coordinator.snapshot.min.records",
    "odradek.disk.check.interval.ms",
    "odradek.disk.readonly.free.bytes",
    "odradek.disk.resume.free.bytes",
    "odradek.events.topic.enable",
    "odradek.fetch.session.eviction.ms",
    "odradek.flush",
    "odradek.flush.syncfs.files",
    "odradek.group.new.member.join.timeout.ms",
    "odradek.hot.keys.enable",
    "odradek.http.listen",
    "odradek.http.max.connections",
    "odradek.index.cache.bytes",
    "odradek.insight.interval.ms",
    "odradek.insight.offsets.max",
    "odradek.insight.reads.max",
    "odradek.log.refusals.per.second",
    "odradek.metadata.maintenance.interval.ms",
    "odradek.metrics.groups.max",
    "odradek.metrics.topics.max",
    "odradek.open.files.max",
    "odradek.queued.max.response.bytes",
    "odradek.read.threads",
    "odradek.replication.factor.accept",
    "odradek.request.max.elements",
    "odradek.response.max.bytes",
    "odradek.retention.guard.groups",
    "odradek.retention.guard.interval.ms",
    "odradek.retention.guard.max.bytes",
    "odradek.retention.guard.max.ms",
    "odradek.retention.guard.on.limit",
    "odradek.unflushed.max.bytes",
]


def named(path: str) -> object:
    """What a dotted path names."""
    module, rest = path, []
    while True:
        try:
            found = importlib.import_module(module)
            break
        except ModuleNotFoundError:
            module, _, last = module.rpartition(".")
            rest.insert(0, last)
    for name in rest:
        found = getattr(found, name)
    return found


@pytest.mark.parametrize("path", PARAMETERS)
def test_parameters_stay(path: str) -> None:
    found = [name for name in inspect.signature(named(path)).parameters if name != "self"]  # type: ignore[arg-type]
    assert [name for name in found if name in PARAMETERS[path]] == PARAMETERS[path]


@pytest.mark.parametrize("path", ATTRIBUTES)
def test_attributes_stay(path: str) -> None:
    for name in ATTRIBUTES[path]:
        assert hasattr(named(path), name), f"{path}.{name}"


def test_a_broker_has_faults() -> None:
    assert isinstance(odradek.Broker().faults, named("odradek.faults.Faults"))  # type: ignore[arg-type]


def test_metrics_stay() -> None:
    declared = {one.name for one in vars(metrics).values() if isinstance(one, metrics.Declared)}
    assert set(METRICS) <= declared, set(METRICS) - declared


def test_paths_stay() -> None:
    assert set(PATHS) <= set(openapi()["paths"])


def test_settings_of_our_own_stay() -> None:
    known = BROKER_SETTINGS.keys() | TOPIC_SETTINGS.keys()
    assert set(SETTINGS) <= known, set(SETTINGS) - known
