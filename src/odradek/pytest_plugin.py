"""The pytest plugin that comes with the package: a Kafka broker as a fixture.

    def test_orders(odradek_topic, odradek_broker):
        producer = Producer({"bootstrap.servers": odradek_broker.bootstrap_servers})

Fixtures: `odradek_broker` (one for the whole session), `odradek_topic` (a new topic for each test),
`clean_odradek_broker` (a new broker for each test). Settings come from `odradek_settings` in pytest's ini file, one
NAME=VALUE per line, or from a fixture `odradek_settings` in the project's tests.

The broker is imported only when a test needs it. Rules of `faults` that a test leaves on the session's broker are
removed after the test.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from odradek import Broker

# Topic names have at most 249 characters.
TOPIC_NAME_LENGTH = 180
_numbers = count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("odradek_settings", "settings of the session's Odradek broker, a NAME=VALUE a line", type="linelist")


@pytest.fixture(scope="session")
def odradek_settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The settings of the brokers that the fixtures start, by Kafka's names. A project may override this fixture."""
    settings: dict[str, Any] = {}
    for line in request.config.getini("odradek_settings"):
        name, separator, value = line.partition("=")
        if not separator:
            raise pytest.UsageError(f"odradek_settings: expected NAME=VALUE, not {line!r}")
        settings[name.strip()] = value.strip()
    return settings


@pytest.fixture(scope="session")
def _odradek_session_broker(odradek_settings: dict[str, Any]) -> Iterator[Broker]:
    from odradek import Broker

    with Broker(**odradek_settings) as broker:
        yield broker


@pytest.fixture
def odradek_broker(_odradek_session_broker: Broker) -> Iterator[Broker]:
    """The session's broker, with the topics and groups of earlier tests. Clients connect to its `bootstrap_servers`."""
    yield _odradek_session_broker
    _odradek_session_broker.faults.clear()


@pytest.fixture
def clean_odradek_broker(odradek_settings: dict[str, Any]) -> Iterator[Broker]:
    """A new, empty broker for this test."""
    from odradek import Broker

    with Broker(**odradek_settings) as broker:
        yield broker


@pytest.fixture
def odradek_topic(request: pytest.FixtureRequest, odradek_broker: Broker) -> str:
    """The name of a new topic on the session's broker, created for this test. With
    `@pytest.mark.parametrize("odradek_topic", [3], indirect=True)` it has three partitions."""
    stem = re.sub(r"[^a-zA-Z0-9.-]+", "-", request.node.name).strip("-.")[:TOPIC_NAME_LENGTH]
    return odradek_broker.create_topic(f"{stem}-{next(_numbers)}", getattr(request, "param", None))
