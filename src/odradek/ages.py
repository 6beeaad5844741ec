"""The time by which data expires: retention, committed offsets, states of silent producers.

Role: wall time that does not follow a leap ahead at once. A clock that is set a year ahead for a minute makes all data
look a year older, and what is deleted in that minute is lost. So if wall time leaps ahead of the clock's ageing time by
more than `LEAP_MS`, this time goes on by ageing time for `odradek.clock.leap.grace.ms`, which is logged. After that it
follows the leap, unless the clock was set back before. A machine that was suspended shows the same leap: there, data
expires later, by the grace at most.

A leap back makes all data look younger. This deletes nothing, so it is followed at once.

A clock that was already wrong when the broker started cannot be recognized.
"""

from __future__ import annotations

from odradek.clock import Clock
from odradek.config.layers import BrokerConfig
from odradek.logs import get_logger

log = get_logger("odradek.clock")

# More than clocks drift between two calls of `now_ms`, which are minutes apart.
LEAP_MS = 60_000


class Ages:
    """The time by which data expires; read every few minutes by the tasks that delete expired data."""

    def __init__(self, clock: Clock, config: BrokerConfig | None = None) -> None:
        self._clock = clock
        self._grace_ms = 0 if config is None else config.integer("odradek.clock.leap.grace.ms")
        self._ahead_ms = clock.now_ms() - self._ageing_ms()
        """How far wall time is ahead of ageing time, without a leap that is not followed yet."""
        self._leapt_at_ms = -1
        """The ageing time at which a leap was seen that is not followed yet; -1 without one."""

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
                        "the clock leapt ahead: data expires by the time before the leap until the grace is over",
                        ahead_s=leap_ms // 1000,
                        grace_s=self._grace_ms // 1000,
                    )
            if ageing_ms - self._leapt_at_ms < self._grace_ms:
                return expected_ms
            log.warning("the grace is over: data expires by the clock's new time", ahead_s=leap_ms // 1000)
        elif self._leapt_at_ms >= 0:
            log.warning("the clock is back", ahead_s=leap_ms // 1000)
        elif leap_ms < -LEAP_MS:
            log.warning("the clock leapt back: data expires later", back_s=-leap_ms // 1000)
        self._leapt_at_ms = -1
        self._ahead_ms = wall_ms - ageing_ms
        return wall_ms
