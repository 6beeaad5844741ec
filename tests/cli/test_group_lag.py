"""`odradek group list|describe` beside a broker's HTTP port: lag in time, time to loss, balance, and --watch."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

import odradek
from tests.cli.command import COMMAND, Run, read_line, runner
from tests.handlers.group_peer import GroupPeer
from tests.raw_client import RawClient, batch

HOUR_MS = 3_600_000


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@pytest.fixture
def broker() -> Iterator[odradek.Broker]:
    settings = {"odradek.http.listen": f"127.0.0.1:{free_port()}", "odradek.insight.interval.ms": 100}
    with odradek.Broker(**settings) as broker:
        yield broker


@pytest.fixture
def run(broker: odradek.Broker, tmp_path: Path) -> Run:
    return runner(broker.bootstrap_servers, tmp_path)


def behind(broker: odradek.Broker, group: str) -> None:
    """Ten records, of which the group has read four."""
    broker.create_topic("t", 1)
    with RawClient(broker.port) as client, GroupPeer(broker.port, is_kafka=False) as peer:
        for _ in range(10):
            assert client.produce("t", batch(b"v")).error_code == 0
        peer.until_served(group)
        peer.commit(group, {"t": {0: 4}}, version=2)


def until(run: Run, *arguments: str, holds: str) -> str:
    """What the command says when it says this: looks are ten a second."""
    for _ in range(100):
        said = run(*arguments).stdout.decode()
        if holds in said:
            return said
    raise AssertionError(said)


def rows(said: str) -> list[dict[str, str]]:
    """The first table."""
    lines = said.split("\n\n")[0].splitlines()
    names = lines[0].split("\t")
    return [dict(zip(names, line.split("\t"), strict=True)) for line in lines[1:]]


def test_list_says_how_far_behind_groups_are(broker: odradek.Broker, run: Run) -> None:
    behind(broker, "slow")
    said = until(run, "group", "list", holds="ok")
    (group,) = rows(said)
    assert (group["group"], group["records_behind"], group["verdict"]) == ("slow", "6", "ok")
    # The records are of November 2023.
    assert group["behind_for"].endswith(" days") and group["time_to_loss"] == ""
    (found,) = json.loads(run("group", "list", "--output", "json").stdout)
    assert (found["lag"]["records_behind"], found["lag"]["verdict"]) == (6, "ok")
    assert found["lag"]["seconds_behind"] > 86_400


def test_describe_says_what_was_lost(broker: odradek.Broker, run: Run) -> None:
    behind(broker, "a/b")
    until(run, "group", "describe", "a/b", holds="ok")
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    admin.delete_records([TopicPartition("t", 0, 7)])[TopicPartition("t", 0)].result()
    said = until(run, "group", "describe", "a/b", holds="has lost")
    _, offsets, sentences = said.split("\n\n")
    (row,) = rows(offsets)
    assert (row["topic"], row["lag"], row["verdict"]) == ("t", "6", "has lost")
    assert row["bytes_behind"].endswith(" B") and row["behind_for"].endswith(" days")
    assert sentences.startswith("t, partition 0: has lost 3 records: offsets 4 to 6 were deleted unread, seen at ")
    found = json.loads(run("group", "describe", "a/b", "--output", "json").stdout)
    assert found["lag"]["lost_records"] == 3 and found["lag"]["partitions"][0]["losses"][0]["from_offset"] == 4


def test_without_a_port_there_are_no_such_columns(tmp_path: Path) -> None:
    with odradek.Broker() as broker:
        run = runner(broker.bootstrap_servers, tmp_path)
        behind(broker, "g")
        done = run("group", "list")
        assert done.stdout.splitlines()[0] == b"group\ttype\tprotocol_type\tstate" and done.stderr == b""
        assert b"verdict" not in run("group", "describe", "g").stdout
        assert "lag" not in json.loads(run("group", "list", "--output", "json").stdout)[0]


# --- watch -----------------------------------------------------------------------------------------------------------


@contextmanager
def watching(broker: odradek.Broker, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [*COMMAND, "group", *arguments, "--watch", "--every", "0.05"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "ODRADEK_BOOTSTRAP_SERVER": broker.bootstrap_servers},
        bufsize=0,
    )
    try:
        yield process
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (0, b"")
    finally:
        process.kill()
        process.wait()


def test_list_goes_on_and_tells_what_happens(broker: odradek.Broker) -> None:
    behind(broker, "slow")
    with watching(broker, "list") as process:
        while "slow" not in (line := read_line(process)):
            assert line
        admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
        admin.delete_records([TopicPartition("t", 0, 7)])[TopicPartition("t", 0)].result()
        while "slow on t, partition 0: has lost 3 records" not in (line := read_line(process)):
            assert line
        # And the tables too.
        while not (line := read_line(process)).endswith("has lost\n"):
            assert line


def test_describe_goes_on(broker: odradek.Broker) -> None:
    behind(broker, "slow")
    with watching(broker, "describe", "slow") as process:
        seen = 0
        while seen < 3:
            line = read_line(process)
            assert line
            seen += line.startswith("t\t0\t4\t10\t6\t")


# --- a port of the test's own ----------------------------------------------------------------------------------------


@contextmanager
def port(answers: dict[str, tuple[int, bytes]]) -> Iterator[str]:
    """An HTTP port that answers so."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.get(self.path, (404, b'{"error": "no"}'))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


LAG = {
    "group": "slow",
    "verdict": "will lose",
    "how": "worst",
    "records_behind": 6,
    "bytes_behind": 4_100_000,
    "seconds_behind": 180.0,
    "time_to_loss_s": 7200.0,
    "lost_records": 0,
}
PARTITION = LAG | {"topic": "t", "partition": 0, "how": "will lose at 12:00: 6 records behind"}
BALANCE = {
    "members": [
        {
            "member_id": "m-1",
            "client_id": "c-1",
            "host": "h",
            "partitions": 3,
            "records_per_s": 1.5,
            "bytes_per_s": 2e6,
        },
        {
            "member_id": "m-2",
            "client_id": "c-2",
            "host": "h",
            "partitions": 2,
            "records_per_s": 0.0,
            "bytes_per_s": 0.0,
        },
    ],
    "partitions": 5,
    "unassigned": [],
    "partition_skew": 1.2,
    "record_skew": 2.0,
    "byte_skew": 2.0,
    "advice": ["5 partitions over 2 members: one carries 3", "partition 0 of t carries 61% of the bytes"],
}


def test_time_to_loss_balance_and_advice(broker: odradek.Broker, run: Run) -> None:
    behind(broker, "slow")
    whole = json.dumps(LAG | {"partitions": [PARTITION], "balance": BALANCE}).encode()
    groups = json.dumps([LAG]).encode()
    with port({"/api/groups": (200, groups), "/api/groups/slow": (200, whole)}) as address:
        (group,) = rows(run("group", "list", "--http", address).stdout.decode())
        assert (group["behind_for"], group["time_to_loss"], group["verdict"]) == ("3 min", "2 h", "will lose")
        _, offsets, members, sentences = (
            run("group", "describe", "slow", "--http", address).stdout.decode().split("\n\n")
        )
        (row,) = rows(offsets)
        assert (row["bytes_behind"], row["time_to_loss"]) == ("4.1 MB", "2 h")
        assert [(one["client_id"], one["partitions"], one["bytes_per_s"]) for one in rows(members)] == [
            ("c-1", "3", "2 MB"),
            ("c-2", "2", "0 B"),
        ]
        assert sentences.splitlines() == [
            "t, partition 0: will lose at 12:00: 6 records behind.",
            "Advice: 5 partitions over 2 members: one carries 3.",
            "Advice: partition 0 of t carries 61% of the bytes.",
        ]


@pytest.mark.parametrize(
    ("answer", "why"),
    [((200, b"<html>"), "its answer is no JSON"), ((500, b"{}"), "it answers 500 Internal Server Error")],
)
def test_a_port_that_is_something_else(broker: odradek.Broker, run: Run, answer: tuple[int, bytes], why: str) -> None:
    with port({"/api/groups": answer}) as address:
        done = run("group", "list", "--http", address, expect=1)
    assert done.stderr.decode() == f"odradek: cannot ask the HTTP port {address} about groups: {why}.\n"


def test_a_port_that_the_settings_name_and_nobody_reaches(tmp_path: Path) -> None:
    """As where the broker is elsewhere: the groups are listed all the same."""
    with port({"/api/groups": (500, b""), "/api/groups/g": (500, b"")}) as elsewhere, odradek.Broker() as broker:
        behind(broker, "g")
        server = broker._server
        assert server is not None
        server.config.given["odradek.http.listen"] = elsewhere
        server.config.set_dynamic({}, {})
        run = runner(broker.bootstrap_servers, tmp_path)
        for arguments in (("list",), ("describe", "g")):
            done = run("group", *arguments)
            assert b"verdict" not in done.stdout and b"\t" in done.stdout
            assert done.stderr.decode().startswith(f"odradek: cannot ask the HTTP port {elsewhere} about groups: ")


def test_a_port_that_is_closed(broker: odradek.Broker, run: Run) -> None:
    address = f"127.0.0.1:{free_port()}"
    done = run("group", "list", "--http", address, expect=1)
    assert done.stderr.decode().startswith(f"odradek: cannot ask the HTTP port {address} about groups: ")
