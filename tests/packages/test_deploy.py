"""The files for those who run a broker as a service: checked by the tools of those who read them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.broker import BrokerProcess

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
UNSHARE = shutil.which("unshare")


def test_the_container_file_is_clean() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, DEPLOY / "Containerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_container_file_runs_what_there_is(tmp_path: Path) -> None:
    """Its entry point, as it stands, with its paths in a folder of the test's."""
    (entry,) = (line for line in (DEPLOY / "Containerfile").read_text().splitlines() if line.startswith("ENTRYPOINT"))
    command = [part.strip('" ') for part in entry.removeprefix("ENTRYPOINT [").removesuffix("]").split(",")]
    assert command[:2] == ["/opt/odradek/bin/odradek", "serve"]
    options = command[2:]
    for option, value in (("--listen", "0.0.0.0:9092"), ("--data-dir", "/data")):
        at = options.index(option)
        assert options[at + 1] == value
        del options[at : at + 2]
    with BrokerProcess(tmp_path, arguments=tuple(options)) as broker:
        assert broker.stop() == 0


@pytest.mark.skipif(shutil.which("docker") is None and shutil.which("podman") is None, reason="no container engine")
def test_the_container_is_built_and_runs(tmp_path: Path) -> None:
    engine = shutil.which("podman") or shutil.which("docker")
    assert engine is not None
    if subprocess.run([engine, "info"], capture_output=True).returncode:
        pytest.skip("the container engine does not run here")
    built = subprocess.run(
        [engine, "build", "-q", "-f", DEPLOY / "Containerfile", ROOT], capture_output=True, text=True, timeout=600
    )
    assert built.returncode == 0, built.stderr
    image = built.stdout.strip()
    done = subprocess.run([engine, "run", "--rm", image, "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "--data-dir" in done.stdout


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_unit_is_clean(tmp_path: Path) -> None:
    # The program that it names must be there for the check.
    unit = (DEPLOY / "odradek.service").read_text()
    (tmp_path / "odradek.service").write_text(unit.replace("/opt/odradek/bin/odradek", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / "odradek.service"],
        capture_output=True,
        text=True,
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"},
    )
    complaints = [line for line in done.stderr.splitlines() if "odradek" in line]
    assert done.returncode == 0 and complaints == [], done.stderr
    # That it would notice.
    (tmp_path / "odradek.service").write_text(unit.replace("Type=exec", "Type=nonsense"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / "odradek.service"], capture_output=True, text=True
    )
    assert "nonsense" in done.stderr


def test_the_settings_beside_the_unit_are_taken(tmp_path: Path) -> None:
    arguments = ("--config", str(DEPLOY / "server.properties"))
    with BrokerProcess(tmp_path, arguments=arguments) as broker:
        assert "warning" not in broker.logged


@pytest.mark.skipif(UNSHARE is None or os.geteuid() != 0, reason="process 1 of a namespace needs root and unshare")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_broker_as_process_1(tmp_path: Path, number: signal.Signals) -> None:
    """The kernel gives process 1 no default actions: it must handle the signals itself, and so ends well."""
    assert UNSHARE is not None
    inside = f"exec {sys.executable} -m odradek.cli.main serve --listen 127.0.0.1:0 --data-dir {tmp_path / 'data'}"
    outer = subprocess.Popen(
        [UNSHARE, "--pid", "--fork", "--mount-proc", "sh", "-c", f"echo pid $$; {inside}"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert outer.stdout is not None
    try:
        assert outer.stdout.readline().strip() == "pid 1"
        assert " ready on " in outer.stdout.readline()
        (child,) = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
        os.kill(int(child), number)
        assert outer.wait(60) == 0
    finally:
        if outer.poll() is None:
            outer.kill()
            outer.wait()
        outer.stdout.close()
    assert (tmp_path / "data" / ".kafka_cleanshutdown").exists()
