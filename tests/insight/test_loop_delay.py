"""The event loop's delay, on a loop whose time is chosen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from odradek.insight.loop_delay import INTERVAL_S, LoopDelay


class Timer:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """What is asked of a loop."""

    def __init__(self) -> None:
        self.now = 100.0
        self.asked: list[tuple[float, Callable[..., None], tuple[Any, ...], Timer]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, work: Callable[..., None], *arguments: Any) -> Timer:
        timer = Timer()
        self.asked.append((when, work, arguments, timer))
        return timer

    def come(self, late_s: float) -> None:
        when, work, arguments, _ = self.asked.pop()
        self.now = when + late_s
        work(*arguments)


def test_it_measures_how_late_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = Loop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    delay = LoopDelay()
    delay.start()
    for late_s in (0.0, 0.003, 0.7, -0.0005):
        assert loop.asked[0][0] == loop.now + INTERVAL_S
        loop.come(late_s)
    assert delay.durations.buckets == [2, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0]
    assert delay.durations.sum_s == pytest.approx(0.703)
    timer = loop.asked[0][3]
    delay.stop()
    assert timer.cancelled
