"""A group's lag on one partition, in records, bytes and time, and whether the group will lose records to retention.

Role: from samples of a partition and of a group's committed offset, compute how far behind the group is, whether it
catches up, and when retention will delete records that it has not read. Pure: times are arguments, and nothing is read.
The histories between samples are in `append_history` and `reading_history`, the forecasts in `lag_forecast`.

Usage: keep one `AppendHistory` per partition and one `LagWatch` per group and partition (keyed by topic id, so that a
topic that is created again begins afresh). At each look, at any interval:

    appends.add(clock.monotonic(), PartitionSample(log.start_offset, log.durable_end, log.size_bytes(), ...))
    lag = watch.look(appends, committed_offset, wall_ms, oldest_unread_ms, bytes_behind)
    print(sentence(lag, datetime.now()))

`wall_ms` should be the clock that retention uses (`ages.Ages`), because ages are computed from it. `oldest_unread_ms`,
the timestamp in the header of the batch at the committed offset, and `bytes_behind` may be left out at any look: then
ages are unknown, and bytes are estimated from the mean record size. A look takes some 35 us and each watch 6 KB; with
many thousands of them, yield to the event loop in between.

Invariants:
- There is no alarm without history. After a start the only verdicts are those that one sample can show: OK or HAS_LOST.
  A group is measured from commit to commit, and its usual interval is learnt, so that a group that commits rarely is
  not called slow between two commits.
- A forecast of a loss is the earliest possible time. Retention deletes whole segments, by their newest record, and runs
  only every few minutes, so records may live longer than forecast, but not shorter at these rates.
- No value is negative, whatever offsets and clocks do: an offset beyond the end is 0 behind, a timestamp in the future
  is 0 old. A lost record is counted once. The newest `LOSSES_KEPT` losses are remembered.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import NamedTuple

from odradek.insight.append_history import MINUTE_S, TEN_MINUTES_S, AppendHistory, PartitionSample
from odradek.insight.lag_forecast import Forecast, GuardLimits, Rates, rates
from odradek.insight.reading_history import ReadingHistory
from odradek.insight.wording import bytes_text, counted, rate_text, time_text

# The default of `max.poll.interval.ms`: a consumer that does not poll for longer is removed from its group.
STALLED_S = 300.0
# A group is stalled only after this many of its usual commit intervals, or intervals between looks if those are longer.
_PATIENCE = 2
# Forecast losses further away than this raise no alarm: there is time, and rates change.
LOSS_HORIZON_S = 6 * 3600.0
# How long the verdict stays HAS_LOST after a loss, if the group has read on.
LOSS_TOLD_S = 3600.0
LOSSES_KEPT = 16


class Verdict(Enum):
    OK = "ok"
    """Nothing is wrong, or nothing is known."""
    FALLING_BEHIND = "falling behind"
    STALLED = "stalled"
    WILL_LOSE = "will lose"
    HAS_LOST = "has lost"


class Loss(NamedTuple):
    """A range of records that were deleted before the group had read them."""

    from_offset: int
    to_offset: int
    """Not included."""
    seen_ms: int
    """Wall time when it was first seen."""

    @property
    def records(self) -> int:
        return self.to_offset - self.from_offset


@dataclass(frozen=True, slots=True)
class Lag:
    """The lag of one group on one partition at one look."""

    verdict: Verdict
    looked_ms: int
    records_behind: int | None
    """Unread records that still exist. None if it is unknown because no offset is committed."""
    bytes_behind: int | None
    bytes_estimated: bool
    seconds_behind: float | None
    """The age of the oldest unread record; 0 if nothing is unread, None if unknown."""
    records_beyond_end: int
    """How far the committed offset is beyond the log's end, as after a truncation."""
    waited_s: float
    """How long records have been unread without the group committing, as far as the looks show."""
    minute: Rates
    ten_minutes: Rates
    time_to_catch_up_s: float | None
    """None if it does not catch up at these rates, or the rates are unknown."""
    time_to_loss_s: float | None
    """The earliest time until retention deletes the first unread record. None if it does not at these rates, or they
    are unknown."""
    loss_by: str
    """The setting that deletes it: `retention.ms` or `retention.bytes`, or with a retention guard one of the guard's
    limits; empty without a forecast loss."""
    lost_records: int
    """Records lost since the first look."""
    losses: tuple[Loss, ...]


class LagWatch:
    """Computes the lag of one group on one partition, look by look."""

    __slots__ = ("_committed", "_counted_upto", "_loss_seen_s", "_losses", "_lost_records", "_reading")

    def __init__(self) -> None:
        self._reading = ReadingHistory()
        self._committed = -1
        # Deleted offsets below this have been counted as lost, or had been read before they were deleted.
        self._counted_upto = -1
        self._lost_records = 0
        self._losses: deque[Loss] = deque(maxlen=LOSSES_KEPT)
        self._loss_seen_s = 0.0

    @property
    def points_kept(self) -> int:
        return self._reading.points_kept

    def look(
        self,
        appends: AppendHistory,
        committed_offset: int | None,
        wall_ms: int,
        oldest_unread_ms: int = -1,
        bytes_behind: int = -1,
        stable_end: int = -1,
        markers_at_end: int = 0,
        guard: GuardLimits | None = None,
    ) -> Lag:
        """Computes the lag at the time of the newest `appends.add`. -1 stands for an unknown value.

        `stable_end` is the last stable offset, for groups that read with `read_committed`: they cannot read beyond it.
        `markers_at_end` is how many of the last readable offsets are transaction markers, if known: some clients commit
        the offset after their last record and never pass the markers behind it. `guard` has the limits of the retention
        guard, if retention waits for this group."""
        sample = appends.sample
        assert sample is not None, "the partition is looked at first"
        committed = -1 if committed_offset is None else committed_offset
        if committed < 0:
            self._reading.forget()
            self._committed = -1
            return self._without_offset(appends, sample, wall_ms)
        self._count_losses(appends.now_s, sample, committed, wall_ms)
        self._committed = committed
        position = min(max(committed, sample.log_start_offset), sample.high_watermark)
        end = sample.high_watermark if stable_end < 0 else min(stable_end, sample.high_watermark)
        unread = max(0, end - position)
        if unread <= markers_at_end:
            unread = 0
        position_ms = oldest_unread_ms if unread else -1
        self._reading.add(appends.now_s, sample.log_start_offset, end, position, unread, position_ms)
        estimated = unread > 0 and bytes_behind < 0
        behind = bytes_behind if bytes_behind >= 0 else _estimate(sample, position)
        return self._lag(appends, wall_ms, unread, behind if unread else 0, estimated, oldest_unread_ms, guard)

    # --- losses --------------------------------------------------------------------------------------------------

    def _count_losses(self, now_s: float, sample: PartitionSample, committed: int, wall_ms: int) -> None:
        start = sample.log_start_offset
        if committed < self._committed:
            # The committed offset was reset to an earlier one: records deleted before that do not count as lost.
            self._counted_upto = max(self._counted_upto, start)
        self._counted_upto = min(self._counted_upto, start)
        from_offset = max(committed, self._counted_upto)
        if from_offset >= start:
            return
        self._lost_records += start - from_offset
        self._loss_seen_s = now_s
        last = self._losses[-1] if self._losses else None
        if last is not None and last.to_offset == from_offset:
            self._losses[-1] = last._replace(to_offset=start)  # the same loss goes on
        else:
            self._losses.append(Loss(from_offset, start, wall_ms))
        self._counted_upto = start

    def _tells_of_loss(self, now_s: float) -> bool:
        if not self._losses:
            return False
        told = 0 <= now_s - self._loss_seen_s < LOSS_TOLD_S
        return told or 0 <= self._committed < self._losses[-1].to_offset

    # --- verdict -------------------------------------------------------------------------------------------------

    def _without_offset(self, appends: AppendHistory, sample: PartitionSample, wall_ms: int) -> Lag:
        """The lag of a group without a committed offset. It is unknown, because `auto.offset.reset` decides where the
        group will begin, except that an empty log has nothing unread."""
        nothing = 0 if sample.log_start_offset >= sample.high_watermark else None
        return Lag(
            verdict=Verdict.HAS_LOST if self._tells_of_loss(appends.now_s) else Verdict.OK,
            looked_ms=wall_ms,
            records_behind=nothing,
            bytes_behind=nothing,
            bytes_estimated=False,
            seconds_behind=nothing,
            records_beyond_end=0,
            waited_s=0.0,
            minute=rates(appends, None, MINUTE_S),
            ten_minutes=rates(appends, None, TEN_MINUTES_S),
            time_to_catch_up_s=nothing,
            time_to_loss_s=None,
            loss_by="",
            lost_records=self._lost_records,
            losses=tuple(self._losses),
        )

    def _lag(
        self,
        appends: AppendHistory,
        wall_ms: int,
        unread: int,
        bytes_behind: int | None,
        bytes_estimated: bool,
        oldest_unread_ms: int,
        guard: GuardLimits | None,
    ) -> Lag:
        reading, sample = self._reading, appends.sample
        assert sample is not None
        age_s = None if oldest_unread_ms < 0 else max(0.0, (wall_ms - oldest_unread_ms) / 1000)
        if not unread:
            age_s = 0.0
        patience_s = max(STALLED_S, _PATIENCE * max(reading.usual_s, reading.gap_s))
        stalled = unread > 0 and reading.waited_s >= patience_s
        ten_minutes = rates(appends, reading, TEN_MINUTES_S)
        forecast = Forecast(sample, reading, ten_minutes, unread, bytes_behind, age_s, stalled)
        time_to_loss_s, loss_by = forecast.loss(guard)
        if self._tells_of_loss(appends.now_s):
            verdict = Verdict.HAS_LOST
        elif time_to_loss_s is not None and time_to_loss_s <= LOSS_HORIZON_S:
            verdict = Verdict.WILL_LOSE
        elif stalled:
            verdict = Verdict.STALLED
        elif unread and reading.falls_behind():
            verdict = Verdict.FALLING_BEHIND
        else:
            verdict = Verdict.OK
        return Lag(
            verdict=verdict,
            looked_ms=wall_ms,
            records_behind=unread,
            bytes_behind=bytes_behind,
            bytes_estimated=bytes_estimated and bytes_behind is not None,
            seconds_behind=age_s,
            records_beyond_end=max(0, self._committed - sample.high_watermark),
            waited_s=reading.waited_s if unread else 0.0,
            minute=rates(appends, reading, MINUTE_S),
            ten_minutes=ten_minutes,
            time_to_catch_up_s=forecast.catch_up_s(),
            time_to_loss_s=time_to_loss_s,
            loss_by=loss_by,
            lost_records=self._lost_records,
            losses=tuple(self._losses),
        )


def _estimate(sample: PartitionSample, position: int) -> int | None:
    """Bytes from `position` on, if all records have the same size. None for a compacted log, whose old part has gaps
    in its offsets."""
    held = sample.high_watermark - sample.log_start_offset
    if position <= sample.log_start_offset:
        return sample.size_bytes
    return None if sample.compact else sample.size_bytes * (sample.high_watermark - position) // held


# --- as a sentence -----------------------------------------------------------------------------------------------


def sentence(lag: Lag, wall_now: datetime) -> str:
    """The lag as one sentence without a full stop. Times of day are in the time zone of `wall_now`."""
    if lag.verdict is Verdict.HAS_LOST:
        loss = lag.losses[-1]
        at = _time_of_day(wall_now - timedelta(milliseconds=max(0, lag.looked_ms - loss.seen_ms)), wall_now)
        newest = "the newest, " if len(lag.losses) > 1 else ""
        offsets = f"{newest}offsets {loss.from_offset:,} to {loss.to_offset - 1:,}"
        lost = counted(lag.lost_records, "record")
        return f"has lost {lost}: {offsets} were deleted unread, seen at {at}; {_standing(lag)}"
    if lag.verdict is Verdict.WILL_LOSE and lag.time_to_loss_s is not None:
        if not lag.time_to_loss_s:
            return f"may lose any moment: {_standing(lag)}, {lag.loss_by} keeps them no longer"
        at = _time_of_day(wall_now + timedelta(seconds=lag.time_to_loss_s), wall_now)
        return f"will lose at {at}: {_standing(lag)}, {_taken(lag)} at these rates"
    if lag.verdict is Verdict.STALLED:
        taken = f", {_taken(lag)}" if lag.time_to_loss_s is not None else ""
        return f"stalled for {time_text(lag.waited_s)}: {_standing(lag)}{taken}"
    if lag.verdict is Verdict.FALLING_BEHIND:
        appended, committed = lag.ten_minutes.appended_records_per_s, lag.ten_minutes.committed_records_per_s
        speeds = ""
        if appended is not None and committed is not None:
            speeds = f", {rate_text(appended)} records/s come and {rate_text(committed)} are read"
        return f"falls behind: {_standing(lag)}{speeds}"
    catches_up = ""
    if lag.records_behind and lag.time_to_catch_up_s is not None:
        catches_up = f", caught up in {time_text(lag.time_to_catch_up_s)} at these rates"
    return f"{_standing(lag)}{catches_up}"


def _standing(lag: Lag) -> str:
    if lag.records_behind is None:
        return "no committed offset"
    if lag.records_beyond_end:
        return f"committed {counted(lag.records_beyond_end, 'record')} beyond the end"
    if lag.records_behind == 0:
        return "nothing unread"
    size = ""
    if lag.bytes_behind is not None:
        size = f" ({'about ' if lag.bytes_estimated else ''}{bytes_text(lag.bytes_behind)})"
    age = "" if lag.seconds_behind is None else f", {time_text(lag.seconds_behind)} old"
    return f"{counted(lag.records_behind, 'record')}{size} behind{age}"


def _taken(lag: Lag) -> str:
    assert lag.time_to_loss_s is not None
    return f"{lag.loss_by} takes them in {time_text(lag.time_to_loss_s)}"


def _time_of_day(at: datetime, now: datetime) -> str:
    return at.strftime("%H:%M" if at.date() == now.date() else "%Y-%m-%d %H:%M")
