"""How a partition's log grows: what is remembered of looks at it, and the rates that follow.

Role: `AppendHistory` is one partition's, for all groups that read it. It is looked at now and then, regularly or not;
the time of a look is an argument, in seconds that should be monotonic. `Windows` is how this and `reading_history`
remember: a history of points in time, thinned as they grow older.

Invariants: memory is bounded, whatever is looked at, however often: `POINTS_MAX` points a history (some 4 KB), one in
10 s for the last minute and one in 60 s for the last ten. A thinned history gives the exact rate between the points
that it kept. Rates are never negative: an end that goes back (truncation) counts as no growth. A time that goes back,
or a gap of more than `GAP_S` in which nobody looked, begins the history afresh.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, NamedTuple, Protocol, TypeVar

MINUTE_S = 60.0
TEN_MINUTES_S = 600.0
# A slot keeps its first point. One slot more than the window holds, because the window seldom begins with a slot; and
# one for the slot that is being filled.
_MINUTE_SLOT_S, _MINUTE_SLOTS = 10.0, 8
_TEN_MINUTES_SLOT_S, _TEN_MINUTES_SLOTS = 60.0, 12
POINTS_MAX = _MINUTE_SLOTS + _TEN_MINUTES_SLOTS
# Longer than any window: nothing remembered would be in one.
GAP_S = TEN_MINUTES_S


class PartitionSample(NamedTuple):
    """A partition as a look found it."""

    log_start_offset: int
    high_watermark: int
    size_bytes: int
    retention_ms: int = -1
    """-1: endless, as in Kafka; likewise of bytes."""
    retention_bytes: int = -1
    compact: bool = False
    """Whether `cleanup.policy` has `compact`: then offsets behind are more than records behind."""
    delete: bool = True
    """Whether `cleanup.policy` has `delete`: what is only compacted is never lost."""


class Timed(Protocol):
    @property
    def time_s(self) -> float: ...


P = TypeVar("P", bound=Timed)


class Slots(Generic[P]):
    """The first point of each slot of time, for the newest slots that have any."""

    __slots__ = ("points", "slot_s")

    def __init__(self, slot_s: float, slots: int) -> None:
        self.slot_s = slot_s
        self.points: deque[P] = deque(maxlen=slots)

    def add(self, point: P) -> P:
        """Keeps the point if it is its slot's first; returns the slot's."""
        points = self.points
        if not points or point.time_s // self.slot_s != points[-1].time_s // self.slot_s:
            points.append(point)
        return points[-1]


class Windows(Generic[P]):
    """Points of the last minute and the last ten."""

    __slots__ = ("minute", "ten_minutes")

    def __init__(self) -> None:
        self.minute: Slots[P] = Slots(_MINUTE_SLOT_S, _MINUTE_SLOTS)
        self.ten_minutes: Slots[P] = Slots(_TEN_MINUTES_SLOT_S, _TEN_MINUTES_SLOTS)

    def of(self, window_s: float) -> deque[P]:
        return (self.minute if window_s <= MINUTE_S else self.ten_minutes).points

    def clear(self) -> None:
        self.minute.points.clear()
        self.ten_minutes.points.clear()

    def __len__(self) -> int:
        return len(self.minute.points) + len(self.ten_minutes.points)


class _Appended(NamedTuple):
    time_s: float
    records: int
    bytes: float


class AppendHistory:
    """How one partition's log grows. `add` at every look, before the groups are looked at."""

    __slots__ = ("_bytes", "_bytes_per_record", "_records", "_windows", "now_s", "sample")

    def __init__(self) -> None:
        self.now_s = 0.0
        self.sample: PartitionSample | None = None
        # Since the first look; they never go back.
        self._records = 0
        self._bytes = 0.0
        self._bytes_per_record = 0.0
        self._windows: Windows[_Appended] = Windows()

    def add(self, now_s: float, sample: PartitionSample) -> None:
        before = self.sample
        if before is None or not 0 <= now_s - self.now_s <= GAP_S:
            self._windows.clear()
        else:
            self._grow(before, sample)
        self.now_s = now_s
        self.sample = sample
        point = _Appended(now_s, self._records, self._bytes)
        self._windows.minute.add(point)
        self._windows.ten_minutes.add(point)

    def _grow(self, before: PartitionSample, sample: PartitionSample) -> None:
        records = max(0, sample.high_watermark - before.high_watermark)
        bytes_ = float(sample.size_bytes - before.size_bytes)
        if before.log_start_offset == sample.log_start_offset and bytes_ >= 0:
            if records:
                self._bytes_per_record = bytes_ / records
        else:
            # Something was deleted or compacted meanwhile, and the size does not tell what came.
            held = before.high_watermark - before.log_start_offset
            bytes_ = records * (self._bytes_per_record or (before.size_bytes / held if held > 0 else 0.0))
        self._records += records
        self._bytes += bytes_

    def rates(self, window_s: float) -> tuple[float, float] | None:
        """Records and bytes appended per second. None where the window has fewer than two looks."""
        from_s = self.now_s - window_s
        for first in self._windows.of(window_s):
            if from_s <= first.time_s < self.now_s:
                elapsed_s = self.now_s - first.time_s
                return (self._records - first.records) / elapsed_s, (self._bytes - first.bytes) / elapsed_s
        return None

    @property
    def points_kept(self) -> int:
        return len(self._windows)
