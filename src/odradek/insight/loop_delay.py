"""How late the event loop comes to what it was asked to do: what blocks it delays everybody."""

from __future__ import annotations

from odradek.clock import Scheduler, Timer
from odradek.durations import Durations

INTERVAL_S = 0.25


class LoopDelay:
    """Measures from `start` to `stop`, on the running loop."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.durations = Durations()
        self._scheduler = scheduler
        self._timer: Timer | None = None
        self._due_s = 0.0

    def start(self) -> None:
        self._due_s = self._scheduler.clock.monotonic() + INTERVAL_S
        self._timer = self._scheduler.call_later(INTERVAL_S, self._came)

    def _came(self) -> None:
        # libuv's timers have milliseconds, and may come a fraction of one early.
        self.durations.add(max(0.0, self._scheduler.clock.monotonic() - self._due_s))
        self.start()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
