"""`odradek serve` as a process: ready, stopped, started again, refused."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from odradek.client.cluster import Client
from tests.cli.command import COMMAND, READY_TIMEOUT_S, read_line, runner


class Broker:
    def __init__(self, process: subprocess.Popen[bytes], line: str, errors: IO[bytes]) -> None:
        self.process = process
        self.line = line
        self._errors = errors
        self.address = line.split(" ready on ")[1].split()[0]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(READY_TIMEOUT_S)

    def logged(self) -> list[dict[str, object]]:
        self._errors.seek(0)
        return [json.loads(line) for line in self._errors.read().splitlines()]


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[Broker]:
    with open(folder / "stderr", "w+b") as errors:
        process = subprocess.Popen(
            [*COMMAND, "serve", "--listen", "127.0.0.1:0", *options], stdout=subprocess.PIPE, stderr=errors, cwd=folder
        )
        try:
            line = read_line(process)
            assert line.startswith("Odradek "), (folder / "stderr").read_text()
            yield Broker(process, line, errors)
        finally:
            process.kill()
            process.wait()


def refused(folder: Path, *options: str, expect: int) -> str:
    done = subprocess.run([*COMMAND, "serve", *options], capture_output=True, timeout=30, cwd=folder)
    assert done.returncode == expect, done.stderr
    assert done.stdout == b""
    [sentence] = done.stderr.decode().splitlines()
    assert sentence.startswith("odradek: ")
    return sentence


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_broker_runs_stops_gracefully_and_remembers(tmp_path: Path, number: signal.Signals) -> None:
    with serving(tmp_path, "--data-dir", "data") as broker:
        assert broker.line.endswith(f"({'data in ' + str(tmp_path / 'data')})\n")
        run = runner(broker.address, tmp_path)
        run("topic", "create", "kept", "--partitions", "2")
        run("produce", "kept", "--partition", "1", input=b"one\ntwo\n")
        assert broker.stop(number) == 0
        assert all(entry["level"] in ("info", "debug") for entry in broker.logged())
    with serving(tmp_path, "--data-dir", "data") as broker:
        run = runner(broker.address, tmp_path)
        assert run("consume", "kept", "--exit-at-end", "--output", "text").stdout == b"one\ntwo\n"
        assert broker.stop(number) == 0


def test_without_any_option_the_data_has_a_directory_of_its_own(tmp_path: Path) -> None:
    with serving(tmp_path) as broker:
        assert str(tmp_path / "odradek-data") in broker.line
        assert broker.stop() == 0
    assert (tmp_path / "odradek-data").is_dir()


def test_in_memory_nothing_is_written(tmp_path: Path) -> None:
    with serving(tmp_path, "--memory") as broker:
        assert "memory" in broker.line
        run = runner(broker.address, tmp_path)
        run("produce", "made-on-first-use", input=b"x\n")
        assert run("consume", "made-on-first-use", "--exit-at-end", "--output", "text").stdout == b"x\n"
        assert broker.stop() == 0
    assert [path.name for path in tmp_path.iterdir()] == ["stderr"]


def test_settings_reach_the_broker_and_are_reported(tmp_path: Path) -> None:
    (tmp_path / "server.properties").write_text(
        "listeners=PLAINTEXT://:9092,CONTROLLER://:9093\n"
        "controller.listener.names=CONTROLLER\n"
        "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n"
        "num.partitions=3\n"
        "num.replica.fetchers=4\n"
        "num.partitons=5\n"
    )
    with serving(
        tmp_path, "--config", "server.properties", "--set", "node.id=9", "--advertise", "example.test:7", "--memory"
    ) as broker:
        with Client(broker.address) as client:
            client.metadata([])
            assert client.brokers == {9: ("example.test", 7)}
        logged = broker.logged()
        warnings = [str(entry["event"]) for entry in logged if entry["level"] == "warning"]
        assert len(warnings) == 1 and "num.partitons" in warnings[0]
        notes = " ".join(str(entry["event"]) for entry in logged if entry["level"] == "info")
        assert "num.replica.fetchers" in notes
        assert all("timestamp" in entry for entry in logged)
    with serving(tmp_path, "--config", "server.properties", "--memory") as broker:
        run = runner(broker.address, tmp_path)
        run("topic", "create", "t")
        [found] = json.loads(run("topic", "describe", "t", "--output", "json").stdout)
        assert len(found["partitions"]) == 3


def test_refusals_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "server.properties").write_text("listeners=PLAINTEXT://:9092\n")
    assert "--allow-unauthenticated" in refused(tmp_path, "--config", "server.properties", expect=2)
    assert "--allow-unauthenticated" in refused(tmp_path, "--listen", "0.0.0.0:9092", expect=2)
    assert "num.partitions" in refused(tmp_path, "--set", "num.partitions=none", expect=2)
    assert "/a, /b" in refused(tmp_path, "--set", "log.dirs=/a,/b", expect=2)
    assert "--no-such-option" in refused(tmp_path, "--no-such-option", expect=2)
    assert [path.name for path in tmp_path.iterdir()] == ["server.properties"]


def test_an_address_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        sentence = refused(tmp_path, "--memory", "--listen", f"127.0.0.1:{port}", expect=1)
    assert f"127.0.0.1:{port}" in sentence and "another program listens there" in sentence


def test_a_data_directory_that_is_taken_or_cannot_be_used(tmp_path: Path) -> None:
    with serving(tmp_path, "--data-dir", "data") as broker:
        assert str(tmp_path / "data") in refused(
            tmp_path, "--listen", "127.0.0.1:0", "--data-dir", str(tmp_path / "data"), expect=1
        )
        assert broker.stop() == 0
    (tmp_path / "file").write_text("")
    refused(tmp_path, "--listen", "127.0.0.1:0", "--data-dir", str(tmp_path / "file"), expect=1)


def test_what_serve_imports_before_it_knows_its_settings() -> None:
    """Start-up time is a feature: tables, sockets and logs are imported by those that use them."""
    code = (
        "import sys, odradek.cli.main, odradek.cli.serve, odradek.cli.settings\n"
        "print(*(m for m in ('rich', 'asyncio', 'logging', 'msgspec', 'odradek.client.cluster') if m in sys.modules))\n"
        "odradek.cli.serve._set_up_logs()\n"
        "print(*(m for m in ('rich', 'odradek.client.cluster') if m in sys.modules))\n"
        "import rich"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env={**os.environ})
    assert done.stdout.split() == []
