"""Fixtures for all tests: Apache Kafka as a reference, once a session."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator

import pytest

from tests.reference import _missing, apache_kafka


def pytest_configure() -> None:
    # A shell starts what runs in the background with SIGINT ignored, and every program under test would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


# What a machine of CI may lack. Anything else that is skipped there is a test that nobody runs.
SKIPS_IN_CI = (
    "no container engine",
    "the container engine",
    "systemd-analyze",
    "fish is not",
    "zsh is not",
    "the history of this repository",
)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport]:
    """With CI set, a test is skipped for one of these reasons, or it has failed."""
    report = yield
    if report.skipped and "CI" in os.environ and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        if not reason.removeprefix("Skipped: ").startswith(SKIPS_IN_CI):
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid} may not be skipped in CI: {reason}"
    return report


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
