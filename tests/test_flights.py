"""The example with the flights, run as a person would: it checks its own sums, against the source and by offset."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "examples" / "flights" / "flights.py"
TIMEOUT_S = 300


def test_the_flights_come_through_with_the_broker_killed_on_the_way() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("the broker was killed, and was back") == 4
    assert "all 336,776 acknowledged" in done.stdout
    assert done.stdout.count("the same 336,776, each once") == 3
    # The data set's own: United Airlines' flights, and all miles.
    assert "UA        58,665" in done.stdout
    assert "total    336,776 350,217,607" in done.stdout
