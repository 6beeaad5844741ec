"""The retention guard keeps segments that retention would delete but that guarding groups have not read yet.

Role: compare the segments that the guard holds back with its limits. Pure: the groups' committed offsets, and the
segments that retention would delete, are arguments.

Invariants: the guard holds back only whole segments that retention would delete. Within the limits, no segment is
deleted that the slowest of the groups has not read to its end; beyond the limits, as few as possible are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from odradek.partitions.retention import Expendable


class Guard(NamedTuple):
    """The guard of one partition."""

    offset: int
    """The lowest committed offset of the guarding groups."""
    group_id: str
    """The group with that offset."""
    max_bytes: int
    max_ms: int
    blocks: bool
    """Whether appends are refused at the limits; else the oldest segments are deleted."""


class Held(NamedTuple):
    """The effect of a guard on one partition."""

    upto: int
    """Retention may delete segments that end at or below this offset."""
    size_bytes: int
    """Bytes that retention would have deleted without the guard."""
    refusal: str
    """Why appends are refused; empty while they are not."""


NOT_HELD = Held(0, 0, "")


def hold(guard: Guard, expendable: Sequence[Expendable], upto: int) -> Held:
    """Applies the guard to `expendable`, the segments that retention would delete: the oldest first, all ending at or
    below `upto`."""
    held = [one for one in expendable if one.end_offset > guard.offset]
    upto, size_bytes = min(upto, guard.offset), sum(one.size_bytes for one in held)
    for one in held:
        too_much = 0 <= guard.max_bytes < size_bytes
        if not too_much and not 0 <= guard.max_ms < one.overdue_ms:
            break
        if guard.blocks:
            limit = "max.bytes" if too_much else "max.ms"
            refusal = (
                f"retention waits for group {guard.group_id}, which is at offset {guard.offset}, "
                f"and has reached odradek.retention.guard.{limit}"
            )
            return Held(upto, size_bytes, refusal)
        size_bytes -= one.size_bytes
        upto = one.end_offset
    return Held(upto, size_bytes, "")
