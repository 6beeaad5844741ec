"""The append rates of a partition, from samples of its offsets and size taken over time.

Role: one `AppendHistory` per partition, shared by all groups that read it. Samples may be taken at irregular intervals;
the time of a sample is an argument, in seconds that should be monotonic. `Windows` stores the points of this history
and of `reading_history`, and keeps fewer of them as they grow older.

Invariants: memory is bounded, however often samples are taken: a history has at most `POINTS_MAX` points (some 4 KB),
one per 10 s for the last minute and one per 60 s for the last ten minutes. The rate between two kept points is exact.
Rates are never negative: an end offset that goes back (truncation) counts as no growth. A time that goes back, or more
than `GAP_S` without a sample, clears the history.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, NamedTuple, Protocol, TypeVar

MINUTE_S = 60.0
TEN_MINUTES_S = 600.0
# A slot keeps its first point. There are two slots more than a window holds: one because a window seldom begins at the
# start of a slot, and one for the slot that is being filled.
_MINUTE_SLOT_S, _MINUTE_SLOTS = 10.0, 8
_TEN_MINUTES_SLOT_S, _TEN_MINUTES_SLOTS = 60.0, 12
POINTS_MAX = _MINUTE_SLOTS + _TEN_MINUTES_SLOTS
# No window is longer than this, so after such a gap no remembered point would be in one.
GAP_S = TEN_MINUTES_S


class PartitionSample(NamedTuple):
    """Offsets, size and retention of a partition at one moment."""

    log_start_offset: int
    high_watermark: int
    size_bytes: int
    retention_ms: int = -1
    """-1: no limit, as in Kafka; the same holds for `retention_bytes`."""
    retention_bytes: int = -1
    compact: bool = False
    """Whether `cleanup.policy` has `compact`: then a distance in offsets is more than the number of records."""
    delete: bool = True
    """Whether `cleanup.policy` has `delete`: without it no unread record is lost to retention."""


class Timed(Protocol):
    @property
    def time_s(self) -> float: ...


P = TypeVar("P", bound=Timed)


class Slots(Generic[P]):
    """The first point of each time slot, for the newest slots that have one."""

    __slots__ = ("points", "slot_s")

    def __init__(self, slot_s: float, slots: int) -> None:
        self.slot_s = slot_s
        self.points: deque[P] = deque(maxlen=slots)

    def add(self, point: P) -> P:
        """Keeps the point if it is the first of its slot; returns the point that the slot keeps."""
        points = self.points
        if not points or point.time_s // self.slot_s != points[-1].time_s // self.slot_s:
            points.append(point)
        return points[-1]


class Windows(Generic[P]):
    """Points of the last minute and of the last ten minutes."""

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
    """The append history of one partition. Call `add` with each sample, before `LagWatch.look` for its groups."""

    __slots__ = ("_bytes", "_bytes_per_record", "_records", "_windows", "now_s", "sample")

    def __init__(self) -> None:
        self.now_s = 0.0
        self.sample: PartitionSample | None = None
        # Records and bytes appended since the first sample; they never go back.
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
            # Records were deleted or compacted meanwhile, so the sizes do not say how many bytes were appended.
            held = before.high_watermark - before.log_start_offset
            bytes_ = records * (self._bytes_per_record or (before.size_bytes / held if held > 0 else 0.0))
        self._records += records
        self._bytes += bytes_

    def rates(self, window_s: float) -> tuple[float, float] | None:
        """Records and bytes appended per second; None if the window has fewer than two samples."""
        from_s = self.now_s - window_s
        for first in self._windows.of(window_s):
            if from_s <= first.time_s < self.now_s:
                elapsed_s = self.now_s - first.time_s
                return (self._records - first.records) / elapsed_s, (self._bytes - first.bytes) / elapsed_s
        return None

    @property
    def points_kept(self) -> int:
        return len(self._windows)
