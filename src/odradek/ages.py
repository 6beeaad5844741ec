"""What time it is for what grows old: retention, committed offsets, silent producers.

Role: wall time that does not believe a leap ahead at once. A clock set wrong by a year makes all that is kept look a
year older: what a mistake of a minute deletes does not come back. So where wall time leaps ahead of the clock's ageing
time by more than `LEAP_MS`, ages go on by that for `odradek.clock.leap.grace.ms`; a line in the log says so. Then the
leap counts, unless the clock has come back. A machine that was suspended looks the same: there things expire later, by
the grace at most.

A leap back makes everything look younger. That deletes nothing, and is followed at once.

What this cannot know: that the clock was wrong when the broker started.
"""

from __future__ import annotations

from odradek.clock import Clock
from odradek.config.layers import BrokerConfig
from odradek.logs import get_logger

log = get_logger("odradek.clock")

# More than clocks drift between two looks, which are minutes apart.
LEAP_MS = 60_000


class Ages:
    """Asked every few minutes by whoever deletes what is old."""

    def __init__(self, clock: Clock, config: BrokerConfig | None = None) -> None:
        self._clock = clock
        self._grace_ms = 0 if config is None else config.integer("odradek.clock.leap.grace.ms")
        self._ahead_ms = clock.now_ms() - self._ageing_ms()
        """Wall time is this much ahead of ageing time, as far as it is believed."""
        self._leapt_at_ms = -1
        """When the leap was seen that is not believed yet, ageing time."""

    def _ageing_ms(self) -> int:
        return int(self._clock.ageing() * 1000)

    def now_ms(self) -> int:
        """Milliseconds since the epoch, never later than wall time."""
        wall_ms, ageing_ms = self._clock.now_ms(), self._ageing_ms()
        expected_ms = ageing_ms + self._ahead_ms
        leap_ms = wall_ms - expected_ms
        if leap_ms > LEAP_MS:
            if self._leapt_at_ms < 0:
                self._leapt_at_ms = ageing_ms
                if self._grace_ms:
                    log.error(
                        "the clock leapt ahead: what grows old does so by the time before, until the grace is over",
                        ahead_s=leap_ms // 1000,
                        grace_s=self._grace_ms // 1000,
                    )
            if ageing_ms - self._leapt_at_ms < self._grace_ms:
                return expected_ms
            log.warning("the clock's leap counts now", ahead_s=leap_ms // 1000)
        elif self._leapt_at_ms >= 0:
            log.warning("the clock is back", ahead_s=leap_ms // 1000)
        elif leap_ms < -LEAP_MS:
            log.warning("the clock leapt back: what grows old does so later", back_s=-leap_ms // 1000)
        self._leapt_at_ms = -1
        self._ahead_ms = wall_ms - ageing_ms
        return wall_ms
