"""A broker as its users run it: `odradek serve` in a process of its own, started, killed and started again."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

READY_TIMEOUT_S = 60.0


class BrokerProcess:
    """One broker. Its port stays the same over restarts; `stderr` collects what it logs. Use as a context manager."""

    def __init__(
        self,
        folder: Path,
        *settings: str,
        memory: bool = False,
        arguments: tuple[str, ...] = (),
        prefix: tuple[str, ...] = (),
    ) -> None:
        """`prefix` is a command that runs the broker's."""
        self.folder = folder
        self.data = folder / "data"
        self.settings = settings
        self.memory = memory
        self.arguments = arguments
        self.prefix = prefix
        self.module = "odradek.cli.main"
        """The program; a test may put another in its place before a start."""
        self.environment: dict[str, str] = {}
        self.port = 0
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> BrokerProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.stop()

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def logged(self) -> str:
        """Everything the broker wrote to stderr so far."""
        return (self.folder / "stderr").read_text()

    def start(self) -> None:
        """Returns when clients can connect."""
        assert self.process is None
        command = [
            *self.prefix,
            sys.executable,
            "-m",
            self.module,
            "serve",
            "--listen",
            f"127.0.0.1:{self.port}",
        ]
        command += ["--memory"] if self.memory else ["--data-dir", str(self.data)]
        for setting in self.settings:
            command += ["--set", setting]
        with open(self.folder / "stderr", "ab") as errors:
            self.process = subprocess.Popen(
                [*command, *self.arguments],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **self.environment},
            )
        assert self.process.stdout is not None
        # Not `select`, which knows no descriptor above 1023.
        ready = select.poll()
        ready.register(self.process.stdout, select.POLLIN)
        line = self.process.stdout.readline() if ready.poll(READY_TIMEOUT_S * 1000) else ""
        if " ready on " not in line:
            self.process.kill()
            self.process.wait()
            self.process = None
            raise AssertionError(f"the broker did not start: {line!r}\n{self.logged}")
        self.port = int(line.split(" ready on ")[1].split()[0].rpartition(":")[2])

    def stop(self) -> int:
        """Stops gracefully; returns the exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends the process as a crash would."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> int:
        process, self.process = self.process, None
        assert process is not None
        process.send_signal(number)
        code = process.wait(READY_TIMEOUT_S)
        assert process.stdout is not None
        process.stdout.close()
        return code
