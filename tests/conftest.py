"""Fixtures for all tests: Apache Kafka as a reference, once a session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.reference import _missing, apache_kafka


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
