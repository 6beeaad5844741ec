"""The story of the services, as the README tells it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

STORY = Path(__file__).parent.parent / "examples" / "services" / "story.py"


@pytest.mark.parametrize(("killed", "count"), [("archive", 100_000), ("delay_board", 40_000), ("daily_total", 40_000)])
def test_a_service_is_killed_and_nothing_is_lost(killed: str, count: int) -> None:
    command = [sys.executable, str(STORY), "--kill", killed, "--count", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{killed} was killed when it had" in done.stdout
    assert "All three have every flight, each once." in done.stdout
    assert "A fourth service, new, has read them from the start" in done.stdout
