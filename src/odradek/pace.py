"""Long work on the event loop that waits for nothing: it gives way, so that requests are served meanwhile.

Role: who works through many topics or partitions (opening their logs, putting a change of the metadata in force) awaits
`give_way` after each. That costs a look at the clock, until the work has had `PACE_S`; then it goes on in the next turn
of the loop. A request whose handler is a generator has its turns from `handlers/turns.py`.

Invariants: of all tasks that share a pace one turn of the loop does `PACE_S` of work, and each one step more at the
most. What was read before `give_way` may have changed behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import TypeVar

R = TypeVar("R")

PACE_S = 0.004


class Pace:
    """The pace of some work, in however many tasks."""

    def __init__(self, now: Callable[[], float]) -> None:
        """`now`: monotonic seconds."""
        self._now = now
        self._until: float | None = None
        """When this turn of the loop has had enough; None where none of it was done in this turn."""

    async def give_way(self) -> None:
        """Lets others have their turn, if it is time."""
        while self._until is not None and self._now() >= self._until:  # noqa: ASYNC110 - it is the loop's next turn
            await asyncio.sleep(0)
        if self._until is None:
            self._until = self._now() + PACE_S
            asyncio.get_running_loop().call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._until = None

    async def walk(self, steps: Generator[None, None, R]) -> R:
        """Carries out work that yields where it may give way; returns its result."""
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            await self.give_way()
