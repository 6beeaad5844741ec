"""What comes of a lag if all goes on as it did: when it is read, and when retention takes what is unread.

Role: the extrapolation, from the histories of appending and reading. Pure.

Invariants: no forecast without history, nor from less than `FORECAST_S` of it. A forecast of a loss is the earliest
that can be: retention deletes whole segments, by their newest record, and looks only every few minutes. Differences
between rates that may be noise are none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from odradek.insight.append_history import AppendHistory, PartitionSample
from odradek.insight.reading_history import ReadingHistory

# Forecasts are made from rates over at least this much time.
FORECAST_S = 60.0
# Kafka's default of `log.retention.check.interval.ms`: what is too old already goes at the next check.
RETENTION_CHECK_S = 300.0


@dataclass(frozen=True, slots=True)
class Rates:
    """Over one window, or as much of it as is known. None with fewer than two looks in it, or two commits."""

    appended_records_per_s: float | None
    appended_bytes_per_s: float | None
    committed_records_per_s: float | None


def rates(appends: AppendHistory, reading: ReadingHistory | None, window_s: float) -> Rates:
    appended = appends.rates(window_s)
    return Rates(
        None if appended is None else appended[0],
        None if appended is None else appended[1],
        None if reading is None else reading.rate(window_s),
    )


class GuardLimits(NamedTuple):
    """For how long, and for how much, retention waits for a group (the retention guard); -1 for no limit."""

    max_ms: int
    max_bytes: int
    blocks: bool
    """At the limits producers wait, and nothing is lost."""


GUARD_MS = "odradek.retention.guard.max.ms"
GUARD_BYTES = "odradek.retention.guard.max.bytes"


class Forecast(NamedTuple):
    """What comes if all goes on as in the last ten minutes; of a stalled group, if it stays where it is."""

    sample: PartitionSample
    reading: ReadingHistory
    rates: Rates
    unread: int
    bytes_behind: int | None
    age_s: float | None
    stalled: bool

    def _committed_per_s(self) -> float | None:
        return 0.0 if self.stalled else self.rates.committed_records_per_s

    def catch_up_s(self) -> float | None:
        if not self.unread:
            return 0.0
        appended, committed = self.rates.appended_records_per_s, self._committed_per_s()
        if appended is None or committed is None or committed <= appended:
            return None
        return self.unread / (committed - appended)

    def loss(self, guard: GuardLimits | None = None) -> tuple[float | None, str]:
        """When the first unread record goes at the earliest, and by which setting. `guard`: where retention waits for
        this group."""
        if not self.unread or not self.sample.delete:
            return None, ""
        kept_ms, kept_bytes = self.sample.retention_ms, self.sample.retention_bytes
        if guard is None:
            return _earliest(
                (self._by_time_s(kept_ms), "retention.ms"), (self._by_size_s(kept_bytes), "retention.bytes")
            )
        if guard.blocks:
            return None, ""
        # It goes when one limit is reached, for what retention no longer keeps; that is by time, or by size.
        max_ms, max_bytes = guard.max_ms, guard.max_bytes
        return _earliest(
            (self._by_time_s(_sum(kept_ms, max_ms)), GUARD_MS),
            (_later(self._by_time_s(max_ms), self._by_size_s(kept_bytes)), GUARD_MS),
            (self._by_size_s(_sum(kept_bytes, max_bytes)), GUARD_BYTES),
            (_later(self._by_size_s(max_bytes), self._by_time_s(kept_ms)), GUARD_BYTES),
        )

    def _by_time_s(self, kept_ms: int) -> float | None:
        """When it is so old. Its age grows by the seconds that pass, less the seconds of record time that the group
        goes on meanwhile."""
        if kept_ms < 0 or self.age_s is None:
            return None
        left_s = kept_ms / 1000 - self.age_s
        growth, noise = 1.0, 0.0
        if not self.stalled:
            measured = self.reading.time_rate()
            if measured is None or measured[1] < FORECAST_S:
                return None
            growth, noise = 1.0 - measured[0], self.reading.noise(measured[1])
        if left_s <= 0:
            return self._loss_at_next_check_s()
        if growth <= noise:
            return None
        loss_s = left_s / growth
        # What is unread now may have been read by then, and what comes from now on is not that old by then: so these
        # times are not to be trusted (of producers that give any), for with true ones it cannot be at even rates.
        read_s = self._read_s()
        return None if read_s is not None and read_s < loss_s <= kept_ms / 1000 else loss_s

    def _by_size_s(self, kept_bytes: int) -> float | None:
        """Retention leaves at least so much, from the end on: the first unread byte must be that far away."""
        appended, committed = self.rates.appended_bytes_per_s, self._committed_per_s()
        if kept_bytes < 0 or self.bytes_behind is None or appended is None or committed is None:
            return None
        span_s = self.reading.span_s()
        if not self.stalled and span_s < FORECAST_S:
            return None
        left = kept_bytes - self.bytes_behind
        if left <= 0:
            return self._loss_at_next_check_s() if appended > 0 else None
        growth = appended - committed * self.bytes_behind / self.unread
        noise = 0.0 if self.stalled else self.reading.noise(span_s)
        return left / growth if growth > noise * appended else None

    def _loss_at_next_check_s(self) -> float | None:
        """For what is past its time already: it goes any moment, unless the group is through before the next check.
        (So is a group that keeps up with a producer of old records.)"""
        read_s = self._read_s()
        return None if read_s is not None and read_s <= RETENTION_CHECK_S else 0.0

    def _read_s(self) -> float | None:
        """How long it takes to read what is unread now, and no more."""
        committed = self._committed_per_s()
        return self.unread / committed if committed else None


def _sum(kept: int, more: int) -> int:
    return -1 if kept < 0 or more < 0 else kept + more


def _later(one_s: float | None, other_s: float | None) -> float | None:
    """When both are so."""
    return None if one_s is None or other_s is None else max(one_s, other_s)


def _earliest(*losses: tuple[float | None, str]) -> tuple[float | None, str]:
    known = [(loss_s, by) for loss_s, by in losses if loss_s is not None]
    return min(known, key=lambda loss: loss[0]) if known else (None, "")
