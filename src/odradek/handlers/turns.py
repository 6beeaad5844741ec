"""Long requests yield to others: a handler that processes many elements works in turns of a few milliseconds.

Role: the contract of such a handler, and who runs it. It is a generator function: it yields wherever others may have
their turn, at best after each element, and returns its answer. `Turns` runs it until it has taken `TURN_S`; most are
done by then, and nothing is different for them. The others go on in later turns of the event loop, one of them a turn,
so that everybody else's requests are served between them.

Invariants: while a request is in turns, its connection starts no other. Work that must be atomic (one batch of records,
one change of metadata) has no `yield` inside. State that a handler has read before a `yield` may have changed after it.
If the connection is lost, the handler is closed at its current `yield`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, Final, TypeVar

R = TypeVar("R")

# The length of one turn. Other requests wait at most so long, or a little longer if one element takes long.
TURN_S = 0.004
# The length of a first turn while other requests are in turns, so that many long requests at once do not add up.
CROWDED_TURN_S = 0.0005
# What a handler yields whose answer will be long, however quickly it was made: it goes on in a later turn, and the
# answer of what went through turns is encoded in a thread.
LATER: Final = "later"
# An answer with more bytes than this is long: so many take 2 to 4 ms to encode.
LONG_ANSWER_BYTES = 131_072
Steps = Generator[Any, None, R]


class InTurns(asyncio.Future[R]):
    """The future answer of a request that continues in turns."""


class Turns:
    """The long requests of one broker."""

    def __init__(self, now: Callable[[], float]) -> None:
        """`now` returns monotonic seconds."""
        self._now = now
        self._queue: deque[tuple[Steps[Any], InTurns[Any]]] = deque()

    def begin(self, steps: Steps[R]) -> R | InTurns[R]:
        """Runs a request's first turn; returns its answer, or what becomes of it."""
        until = self._now() + (CROWDED_TURN_S if self._queue else TURN_S)
        try:
            while True:
                if next(steps) is LATER or self._now() >= until:
                    break
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        loop = asyncio.get_running_loop()
        future: InTurns[R] = InTurns(loop=loop)
        self._queue.append((steps, future))
        if len(self._queue) == 1:
            loop.call_soon(self._take_turn)
        return future

    async def run(self, steps: Steps[R]) -> R:
        """Runs steps to their end, for a task that others wait for."""
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
