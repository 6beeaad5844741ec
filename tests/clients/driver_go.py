"""What the clients in Go have in common: one program (go/), built once, told which client it is to be."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from tests.clients.driver_process import ProcessDriver
from tests.reference import CACHE

FOLDER = Path(__file__).parent / "go"
GO = shutil.which("go")
if GO is None and os.environ.get("CI") == "true":
    raise RuntimeError("with CI=true go must be installed")
BUILD_TIMEOUT_S = 600


@cache
def built() -> Path:
    """The program: built once for each state of its sources, under a name that says it is whole."""
    assert GO is not None
    sources = [FOLDER / "go.mod", FOLDER / "go.sum", *sorted(FOLDER.glob("*.go"))]
    program = CACHE / f"go-{hashlib.sha256(b''.join(source.read_bytes() for source in sources)).hexdigest()[:16]}"
    if not program.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        making = program.with_suffix(f".{os.getpid()}")
        # The folder's version control says nothing about the program.
        build = [GO, "build", "-buildvcs=false", "-o", str(making), "."]
        done = subprocess.run(build, cwd=FOLDER, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S)
        assert done.returncode == 0, done.stdout + done.stderr
        making.rename(program)
    return program


class GoDriver(ProcessDriver):
    """A client by its name in the program."""

    def command(self) -> list[str]:
        return [str(built()), self.name]

    def member_command(self) -> list[str]:
        return [str(built()), "member", self.name]
