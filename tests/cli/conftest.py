"""The real command in a process of its own, against a real broker."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker import BrokerProcess
from tests.cli.command import Run, runner


@pytest.fixture(scope="session")
def odradek_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an Odradek that runs for the whole session, with its data on disk."""
    with BrokerProcess(tmp_path_factory.mktemp("broker")) as broker:
        yield broker.bootstrap


@pytest.fixture(scope="session", params=["odradek", "kafka"])
def bootstrap(request: pytest.FixtureRequest) -> str:
    """The address of a broker: ours, and Apache Kafka as the truth about what a client has to do."""
    address: str = request.getfixturevalue(f"{request.param}_bootstrap")
    return address


@pytest.fixture
def run(bootstrap: str, tmp_path: Path) -> Run:
    """Runs the command against the broker; returns what it wrote and its exit code."""
    return runner(bootstrap, tmp_path)


@pytest.fixture
def topic() -> str:
    """A name that no other test uses."""
    return f"cli-{uuid.uuid4().hex[:12]}"
