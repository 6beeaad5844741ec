"""The real command in a process of its own, against a real broker."""

from __future__ import annotations

import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.command import COMMAND, READY_TIMEOUT_S, Run, read_line, runner


@pytest.fixture(scope="session")
def odradek_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an Odradek that runs for the whole session, with its data on disk."""
    folder = tmp_path_factory.mktemp("broker")
    with open(folder / "stderr", "wb") as errors:
        process = subprocess.Popen(
            [*COMMAND, "serve", "--listen", "127.0.0.1:0", "--data-dir", str(folder / "data")],
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        try:
            line = read_line(process)
            assert " is ready on 127.0.0.1:" in line, (folder / "stderr").read_text()
            yield line.split(" ready on ")[1].split()[0]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(READY_TIMEOUT_S)


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
