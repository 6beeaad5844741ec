"""A group's progress in a partition, from samples of its committed offset taken over time.

Role: one `ReadingHistory` per group and partition, sampled at the same times as `append_history`. `lag` interprets the
numbers.

Commits are rare and advance in jumps, so between two of them a group seems to stand still and its lag to grow.
Therefore progress is measured between *points*: samples at which the group had committed something new, or at which
nothing was unread (then all that was appended has been committed, which is as good as a commit). Between points nothing
is concluded, until the next one is later than is usual for this group (`overdue`).

Invariants: memory is bounded: `append_history.POINTS_MAX` points and the last one (some 6 KB), and `INTERVALS_KEPT`
intervals. Rates are never negative: resetting a group to an earlier offset counts as no progress. A time that goes
back, or too long a gap between samples, clears the history, but not the learnt commit intervals.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from odradek.insight.append_history import GAP_S, TEN_MINUTES_S, Windows

# How many of a group's intervals between commits are remembered; the longest of them is taken as its usual one.
INTERVALS_KEPT = 8
# Longer intervals are remembered as this, so that one long stop does not make any delay look usual.
INTERVAL_MAX_S = 3600.0
# The usual interval assumed while none has been seen, as after a start.
INTERVAL_UNKNOWN_S = 300.0
# A commit is overdue after this many usual intervals.
_OVERDUE = 1.5
# The remembered longest time between samples is multiplied by this at each sample.
_GAP_DECAY = 0.9

# A difference between rates below this share of them counts as noise.
NOISE = 0.05
# A trend needs at least this much time, and is taken from this many points where points are rare.
TREND_S = 120.0
_TREND_POINTS = 6


class _Point:
    """A sample that shows how far the group has read."""

    __slots__ = ("position_ms", "progress", "readable", "time_s", "trough")

    def __init__(self, time_s: float, progress: int, readable: int, position_ms: int) -> None:
        self.time_s = time_s
        self.progress = progress
        self.readable = readable
        self.position_ms = position_ms
        """The timestamp of the first unread record; -1 if unknown."""
        self.trough = readable - progress
        """The smallest lag in this point's slot, relative to the lag at the first sample. Between commits a lag rises
        and falls."""


class ReadingHistory:
    """The reading history of one group on one partition. Call `add` at every sample."""

    __slots__ = (
        "_end",
        "_gap_s",
        "_intervals",
        "_last",
        "_position",
        "_progress",
        "_readable",
        "_seen_waiting",
        "_since_point",
        "_waiting_since_s",
        "_windows",
        "now_s",
    )

    def __init__(self) -> None:
        self.now_s = 0.0
        self._position = -1
        self._end = 0
        # Offsets read by the group, and offsets that became readable, since the first sample. They never go back, and
        # resets of the group count in neither: their difference is the lag that appends and reading alone would make.
        self._progress = 0
        self._readable = 0
        self._gap_s = 0.0
        self._intervals: deque[float] = deque(maxlen=INTERVALS_KEPT)
        self._waiting_since_s = 0.0
        # Whether the wait began at a point, not at the start of the history; and whether anything was unread since.
        self._since_point = False
        self._seen_waiting = False
        self._last: _Point | None = None
        self._windows: Windows[_Point] = Windows()

    def forget(self) -> None:
        """Notes that the group has no committed offset (any more)."""
        self._position = -1

    def add(self, now_s: float, start: int, end: int, position: int, unread: int, position_ms: int) -> None:
        """Adds a sample. `start` and `end` bound the readable offsets; `position` is the first of them that is not
        committed, `unread` the records from there on, and `position_ms` the timestamp there, -1 if unknown."""
        elapsed_s = now_s - self.now_s
        self.now_s = now_s
        if self._position < 0 or not 0 <= elapsed_s <= GAP_S:
            self._begin(now_s)
            read = 0
        else:
            self._gap_s = max(elapsed_s, self._gap_s * _GAP_DECAY)
            # Records that retention deleted are no progress.
            read = position - max(self._position, start)
            self._readable += max(0, end - self._end)
        if read < 0:
            self._wait_from(now_s, False)  # the group was reset to an earlier offset: its wait begins now
        stood = position == self._position
        self._position = position
        self._end = end
        if read > 0:
            self._learn(now_s)
            self._progress += read
        if read > 0 or not unread:
            self._wait_from(now_s, True)
            self._keep(_Point(now_s, self._progress, self._readable, position_ms))
        elif stood and self._since_point and self._last is not None and self._last.position_ms < 0:
            self._last.position_ms = position_ms  # at the last point nothing was unread; now its next record is known
        self._seen_waiting = bool(unread)

    def _begin(self, now_s: float) -> None:
        self._windows.clear()
        self._last = None
        self._gap_s = 0.0
        self._wait_from(now_s, False)

    def _wait_from(self, now_s: float, since_point: bool) -> None:
        self._waiting_since_s = now_s
        self._since_point = since_point

    def _learn(self, now_s: float) -> None:
        # An interval in which nothing was unread says little about the group; it is used only if there is no other.
        if self._since_point and (self._seen_waiting or not self._intervals):
            self._intervals.append(min(now_s - self._waiting_since_s, INTERVAL_MAX_S))

    def _keep(self, point: _Point) -> None:
        self._last = point
        self._windows.minute.add(point)
        kept = self._windows.ten_minutes.add(point)
        kept.trough = min(kept.trough, point.trough)

    # --- results -------------------------------------------------------------------------------------------------

    @property
    def waited_s(self) -> float:
        """Seconds since the last progress, or since nothing was unread."""
        return self.now_s - self._waiting_since_s

    @property
    def usual_s(self) -> float:
        """The longest of the remembered intervals between commits, in seconds."""
        return max(self._intervals, default=INTERVAL_UNKNOWN_S)

    @property
    def gap_s(self) -> float:
        """Seconds between samples, which limits the precision of all other times."""
        return self._gap_s

    @property
    def points_kept(self) -> int:
        return len(self._windows) + (self._last is not None)

    @property
    def overdue(self) -> bool:
        """Whether the next commit is later than usual."""
        return self.waited_s > _OVERDUE * self.usual_s + self._gap_s

    def _until_s(self, last: _Point) -> float:
        """The end of the time to measure over: the last point's, or now if a commit is overdue."""
        return self.now_s if self.overdue else last.time_s

    def _pairs(self, window_s: float) -> Iterator[_Point]:
        """Points to measure from, the best first: those in the window, oldest first, then those before it, newest
        first."""
        last = self._last
        if last is None:
            return
        from_s = self.now_s - window_s
        points = [point for point in self._windows.of(window_s) if point.time_s < last.time_s]
        yield from (point for point in points if point.time_s >= from_s)
        if last.time_s >= from_s or not self.overdue:
            yield from (point for point in reversed(points) if point.time_s < from_s)

    def rate(self, window_s: float) -> float | None:
        """Records committed per second; None with fewer than two points. If commits are rarer than one per window, the
        rate is measured from the last commit but one."""
        if self.overdue and self.waited_s >= window_s:
            return 0.0
        last = self._last
        if last is None:
            return None
        for first in self._pairs(window_s):
            return (last.progress - first.progress) / (self._until_s(last) - first.time_s)
        return None

    def time_rate(self) -> tuple[float, float] | None:
        """Seconds of record time that the group advances per second, and the seconds this was measured over, at most
        ten minutes. At 1 the age of the oldest unread record stays the same, above 1 it falls. None if unknown."""
        last = self._last
        if last is None or last.position_ms < 0:
            return None
        until_s = self._until_s(last)
        for first in self._pairs(TEN_MINUTES_S):
            if first.position_ms >= 0:
                elapsed_s = until_s - first.time_s
                # Timestamps that producers set may go back; the clock that retention uses does not.
                return max(0.0, (last.position_ms - first.position_ms) / 1000 / elapsed_s), elapsed_s
        return None

    def span_s(self) -> float:
        """The seconds that the rates over ten minutes are measured over."""
        last = self._last
        if last is None:
            return 0.0
        return next((self._until_s(last) - first.time_s for first in self._pairs(TEN_MINUTES_S)), 0.0)

    def noise(self, span_s: float) -> float:
        """The share of a rate that may be due to the times of samples and commits."""
        return max(NOISE, (self.usual_s + self._gap_s) / span_s) if span_s > 0 else 1.0

    def falls_behind(self) -> bool:
        """Whether the smallest lag of each third of the last ten minutes has grown from third to third, by more than
        noise. After a burst that is read, or at each commit, the smallest lag returns to what it was."""
        last = self._last
        if last is None:
            return False
        from_s = self.now_s - TEN_MINUTES_S
        points = list(self._windows.ten_minutes.points)
        recent = [point for point in points if point.time_s >= from_s]
        points = recent if len(recent) >= _TREND_POINTS else points[-_TREND_POINTS:]
        first = points[0]
        span_s = last.time_s - first.time_s
        if span_s < TREND_S:
            return False
        best: list[int | None] = [None, None, None]
        for point in (*points, last):
            third = min(2, int((point.time_s - first.time_s) * 3 / span_s))
            lowest = best[third]
            best[third] = point.trough if lowest is None else min(lowest, point.trough)
        old, middle, new = best
        if old is None or middle is None or new is None or not old < middle < new:
            return False
        return new - old > self.noise(span_s) * (last.readable - first.readable)
