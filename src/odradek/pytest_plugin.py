"""The pytest plugin that comes with the package: a Kafka broker as a fixture.

    def test_orders(odradek_topic, odradek_broker):
        producer = Producer({"bootstrap.servers": odradek_broker.bootstrap_servers})

Fixtures: `odradek_broker` (one for the whole session), `odradek_topic` (a new topic of its own for each test),
`clean_odradek_broker` (a broker of its own for each test). Settings come from `odradek_settings` in pytest's ini file,
a NAME=VALUE a line, or from a fixture `odradek_settings` of the project's own.

Nothing of the broker is imported until a test asks for it. Rules of `faults` that a test leaves in force on the
session's broker are removed after it.
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
    """The settings of the brokers that the fixtures start, by Kafka's names; may be overridden by the project."""
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
    """The session's broker; what one test leaves there, another finds. `bootstrap_servers` is where clients connect."""
    yield _odradek_session_broker
    _odradek_session_broker.faults.clear()


@pytest.fixture
def clean_odradek_broker(odradek_settings: dict[str, Any]) -> Iterator[Broker]:
    """A broker of the test's own, with nothing in it."""
    from odradek import Broker

    with Broker(**odradek_settings) as broker:
        yield broker


@pytest.fixture
def odradek_topic(request: pytest.FixtureRequest, odradek_broker: Broker) -> str:
    """The name of a new topic on the session's broker, made for this test. With
    `@pytest.mark.parametrize("odradek_topic", [3], indirect=True)` it has three partitions."""
    stem = re.sub(r"[^a-zA-Z0-9.-]+", "-", request.node.name).strip("-.")[:TOPIC_NAME_LENGTH]
    return odradek_broker.create_topic(f"{stem}-{next(_numbers)}", getattr(request, "param", None))
