"""What each client's administration sees and changes."""

from __future__ import annotations

import pytest

from tests.broker import BrokerProcess
from tests.clients.driver import ClientError, Driver, Feature, Record
from tests.clients.every import case, every_client

BASE_MS = 1_700_000_000_000
NODE = {"leader": 1, "replicas": [1], "isr": [1]}


@pytest.fixture
def made(bootstrap: str, admin: Driver, topic: str) -> str:
    """A topic of one partition with three records, the newest in the middle."""
    admin.create_topic(bootstrap, topic, 1)
    times = (BASE_MS, BASE_MS + 500, BASE_MS + 200)
    admin.produce(bootstrap, topic, [Record(b"k", b"v", (), time) for time in times], idempotent=True)
    return topic


@case("topics created, enlarged, deleted")
@every_client(Feature.ADMIN)
def test_create_and_delete_a_topic(bootstrap: str, driver: Driver, topic: str) -> None:
    driver.create_topic(bootstrap, topic, 2, {"retention.ms": "123456"})
    assert topic in driver.topics(bootstrap)
    assert driver.describe_configs(bootstrap, topic)["retention.ms"] == "123456"
    with pytest.raises(ClientError) as refused:
        driver.create_topic(bootstrap, topic, 2)
    assert refused.value.name == "TOPIC_ALREADY_EXISTS"
    driver.delete_topic(bootstrap, topic)
    assert topic not in driver.topics(bootstrap)
    with pytest.raises(ClientError) as refused:
        driver.delete_topic(bootstrap, topic)
    assert refused.value.name == "UNKNOWN_TOPIC_OR_PARTITION"


@case("topics created, enlarged, deleted")
@every_client(Feature.ADMIN)
def test_a_bad_name_and_a_bad_config_are_refused(bootstrap: str, driver: Driver, topic: str) -> None:
    with pytest.raises(ClientError) as refused:
        driver.create_topic(bootstrap, "no spaces", 1)
    assert refused.value.name == "INVALID_TOPIC_EXCEPTION"
    with pytest.raises(ClientError) as refused:
        driver.create_topic(bootstrap, topic, 1, {"retention.ms": "soon"})
    assert refused.value.name == "INVALID_CONFIG"
    assert topic not in driver.topics(bootstrap)


@case("topics, cluster described")
@every_client()
def test_describe_a_topic(bootstrap: str, admin: Driver, driver: Driver, topic: str) -> None:
    admin.create_topic(bootstrap, topic, 3)
    assert driver.describe_topic(bootstrap, topic) == {0: NODE, 1: NODE, 2: NODE}


@case("topics created, enlarged, deleted")
@every_client(Feature.ADMIN)
def test_more_partitions(bootstrap: str, driver: Driver, made: str) -> None:
    driver.create_partitions(bootstrap, made, 3)
    assert driver.describe_topic(bootstrap, made) == {0: NODE, 1: NODE, 2: NODE}
    driver.produce(bootstrap, made, [Record(b"k", b"in the new one")], partition=2)
    (found,) = driver.read(bootstrap, made, partition=2, count=1)
    assert found.record.value == b"in the new one"
    with pytest.raises(ClientError) as refused:
        driver.create_partitions(bootstrap, made, 2)
    assert refused.value.name == "INVALID_PARTITIONS"


@case("configs described, altered")
@every_client(Feature.ADMIN)
def test_alter_a_config(bootstrap: str, admin: Driver, driver: Driver, topic: str) -> None:
    admin.create_topic(bootstrap, topic, 1, {"retention.ms": "123456"})
    driver.alter_config(bootstrap, topic, "max.message.bytes", "2000")
    configs = driver.describe_configs(bootstrap, topic)
    assert configs["max.message.bytes"] == "2000"
    if Feature.ALTER_CONFIGS_INCREMENTALLY not in driver.features:
        # AlterConfigs, the older call, sets back what it does not name.
        assert configs["retention.ms"] == "604800000"
    with pytest.raises(ClientError) as refused:
        driver.produce(bootstrap, topic, [Record(b"k", bytes(3000))])
    assert refused.value.name in ("MESSAGE_TOO_LARGE", "RECORD_TOO_LARGE")
    with pytest.raises(ClientError) as refused:
        driver.alter_config(bootstrap, topic, "max.message.bytes", "many")
    assert refused.value.name == "INVALID_CONFIG"


@case("one config altered, the others left")
@every_client(Feature.ALTER_CONFIGS_INCREMENTALLY)
def test_alter_one_config(bootstrap: str, admin: Driver, driver: Driver, topic: str) -> None:
    admin.create_topic(bootstrap, topic, 1, {"retention.ms": "123456"})
    driver.alter_config(bootstrap, topic, "max.message.bytes", "2000")
    configs = driver.describe_configs(bootstrap, topic)
    assert (configs["max.message.bytes"], configs["retention.ms"]) == ("2000", "123456")


@case("topics, cluster described")
@every_client()
def test_describe_the_cluster(broker: BrokerProcess, admin: Driver, driver: Driver) -> None:
    described = driver.describe_cluster(broker.bootstrap)
    assert described["nodes"] == {1: broker.bootstrap}
    assert described["controller"] == 1
    if "cluster_id" in described:
        assert described["cluster_id"] == admin.describe_cluster(broker.bootstrap)["cluster_id"]
        assert len(described["cluster_id"]) == 22


@case("records deleted")
@every_client(Feature.ADMIN)
def test_delete_records(bootstrap: str, driver: Driver, made: str) -> None:
    assert driver.delete_records(bootstrap, made, 2) == 2
    assert driver.watermarks(bootstrap, made) == (2, 3)
    (found,) = driver.read(bootstrap, made, count=1)
    assert found.offset == 2
    with pytest.raises(ClientError) as refused:
        driver.delete_records(bootstrap, made, 4)
    assert refused.value.name == "OFFSET_OUT_OF_RANGE"
    # To the end, which -1 names.
    assert driver.delete_records(bootstrap, made, -1) == 3
    assert driver.watermarks(bootstrap, made) == (3, 3)


@case("offsets listed by the admin")
@every_client(Feature.LIST_OFFSETS)
def test_list_offsets(bootstrap: str, driver: Driver, made: str) -> None:
    assert driver.list_offset(bootstrap, made, "earliest") == (0, -1)
    assert driver.list_offset(bootstrap, made, "latest") == (3, -1)
    if Feature.LIST_LATEST_TIME in driver.features:
        assert driver.list_offset(bootstrap, made, "max_timestamp") == (1, BASE_MS + 500)


@case("log directories described")
@every_client(Feature.DESCRIBE_LOG_DIRS)
def test_log_directories(broker: BrokerProcess, driver: Driver, made: str) -> None:
    on_disk = sum(path.stat().st_size for path in (broker.data / f"{made}-0").glob("*.log"))
    assert on_disk > 0
    assert driver.log_dir_sizes(broker.bootstrap, made) == {0: on_disk}


@case("producers described")
@every_client(Feature.DESCRIBE_PRODUCERS)
def test_describe_producers(bootstrap: str, driver: Driver, made: str) -> None:
    (found,) = driver.describe_producers(bootstrap, made)
    assert found["producer_id"] >= 0
    assert (found["producer_epoch"], found["last_sequence"]) == (0, 2)
