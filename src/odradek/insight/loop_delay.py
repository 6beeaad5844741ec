"""How late the event loop comes to what it was asked to do: what blocks it delays everybody."""

from __future__ import annotations

import asyncio

from odradek.durations import Durations

INTERVAL_S = 0.25


class LoopDelay:
    """Measures from `start` to `stop`, on the running loop."""

    def __init__(self) -> None:
        self.durations = Durations()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ask(self._loop)

    def _ask(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = loop.time() + INTERVAL_S
        self._timer = loop.call_at(self._due, self._came, loop)

    def _came(self, loop: asyncio.AbstractEventLoop) -> None:
        # libuv's timers have milliseconds, and may come a fraction of one early.
        self.durations.add(max(0.0, loop.time() - self._due))
        self._ask(loop)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
