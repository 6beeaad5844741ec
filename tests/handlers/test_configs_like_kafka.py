"""Settings described and changed, what has settings listed, the cluster described: in every version as Apache Kafka.

Deviations are spelled out where a test makes them. Of errors' sentences those that DescribeConfigs says of brokers and
topics are compared, of the others only whether there is one; not compared are those of documentation, and
settings that were given to one of the two brokers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from odradek.protocol.messages import alter_configs, incremental_alter_configs
from odradek.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from odradek.protocol.messages.describe_cluster import DescribeClusterRequest, DescribeClusterResponse
from odradek.protocol.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResponse,
)
from odradek.protocol.messages.list_config_resources import ListConfigResourcesRequest, ListConfigResourcesResponse
from odradek.protocol.registry import BY_NAME
from tests.broker import BrokerProcess
from tests.handlers.comparison import ATTEMPTS, Peer, Plain, differences
from tests.raw_client import RawClient

Compare = Callable[[Callable[[Peer], Plain]], Plain]
Change = tuple[str, int, str | None]
VERSIONS = {name: range(api.served.first, api.served.last + 1) for name, api in BY_NAME.items()}
TOPIC, BROKER = 2, 4
SET, DELETE, APPEND, SUBTRACT = range(4)
NAME = "configs-like-kafka"
# Given to the reference, or to this broker; or with a default of our own.
NOT_COMPARED = {
    "advertised.listeners",
    "broker.id",
    "controller.listener.names",
    "controller.quorum.voters",
    "group.initial.rebalance.delay.ms",
    "listener.security.protocol.map",
    "listeners",
    "log.dir",
    "log.dirs",
    "node.id",
    "offsets.topic.num.partitions",
    "offsets.topic.replication.factor",
    "process.roles",
    "producer.id.expiration.check.interval.ms",
    "queued.max.request.bytes",
    "share.coordinator.state.topic.min.isr",
    "share.coordinator.state.topic.replication.factor",
    "transaction.state.log.min.isr",
    "transaction.state.log.replication.factor",
    # Kafka sets it for the cluster by itself, for its eligible leader replicas.
    "min.insync.replicas",
}
WITH_TYPES = 3


@pytest.fixture(scope="module")
def compare(kafka_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compare]:
    """Runs a scenario against Kafka and against this broker, both with a topic; equal results are returned."""
    with (
        BrokerProcess(tmp_path_factory.mktemp("broker")) as broker,
        RawClient(kafka_port) as kafka_client,
        RawClient(broker.port) as client,
    ):
        kafka, here = Peer(kafka_client, is_kafka=True), Peer(client, is_kafka=False)
        for peer in (kafka, here):
            made = peer.client.call(
                CreateTopicsRequest(
                    topics=[CreatableTopic(name=NAME, num_partitions=1, replication_factor=1)], timeout_ms=10_000
                ),
                CreateTopicsResponse,
                5,
            )
            assert made.topics[0].error_code == 0, made
            peer.until_led(NAME)
        forget_settings_of_brokers(kafka)

        def run(scenario: Callable[[Peer], Plain]) -> Plain:
            theirs, ours = scenario(kafka), scenario(here)
            assert not (different := differences(theirs, ours)), "\n".join(different)
            return ours

        yield run


# --- requests --------------------------------------------------------------------------------------------------------


def describe(
    peer: Peer,
    *resources: tuple[int, str, list[str] | None],
    version: int = 4,
    synonyms: bool = True,
    documentation: bool = False,
) -> Plain:
    request = DescribeConfigsRequest(
        resources=[
            DescribeConfigsResource(resource_type=kind, resource_name=name, configuration_keys=keys)
            for kind, name, keys in resources
        ],
        include_synonyms=synonyms,
        include_documentation=documentation,
    )
    answer = peer.call(request, DescribeConfigsResponse, version)
    for result in answer["results"]:
        result["configs"] = sorted(
            (
                {**config, "documentation": bool(config["documentation"])}
                for config in result["configs"]
                if config["name"] not in NOT_COMPARED and not config["name"].startswith("odradek.")
            ),
            key=lambda config: str(config["name"]),
        )
    return answer


def described_as(peer: Peer, kind: int, name: str, expected: dict[str, str | None]) -> Plain:
    """The description, once it shows these values: Kafka answers a change before it is in force everywhere."""
    for _ in range(ATTEMPTS):
        answer = describe(peer, (kind, name, list(expected)))
        if {config["name"]: config["value"] for config in answer["results"][0]["configs"]} == expected:
            return answer
    raise AssertionError(f"never described as expected: {answer}")


def incremental(peer: Peer, *resources: tuple[int, str, list[Change]], version: int = 1, validate: bool = False) -> Any:
    request = incremental_alter_configs.IncrementalAlterConfigsRequest(
        resources=[
            incremental_alter_configs.AlterConfigsResource(
                resource_type=kind,
                resource_name=name,
                configs=[
                    incremental_alter_configs.AlterableConfig(name=key, config_operation=operation, value=value)
                    for key, operation, value in changes
                ],
            )
            for kind, name, changes in resources
        ],
        validate_only=validate,
    )
    return peer.call(request, incremental_alter_configs.IncrementalAlterConfigsResponse, version)


def alter(
    peer: Peer, *resources: tuple[int, str, list[tuple[str, str | None]]], version: int = 2, validate: bool = False
) -> Any:
    request = alter_configs.AlterConfigsRequest(
        resources=[
            alter_configs.AlterConfigsResource(
                resource_type=kind,
                resource_name=name,
                configs=[alter_configs.AlterableConfig(name=key, value=value) for key, value in settings],
            )
            for kind, name, settings in resources
        ],
        validate_only=validate,
    )
    return peer.call(request, alter_configs.AlterConfigsResponse, version)


def forget_settings_of_brokers(peer: Peer) -> None:
    """Takes back what other tests have set on a broker that they share."""
    set_dynamically = 2, 3
    for name in ("1", ""):
        own = [
            config["name"]
            for config in describe(peer, (BROKER, name, None))["results"][0]["configs"]
            if config["config_source"] in set_dynamically
        ]
        incremental(peer, (BROKER, name, [(key, DELETE, None) for key in own]))
    for _ in range(ATTEMPTS):
        left = describe(peer, (BROKER, "1", None))["results"][0]["configs"]
        if not any(config["config_source"] in set_dynamically for config in left):
            return
    raise AssertionError(f"settings do not go: {left}")


# --- described -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS["DescribeConfigs"])
@pytest.mark.parametrize(("kind", "name", "least"), [(TOPIC, NAME, 35), (BROKER, "1", 330), (BROKER, "01", 330)])
def test_every_setting(compare: Compare, version: int, kind: int, name: str, least: int) -> None:
    for synonyms in (False, True):
        for documentation in {False, version >= WITH_TYPES}:
            answer = compare(
                lambda peer, s=synonyms, d=documentation: describe(  # type: ignore[misc]
                    peer, (kind, name, None), version=version, synonyms=s, documentation=d
                )
            )
            configs = answer["results"][0]["configs"]
            assert len(configs) >= least
            assert any(config["synonyms"] for config in configs) == synonyms
            assert all(config["documentation"] for config in configs) == documentation


def test_chosen_names(compare: Compare) -> None:
    for keys in (["retention.ms", "no.such"], ["retention.ms", "retention.ms"], [], None):
        compare(lambda peer, k=keys: describe(peer, (TOPIC, NAME, k)))  # type: ignore[misc]
    compare(lambda peer: describe(peer, (TOPIC, NAME, ["flush.ms"]), (TOPIC, NAME, ["segment.ms"]), (BROKER, "1", [])))


@pytest.mark.parametrize("version", VERSIONS["DescribeConfigs"])
def test_resources_that_cannot_be_described(compare: Compare, version: int) -> None:
    wrong = [(TOPIC, "no-such"), (TOPIC, ""), (TOPIC, "a b"), (BROKER, "7"), (BROKER, "x"), (BROKER, "-1")]
    answer = compare(lambda peer: describe(peer, *((kind, name, None) for kind, name in wrong), version=version))
    assert [result["error_code"] for result in answer["results"]] == [3, 17, 17, 42, 42, 42]
    for kind in (-1, 0, 1, 3, 64):
        answer = compare(lambda peer, k=kind: describe(peer, (TOPIC, NAME, None), (k, "1", None), version=version))  # type: ignore[misc]
        assert [result["error_code"] for result in answer["results"]] == [42, 42]


# As Java reads numbers: with a sign, with other digits than ASCII's, of 32 bits; not with spaces or underscores.
IDS = ["01", "+1", "0" * 30 + "1", "\u0661", " 1", "1_0", "\u00b2", "+", "x", "7", "-1", "2147483647", "2147483648"]
IDS += ["-2147483648", "-2147483649", "99999999999", "9" * 5000]


def test_what_is_said_of_a_resource_that_cannot_be_described(compare: Compare) -> None:
    wrong = [(TOPIC, name) for name in ("no-such", "", "a b", ".", "..", "x" * 250)] + [(BROKER, name) for name in IDS]
    request = DescribeConfigsRequest(
        resources=[
            DescribeConfigsResource(resource_type=kind, resource_name=name, configuration_keys=["log.dirs"])
            for kind, name in wrong
        ]
    )

    def scenario(peer: Peer) -> Plain:
        answer = peer.client.call(request, DescribeConfigsResponse, 4)
        return [[result.resource_name, result.error_code, result.error_message] for result in answer.results]

    answer = compare(scenario)
    assert [code for _, code, _ in answer] == [3] + [17] * 5 + [0] * 4 + [42] * 13
    assert len({message for _, _, message in answer}) > 16


def test_resources_that_are_named_several_times(compare: Compare) -> None:
    asked = [(TOPIC, NAME, ["flush.ms"]), (BROKER, "1", ["log.roll.ms"]), (TOPIC, NAME, ["segment.ms"])] * 2
    answer = compare(lambda peer: describe(peer, *asked))
    assert [len(result["configs"]) for result in answer["results"]] == [1] * 6


# --- changed ---------------------------------------------------------------------------------------------------------

TOPIC_CHANGES: list[list[Change]] = [
    [("no.such", SET, "1")],
    [("no.such", DELETE, None)],
    [("no.such", SET, None)],
    [("no.such", SET, "1"), ("retention.ms", SET, "x")],
    [("retention.ms", SET, "x")],
    [("retention.ms", SET, "")],
    [("retention.ms", SET, "9_9")],
    [("retention.ms", SET, "-2")],
    [("retention.ms", SET, None)],
    [("retention.ms", DELETE, "5")],
    [("retention.ms", SET, "1"), ("retention.ms", SET, "2")],
    [("retention.ms", SET, "1"), ("retention.ms", DELETE, None)],
    [("retention.ms", APPEND, "1")],
    [("retention.ms", SUBTRACT, "1")],
    [("segment.bytes", SET, "99999999999")],
    [("compression.type", SET, "fast")],
    [("compression.gzip.level", SET, "0")],
    [("preallocate", SET, "maybe")],
    [("min.cleanable.dirty.ratio", SET, "1.5")],
    [("cleanup.policy", SET, "forget")],
    [("cleanup.policy", APPEND, "")],
    [("cleanup.policy", APPEND, None)],
    [("min.compaction.lag.ms", SET, "100"), ("max.compaction.lag.ms", SET, "10")],
    [("remote.storage.enable", SET, "true")],
    [("leader.replication.throttled.replicas", SET, "none")],
    [("min.insync.replicas", SET, "0")],
    [],
]
BROKER_CHANGES: list[list[Change]] = [
    [("num.partitions", SET, "3")],
    [("num.partitions", DELETE, None)],
    [("log.retention.ms", SET, "5"), ("num.partitions", SET, "3")],
    [("log.retention.ms", SET, "x")],
    [("log.retention.ms", SET, "0")],
    [("log.retention.ms", SET, None)],
    [("log.retention.ms", APPEND, "1")],
    [("log.retention.ms", SUBTRACT, "1")],
    [("log.retention.ms", 9, "1")],
    [("log.roll.ms", SET, "0")],
    [("log.segment.bytes", SET, "10")],
    [("message.max.bytes", SET, "-3")],
    [("compression.type", SET, "fast")],
    [("compression.type", SET, "gzip"), ("compression.type", SET, "lz4")],
    [("log.cleanup.policy", APPEND, "")],
    [("log.cleanup.policy", APPEND, "forget")],
    [("no.such", APPEND, "1")],
    [("broker.id", SET, "5")],
    [("log.dirs", APPEND, "x")],
    [("ssl.key.password", SET, "x")],
    [("listener.name.plaintext.max.connections", SET, "x")],
    [],
]
ALL_BROKERS_CHANGES: list[list[Change]] = [
    [("num.partitions", SET, "3")],
    [("log.retention.ms", SET, "x")],
    [("ssl.key.password", SET, "x")],
    [("sasl.enabled.mechanisms", SET, "PLAIN")],
    [("listener.name.plaintext.ssl.key.password", SET, "x")],
]


@pytest.mark.parametrize("version", VERSIONS["IncrementalAlterConfigs"])
@pytest.mark.parametrize(
    ("kind", "name", "changes"),
    [
        *((TOPIC, NAME, changes) for changes in TOPIC_CHANGES),
        *((BROKER, "1", changes) for changes in BROKER_CHANGES),
        *((BROKER, "", changes) for changes in ALL_BROKERS_CHANGES),
        *((TOPIC, name, []) for name in ("no-such", "", "a b")),
        *((BROKER, name, []) for name in ("7", "x", "-1")),
        *((kind, "1", []) for kind in (-1, 0, 1, 3, 64)),
    ],
)
def test_changes_one_by_one(compare: Compare, version: int, kind: int, name: str, changes: list[Change]) -> None:
    compare(lambda peer: incremental(peer, (kind, name, changes), version=version))
    compare(lambda peer: incremental(peer, (kind, name, changes), version=version, validate=True))


@pytest.mark.parametrize("version", VERSIONS["IncrementalAlterConfigs"])
def test_resources_of_unknown_types_do_not_touch_the_others(compare: Compare, version: int) -> None:
    compare(lambda peer: incremental(peer, (64, "1", []), (TOPIC, NAME, []), version=version, validate=True))


@pytest.mark.parametrize("version", VERSIONS["IncrementalAlterConfigs"])
def test_resources_named_twice_are_refused_and_the_answers_keep_their_order(compare: Compare, version: int) -> None:
    answer = compare(
        lambda peer: incremental(
            peer,
            (TOPIC, NAME, [("retention.ms", SET, "1")]),
            (BROKER, "1", []),
            (TOPIC, NAME, [("flush.ms", SET, "1")]),
            (TOPIC, "no-such", []),
            (BROKER, "", []),
            version=version,
        )
    )
    assert [response["error_code"] for response in answer["responses"]] == [42, 0, 42, 3, 0]


def test_changes_of_a_topic_are_described(compare: Compare) -> None:
    steps: list[tuple[list[Change], dict[str, str | None]]] = [
        ([("retention.ms", SET, " +99 ")], {"retention.ms": "99", "flush.ms": "9223372036854775807"}),
        ([("cleanup.policy", APPEND, "compact")], {"cleanup.policy": "delete,compact"}),
        ([("cleanup.policy", APPEND, "compact")], {"cleanup.policy": "delete,compact"}),
        ([("cleanup.policy", SUBTRACT, "delete")], {"cleanup.policy": "compact"}),
        ([("cleanup.policy", SUBTRACT, "compact")], {"cleanup.policy": ""}),
        ([("cleanup.policy", SET, " delete , compact ")], {"cleanup.policy": "delete,compact"}),
        ([("cleanup.policy", DELETE, None)], {"cleanup.policy": "delete"}),
        ([("preallocate", SET, "TRUE"), ("min.cleanable.dirty.ratio", SET, "1e-1")], {"preallocate": "true"}),
        ([("leader.replication.throttled.replicas", SET, "0:1,1:2")], {"min.cleanable.dirty.ratio": "0.1"}),
    ]
    for changes, expected in steps:

        def scenario(peer: Peer, changes: list[Change] = changes, expected: Any = expected) -> Plain:
            return [incremental(peer, (TOPIC, NAME, changes)), described_as(peer, TOPIC, NAME, expected)]

        assert compare(scenario)[0]["responses"][0]["error_code"] == 0
    compare(lambda peer: describe(peer, (TOPIC, NAME, None)))
    compare(lambda peer: incremental(peer, (TOPIC, NAME, [("retention.ms", SET, "5")]), validate=True))
    compare(lambda peer: described_as(peer, TOPIC, NAME, {"retention.ms": "99"}))

    def replace(peer: Peer) -> Plain:
        answer = alter(peer, (TOPIC, NAME, [("retention.bytes", "5")]))
        expected = {"retention.bytes": "5", "retention.ms": "604800000", "preallocate": "false"}
        return [answer, described_as(peer, TOPIC, NAME, expected)]

    compare(replace)

    def clear(peer: Peer) -> Plain:
        return [alter(peer, (TOPIC, NAME, [])), described_as(peer, TOPIC, NAME, {"retention.bytes": "-1"})]

    compare(clear)


@pytest.mark.parametrize("version", VERSIONS["AlterConfigs"])
def test_replacements_that_are_refused(compare: Compare, version: int) -> None:
    wrong: list[tuple[int, str, list[tuple[str, str | None]]]] = [
        (TOPIC, NAME, [("retention.ms", None)]),
        (TOPIC, NAME, [("retention.ms", "1"), ("retention.ms", "2")]),
        (TOPIC, NAME, [("retention.ms", "x")]),
        (TOPIC, NAME, [("no.such", "1")]),
        (TOPIC, "no-such", [("retention.ms", "1")]),
        (TOPIC, "", [("retention.ms", "1")]),
        (BROKER, "1", [("num.partitions", "2")]),
        (BROKER, "1", [("log.retention.ms", None)]),
        (BROKER, "9", [("log.retention.ms", "5")]),
        (BROKER, "x", [("log.retention.ms", "5")]),
        (8, "1", [("root", "DEBUG")]),
        (64, "1", [("foo", "1")]),
    ]
    for resource in wrong:
        answer = compare(lambda peer, r=resource: alter(peer, r, version=version))  # type: ignore[misc]
        assert answer["responses"][0]["error_code"] != 0
    compare(lambda peer: alter(peer, (TOPIC, NAME, [("retention.ms", "5")]), version=version, validate=True))
    compare(lambda peer: described_as(peer, TOPIC, NAME, {"retention.ms": "604800000"}))


def test_changes_of_brokers_are_described_and_become_defaults_of_topics(compare: Compare) -> None:
    def layered(peer: Peer) -> Plain:
        answer = incremental(
            peer,
            (BROKER, "1", [("log.retention.ms", SET, "111000")]),
            (BROKER, "", [("log.retention.ms", SET, "222000"), ("message.max.bytes", SET, "2000000")]),
        )
        return [
            answer,
            described_as(peer, BROKER, "1", {"log.retention.ms": "111000", "message.max.bytes": "2000000"}),
            described_as(peer, TOPIC, NAME, {"retention.ms": "111000", "max.message.bytes": "2000000"}),
            described_as(peer, BROKER, "", {"log.retention.ms": "222000", "message.max.bytes": "2000000"}),
            describe(peer, (BROKER, "1", ["log.retention.hours", "log.retention.minutes"]), (BROKER, "", None)),
        ]

    compare(layered)

    def without_its_own(peer: Peer) -> Plain:
        return [
            incremental(peer, (BROKER, "1", [("log.retention.ms", DELETE, None)])),
            described_as(peer, BROKER, "1", {"log.retention.ms": "222000"}),
            described_as(peer, TOPIC, NAME, {"retention.ms": "222000"}),
        ]

    compare(without_its_own)

    def unknown(peer: Peer) -> Plain:
        return [
            incremental(peer, (BROKER, "1", [("some.plugin", SET, "3")]), (BROKER, "", [("some.plugin", SET, "4")])),
            described_as(peer, BROKER, "", {"some.plugin": None}),
            described_as(peer, BROKER, "1", {"some.plugin": None}),
        ]

    compare(unknown)

    def list_changes(peer: Peer) -> Plain:
        return [
            incremental(peer, (BROKER, "1", [("log.cleanup.policy", APPEND, "compact")])),
            described_as(peer, BROKER, "1", {"log.cleanup.policy": "delete,compact"}),
            described_as(peer, TOPIC, NAME, {"cleanup.policy": "delete,compact"}),
            incremental(peer, (BROKER, "1", [("log.cleanup.policy", SUBTRACT, "delete")])),
            described_as(peer, BROKER, "1", {"log.cleanup.policy": "compact"}),
        ]

    compare(list_changes)

    def cleared(peer: Peer) -> Plain:
        gone: list[Change] = [(name, DELETE, None) for name in ("log.retention.ms", "message.max.bytes", "some.plugin")]
        return [
            alter(peer, (BROKER, "1", [])),
            incremental(peer, (BROKER, "", gone)),
            described_as(peer, BROKER, "1", {"log.retention.ms": None, "log.cleanup.policy": "delete"}),
            described_as(peer, TOPIC, NAME, {"retention.ms": "604800000", "max.message.bytes": "1048588"}),
            describe(peer, (BROKER, "", None)),
        ]

    compare(cleared)


# --- what this broker does better ------------------------------------------------------------------------------------


def test_a_resource_named_twice_in_alter_configs_is_answered(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Kafka 4.4 does not answer."""
    with BrokerProcess(tmp_path_factory.mktemp("broker"), memory=True) as broker, RawClient(broker.port) as client:
        answer = alter(Peer(client, is_kafka=False), (BROKER, "1", []), (BROKER, "1", []))
        assert [response["error_code"] for response in answer["responses"]] == [42, 42]


# --- listed ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "types"),
    [(0, []), *((1, types) for types in ([], [2], [4], [16], [32], [4, 2], [4, 4], [0], [64], [2, 99], [-1]))],
)
def test_resources_are_listed(compare: Compare, version: int, types: list[int]) -> None:
    def scenario(peer: Peer) -> Plain:
        answer = peer.call(ListConfigResourcesRequest(resource_types=types), ListConfigResourcesResponse, version)
        answer["config_resources"] = sorted(
            (resource["resource_type"], resource["resource_name"])
            for resource in answer["config_resources"]
            # Topics of other tests; and broker loggers, which do not change here and are not listed.
            if resource["resource_type"] not in (TOPIC, 8) or resource["resource_name"] == NAME
        )
        return answer

    listed = compare(scenario)["config_resources"]
    assert ((TOPIC, NAME) in listed) == (version == 1 and types in ([], [2], [4, 2]))


@pytest.mark.parametrize("version", VERSIONS["DescribeCluster"])
def test_the_cluster_is_described(compare: Compare, version: int) -> None:
    for endpoint in (1, 2, 3) if version else (1,):
        for operations in (False, True):
            request = DescribeClusterRequest(
                include_cluster_authorized_operations=operations,
                endpoint_type=endpoint,
                include_fenced_brokers=version > 1,
            )
            compare(lambda peer, r=request: peer.call(r, DescribeClusterResponse, version))  # type: ignore[misc]
