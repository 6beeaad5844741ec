"""The real command in a process of its own, against a real broker."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "odradek.cli.main"]
RUN_TIMEOUT_S = 60
READY_TIMEOUT_S = 30

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


def read_line(process: subprocess.Popen[bytes], timeout_s: float = READY_TIMEOUT_S) -> str:
    """A line of the process's stdout."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], timeout_s)
    assert ready, "no line came in time"
    return process.stdout.readline().decode()


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


def runner(bootstrap: str, folder: Path) -> Run:
    def run(*arguments: str, input: bytes = b"", expect: int = 0) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            [*COMMAND, *arguments],
            input=input,
            capture_output=True,
            timeout=RUN_TIMEOUT_S,
            cwd=folder,
            env={**os.environ, "ODRADEK_BOOTSTRAP_SERVER": bootstrap, "COLUMNS": "80"},
        )
        assert done.returncode == expect, done.stderr.decode()
        assert b"Traceback" not in done.stderr
        return done

    return run


@pytest.fixture
def topic() -> str:
    """A name that no other test uses."""
    return f"cli-{uuid.uuid4().hex[:12]}"
