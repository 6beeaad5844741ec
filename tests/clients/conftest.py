"""One broker on disk and one driver of each client, for all tests of the clients; and their table of results.

With ODRADEK_TEST_BROKER=apache-kafka the tests run against Apache Kafka instead: a test that fails there, too, tells
nothing about this broker.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest

from tests.broker import BrokerProcess
from tests.clients.driver import Driver
from tests.clients.every import CLIENTS
from tests.clients.reference_broker import KafkaProcess
from tests.clients.table import TableOfResults

BROKER = {"": BrokerProcess, "odradek": BrokerProcess, "apache-kafka": KafkaProcess}[
    os.environ.get("ODRADEK_TEST_BROKER", "")
]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-client-table", action="store_true", help="writes the table of results into tests/clients/README.md"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "case(name): the row of the clients' table of results a test belongs to")
    config.pluginmanager.register(TableOfResults(config))


@pytest.fixture(scope="session")
def broker_class() -> type[BrokerProcess]:
    """What runs the broker under test."""
    return BROKER


@pytest.fixture(scope="session")
def drivers() -> Iterator[dict[str, Driver]]:
    made = {client.name: client() for client in CLIENTS}
    yield made
    for one in made.values():
        one.close()


@pytest.fixture
def driver(request: pytest.FixtureRequest, drivers: dict[str, Driver]) -> Driver:
    return drivers[request.param]


@pytest.fixture
def admin(drivers: dict[str, Driver]) -> Driver:
    """The client that prepares what a test needs but is not about."""
    return drivers["confluent-kafka"]


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory, broker_class: type[BrokerProcess]) -> Iterator[BrokerProcess]:
    with broker_class(tmp_path_factory.mktemp("clients")) as running:
        yield running


@pytest.fixture(scope="session")
def bootstrap(broker: BrokerProcess) -> str:
    return broker.bootstrap


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """A name of the test's own."""
    return re.sub(r"[^a-zA-Z0-9._-]+", ".", request.node.name).strip(".")
