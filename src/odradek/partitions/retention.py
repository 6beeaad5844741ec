"""Retention: finds and deletes the segments of a log that `retention.ms` and `retention.bytes` no longer keep.

Role: the policy, the same for all engines, which only list their segments, roll and delete. `log_start` checks what
may forbid a deletion (the topic's cleanup policy, the guard), and saves the producer state before one.

Invariants:
- Whole segments are deleted, the oldest first, and none that ends above the given bound, so nothing appended meanwhile.
- Records without a timestamp have the age of their append.
- The older segments are deleted before the active one is rolled: on a full disk they make the room that the new segment
  needs. The new segment is durable before the last one is deleted.
"""

from __future__ import annotations

from typing import NamedTuple

from odradek.engines.interface import PartitionLog


class Expendable(NamedTuple):
    """A segment that retention no longer keeps."""

    end_offset: int
    size_bytes: int
    overdue_ms: int
    """By how much the age of its newest record exceeds `retention.ms`; where only `retention.bytes` is exceeded, that
    age."""


async def expendable(log: PartitionLog, now_ms: int, upto: int) -> list[Expendable]:
    """The segments that end at or below `upto` and are no longer kept, the oldest first. Raises `LogFailure`."""
    config, size = log.config, log.size_bytes()
    found: list[Expendable] = []
    for segment in log.segments():
        too_much = 0 <= config.retention_bytes <= size - segment.size_bytes
        if segment.end_offset > upto or not (too_much or config.retention_ms >= 0):
            break
        size -= segment.size_bytes
        newest_ms = await log.newest_timestamp(segment)
        if newest_ms is None:
            continue
        age_ms = now_ms - newest_ms
        is_over = 0 <= config.retention_ms < age_ms
        if not (too_much or is_over):
            break
        found.append(
            Expendable(segment.end_offset, segment.size_bytes, age_ms - config.retention_ms if is_over else age_ms)
        )
    return found


async def delete(log: PartitionLog, upto: int) -> int:
    """Deletes the segments that end at or below `upto`, and the active one, too, where the log still ends there;
    returns the deleted bytes. Raises `LogFailure`."""
    freed = await log.delete_segments(upto)
    if log.end_offset == upto:
        await log.roll()
        freed += await log.delete_segments(upto)
    return freed
