"""Time: the only module of the package that imports `time`.

Pure modules take a `Clock` as an argument, those that wait a `Scheduler` (`loop_scheduler.py` has that of a broker that
runs), so that the simulation can run the real code on virtual time. Wall time (`now_ms`) goes into records; machine
time (`monotonic`) into what others measure with clocks of their own: sessions, timeouts, waits. What grows old
(retention, histories, expiry) does so by a time of its own (`ageing`), which only a test hurries.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from asyncio import Future
    from concurrent.futures import Executor


class Clock(Protocol):
    def now_ms(self) -> int:
        """Wall time, milliseconds since the epoch. May jump."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary start, as everybody's go by. Never goes back."""
        ...

    def ageing(self) -> float:
        """Seconds since an arbitrary start, of what grows old: as fast as `now_ms` where that does not leap. Never
        goes back."""
        ...


class Timer(Protocol):
    def cancel(self) -> None:
        """It does not come, unless it has."""
        ...


class Scheduler(Protocol):
    """A clock, and who wakes by it, and threads."""

    @property
    def clock(self) -> Clock:
        """For those who only look at it: the clock itself, since requests do so."""
        ...

    @property
    def executor(self) -> Executor:
        """Threads for what takes CPU or may wait."""
        ...

    def call_later(self, delay_s: float, work: Callable[..., object], *arguments: object) -> Timer:
        """Calls `work` on the event loop when that much machine time has passed; a little sooner or later."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Waits for that much machine time."""
        ...

    async def wait(self, future: Future[Any], limit_s: float) -> bool:
        """Waits until the future is done, that much machine time at most; whether it is. It goes on if it is not."""
        ...


class SystemClock:
    """The machine's own clock."""

    @staticmethod
    def now_ms() -> int:
        return time.time_ns() // 1_000_000

    # The function itself: connections read it twice a request, and a method around it costs as much again.
    monotonic = staticmethod(time.monotonic)
    ageing = staticmethod(time.monotonic)


class FastClock:
    """A clock by which things grow old so many times as fast as by the machine's, from the machine's time on.

    For tests of what takes hours or days: retention, and the warnings before it. Give topics
    `message.timestamp.type=LogAppendTime`, so that records are as old as this clock says. How often the broker looks
    (settings that end with `interval.ms`), and sessions and timeouts, which clients measure themselves, stay the
    machine's time."""

    def __init__(self, times: float) -> None:
        self._times = times
        self._began_ms = time.time_ns() / 1_000_000
        self._began_s = time.monotonic()

    def now_ms(self) -> int:
        return int(self._began_ms + (time.monotonic() - self._began_s) * 1000 * self._times)

    monotonic = staticmethod(time.monotonic)

    def ageing(self) -> float:
        return self._began_s + (time.monotonic() - self._began_s) * self._times
