"""One broker on disk and one driver of each client, for all tests of the clients."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.broker import BrokerProcess
from tests.clients.driver import Driver
from tests.clients.every import CLIENTS


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
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path_factory.mktemp("clients")) as running:
        yield running


@pytest.fixture(scope="session")
def bootstrap(broker: BrokerProcess) -> str:
    return broker.bootstrap


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """A name of the test's own."""
    return re.sub(r"[^a-zA-Z0-9._-]+", ".", request.node.name).strip(".")
