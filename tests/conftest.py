"""Fixtures for all tests: Apache Kafka as a reference, once a session."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.reference import _missing, apache_kafka


def pytest_configure() -> None:
    # A shell starts what runs in the background with SIGINT ignored, and every program under test would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def kafka_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a running Apache Kafka."""
    if _missing:
        pytest.skip(f"{' and '.join(_missing)} not installed")
    with apache_kafka(tmp_path_factory.mktemp("kafka")) as port:
        yield port


@pytest.fixture(scope="session")
def kafka_bootstrap(kafka_port: int) -> str:
    """Its address."""
    return f"127.0.0.1:{kafka_port}"
