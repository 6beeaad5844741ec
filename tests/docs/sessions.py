"""Types what a page shows at a terminal, and compares what comes with what the page shows.

Of a page, in its order: a block ```console has lines to type after `$ ` (in bash, at a terminal), and what they print;
a block ```python or ```properties with a title is a file. Everything happens in one folder, with a broker on a free
port where the page says 9092, its HTTP port where it says 9464. `odradek serve` without `--listen` runs until it is
killed (`pkill`), typed again, or the page ends, and but for `pkill -9` it must end well. A line `...` stands for any
lines.

What differs each time is not compared: ids, times, folders, and how wide a table is.
"""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TIMEOUT_S = 60.0
COLUMNS = 200
_BLOCK = re.compile(r'^```(\w+)(?: title="([^"/]+)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE)


class Step(NamedTuple):
    """A line to type, and the lines it prints."""

    typed: str
    printed: list[str]


def steps(block: str) -> Iterator[Step]:
    lines = block.splitlines()
    assert lines[0].startswith("$ "), block
    at = [number for number, line in enumerate(lines) if line.startswith("$ ")]
    for begin, end in zip(at, [*at[1:], len(lines)], strict=True):
        yield Step(lines[begin][2:], lines[begin + 1 : end])


def plain(text: str, folder: Path, port: int, http_port: int = 9464) -> list[str]:
    """Lines without what differs each time."""
    text = text.replace("\r", "").replace(f":{port}", ":9092").replace(f":{http_port}", ":9464")
    text = text.replace(str(folder), "/home/you")
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME", text)
    text = re.sub(r"\b1[78]\d{11}\b", "TIME", text)
    text = re.sub(r"(?<![\w-])(?=[\w-]*[A-Z0-9])[\w-]{22}(?![\w-])", "ID", text)
    lines = (" ".join(line.split()) for line in text.splitlines())
    return [line for line in lines if line.strip(" ─")]


def agrees(shown: list[str], came: list[str]) -> bool:
    if not shown:
        return not came
    if shown[0] == "...":
        return any(agrees(shown[1:], came[begin:]) for begin in range(len(came) + 1))
    return bool(came) and shown[0] == came[0] and agrees(shown[1:], came[1:])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Terminal:
    """Types the lines of one page. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.http_port = free_port()
        self.broker: tuple[subprocess.Popen[bytes], int] | None = None
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("ODRADEK", "FORCE_COLOR"))},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "ODRADEK_BOOTSTRAP_SERVER": f"127.0.0.1:{self.port}",
            "XDG_CONFIG_HOME": str(folder / "config"),
            "COLUMNS": str(COLUMNS),
            "TERM": "dumb",
        }

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.broker is not None:
            self.end(signal.SIGKILL)

    def start(self, typed: str) -> tuple[subprocess.Popen[bytes], int]:
        """A command at a terminal of its own; the process, and the terminal's other end."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            ["bash", "-c", typed], cwd=self.folder, env=self.environment, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        return process, ours

    def read(self, ours: int, until: str | None = None) -> str:
        """What is printed, to the end or to the end of a line with `until`."""
        out, deadline = b"", time.monotonic() + TIMEOUT_S
        while until is None or not re.search(f"{until}.*\n", out.decode(errors="replace")):
            ready, _, _ = select.select([ours], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"it did not come to an end: {out.decode()}"
            try:
                part = os.read(ours, 65536)
            except OSError:  # the end of a terminal that nobody has open
                break
            if not part:
                break
            out += part
        return out.decode()

    def end(self, number: signal.Signals) -> int:
        assert self.broker is not None
        (process, ours), self.broker = self.broker, None
        process.send_signal(number)
        try:
            return process.wait(TIMEOUT_S)
        finally:
            os.close(ours)

    def type(self, typed: str) -> str:
        """Returns what is printed."""
        if typed == "pkill -9 odradek":
            assert self.end(signal.SIGKILL) == -signal.SIGKILL
            return ""
        typed = typed.replace("127.0.0.1:9092", f"127.0.0.1:{self.port}")
        typed = typed.replace("127.0.0.1:9464", f"127.0.0.1:{self.http_port}")
        if typed == "pkill odradek":
            assert self.end(signal.SIGTERM) == 0
            return ""
        if typed.startswith("odradek serve") and "--listen" not in typed:
            if self.broker is not None:
                assert self.end(signal.SIGINT) == 0
            process, ours = self.start(f"exec {typed} --listen 127.0.0.1:{self.port}")
            out = self.read(ours, until=" is ready on ")
            self.broker = process, ours
            return out
        process, ours = self.start(typed)
        try:
            return self.read(ours)
        finally:
            os.close(ours)
            process.wait(TIMEOUT_S)


def play(page: Path, folder: Path) -> int:
    """Types the whole page; returns how many lines that were."""
    count = 0
    with Terminal(folder) as terminal:
        for language, title, block in _BLOCK.findall(page.read_text()):
            if title:
                (folder / title).write_text(block.replace("127.0.0.1:9092", f"127.0.0.1:{terminal.port}"))
            elif language == "console":
                for step in steps(block):
                    count += 1
                    printed = terminal.type(step.typed)
                    came = plain(printed, folder, terminal.port, terminal.http_port)
                    shown = plain("\n".join(step.printed), folder, terminal.port)
                    assert agrees(shown, came), "\n".join(
                        [f"$ {step.typed}", "--- the page shows", *shown, "--- it prints", *came]
                    )
        if terminal.broker is not None:
            assert terminal.end(signal.SIGTERM) == 0
    return count
