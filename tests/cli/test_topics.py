"""`odradek topic ...` against brokers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.command import Run

Json = Any


def described(run: Run, *topics: str) -> Json:
    return json.loads(run("topic", "describe", *topics, "--output", "json").stdout)


def test_a_topic_s_life(run: Run, topic: str) -> None:
    created = run("topic", "create", topic, "--partitions", "3", "--config", "retention.ms=60000", "--output", "json")
    answer = json.loads(created.stdout)
    assert answer["name"] == topic and answer["created"] is True
    listed = {entry["name"]: entry for entry in json.loads(run("topic", "list", "--output", "json").stdout)}
    assert listed[topic] == {
        "name": topic,
        "partitions": 3,
        "replication_factor": 1,
        "id": answer["id"],
        "internal": False,
    }
    [found] = described(run, topic)
    assert found["id"] == answer["id"] and found["configs"] == {"retention.ms": "60000"}
    assert [p["partition"] for p in found["partitions"]] == [0, 1, 2]
    assert all(p["first_offset"] == p["end_offset"] == 0 for p in found["partitions"])
    assert all(p["replicas"] == [p["leader"]] == p["isr"] for p in found["partitions"])
    assert run("topic", "delete", topic).stdout == f"Topic {topic} deleted.\n".encode()
    assert topic not in {entry["name"] for entry in json.loads(run("topic", "list", "--output", "json").stdout)}


def test_into_a_pipe_come_lines_with_tabs(run: Run, topic: str) -> None:
    assert run("topic", "create", topic, "--partitions", "2", "--config", "flush.ms=5").stdout.decode() == (
        f"Topic {topic} created.\n"
    )
    head, *lines = run("topic", "list").stdout.decode().splitlines()
    assert head.split("\t") == ["name", "partitions", "replication_factor", "id"]
    assert [topic, "2", "1"] in [line.split("\t")[:3] for line in lines]
    lines = run("topic", "describe", topic).stdout.decode().splitlines()
    assert lines[0].split("\t")[:3] == ["topic", "partition", "leader"]
    assert [line.split("\t")[1] for line in lines[1:3]] == ["0", "1"]
    assert lines[-1].split("\t") == [topic, "flush.ms", "5"]


def test_what_exists_already(run: Run, topic: str) -> None:
    run("topic", "create", topic)
    failed = run("topic", "create", topic, expect=1)
    assert b"TOPIC_ALREADY_EXISTS" in failed.stderr and b"--if-not-exists" in failed.stderr
    again = run("topic", "create", topic, "--if-not-exists", "--output", "json")
    assert json.loads(again.stdout)["created"] is False


def test_what_does_not_exist(run: Run, topic: str) -> None:
    assert b"does not exist" in run("topic", "delete", topic, expect=1).stderr
    assert b"does not exist" in run("topic", "delete", topic, "--if-exists").stdout
    assert f"odradek topic create {topic}".encode() in run("topic", "describe", topic, expect=1).stderr


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--config", "no.such.config=1"], [b"no.such.config", b"INVALID_CONFIG"]),
        (["--config", "retention.ms=soon"], [b"retention.ms", b"INVALID_CONFIG"]),
        (["--replication-factor", "3"], [b"INVALID_REPLICATION_FACTOR"]),
    ],
)
def test_refusals_come_in_the_broker_s_words(run: Run, topic: str, arguments: list[str], names: list[bytes]) -> None:
    failed = run("topic", "create", topic, *arguments, expect=1)
    assert failed.stdout == b"" and len(failed.stderr.splitlines()) == 1
    for name in names:
        assert name in failed.stderr


def test_names_that_cannot_be(run: Run) -> None:
    assert b"INVALID_TOPIC_EXCEPTION" in run("topic", "create", "a topic", expect=1).stderr
    assert b"'a topic' is not a topic's name" in run("topic", "describe", "a topic", expect=1).stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["topic", "create"],
        ["topic", "delete"],
        ["topic", "create", "x", "--partitions", "0"],
        ["topic", "create", "x", "--partitions", "many"],
        ["topic", "create", "x", "--config", "retention.ms"],
        ["topic", "creat", "x"],
        ["topic", "list", "--output", "xml"],
        ["topic", "list", "--bootstrap-server", "nonsense:port"],
        ["topic", "list", "--bootstrap-server", ","],
        ["nonsense"],
    ],
)
def test_wrong_use_is_exit_code_2_and_one_sentence(run: Run, arguments: list[str]) -> None:
    failed = run(*arguments, expect=2)
    assert failed.stdout == b"" and len(failed.stderr.splitlines()) == 1
    assert failed.stderr.startswith(b"odradek: ")
