"""Time: the only module of the package that imports `time`.

Pure modules take a `Clock` as an argument, modules that wait take a `Scheduler` (`loop_scheduler.py` has the one of a
real broker), so that the simulation can run the same code on virtual time. There are three times: wall time (`now_ms`)
for records; monotonic time (`monotonic`) for sessions, timeouts and waits, which clients measure with their own clocks;
ageing time (`ageing`) for retention and other expiry, which is monotonic and which tests may run faster.
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
        """Seconds of real time since an arbitrary start. Never goes back."""
        ...

    def ageing(self) -> float:
        """Seconds of ageing time since an arbitrary start: as fast as `now_ms`, but without its leaps. Never goes
        back."""
        ...


class Timer(Protocol):
    def cancel(self) -> None:
        """Prevents the call, unless it has been made."""
        ...


class Scheduler(Protocol):
    """A clock, timers on the event loop, and threads."""

    @property
    def clock(self) -> Clock:
        """The clock itself, so that each request reads it without a further call."""
        ...

    @property
    def executor(self) -> Executor:
        """Threads for work that takes CPU or blocks."""
        ...

    def call_later(self, delay_s: float, work: Callable[..., object], *arguments: object) -> Timer:
        """Calls `work` on the event loop after about this much monotonic time."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Waits for this much monotonic time."""
        ...

    async def wait(self, future: Future[Any], limit_s: float) -> bool:
        """Waits until the future is done, for this much monotonic time at most; returns whether it is done. Does not
        cancel it."""
        ...


class SystemClock:
    """The machine's own clock."""

    @staticmethod
    def now_ms() -> int:
        return time.time_ns() // 1_000_000

    # `time.monotonic` itself: connections call it twice per request, and a method around it would double the cost.
    monotonic = staticmethod(time.monotonic)
    ageing = staticmethod(time.monotonic)


class FastClock:
    """A clock that starts at the machine's time and by which data ages `times` as fast.

    For tests of what takes hours or days: retention, and the warnings before it. Give topics
    `message.timestamp.type=LogAppendTime`, so that records get their timestamps from this clock. The periods of checks
    (settings that end with `interval.ms`), and sessions and timeouts, which clients measure themselves, stay in the
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
