"""How a group goes on in a partition: what is remembered of looks at its committed offset, and what follows.

Role: `ReadingHistory` is one group's on one partition, looked at now and then as `append_history` is. What the numbers
mean is `lag`'s.

Commits are rare and in jumps, so that between two of them a group seems to stand and the lag to grow. Therefore
reading is measured from *point* to point: looks at which the group was seen to have committed something new, or at
which nothing was unread (then all that was appended has been committed, and the look says as much as a commit).
Between points nothing is concluded, until the next one is later than is usual for this group (`overdue`).

Invariants: memory is bounded: `append_history.POINTS_MAX` points and the last one (some 6 KB), `INTERVALS_KEPT`
intervals. Rates are never negative: a group that is set back makes no progress then. A time that goes back, or a gap in
which nobody looked, begins the history afresh, except for what was learnt of the group's habits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from odradek.insight.append_history import GAP_S, TEN_MINUTES_S, Windows

# How many of a group's intervals between commits are remembered; the longest of them is its usual one.
INTERVALS_KEPT = 8
# One long stop may not make everything usual for ever.
INTERVAL_MAX_S = 3600.0
# What is taken for usual while no interval has been seen, as after a start.
INTERVAL_UNKNOWN_S = 300.0
# A commit is overdue after this many usual intervals.
_OVERDUE = 1.5
# The longest time between looks counts less with each look after it.
_GAP_DECAY = 0.9

# A difference between rates that is less than this share of them is none.
NOISE = 0.05
# Trends are told from at least this much time, and this many points where they are rare.
TREND_S = 120.0
_TREND_POINTS = 6


class _Point:
    """A look that says how far the group was."""

    __slots__ = ("position_ms", "progress", "readable", "time_s", "trough")

    def __init__(self, time_s: float, progress: int, readable: int, position_ms: int) -> None:
        self.time_s = time_s
        self.progress = progress
        self.readable = readable
        self.position_ms = position_ms
        """The timestamp of the first unread record; -1 where unknown."""
        self.trough = readable - progress
        """The lag, from some zero, at the best point of this slot: between commits a lag goes up and down."""


class ReadingHistory:
    """How one group goes on in one partition. `add` at every look."""

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
        # Since the first look; they never go back. Resets of the group are in neither, so that their difference is
        # the lag as production and reading alone would have made it.
        self._progress = 0
        self._readable = 0
        self._gap_s = 0.0
        self._intervals: deque[float] = deque(maxlen=INTERVALS_KEPT)
        self._waiting_since_s = 0.0
        # Whether waiting began with a point, and not with the history; and whether anything was unread since.
        self._since_point = False
        self._seen_waiting = False
        self._last: _Point | None = None
        self._windows: Windows[_Point] = Windows()

    def forget(self) -> None:
        """There is no committed offset (any more)."""
        self._position = -1

    def add(self, now_s: float, start: int, end: int, position: int, unread: int, position_ms: int) -> None:
        """`start` and `end`: of what the group can read; `position`: the first offset of that which is not committed,
        and `position_ms` its timestamp, -1 where unknown."""
        elapsed_s = now_s - self.now_s
        self.now_s = now_s
        if self._position < 0 or not 0 <= elapsed_s <= GAP_S:
            self._begin(now_s)
            read = 0
        else:
            self._gap_s = max(elapsed_s, self._gap_s * _GAP_DECAY)
            # What retention took away is no progress.
            read = position - max(self._position, start)
            self._readable += max(0, end - self._end)
        if read < 0:
            self._wait_from(now_s, False)  # it was set back: somebody is there, and its wait begins now
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
            self._last.position_ms = position_ms  # of a point at which nothing was unread: this came next
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
        # A group that nothing waited for says little of how long it may take; but better that than nothing.
        if self._since_point and (self._seen_waiting or not self._intervals):
            self._intervals.append(min(now_s - self._waiting_since_s, INTERVAL_MAX_S))

    def _keep(self, point: _Point) -> None:
        self._last = point
        self._windows.minute.add(point)
        kept = self._windows.ten_minutes.add(point)
        kept.trough = min(kept.trough, point.trough)

    # --- what follows --------------------------------------------------------------------------------------------

    @property
    def waited_s(self) -> float:
        """How long something has been unread without progress."""
        return self.now_s - self._waiting_since_s

    @property
    def usual_s(self) -> float:
        """The longest of the last intervals between commits."""
        return max(self._intervals, default=INTERVAL_UNKNOWN_S)

    @property
    def gap_s(self) -> float:
        """The time between looks: nothing is known more exactly than this."""
        return self._gap_s

    @property
    def points_kept(self) -> int:
        return len(self._windows) + (self._last is not None)

    @property
    def overdue(self) -> bool:
        """Whether a commit should have come."""
        return self.waited_s > _OVERDUE * self.usual_s + self._gap_s

    def _until_s(self, last: _Point) -> float:
        """Up to when the last point is the last word."""
        return self.now_s if self.overdue else last.time_s

    def _pairs(self, window_s: float) -> Iterator[_Point]:
        """Points to measure from, the best first: in the window from the oldest on, then the newest before it."""
        last = self._last
        if last is None:
            return
        from_s = self.now_s - window_s
        points = [point for point in self._windows.of(window_s) if point.time_s < last.time_s]
        yield from (point for point in points if point.time_s >= from_s)
        if last.time_s >= from_s or not self.overdue:
            yield from (point for point in reversed(points) if point.time_s < from_s)

    def rate(self, window_s: float) -> float | None:
        """Records committed per second; None where there are fewer than two points. Where commits are rarer than the
        window is long, from the one before the last."""
        if self.overdue and self.waited_s >= window_s:
            return 0.0
        last = self._last
        if last is None:
            return None
        for first in self._pairs(window_s):
            return (last.progress - first.progress) / (self._until_s(last) - first.time_s)
        return None

    def time_rate(self) -> tuple[float, float] | None:
        """Seconds of record time that the group goes on per second, over ten minutes, and the seconds it was measured
        over: 1 keeps an age, more lowers it. None where too little is known."""
        last = self._last
        if last is None or last.position_ms < 0:
            return None
        until_s = self._until_s(last)
        for first in self._pairs(TEN_MINUTES_S):
            if first.position_ms >= 0:
                elapsed_s = until_s - first.time_s
                # Times that producers give may go back; the clock that makes records old does not.
                return max(0.0, (last.position_ms - first.position_ms) / 1000 / elapsed_s), elapsed_s
        return None

    def span_s(self) -> float:
        """What the rates over ten minutes are measured over."""
        last = self._last
        if last is None:
            return 0.0
        return next((self._until_s(last) - first.time_s for first in self._pairs(TEN_MINUTES_S)), 0.0)

    def noise(self, span_s: float) -> float:
        """The share of a rate that may come from when it was looked at and when it was committed."""
        return max(NOISE, (self.usual_s + self._gap_s) / span_s) if span_s > 0 else 1.0

    def falls_behind(self) -> bool:
        """Whether the lag, at its best in each third of the last ten minutes, has grown from third to third, and by
        more than noise. Bursts that are read and saws between commits come down to where they were."""
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
