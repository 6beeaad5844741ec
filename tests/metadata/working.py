"""Works changes out at once, whose functions are generators."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

R = TypeVar("R")


def worked_out(steps: Generator[None, None, R]) -> R:
    """What they return in the end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def most_between(steps: Generator[None, None, object], done: list[object]) -> int:
    """The most that was added to `done` between two yields."""
    most, before = 0, len(done)
    for _ in steps:
        most, before = max(most, len(done) - before), len(done)
    return max(most, len(done) - before)
