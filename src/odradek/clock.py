"""Time: the only module of the package that imports `time`.

Everything below `network/` takes a `Clock` as an argument, so that the simulation can run the real code on
virtual time. Wall time (`now_ms`) goes into records and retention; monotonic time (`monotonic`) into deadlines.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    def now_ms(self) -> int:
        """Wall time, milliseconds since the epoch. May jump."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary start. Never goes back."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    # The function itself: connections read it twice a request, and a method around it costs as much again.
    monotonic = staticmethod(time.monotonic)


class FastClock:
    """A clock that goes so many times as fast as the machine's, from the machine's time on.

    For tests of what takes hours or days: retention, and the warnings before it. Give topics
    `message.timestamp.type=LogAppendTime`, so that records are as old as this clock says. How often the broker looks
    (settings that end with `interval.ms`) and what clients measure themselves stays the machine's time."""

    def __init__(self, times: float) -> None:
        self._times = times
        self._began_ms = time.time_ns() / 1_000_000
        self._began_s = time.monotonic()

    def now_ms(self) -> int:
        return int(self._began_ms + (time.monotonic() - self._began_s) * 1000 * self._times)

    def monotonic(self) -> float:
        return self._began_s + (time.monotonic() - self._began_s) * self._times
