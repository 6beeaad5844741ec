"""The retention guard: what retention would delete, but groups have not read yet.

Role: weigh what a guard holds against its limits. Pure: what groups have committed, and what retention would delete,
are arguments.

Invariants: only what retention no longer keeps is held, and whole segments of it, as retention deletes them. Within the
limits nothing that the slowest of the groups has not read goes; beyond, as little as the limits ask for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from odradek.partitions.retention import Expendable


class Guard(NamedTuple):
    """What one partition is guarded by."""

    offset: int
    """The least that any of the groups has committed."""
    group_id: str
    """Whose that is."""
    max_bytes: int
    max_ms: int
    blocks: bool
    """At the limits, producers are refused; else the oldest goes."""


class Held(NamedTuple):
    """What comes of a guard."""

    upto: int
    """Retention may delete what ends here or below."""
    size_bytes: int
    """What retention would have deleted otherwise."""
    refusal: str
    """Why producers are refused; empty while they are not."""


NOT_HELD = Held(0, 0, "")


def hold(guard: Guard, expendable: Sequence[Expendable], upto: int) -> Held:
    """Weighs `expendable`, the oldest first, all of which ends at or below `upto`."""
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
