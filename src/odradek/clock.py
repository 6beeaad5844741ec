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
