"""The delays before what has failed is tried again: a log, or the markers of a transaction."""

from __future__ import annotations

from collections.abc import Iterator

FIRST_DELAY_S = 0.05
MAX_DELAY_S = 10.0


def delays() -> Iterator[float]:
    """Delays in seconds, without end: each is twice the one before, up to the maximum."""
    delay_s = FIRST_DELAY_S
    while True:
        yield delay_s
        delay_s = min(delay_s * 2, MAX_DELAY_S)
