"""What time it is for what grows old, on a clock that leaps."""

from __future__ import annotations

import logging

import pytest

from odradek.ages import LEAP_MS, Ages
from odradek.config import BrokerConfig

START_MS = 1_700_000_000_000
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
YEAR_MS = 365 * 24 * HOUR_MS


class LeapingClock:
    """Passes when the test says so, and leaps."""

    def __init__(self) -> None:
        self.passed_ms = 0
        self.wrong_ms = 0

    def now_ms(self) -> int:
        return START_MS + self.passed_ms + self.wrong_ms

    def monotonic(self) -> float:
        return 77.5 + self.passed_ms / 1000

    ageing = monotonic


def of(clock: LeapingClock, **settings: str) -> Ages:
    return Ages(clock, BrokerConfig({name.replace("__", "."): value for name, value in settings.items()}))


def test_time_passes() -> None:
    clock = LeapingClock()
    ages = of(clock)
    for passed_ms in (0, MINUTE_MS, YEAR_MS):
        clock.passed_ms = passed_ms
        assert ages.now_ms() == START_MS + passed_ms


def test_a_clock_that_drifts_is_followed() -> None:
    clock = LeapingClock()
    ages = of(clock)
    for _ in range(20):
        clock.passed_ms += 5 * MINUTE_MS
        clock.wrong_ms += LEAP_MS // 2
        assert ages.now_ms() == clock.now_ms()


@pytest.mark.parametrize("leap_ms", [HOUR_MS, YEAR_MS])
def test_a_leap_ahead_counts_after_a_grace(leap_ms: int, caplog: pytest.LogCaptureFixture) -> None:
    clock = LeapingClock()
    ages = of(clock)
    clock.wrong_ms = leap_ms
    with caplog.at_level(logging.INFO, "odradek"):
        for _ in range(12):
            assert abs(ages.now_ms() - (START_MS + clock.passed_ms)) <= 1
            clock.passed_ms += 5 * MINUTE_MS
        (line,) = caplog.records
        assert line.levelname == "ERROR" and f"ahead_s={leap_ms // 1000}" in line.getMessage()
        for _ in range(3):
            assert ages.now_ms() == clock.now_ms()
            clock.passed_ms += 5 * MINUTE_MS
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


def test_a_clock_that_comes_back_has_never_counted(caplog: pytest.LogCaptureFixture) -> None:
    clock = LeapingClock()
    ages = of(clock)
    clock.wrong_ms = YEAR_MS
    assert ages.now_ms() <= START_MS
    clock.passed_ms = 30 * MINUTE_MS
    clock.wrong_ms = 0
    assert ages.now_ms() == clock.now_ms()
    assert caplog.records[-1].getMessage().startswith("the clock is back")
    # The next one has a whole grace again.
    clock.wrong_ms = YEAR_MS
    clock.passed_ms = 89 * MINUTE_MS
    assert ages.now_ms() < START_MS + YEAR_MS
    clock.passed_ms += HOUR_MS
    assert ages.now_ms() == clock.now_ms()


@pytest.mark.parametrize("leap_ms", [HOUR_MS, YEAR_MS])
def test_a_leap_back_is_followed_at_once(leap_ms: int) -> None:
    clock = LeapingClock()
    ages = of(clock)
    clock.wrong_ms = -leap_ms
    assert ages.now_ms() == START_MS - leap_ms
    # Its end is a leap ahead: what was written meanwhile may not grow old by it.
    clock.passed_ms = MINUTE_MS
    clock.wrong_ms = 0
    assert abs(ages.now_ms() - (START_MS - leap_ms + MINUTE_MS)) <= 1
    clock.passed_ms += HOUR_MS
    assert ages.now_ms() == clock.now_ms()


def test_without_a_grace_it_is_wall_time() -> None:
    clock = LeapingClock()
    for ages in (of(clock, odradek__clock__leap__grace__ms="0"), Ages(clock)):
        for wrong_ms in (YEAR_MS, -YEAR_MS, 0):
            clock.wrong_ms = wrong_ms
            assert ages.now_ms() == clock.now_ms()
