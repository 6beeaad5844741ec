"""The code on the pages is the code of the examples, and the examples work as somebody else would run them."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples" / "testing"
PAGES = sorted((ROOT / "docs").glob("*.md"))
# A block that says which file it is from.
BLOCK = re.compile(r'^```[a-z]+ title="(examples/[^"]+)"\n(.*?)^```$', re.DOTALL | re.MULTILINE)
WITH_BROKER = EXAMPLES / "with-broker.sh"
TIMEOUT_S = 120
# The command `odradek`, without an activated environment.
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_block_with_a_files_name_stands_in_that_file(page: Path) -> None:
    for name, code in BLOCK.findall(page.read_text()):
        assert code in (ROOT / name).read_text(), f"{page.name} shows of {name} what is not in it:\n{code}"


def test_the_page_shows_every_example() -> None:
    shown = "".join(code for _, code in BLOCK.findall((ROOT / "docs" / "testing.md").read_text()))
    for path in sorted(EXAMPLES.glob("test_*.py")):
        for function in ast.parse(path.read_text()).body:
            if isinstance(function, ast.FunctionDef) and function.name.startswith("test_"):
                assert f"def {function.name}(" in shown, f"{path.name}: {function.name}"


def test_the_examples_work(tmp_path: Path) -> None:
    """Outside of the source tree, with nothing of this project's own settings."""
    shutil.copytree(EXAMPLES, tmp_path / "testing", ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path / "testing",
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"^1[0-9] passed", done.stdout, re.MULTILINE), done.stdout


def test_other_blocks_of_python_run(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(
        r"^```python\n(.*?)^```$", (ROOT / "docs" / "testing.md").read_text(), re.DOTALL | re.MULTILINE
    )
    exec(compile(code, "testing.md", "exec"), {})
    assert re.fullmatch(r"127\.0\.0\.1:\d+\n", capsys.readouterr().out)


def with_broker(*command: str, path: str = ENVIRONMENT["PATH"]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [WITH_BROKER, *command], env={**ENVIRONMENT, "PATH": path}, capture_output=True, text=True, timeout=TIMEOUT_S
    )


def test_a_command_with_a_broker_around_it() -> None:
    lines = "echo $BOOTSTRAP_SERVERS; odradek topic list --bootstrap-server $BOOTSTRAP_SERVERS --output json; exit 7"
    done = with_broker("sh", "-c", lines)
    assert done.returncode == 7, done.stderr
    address, topics = done.stdout.splitlines()
    assert topics == "[]"
    # It has ended with the command.
    gone = subprocess.run(
        ["odradek", "topic", "list", "--timeout", "1", "--bootstrap-server", address],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert gone.returncode == 1


def test_a_command_whose_broker_cannot_start(tmp_path: Path) -> None:
    """The reason is told, and the command is not run."""
    broken = tmp_path / "odradek"
    broken.write_text("#!/bin/sh\necho no such luck >&2\nexit 1\n")
    broken.chmod(0o755)
    done = with_broker("echo", "ran", path=f"{tmp_path}:{ENVIRONMENT['PATH']}")
    assert done.returncode == 1 and done.stdout == "" and "no such luck" in done.stderr


@pytest.mark.skipif(shutil.which("kcat") is None, reason="kcat is not installed")
def test_a_program_in_another_language() -> None:
    (line,) = re.findall(
        r"^\./with-broker\.sh (sh -c '.*kcat.*')$", (ROOT / "docs" / "testing.md").read_text(), re.MULTILINE
    )
    command = line.removeprefix("sh -c '").removesuffix("'")
    done = with_broker("sh", "-c", f'{command} && kcat -C -q -e -b "$BOOTSTRAP_SERVERS" -t greetings')
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr


def test_the_ready_line_is_as_the_page_shows_it() -> None:
    page = (ROOT / "docs" / "testing.md").read_text()
    (shown,) = re.findall(r"^```\n(Odradek .*)\n```$", page, re.MULTILINE)
    process = subprocess.Popen(
        ["odradek", "serve", "--memory", "--listen", "127.0.0.1:0"], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout:
        line = process.stdout.readline()
        process.terminate()
        assert process.wait(TIMEOUT_S) == 0
        assert process.stdout.read() == ""
    assert re.sub(r":\d+ ", ":40257 ", line) == shown + "\n"
