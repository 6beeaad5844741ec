"""`odradek completion`, as shells run it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.command import COMMAND, Run, runner

TIMEOUT_S = 60
BASH = """source <(odradek completion bash)
COMP_WORDS=("$@") COMP_CWORD=$(( $# - 1 ))
_odradek
for found in "${COMPREPLY[@]}"; do printf '%s\\n' "$found"; done"""

Complete = Callable[..., list[str]]


def shell(folder: Path, bootstrap: str, *command: str) -> list[str]:
    """Runs a shell that finds the command on its path; what it prints."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        cwd=folder,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "ODRADEK_BOOTSTRAP_SERVER": bootstrap,
            "HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder / "config"),
        },
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def complete(bootstrap: str, tmp_path: Path) -> Complete:
    """What bash would offer for a line of these words, of which the last is begun."""
    return lambda *words: shell(tmp_path, bootstrap, "bash", "-c", BASH, "bash", "odradek", *words)


def test_commands_options_and_choices(complete: Complete) -> None:
    assert {"serve", "topic", "produce", "consume", "completion"} <= set(complete(""))
    assert complete("to") == ["topic"]
    assert {"list", "create", "describe", "delete"} == set(complete("topic", ""))
    assert complete("consume", "orders", "--fol") == ["--follow"]
    assert complete("consume", "orders", "--output", "") == ["json", "text"]
    assert complete("consume", "orders", "--output", "=", "j") == ["json"]
    assert complete("completion", "") == ["bash", "zsh", "fish"]
    assert complete("nonsense", "") == []


def test_names_of_topics_and_groups(complete: Complete, run: Run, topic: str) -> None:
    run("topic", "create", topic)
    run("produce", topic, input=b"x\n")
    run("consume", topic, "--group", f"{topic}-readers")
    for command in (["consume"], ["produce"], ["topic", "describe"], ["topic", "delete"], ["config", "alter", "topic"]):
        assert complete(*command, topic[:-3]) == [topic], command
    assert complete("topic", "describe", "another", topic[:-3]) == [topic]
    for command in (
        ["group", "describe"],
        ["group", "delete"],
        ["consume", topic, "--group"],
        ["config", "describe", "group"],
    ):
        assert complete(*command, topic) == [f"{topic}-readers"], command
    assert "__consumer_offsets" not in complete("consume", "")
    assert complete("consume", "__con") == ["__consumer_offsets"]


def test_a_topic_that_is_named_like_a_command(complete: Complete, run: Run, topic: str) -> None:
    run("topic", "create", "list", "--if-not-exists")
    run("topic", "create", topic)
    assert complete("topic", "describe", "list", topic[:-3]) == [topic]


def test_profiles_and_files(tmp_path: Path) -> None:
    def complete(*words: str) -> list[str]:
        return shell(tmp_path, "127.0.0.1:1", "bash", "-c", BASH, "bash", "odradek", *words)

    shell(tmp_path, "127.0.0.1:1", "bash", "-c", "odradek profile set north 127.0.0.1:19092 > /dev/null")
    assert complete("profile", "use", "") == ["north"]
    assert complete("topic", "list", "--bootstrap-server", "n") == ["north"]
    (tmp_path / "orders-0").mkdir()
    assert complete("log", "dump", "ord") == ["orders-0"]


def test_a_cluster_that_does_not_answer_is_no_suggestion(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        assert shell(tmp_path, address, "bash", "-c", BASH, "bash", "odradek", "consume", "") == []
        words = {"CYCLOPTS_COMPLETION_WORDS": "consume\x1f\x1f", "ODRADEK_BOOTSTRAP_SERVER": address}
        done = subprocess.run(
            [*COMMAND, "__complete"], env={**os.environ, **words}, capture_output=True, timeout=TIMEOUT_S
        )
        assert done.returncode == 0 and done.stderr == b"" and done.stdout.strip() == b"\x1fbegin"
    assert shell(tmp_path, "127.0.0.1:1", "bash", "-c", BASH, "bash", "odradek", "consume", "") == []


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish(odradek_bootstrap: str, tmp_path: Path, topic: str) -> None:
    runner(odradek_bootstrap, tmp_path)("topic", "create", topic)

    def complete(line: str) -> list[str]:
        typed = f"odradek completion fish | source; complete -C {line!r}"
        return [one.partition("\t")[0] for one in shell(tmp_path, odradek_bootstrap, "fish", "-c", typed)]

    assert complete("odradek to") == ["topic"]
    assert complete(f"odradek consume {topic[:-3]}") == [topic]
    assert complete("odradek consume x --output=j") == ["--output=json"]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh(odradek_bootstrap: str, tmp_path: Path, topic: str) -> None:
    runner(odradek_bootstrap, tmp_path)("topic", "create", topic)
    # What only exists inside a line that is being typed stands in for itself.
    typed = f"""compdef() {{ print -r -- "$@"; }}
compadd() {{ print -rl -- "${{(@P)argv[-1]}}"; }}
source <(odradek completion zsh)
words=(odradek consume {topic[:-3]}) CURRENT=3
_odradek
words=(odradek topic "") CURRENT=3
_odradek
true"""
    found = shell(tmp_path, odradek_bootstrap, "zsh", "-f", "-c", typed)
    assert found[:2] == ["_odradek odradek", topic] and set(found[2:]) == {"list", "create", "describe", "delete"}
