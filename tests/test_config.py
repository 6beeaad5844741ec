"""Settings: their texts, their layers, and the tables compared with those inside Apache Kafka's jars."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odradek.config import BROKER_SETTINGS, TOPIC_SETTINGS, BrokerConfig, InvalidSetting, LogConfig, Setting
from odradek.config.bounds import LONG_MAX
from odradek.config.layers import Source
from odradek.config.setting import Kind, format_value, parse_value
from odradek.config.topic import check_topic_settings
from tests.reference import broker_classpath, java_source, needs_java, run_java

# Defaults that are this broker's own, each told in its setting's sentence or in DESIGN.md.
OWN_DEFAULTS = {
    "advertised.listeners",
    "broker.id",
    "controller.listener.names",
    "group.initial.rebalance.delay.ms",
    "listeners",
    "log.dir",
    "log.dirs",
    "node.id",
    "process.roles",
    "queued.max.request.bytes",
}
# Kafka lets it change while the broker runs.
OWN_UPDATES = {"listeners"}


# --- texts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Kind.INT, " +12 ", 12),
        (Kind.LONG, "-9223372036854775808", -(2**63)),
        (Kind.SHORT, "32767", 32767),
        (Kind.DOUBLE, "1e-1", 0.1),
        (Kind.BOOLEAN, " TRUE", True),
        (Kind.STRING, " a b ", "a b"),
        (Kind.LIST, "a, b ,a", ["a", "b"]),
        (Kind.LIST, "", []),
        (Kind.PASSWORD, "x", "x"),
    ],
)
def test_a_text_has_a_value(kind: Kind, text: str, value: object) -> None:
    assert parse_value(Setting("s", kind, None, ""), text) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Kind.INT, "2147483648"),
        (Kind.INT, "1_000"),
        (Kind.INT, "1.0"),
        (Kind.INT, ""),
        (Kind.LONG, "9223372036854775808"),
        (Kind.SHORT, "32768"),
        (Kind.DOUBLE, "NaN"),
        (Kind.DOUBLE, "one"),
        (Kind.BOOLEAN, "yes"),
        (Kind.BOOLEAN, ""),
    ],
)
def test_a_text_that_has_none_is_refused_by_name(kind: Kind, text: str) -> None:
    with pytest.raises(InvalidSetting, match=r"configuration some\.setting: ") as refused:
        parse_value(Setting("some.setting", kind, None, ""), text)
    assert refused.value.name == "some.setting"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("segment.bytes", "1048575"),
        ("compression.lz4.level", "18"),
        ("compression.gzip.level", "0"),
        ("cleanup.policy", "compact,forget"),
        ("cleanup.policy", "compact,"),
        ("message.timestamp.type", "createtime"),
        ("min.cleanable.dirty.ratio", "1.01"),
    ],
)
def test_bounds_hold(name: str, text: str) -> None:
    with pytest.raises(InvalidSetting, match=name):
        parse_value(TOPIC_SETTINGS[name], text)


@pytest.mark.parametrize(
    "overrides",
    [
        {"remote.storage.enable": "TRUE"},
        {"min.compaction.lag.ms": "2", "max.compaction.lag.ms": "1"},
        {"leader.replication.throttled.replicas": "none"},
        {"follower.replication.throttled.replicas": "0:1,2"},
    ],
)
def test_what_a_topics_settings_cannot_be_together(overrides: dict[str, str]) -> None:
    with pytest.raises(InvalidSetting):
        check_topic_settings(overrides)


def test_what_a_topics_settings_can_be_together() -> None:
    check_topic_settings({"min.compaction.lag.ms": "1", "max.compaction.lag.ms": "1", "remote.storage.enable": "false"})
    for text in ("", "*", "0:1", "0:1, 10:2"):
        check_topic_settings({"leader.replication.throttled.replicas": text})


@given(st.sampled_from([*BROKER_SETTINGS.values(), *TOPIC_SETTINGS.values()]), st.text(max_size=30))
def test_a_text_is_refused_or_its_value_can_be_written_and_read_again(setting: Setting, text: str) -> None:
    try:
        value = parse_value(setting, text)
    except InvalidSetting:
        return
    assert parse_value(setting, format_value(value)) == value


# --- the tables ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [BROKER_SETTINGS, TOPIC_SETTINGS], ids=["broker", "topic"])
def test_every_setting_is_explained_and_has_a_valid_default(table: dict[str, Setting]) -> None:
    for name, setting in table.items():
        assert setting.name == name
        assert setting.doc.endswith((".", ")")), f"{name} is not explained"
        if setting.default is not None:
            assert parse_value(setting, format_value(setting.default)) == setting.default, name


def test_topic_defaults_are_the_brokers_in_its_unit() -> None:
    config = BrokerConfig()
    for name, setting in TOPIC_SETTINGS.items():
        for broker_name, factor in setting.synonyms:
            default = BROKER_SETTINGS[broker_name].default
            if default is not None and name not in ("flush.ms",):
                assert default == setting.default if factor == 1 else default * factor == setting.default, name
        assert config.topic_value(name, {}) == setting.default


@needs_java
def test_the_tables_are_kafkas() -> None:
    """Names, types, defaults, numeric bounds and when a setting may change."""
    done = run_java(broker_classpath(), java_source("Settings.java"))
    assert done.returncode == 0, done.stderr
    tables = {"broker": dict(BROKER_SETTINGS), "topic": dict(TOPIC_SETTINGS)}
    seen = 0
    for line in done.stdout.splitlines():
        table, name, kind, default, bounds, update = line.split("\t")
        setting = tables[table].pop(name)
        seen += 1
        assert setting.kind.name == kind, name
        if name not in OWN_DEFAULTS:
            ours = "null" if setting.default is None else format_value(setting.default)
            if setting.kind is Kind.DOUBLE:
                assert float(default) == setting.default, name
            else:
                assert default == ours, name
        if bounds.startswith("[") and bounds.endswith("...]") and bounds[1:-5].lstrip("-").isdigit():
            assert setting.minimum == int(bounds[1:-5]), name
        if name not in OWN_UPDATES:
            assert setting.update == {"": 0, "per-broker": 1, "cluster-wide": 2}[update], name
    assert seen > 380
    own = {*tables["broker"], *tables["topic"]}
    # Kafka has it, and hides it.
    own.discard("producer.id.expiration.check.interval.ms")
    assert all(name.startswith("odradek.") for name in own), own


# --- layers ----------------------------------------------------------------------------------------------------------


def test_what_was_set_for_this_broker_comes_before_what_was_set_for_all_before_the_file_before_the_default() -> None:
    config = BrokerConfig({"message.max.bytes": "1000"})
    assert config.integer("message.max.bytes") == 1000
    assert config.set_dynamic({"message.max.bytes": "2000"}, {}) == []
    assert config.integer("message.max.bytes") == 2000
    config.set_dynamic({"message.max.bytes": "2000"}, {"message.max.bytes": "3000"})
    assert config.integer("message.max.bytes") == 3000
    assert config.layers("message.max.bytes") == [
        (Source.DYNAMIC_BROKER, "3000"),
        (Source.DYNAMIC_DEFAULT_BROKER, "2000"),
        (Source.STATIC_BROKER, "1000"),
    ]
    config.set_dynamic({}, {})
    assert config.integer("message.max.bytes") == 1000
    assert BrokerConfig().layers("message.max.bytes") == []


def test_a_changed_setting_that_cannot_be_used_is_left_out_and_named() -> None:
    config = BrokerConfig()
    left_out = config.set_dynamic(
        {"message.max.bytes": "many", "num.partitions": "3", "some.plugin": "x"}, {"log.retention.ms": "5"}
    )
    assert sorted(error.name for error in left_out) == ["message.max.bytes", "num.partitions"]
    assert config.integer("message.max.bytes") == BROKER_SETTINGS["message.max.bytes"].default
    assert config.integer("num.partitions") == 1
    assert config.integer("log.retention.ms") == 5
    assert config.layers("some.plugin") == [(Source.DYNAMIC_DEFAULT_BROKER, "x")]


def test_a_given_setting_that_cannot_be_used_is_refused_and_an_unknown_one_kept_apart() -> None:
    with pytest.raises(InvalidSetting, match=r"num\.partitions"):
        BrokerConfig({"num.partitions": "0"})
    assert BrokerConfig({"no.such": "1"}).unknown == ["no.such"]


def test_a_topics_value_is_its_own_then_the_brokers_finest_unit() -> None:
    config = BrokerConfig({"log.retention.hours": "2"})
    assert config.topic_value("retention.ms", {}) == 7_200_000
    assert config.topic_source("retention.ms", {}) == Source.STATIC_BROKER
    config = BrokerConfig({"log.retention.hours": "2", "log.retention.minutes": "3"})
    assert config.topic_value("retention.ms", {}) == 180_000
    config.set_dynamic({"log.retention.ms": "4"}, {})
    assert config.topic_value("retention.ms", {}) == 4
    assert config.topic_source("retention.ms", {}) == Source.DYNAMIC_DEFAULT_BROKER
    assert config.topic_value("retention.ms", {"retention.ms": "5"}) == 5
    assert config.topic_source("retention.ms", {"retention.ms": "5"}) == Source.TOPIC
    assert BrokerConfig({"log.retention.hours": "-1"}).topic_value("retention.ms", {}) == -1


def test_a_log_gets_its_settings_parsed() -> None:
    broker = BrokerConfig({"log.segment.bytes": "2097152"})
    config = LogConfig.of(broker, {"cleanup.policy": "compact,delete", "retention.ms": "-1"})
    assert config.cleanup_policy == ("compact", "delete")
    assert config.retention_ms == -1
    assert config.segment_bytes == 2_097_152
    assert LogConfig.of(BrokerConfig(), {}) == LogConfig()


@pytest.mark.parametrize(
    "setting", [setting for setting in TOPIC_SETTINGS.values() if setting.effect], ids=lambda setting: setting.name
)
def test_a_setting_that_has_an_effect_is_one_attribute_of_a_log_by_its_own_text_and_by_the_brokers(
    setting: Setting,
) -> None:
    other = _another_value(setting)
    by_its_own = LogConfig.of(BrokerConfig(), {setting.name: format_value(other)})
    changed = {
        field.name: getattr(by_its_own, field.name)
        for field in dataclasses.fields(LogConfig)
        if getattr(by_its_own, field.name) != field.default
    }
    assert list(changed.values()) == [tuple(other) if isinstance(other, list) else other]
    for name, factor in setting.synonyms:
        text = format_value(other) if factor == 1 else "1"
        by_the_brokers = LogConfig.of(BrokerConfig({name: text}), {})
        assert by_the_brokers == (by_its_own if factor == 1 else LogConfig(**dict.fromkeys(changed, factor))), name


def _another_value(setting: Setting) -> Any:
    if setting.kind is Kind.BOOLEAN:
        return not setting.default
    if setting.choices is not None:
        choice = next(choice for choice in setting.choices if choice != format_value(setting.default))
        return parse_value(setting, choice)
    if setting.kind is Kind.LIST:
        return ["billing"]
    return setting.default + (-1 if setting.default == LONG_MAX else 1)
