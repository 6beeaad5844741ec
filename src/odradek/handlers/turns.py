"""Long requests give way: a handler that works through many elements does so in turns.

Role: the contract of such a handler, and who runs it. It is a generator function: it yields wherever others may have
their turn, at best after each element, and returns its answer. `Turns` runs it until it has taken `TURN_S`; most are
done by then, and nothing is different for them. The others go on in later turns of the event loop, one of them a turn,
so that everybody else's requests are served between them.

Invariants: a request that is in turns has not been carried out yet: its connection starts no other. What must happen
at once (one batch of records, one change of metadata) has no `yield` in it. What a handler has read before a `yield`
may have changed behind it. A request whose connection is lost ends at its last `yield`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, TypeVar

R = TypeVar("R")

# One turn of a long request. Everybody else waits so long at most, and a little longer where one element takes long.
TURN_S = 0.004
# The first turn, while others are in turns already: many long requests that come together take no turn each at once.
CROWDED_TURN_S = 0.0005


class InTurns(asyncio.Future[R]):
    """What becomes of a request that goes on in turns."""


class Turns:
    """The long requests of one broker."""

    def __init__(self, now: Callable[[], float]) -> None:
        """`now`: monotonic seconds."""
        self._now = now
        self._queue: deque[tuple[Generator[None, None, Any], InTurns[Any]]] = deque()

    def begin(self, steps: Generator[None, None, R]) -> R | InTurns[R]:
        """Runs a request's first turn; returns its answer, or what becomes of it."""
        until = self._now() + (CROWDED_TURN_S if self._queue else TURN_S)
        try:
            while True:
                next(steps)
                if self._now() >= until:
                    break
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        loop = asyncio.get_running_loop()
        future: InTurns[R] = InTurns(loop=loop)
        self._queue.append((steps, future))
        if len(self._queue) == 1:
            loop.call_soon(self._take_turn)
        return future

    async def run(self, steps: Generator[None, None, R]) -> R:
        """For a handler that is a coroutine: runs a part of it in turns."""
        begun = self.begin(steps)
        return await begun if isinstance(begun, InTurns) else begun

    def _take_turn(self) -> None:
        steps, future = self._queue[0]
        try:
            if future.cancelled():
                steps.close()
                self._queue.popleft()
            else:
                until = self._now() + TURN_S
                while self._now() < until:
                    next(steps)
                self._queue.rotate(-1)
        except StopIteration as end:
            self._queue.popleft()
            future.set_result(end.value)
        except Exception as failure:  # noqa: BLE001 - a handler's mistake is told to whoever waits for its answer
            self._queue.popleft()
            future.set_exception(failure)
        if self._queue:
            asyncio.get_running_loop().call_soon(self._take_turn)
