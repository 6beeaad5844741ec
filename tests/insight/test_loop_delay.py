"""The event loop's delay, by a scheduler whose time is chosen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import pytest

from odradek.insight.loop_delay import INTERVAL_S, LoopDelay
from tests.partitions.test_partition import StillClock


class Timer:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class PassingClock(StillClock):
    now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


class Scheduler:
    """What is asked of a scheduler."""

    executor: Executor

    def __init__(self) -> None:
        self.clock = PassingClock()
        self.asked: list[tuple[float, Callable[..., object], tuple[object, ...], Timer]] = []

    def call_later(self, delay_s: float, work: Callable[..., object], *arguments: object) -> Timer:
        timer = Timer()
        self.asked.append((self.clock.now_s + delay_s, work, arguments, timer))
        return timer

    async def sleep(self, delay_s: float) -> None:
        raise AssertionError

    async def wait(self, future: asyncio.Future[Any], limit_s: float) -> bool:
        raise AssertionError

    def come(self, late_s: float) -> None:
        when, work, arguments, _ = self.asked.pop()
        self.clock.now_s = when + late_s
        work(*arguments)


def test_it_measures_how_late_it_comes() -> None:
    scheduler = Scheduler()
    delay = LoopDelay(scheduler)
    delay.start()
    for late_s in (0.0, 0.003, 0.7, -0.0005):
        assert scheduler.asked[0][0] == scheduler.clock.now_s + INTERVAL_S
        scheduler.come(late_s)
    assert delay.durations.buckets == [2, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0]
    assert delay.durations.sum_s == pytest.approx(0.703)
    timer = scheduler.asked[0][3]
    delay.stop()
    assert timer.cancelled
