"""Changes of settings as pure functions: what is written, and what is refused with which code."""

from __future__ import annotations

import random

import pytest

from odradek.config import BrokerConfig
from odradek.errors import ErrorCode
from odradek.metadata import config_changes
from odradek.metadata.changes import Policy
from odradek.metadata.config_changes import APPEND, DELETE, SET, SUBTRACT, ResourceOutcome, alter, incremental_alter
from odradek.metadata.image import BROKER_RESOURCE, TOPIC_RESOURCE, Delta, MetadataImage, MetadataRecord, record_of
from odradek.protocol.messages import alter_configs, incremental_alter_configs
from odradek.protocol.records.metadata import ConfigRecord, TopicRecord
from tests.metadata.working import most_between, worked_out

Change = tuple[str, int, str | None]
TOPIC_ID = bytes(range(16))
POLICY = Policy(BrokerConfig({"log.cleanup.policy": "compact"}), 1, False, random.Random(3))


def image(topic: dict[str, str] | None = None, broker: dict[str, str] | None = None) -> MetadataImage:
    """Topic "t" and broker 1, with these settings of their own."""
    out = MetadataImage()
    records = [record_of(TopicRecord(name="t", topic_id=TOPIC_ID))]
    for resource_type, resource_name, settings in ((TOPIC_RESOURCE, "t", topic), (BROKER_RESOURCE, "1", broker)):
        records += [
            record_of(ConfigRecord(resource_type=resource_type, resource_name=resource_name, name=name, value=value))
            for name, value in (settings or {}).items()
        ]
    for record in records:
        out.replay(record, Delta())
    return out


def incremental(kind: int, name: str, *changes: Change) -> incremental_alter_configs.AlterConfigsResource:
    return incremental_alter_configs.AlterConfigsResource(
        resource_type=kind,
        resource_name=name,
        configs=[
            incremental_alter_configs.AlterableConfig(name=key, config_operation=operation, value=value)
            for key, operation, value in changes
        ],
    )


def full(kind: int, name: str, **settings: str | None) -> alter_configs.AlterConfigsResource:
    return alter_configs.AlterConfigsResource(
        resource_type=kind,
        resource_name=name,
        configs=[
            alter_configs.AlterableConfig(name=key.replace("_", "."), value=value) for key, value in settings.items()
        ],
    )


def changed(
    before: MetadataImage, *resources: incremental_alter_configs.AlterConfigsResource
) -> tuple[dict[tuple[int, str], dict[str, str]], list[ResourceOutcome]]:
    """The settings after the change, by way of its records, and the outcomes."""
    records, outcomes = worked_out(incremental_alter(before, resources, POLICY))
    for record in records:
        before.replay(record, Delta())
    return before.configs, outcomes


def refused(before: MetadataImage, kind: int, name: str, *changes: Change) -> ErrorCode:
    """The code of a change that must not write anything."""
    records, (outcome,) = worked_out(incremental_alter(before, [incremental(kind, name, *changes)], POLICY))
    assert records == []
    assert (outcome.resource_type, outcome.resource_name) == (kind, name)
    assert outcome.error == ErrorCode.NONE or outcome.message
    return outcome.error


# --- what is written -------------------------------------------------------------------------------------------------


def test_settings_are_set_and_deleted_and_the_others_stay() -> None:
    configs, (outcome,) = changed(
        image({"retention.ms": "1", "segment.bytes": "2000000"}),
        incremental(TOPIC_RESOURCE, "t", ("retention.ms", DELETE, "ignored"), ("flush.ms", SET, " 7 ")),
    )
    assert outcome == ResourceOutcome(TOPIC_RESOURCE, "t")
    assert configs == {(TOPIC_RESOURCE, "t"): {"segment.bytes": "2000000", "flush.ms": " 7 "}}


def test_what_changes_nothing_writes_nothing() -> None:
    before = image({"retention.ms": "1"})
    asked = [incremental(TOPIC_RESOURCE, "t", ("retention.ms", SET, "1"), ("flush.ms", DELETE, None))]
    assert worked_out(incremental_alter(before, asked, POLICY)) == ([], [ResourceOutcome(TOPIC_RESOURCE, "t")])
    assert worked_out(alter(before, [full(TOPIC_RESOURCE, "t", retention_ms="1")], POLICY))[0] == []


@pytest.mark.parametrize(
    ("own", "operation", "value", "after"),
    [
        (None, APPEND, "delete", "compact,delete"),  # The broker's default is what is added to.
        ("delete", APPEND, "compact,delete", "delete,compact"),
        ("", APPEND, "delete", "delete"),
        ("compact, delete", SUBTRACT, "compact", "delete"),
        ("compact", SUBTRACT, "compact", ""),
        ("compact", SUBTRACT, "delete", "compact"),
        (None, SUBTRACT, "compact", ""),
    ],
)
def test_elements_are_added_to_and_taken_from_lists(own: str | None, operation: int, value: str, after: str) -> None:
    before = image({"cleanup.policy": own} if own is not None else None)
    configs, (outcome,) = changed(before, incremental(TOPIC_RESOURCE, "t", ("cleanup.policy", operation, value)))
    assert outcome.error == ErrorCode.NONE
    assert configs[TOPIC_RESOURCE, "t"] == {"cleanup.policy": after}


def test_elements_are_added_to_a_brokers_list_where_it_is_set() -> None:
    before = image(broker={"log.cleanup.policy": "delete"})
    configs, outcomes = changed(
        before,
        incremental(BROKER_RESOURCE, "1", ("log.cleanup.policy", APPEND, "compact")),
        incremental(BROKER_RESOURCE, "", ("log.cleanup.policy", APPEND, "delete")),
    )
    assert [outcome.error for outcome in outcomes] == [ErrorCode.NONE, ErrorCode.NONE]
    assert configs[BROKER_RESOURCE, "1"] == {"log.cleanup.policy": "delete,compact"}
    assert configs[BROKER_RESOURCE, ""] == {"log.cleanup.policy": "compact,delete"}


def test_alter_leaves_exactly_what_was_asked() -> None:
    before = image({"retention.ms": "1", "segment.bytes": "2000000"}, {"log.retention.ms": "4"})
    asked = [full(TOPIC_RESOURCE, "t", retention_ms="2"), full(BROKER_RESOURCE, "1")]
    records, outcomes = worked_out(alter(before, asked, POLICY))
    for record in records:
        before.replay(record, Delta())
    assert [outcome.error for outcome in outcomes] == [ErrorCode.NONE, ErrorCode.NONE]
    assert before.configs == {(TOPIC_RESOURCE, "t"): {"retention.ms": "2"}}


def test_a_resource_changes_whole_or_not_at_all_and_does_not_touch_the_others() -> None:
    configs, outcomes = changed(
        image(),
        incremental(TOPIC_RESOURCE, "t", ("retention.ms", SET, "5"), ("segment.bytes", SET, "few")),
        incremental(TOPIC_RESOURCE, "gone", ("retention.ms", SET, "5")),
        incremental(BROKER_RESOURCE, "1", ("log.retention.ms", SET, "6")),
    )
    assert [outcome.error for outcome in outcomes] == [
        ErrorCode.INVALID_CONFIG,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.NONE,
    ]
    assert configs == {(BROKER_RESOURCE, "1"): {"log.retention.ms": "6"}}


def test_an_old_setting_that_is_not_known_does_not_stand_in_the_way() -> None:
    before = image({"internal.segment.bytes": "100"})
    configs, (outcome,) = changed(before, incremental(TOPIC_RESOURCE, "t", ("retention.ms", SET, "1")))
    assert outcome.error == ErrorCode.NONE
    assert configs[TOPIC_RESOURCE, "t"] == {"internal.segment.bytes": "100", "retention.ms": "1"}
    configs, (outcome,) = changed(before, incremental(TOPIC_RESOURCE, "t", ("internal.segment.bytes", DELETE, None)))
    assert outcome.error == ErrorCode.NONE
    assert configs[TOPIC_RESOURCE, "t"] == {"retention.ms": "1"}


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "changes", "code"),
    [
        ("t", [("no.such", SET, "1")], ErrorCode.INVALID_CONFIG),
        ("t", [("no.such", APPEND, "1")], ErrorCode.INVALID_CONFIG),
        ("t", [("no.such", DELETE, None)], ErrorCode.NONE),
        ("t", [("retention.ms", SET, "x")], ErrorCode.INVALID_CONFIG),
        ("t", [("retention.ms", SET, "-2")], ErrorCode.INVALID_CONFIG),
        ("t", [("retention.ms", SET, None)], ErrorCode.INVALID_REQUEST),
        ("t", [("retention.ms", SET, "1"), ("retention.ms", DELETE, None)], ErrorCode.INVALID_REQUEST),
        ("t", [("retention.ms", APPEND, "1")], ErrorCode.INVALID_CONFIG),
        ("t", [("retention.ms", SUBTRACT, "1")], ErrorCode.INVALID_CONFIG),
        ("t", [("cleanup.policy", APPEND, "")], ErrorCode.INVALID_CONFIG),
        ("t", [("cleanup.policy", APPEND, "forget")], ErrorCode.INVALID_CONFIG),
        ("t", [("cleanup.policy", 4, "compact")], ErrorCode.INVALID_REQUEST),
        ("t", [("remote.storage.enable", SET, "true")], ErrorCode.INVALID_CONFIG),
        ("t", [("max.compaction.lag.ms", SET, "1")], ErrorCode.INVALID_CONFIG),  # The topic has a larger minimum.
        ("gone", [], ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ("", [], ErrorCode.INVALID_REQUEST),
        ("a b", [], ErrorCode.INVALID_TOPIC_EXCEPTION),
    ],
)
def test_refused_for_a_topic(name: str, changes: list[Change], code: ErrorCode) -> None:
    assert refused(image({"min.compaction.lag.ms": "2"}), TOPIC_RESOURCE, name, *changes) == code


@pytest.mark.parametrize(
    ("name", "changes", "code"),
    [
        ("1", [("num.partitions", SET, "3")], ErrorCode.INVALID_REQUEST),
        ("", [("num.partitions", SET, "3")], ErrorCode.INVALID_REQUEST),
        ("1", [("num.partitions", DELETE, None)], ErrorCode.NONE),
        ("1", [("log.retention.ms", SET, "x")], ErrorCode.INVALID_REQUEST),
        ("1", [("log.retention.ms", SET, "0")], ErrorCode.INVALID_REQUEST),
        ("1", [("log.retention.ms", SET, None)], ErrorCode.INVALID_REQUEST),
        ("1", [("log.retention.ms", APPEND, "1")], ErrorCode.INVALID_CONFIG),
        ("1", [("no.such", SUBTRACT, "1")], ErrorCode.INVALID_CONFIG),
        ("1", [("log.retention.ms", 9, "1")], ErrorCode.INVALID_REQUEST),
        ("1", [("ssl.key.password", SET, "x")], ErrorCode.INVALID_REQUEST),
        ("1", [("listener.name.plain.max.connections", SET, "x")], ErrorCode.INVALID_REQUEST),
        ("", [("listener.name.plain.max.connections", SET, "1")], ErrorCode.INVALID_REQUEST),
        ("", [("sasl.enabled.mechanisms", SET, "PLAIN")], ErrorCode.INVALID_REQUEST),
        ("2", [], ErrorCode.INVALID_REQUEST),
        ("one", [], ErrorCode.INVALID_REQUEST),
    ],
)
def test_refused_for_a_broker(name: str, changes: list[Change], code: ErrorCode) -> None:
    assert refused(image(), BROKER_RESOURCE, name, *changes) == code


def test_a_broker_takes_settings_that_are_not_known_and_those_of_a_listener() -> None:
    configs, (outcome,) = changed(
        image(),
        incremental(
            BROKER_RESOURCE,
            "1",
            ("some.plugin.size", SET, "9"),
            ("listener.name.plain.ssl.key.password", SET, "x"),
            ("sasl.enabled.mechanisms", SET, "PLAIN"),
        ),
    )
    assert outcome.error == ErrorCode.NONE
    assert len(configs[BROKER_RESOURCE, "1"]) == 3


@pytest.mark.parametrize("kind", [-1, 0, 1, 3, 8, 16, 32, 64])
def test_other_resources_have_no_settings(kind: int) -> None:
    assert refused(image(), kind, "1", ("retention.ms", SET, "1")) == ErrorCode.INVALID_REQUEST


def test_a_resource_named_twice_is_refused_both_times_and_the_others_are_not() -> None:
    before = image()
    records, outcomes = worked_out(
        alter(
            before,
            [
                full(TOPIC_RESOURCE, "t", retention_ms="1"),
                full(TOPIC_RESOURCE, "t", retention_ms="2"),
                full(BROKER_RESOURCE, "1", log_retention_ms="3"),
            ],
            POLICY,
        )
    )
    assert [outcome.error for outcome in outcomes] == [42, 42, 0]
    assert len(records) == 1
    assert refused(before, TOPIC_RESOURCE, "t", ("retention.ms", SET, None)) == ErrorCode.INVALID_REQUEST


def test_alter_refuses_nulls_and_names_given_twice() -> None:
    twice = full(TOPIC_RESOURCE, "t", retention_ms="1")
    twice.configs += twice.configs
    for asked in (full(TOPIC_RESOURCE, "t", retention_ms=None), twice):
        records, (outcome,) = worked_out(alter(image(), [asked], POLICY))
        assert (records, outcome.error) == ([], ErrorCode.INVALID_REQUEST)


def test_others_have_their_turn_after_each_resource(monkeypatch: pytest.MonkeyPatch) -> None:
    before, done = image(), []
    make = config_changes.record_of

    def noting(message: ConfigRecord) -> MetadataRecord:
        done.append(make(message))
        return done[-1]

    for number in range(200):
        before.replay(record_of(TopicRecord(name=f"t{number}", topic_id=number.to_bytes(16, "big"))), Delta())
    monkeypatch.setattr(config_changes, "record_of", noting)
    names = [f"t{number}" for number in range(200)]
    one_by_one = [incremental(TOPIC_RESOURCE, name, ("retention.ms", SET, "5")) for name in names]
    assert most_between(incremental_alter(before, one_by_one, POLICY), done) == 1
    assert most_between(alter(before, [full(TOPIC_RESOURCE, name, flush_ms="5") for name in names], POLICY), done) == 1
    assert len(done) == 400
