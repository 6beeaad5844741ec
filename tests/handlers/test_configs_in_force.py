"""Changed settings do something at once, survive a restart and a crash, and are what Kafka's own clients see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewTopic,
    ResourceType,
)

from odradek.protocol.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)
from tests.broker import BrokerProcess
from tests.raw_client import RawClient, batch
from tests.reference import needs_java, run_java, tools_classpath

TIMEOUT_S = 20
MESSAGE_TOO_LARGE = 10
TOPIC = "settings"


@pytest.fixture
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """A broker with a topic."""
    with BrokerProcess(tmp_path_factory.mktemp("broker"), "log.retention.hours=24") as process:
        client = admin(process)
        client.create_topics([NewTopic(TOPIC, 1, 1)])[TOPIC].result(TIMEOUT_S)
        yield process


def admin(broker: BrokerProcess) -> AdminClient:
    return AdminClient({"bootstrap.servers": broker.bootstrap})


def change(broker: BrokerProcess, kind: ResourceType, resource: str, **settings: str) -> None:
    entries = [
        ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
        for name, value in settings.items()
    ]
    asked = ConfigResource(kind, resource, incremental_configs=entries)
    client = admin(broker)
    for future in client.incremental_alter_configs([asked]).values():
        future.result(TIMEOUT_S)


def change_all_brokers(broker: BrokerProcess, name: str, value: str) -> None:
    """librdkafka has no name for all brokers."""
    setting = AlterableConfig(name=name, config_operation=0, value=value)
    asked = AlterConfigsResource(resource_type=4, resource_name="", configs=[setting])
    with RawClient(broker.port) as client:
        answer = client.call(
            IncrementalAlterConfigsRequest(resources=[asked]), IncrementalAlterConfigsResponse, version=1
        )
    assert answer.responses[0].error_code == 0, answer


def described(broker: BrokerProcess, kind: ResourceType, resource: str) -> dict[str, Any]:
    client = admin(broker)
    (future,) = client.describe_configs([ConfigResource(kind, resource)]).values()
    found: dict[str, Any] = future.result(TIMEOUT_S)
    return found


def produce_error(broker: BrokerProcess, size: int) -> int:
    with RawClient(broker.port) as client:
        return int(client.produce(TOPIC, batch(bytes(size))).error_code)


def test_a_topics_limit_is_in_force_when_the_change_is_answered(broker: BrokerProcess) -> None:
    assert produce_error(broker, 1000) == 0
    change(broker, ResourceType.TOPIC, TOPIC, max_message_bytes="500")
    assert produce_error(broker, 1000) == MESSAGE_TOO_LARGE
    assert produce_error(broker, 100) == 0


def test_a_brokers_limit_is_that_of_topics_without_their_own_and_survives_a_crash(broker: BrokerProcess) -> None:
    change_all_brokers(broker, "message.max.bytes", "500")
    assert produce_error(broker, 1000) == MESSAGE_TOO_LARGE
    change(broker, ResourceType.BROKER, "1", message_max_bytes="5000")
    assert produce_error(broker, 1000) == 0
    broker.kill()
    broker.start()
    assert produce_error(broker, 1000) == 0
    assert produce_error(broker, 10_000) == MESSAGE_TOO_LARGE
    entry = described(broker, ResourceType.TOPIC, TOPIC)["max.message.bytes"]
    assert (entry.value, entry.source) == ("5000", ConfigSource.DYNAMIC_BROKER_CONFIG.value)
    change(broker, ResourceType.TOPIC, TOPIC, max_message_bytes="700")
    broker.stop()
    broker.start()
    assert produce_error(broker, 1000) == MESSAGE_TOO_LARGE


def test_a_coarser_unit_in_the_file_is_named_as_the_source(broker: BrokerProcess) -> None:
    """Kafka calls it the default."""
    entry = described(broker, ResourceType.TOPIC, TOPIC)["retention.ms"]
    assert (entry.value, entry.source) == ("86400000", ConfigSource.STATIC_BROKER_CONFIG.value)
    assert list(entry.synonyms) == ["log.retention.hours"]
    assert described(broker, ResourceType.BROKER, "1")["log.retention.hours"].source == 4


@needs_java
def test_kafkas_own_tool_changes_and_describes_settings(broker: BrokerProcess) -> None:
    def configs(*arguments: str) -> str:
        command = ("kafka.admin.ConfigCommand", "--bootstrap-server", broker.bootstrap)
        done = run_java(tools_classpath(), *command, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    topic = ("--entity-type", "topics", "--entity-name", TOPIC)
    configs(*topic, "--alter", "--add-config", "retention.ms=5,cleanup.policy=[compact,delete]")
    told = configs(*topic, "--describe")
    assert "retention.ms=5 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:retention.ms=5" in told
    assert "cleanup.policy=compact,delete " in told
    configs(*topic, "--alter", "--delete-config", "retention.ms,cleanup.policy")
    assert "retention.ms" not in configs(*topic, "--describe")
    every = configs("--entity-type", "brokers", "--entity-default", "--alter", "--add-config", "log.retention.ms=7")
    assert "Completed" in every
    assert "log.retention.ms=7" in configs("--entity-type", "brokers", "--entity-default", "--describe")
    assert "num.partitions=1" in configs("--entity-type", "brokers", "--entity-name", "1", "--describe", "--all")
