"""`odradek config`, `odradek cluster info` and `odradek profile`, against brokers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import Run


def described(run: Run, *arguments: str) -> dict[str, dict[str, Any]]:
    told = json.loads(run("config", "describe", *arguments, "--output", "json").stdout)
    return {one["setting"]: one for one in told}


def test_a_topic_s_settings(run: Run, topic: str) -> None:
    run("topic", "create", topic)
    done = run("config", "alter", "topic", topic, "--set", "retention.ms=60000", "--set", "segment.bytes=2000000")
    assert done.stdout.decode() == f"Settings of topic '{topic}' changed.\n"
    changed = described(run, "topic", topic)
    assert changed["retention.ms"]["value"] == "60000" and changed["retention.ms"]["source"] == "topic"
    assert described(run, "topic", topic, "--all")["max.message.bytes"]["value"] == "1048588"
    tried = run("config", "alter", "topic", topic, "--set", "retention.ms=1", "--dry-run")
    assert "can be changed so" in tried.stdout.decode()
    run("config", "alter", "topic", topic, "--delete", "retention.ms")
    now = described(run, "topic", topic)
    assert "retention.ms" not in now and now["segment.bytes"]["value"] == "2000000"
    [one] = described(run, "topic", topic, "--setting", "segment.bytes").values()
    assert one["meaning"]


def test_a_broker_s_settings(run: Run) -> None:
    run("config", "alter", "broker", "--set", "log.retention.ms=86400000")
    [broker] = json.loads(run("cluster", "info", "--output", "json").stdout)["brokers"]
    own = described(run, "broker", str(broker["id"]))
    assert (
        own["log.retention.ms"]["value"] == "86400000" and own["log.retention.ms"]["source"] == "all brokers, changed"
    )
    assert described(run, "broker")["log.retention.ms"]["value"] == "86400000"
    run("config", "alter", "broker", "--delete", "log.retention.ms")
    assert "log.retention.ms" not in described(run, "broker")


def test_what_has_settings(run: Run, topic: str) -> None:
    run("topic", "create", topic)
    listed = json.loads(run("config", "list", "--output", "json").stdout)
    assert {"type": "topic", "name": topic} in listed
    assert any(one["type"] == "broker" for one in listed)


@pytest.mark.parametrize(
    ("arguments", "expect", "why"),
    [
        (("alter", "topic", "{topic}", "--set", "retention.ms=soon"), 1, "retention.ms"),
        (("alter", "topic", "{topic}", "--set", "no.such.setting=1"), 1, "no.such.setting"),
        (("alter", "topic", "no-such-topic", "--set", "retention.ms=1"), 1, "UNKNOWN_TOPIC_OR_PARTITION"),
        (("describe", "topic", "no-such-topic"), 1, "UNKNOWN_TOPIC_OR_PARTITION"),
        (("describe", "topic", "{topic}", "--setting", "nonsense"), 1, "has no setting 'nonsense'"),
        (("describe", "broker", "77"), 1, "there is no broker 77"),
        (("describe", "broker", "one"), 2, "is not a broker's id"),
        (("describe", "topic"), 2, "say which topic"),
        (("alter", "topic", "{topic}"), 2, "--set NAME=VALUE"),
        (("alter", "topic", "{topic}", "--set", "retention.ms"), 2, "is not NAME=VALUE"),
    ],
)
def test_what_cannot_be(run: Run, topic: str, arguments: tuple[str, ...], expect: int, why: str) -> None:
    run("topic", "create", topic)
    done = run("config", *(part.format(topic=topic) for part in arguments), expect=expect)
    assert why in done.stderr.decode() and len(done.stderr.splitlines()) == 1


def test_the_cluster(run: Run, topic: str, bootstrap: str) -> None:
    run("topic", "create", topic, "--partitions", "3")
    run("produce", topic, input=b"hello\n")
    told = json.loads(run("cluster", "info", "--output", "json").stdout)
    assert told["cluster_id"] and told["topics"] >= 1 and told["partitions"] >= 3
    [broker] = told["brokers"]
    assert broker["address"] == bootstrap and broker["controller"] and broker["leader_of"] == told["partitions"]
    [directory] = broker["directories"]
    assert directory["log_bytes"] > 0 and directory["path"]
    lines = run("cluster", "info").stdout.decode().splitlines()
    assert lines[0].split("\t")[0] == "cluster_id" and lines[1].split("\t")[0] == told["cluster_id"]


def test_profiles(run: Run, bootstrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert run("profile", "list", "--output", "json").stdout == b"[]\n"
    assert "and in use" in run("profile", "set", "here", bootstrap).stdout.decode()
    run("profile", "set", "elsewhere", "127.0.0.1:1")
    # Named, it goes before the environment, which goes before the profile in use.
    assert run("cluster", "info", "--bootstrap-server", "here").stdout
    assert (
        "cannot reach 127.0.0.1:1"
        in run("cluster", "info", "--bootstrap-server", "elsewhere", expect=1).stderr.decode()
    )
    run("profile", "use", "elsewhere")
    assert run("cluster", "info").stdout
    listed = json.loads(run("profile", "list", "--output", "json").stdout)
    assert listed == [
        {"name": "elsewhere", "bootstrap_server": "127.0.0.1:1", "in_use": True},
        {"name": "here", "bootstrap_server": bootstrap, "in_use": False},
    ]
    run("profile", "delete", "elsewhere")
    assert (
        "there is no profile 'elsewhere'; there are: here."
        in run("profile", "use", "elsewhere", expect=1).stderr.decode()
    )
    assert "cannot be a profile's name" in run("profile", "set", "a.b", bootstrap, expect=2).stderr.decode()
    (tmp_path / "config" / "odradek" / "profiles.json").write_text("[]")
    assert "is not a file of profiles" in run("profile", "list", expect=1).stderr.decode()
