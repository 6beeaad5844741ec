"""A deadline for retries, and the pauses between them."""

from __future__ import annotations

import select

from odradek.clock import SystemClock

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0

_clock = SystemClock()


class Deadline:
    """A bounded wait with growing pauses between attempts."""

    def __init__(self, timeout_s: float) -> None:
        self._end = _clock.monotonic() + timeout_s
        self._pause = FIRST_PAUSE_S

    def left_s(self) -> float:
        return self._end - _clock.monotonic()

    def pause(self) -> bool:
        """Waits before the next attempt; False when there is no time for one."""
        if self.left_s() <= self._pause:
            return False
        select.select([], [], [], self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE_S)
        return True
