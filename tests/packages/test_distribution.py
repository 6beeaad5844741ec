"""The packages: built, installed into a clean environment, and used there."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
TIMEOUT_S = 300


def run(*command: str | Path, cwd: Path | None = None, stdin: str | None = None) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env={name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))},
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel, made from the sdist, and the sdist: so the sdist has all that it needs."""
    out = tmp_path_factory.mktemp("packages")
    run(sys.executable, "-m", "build", "--outdir", out, ROOT)
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, sdist


@pytest.fixture(scope="module")
def environment(packages: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new virtual environment with the wheel in it; its folder of programs."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", folder)
    run(folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", packages[0])
    return folder / "bin"


@pytest.fixture
def broker(environment: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A broker from the installed package, and where clients connect."""
    process = subprocess.Popen(
        [environment / "odradek", "serve", "--listen", "127.0.0.1:0", "--data-dir", tmp_path / "data"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert select.select([process.stdout], [], [], 60)[0]
        line = process.stdout.readline()
        yield process, line.split(" ready on ")[1].split()[0]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_what_is_in_the_packages(packages: tuple[Path, Path]) -> None:
    wheel, sdist = packages
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith("METADATA"))
    assert all(name.startswith(("odradek/", "odradek-")) for name in names)
    assert "odradek/py.typed" in names and "odradek/server.py" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "Requires-Python: >=3.11" in metadata and "License-Expression: Apache-2.0" in metadata
    with tarfile.open(sdist) as archive_of_source:
        inside = {name.partition("/")[2] for name in archive_of_source.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "src/odradek/server.py"} <= inside
    assert not [name for name in inside if name.startswith(("tests/", ".git/", ".venv"))]


def test_the_installed_command_serves_writes_and_reads(
    environment: Path, broker: tuple[subprocess.Popen[str], str]
) -> None:
    process, address = broker
    odradek = environment / "odradek"
    assert run(odradek, "--version").strip()
    run(odradek, "topic", "create", "greetings", "--partitions", "3", "--bootstrap-server", address)
    run(odradek, "produce", "greetings", "--bootstrap-server", address, stdin="hello, world\n")
    read = run(odradek, "consume", "greetings", "--from", "beginning", "--exit-at-end", "--bootstrap-server", address)
    assert '"value":"hello, world"' in read
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


def test_the_installed_library_runs_a_broker(environment: Path, tmp_path: Path) -> None:
    program = (
        "import odradek\nwith odradek.Broker() as broker:\n    print(broker.create_topic('t', 2), broker.topics())\n"
    )
    assert run(environment / "python", "-c", program, cwd=tmp_path) == "t ['t']\n"


def test_the_installed_package_is_all_that_it_needs(environment: Path) -> None:
    assert run(environment / "pip", "check").startswith("No broken requirements")
