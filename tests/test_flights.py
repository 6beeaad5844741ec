"""The example in the README, as a user runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parent.parent / "examples" / "flights" / "flights.py"


def test_a_year_of_flights_through_two_kills() -> None:
    done = subprocess.run([sys.executable, str(EXAMPLE)], capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("the broker was killed") == 2
    assert done.stdout.count("336,776 flights, each once") == 3
    assert "Every reader found what the source has." in done.stdout
