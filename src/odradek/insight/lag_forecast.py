"""Forecasts at unchanged rates: when a group will have caught up, and when retention deletes what it has not read.

Role: extrapolate the histories of appends and of commits. Pure.

Invariants: there is no forecast from less than `FORECAST_S` of history. A forecast loss is the earliest possible time:
retention deletes whole segments, by their newest record, and runs only every few minutes. A difference between rates
that may be noise counts as none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from odradek.insight.append_history import AppendHistory, PartitionSample
from odradek.insight.reading_history import ReadingHistory

# Forecasts are made from rates over at least this much time.
FORECAST_S = 60.0
# Kafka's default of `log.retention.check.interval.ms`: records past their retention are deleted at the next check.
RETENTION_CHECK_S = 300.0


@dataclass(frozen=True, slots=True)
class Rates:
    """Rates over one window, or the part of it that is known. None if it has fewer than two samples, or two commits."""

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
    """How long, and for how many bytes, retention waits for a group (the retention guard); -1 means no limit."""

    max_ms: int
    max_bytes: int
    blocks: bool
    """Whether producers are refused at the limits, so that nothing is lost."""


GUARD_MS = "odradek.retention.guard.max.ms"
GUARD_BYTES = "odradek.retention.guard.max.bytes"


class Forecast(NamedTuple):
    """The forecast for one group, at the rates of the last ten minutes; a stalled group is assumed to stay stalled."""

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
        """The earliest time in seconds until the first unread record is deleted, and the setting that deletes it; None
        and "" if none does. `guard` has the limits of the retention guard, if retention waits for this group."""
        if not self.unread or not self.sample.delete:
            return None, ""
        kept_ms, kept_bytes = self.sample.retention_ms, self.sample.retention_bytes
        if guard is None:
            return _earliest(
                (self._by_time_s(kept_ms), "retention.ms"), (self._by_size_s(kept_bytes), "retention.bytes")
            )
        if guard.blocks:
            return None, ""
        # A record is deleted when retention (by time or by size) no longer keeps it and a limit of the guard is
        # reached. Each pair of the two is one candidate.
        max_ms, max_bytes = guard.max_ms, guard.max_bytes
        return _earliest(
            (self._by_time_s(_sum(kept_ms, max_ms)), GUARD_MS),
            (_later(self._by_time_s(max_ms), self._by_size_s(kept_bytes)), GUARD_MS),
            (self._by_size_s(_sum(kept_bytes, max_bytes)), GUARD_BYTES),
            (_later(self._by_size_s(max_bytes), self._by_time_s(kept_ms)), GUARD_BYTES),
        )

    def _by_time_s(self, kept_ms: int) -> float | None:
        """Seconds until the oldest unread record is `kept_ms` old. Its age grows by one second per second, less the
        seconds of record time that the group advances per second."""
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
        # If the group reads all that is unread now before `loss_s`, only records appended later could be lost then, and
        # those are younger than `kept_ms`. So the timestamps (given by producers) are wrong; there is no forecast.
        read_s = self._read_s()
        return None if read_s is not None and read_s < loss_s <= kept_ms / 1000 else loss_s

    def _by_size_s(self, kept_bytes: int) -> float | None:
        """Seconds until the first unread byte is `kept_bytes` away from the end, the least that retention keeps."""
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
        """For records past their retention already: 0, or None if the group will have read them before the next check,
        like a group that keeps up with a producer of old records."""
        read_s = self._read_s()
        return None if read_s is not None and read_s <= RETENTION_CHECK_S else 0.0

    def _read_s(self) -> float | None:
        """Seconds to read what is unread now, without what is appended meanwhile; None if unknown or never."""
        committed = self._committed_per_s()
        return self.unread / committed if committed else None


def _sum(kept: int, more: int) -> int:
    return -1 if kept < 0 or more < 0 else kept + more


def _later(one_s: float | None, other_s: float | None) -> float | None:
    """The time when both have happened; None if one of them does not."""
    return None if one_s is None or other_s is None else max(one_s, other_s)


def _earliest(*losses: tuple[float | None, str]) -> tuple[float | None, str]:
    known = [(loss_s, by) for loss_s, by in losses if loss_s is not None]
    return min(known, key=lambda loss: loss[0]) if known else (None, "")
