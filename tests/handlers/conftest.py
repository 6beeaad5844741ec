"""Two brokers for the tests of groups: Apache Kafka and this one, with the same short bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.broker import BrokerProcess
from tests.handlers.comparison import Plain
from tests.handlers.group_peer import Brokers, GroupPeer
from tests.reference import _missing as missing
from tests.reference import apache_kafka

SETTINGS = (
    "group.initial.rebalance.delay.ms=0",
    "group.min.session.timeout.ms=500",
    "group.max.size=3",
    "offsets.topic.num.partitions=3",
)

Compare = Callable[[Callable[[GroupPeer], Plain]], Plain]


@pytest.fixture(scope="session")
def group_brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    """Both brokers, running. Nobody has asked for a coordinator, as long as no test has."""
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed")
    with (
        apache_kafka(tmp_path_factory.mktemp("kafka"), *SETTINGS) as kafka_port,
        BrokerProcess(tmp_path_factory.mktemp("broker"), *SETTINGS) as broker,
    ):
        yield Brokers(kafka_port, broker.port)


@pytest.fixture
def compare(group_brokers: Brokers) -> Compare:
    """Runs a scenario against Kafka and against this broker; equal results are returned."""
    group_brokers.serve()
    return group_brokers.compare
