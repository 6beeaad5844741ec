"""Retention: which segments of a log `retention.ms` and `retention.bytes` no longer keep, and their end.

Role: the policy, once for all engines, which only tell their segments, roll and delete. What may stop it (a topic's
cleanup policy, the guard) and what is kept before a deletion is in `log_start`.

Invariants:
- Whole segments go, the oldest first, none that ends above the given bound: nothing that was appended meanwhile.
- Records without a time are as old as their append.
- The older segments go before the last one is ended: on a full disk they make the room that the new segment needs. That
  one is there for certain before the last one goes.
"""

from __future__ import annotations

from typing import NamedTuple

from odradek.engines.interface import PartitionLog


class Expendable(NamedTuple):
    """A segment that retention no longer keeps."""

    end_offset: int
    size_bytes: int
    overdue_ms: int
    """For how long `retention.ms` has been over for its newest record; where only `retention.bytes` is, its age."""


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
    """Deletes the segments that end at or below `upto`, the last one too where the log still ends there; returns how
    many bytes went. Raises `LogFailure`."""
    freed = await log.delete_segments(upto)
    if log.end_offset == upto:
        await log.roll()
        freed += await log.delete_segments(upto)
    return freed
