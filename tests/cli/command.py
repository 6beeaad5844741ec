"""Runs the real command in a process of its own."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

COMMAND = [sys.executable, "-m", "odradek.cli.main"]
RUN_TIMEOUT_S = 60
READY_TIMEOUT_S = 30

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


def read_line(process: subprocess.Popen[bytes], timeout_s: float = READY_TIMEOUT_S) -> str:
    """A line of the process's stdout."""
    assert process.stdout is not None
    # Not `select`, which knows no descriptor above 1023.
    ready = select.poll()
    ready.register(process.stdout, select.POLLIN)
    assert ready.poll(timeout_s * 1000), "no line came in time"
    return process.stdout.readline().decode()


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
