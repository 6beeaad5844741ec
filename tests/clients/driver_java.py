"""Kafka's own Java clients: one Java process a session, told by lines of JSON (tests/java/Clients.java), and one for
each member of a group (tests/java/Member.java)."""

from __future__ import annotations

import subprocess
import tempfile

from tests.clients.driver import Feature
from tests.clients.driver_process import ProcessDriver
from tests.reference import broker_classpath, java_source

COMPILE_TIMEOUT_S = 60.0


class JavaDriver(ProcessDriver):
    name = "java"
    features = frozenset(Feature)
    assignors = ("range", "roundrobin", "sticky", "cooperative-sticky")

    def __init__(self) -> None:
        super().__init__()
        self._classes: tempfile.TemporaryDirectory[str] | None = None

    def _command(self, program: str) -> list[str]:
        """Starts one of the programs under tests/java; both are compiled once, at the first call."""
        if self._classes is None:
            self._classes = tempfile.TemporaryDirectory()
            sources = [java_source("Clients.java"), java_source("Member.java")]
            compile = ["javac", "-nowarn", "-cp", broker_classpath(), "-d", self._classes.name, *sources]
            done = subprocess.run(compile, capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S)
            assert done.returncode == 0, done.stdout + done.stderr
        where = f"{self._classes.name}:{broker_classpath()}"
        return ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-Xmx512m", "-cp", where, program]

    def command(self) -> list[str]:
        return self._command("Clients")

    def member_command(self) -> list[str]:
        return self._command("Member")

    def close(self) -> None:
        super().close()
        if self._classes is not None:
            self._classes.cleanup()
            self._classes = None
