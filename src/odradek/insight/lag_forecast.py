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

    def loss(self) -> tuple[float | None, str]:
        """When the first unread record goes at the earliest, and by which setting."""
        if not self.unread or not self.sample.delete:
            return None, ""
        by_time_s, by_size_s = self._loss_by_time_s(), self._loss_by_size_s()
        if by_time_s is not None and (by_size_s is None or by_time_s <= by_size_s):
            return by_time_s, "retention.ms"
        return by_size_s, "" if by_size_s is None else "retention.bytes"

    def _loss_by_time_s(self) -> float | None:
        """Its age grows by the seconds that pass, less the seconds of record time that the group goes on meanwhile."""
        if self.sample.retention_ms < 0 or self.age_s is None:
            return None
        left_s = self.sample.retention_ms / 1000 - self.age_s
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
        return None if read_s is not None and read_s < loss_s <= self.sample.retention_ms / 1000 else loss_s

    def _loss_by_size_s(self) -> float | None:
        """Retention leaves at least `retention.bytes`, from the end on: the first unread byte must be that far away."""
        appended, committed = self.rates.appended_bytes_per_s, self._committed_per_s()
        if self.sample.retention_bytes < 0 or self.bytes_behind is None or appended is None or committed is None:
            return None
        span_s = self.reading.span_s()
        if not self.stalled and span_s < FORECAST_S:
            return None
        left = self.sample.retention_bytes - self.bytes_behind
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
