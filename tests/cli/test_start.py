"""What a command imports, which is what its start takes: nothing of the broker, and rich only for tables and help."""

from __future__ import annotations

import subprocess
import sys

import pytest

BROKER = ("odradek.server", "odradek.engines", "odradek.handlers", "odradek.insight", "uvloop", "starlette", "uvicorn")
SHOWN = ("rich.markdown", "rich.table", "pygments")


def imported(*arguments: str) -> set[str]:
    """The modules that a command has imported at its end."""
    code = (
        "import sys\nfrom odradek.cli.main import run\n"
        "assert run(sys.argv[1:]) == 0\nprint('modules', *sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.rpartition("modules ")[2].split())


@pytest.mark.parametrize(
    "arguments",
    [("--version",), ("--help",), ("serve", "--help"), ("topic", "list", "--help"), ("log", "dump", "--help")],
)
def test_help_imports_nothing_of_the_broker(arguments: tuple[str, ...]) -> None:
    found = imported(*arguments)
    assert found.isdisjoint(BROKER) and found.isdisjoint(("rich.markdown", "asyncio", "confluent_kafka"))


def test_a_command_imports_what_it_needs(odradek_bootstrap: str) -> None:
    found = imported("topic", "list", "--bootstrap-server", odradek_bootstrap)
    assert found.isdisjoint(BROKER) and found.isdisjoint((*SHOWN, "json"))
    assert "odradek.cli.topics" in found and "odradek.cli.groups" not in found
