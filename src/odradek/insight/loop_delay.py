"""Measures how late the event loop runs its timers: what blocks the loop delays every request."""

from __future__ import annotations

from odradek.clock import Scheduler, Timer
from odradek.durations import Durations

INTERVAL_S = 0.25


class LoopDelay:
    """Measures the running loop's delay every `INTERVAL_S`, from `start` to `stop`."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.durations = Durations()
        self._scheduler = scheduler
        self._timer: Timer | None = None
        self._due_s = 0.0

    def start(self) -> None:
        self._due_s = self._scheduler.clock.monotonic() + INTERVAL_S
        self._timer = self._scheduler.call_later(INTERVAL_S, self._came)

    def _came(self) -> None:
        # libuv's timers have a resolution of 1 ms, and may fire a fraction of one early.
        self.durations.add(max(0.0, self._scheduler.clock.monotonic() - self._due_s))
        self.start()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
