"""Long requests yield to others: a handler that processes many elements works in turns of a few milliseconds.

Role: the contract of such a handler, and who runs it. It is a generator function: it yields wherever others may have
their turn, at best after each element, and returns its answer. `Turns` runs it until it has taken `TURN_S`; most are
done by then, and nothing is different for them. The others go on in later turns of the event loop, one of them a turn,
so that everybody else's requests are served between them. One that yields a future goes on when that is done.

Invariants: while a request is in turns, its connection starts no other. Work that must be atomic (one batch of records,
one change of metadata) has no `yield` inside. State that a handler has read before a `yield` may have changed after it.
If the connection is lost, the handler is closed at its current `yield`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, Final, TypeVar

R = TypeVar("R")

# The length of one turn. Other requests wait at most so long, or a little longer if one element takes long.
TURN_S = 0.004
# The length of a first turn while other requests are in turns, so that many long requests at once do not add up.
CROWDED_TURN_S = 0.0005
# A handler yields this if its answer will be long, even if it was made quickly: the handler continues in a later turn,
# and answers of handlers that continued in turns are encoded in a thread.
LATER: Final = "later"
# An answer with more bytes than this is long: encoding this many takes 2 to 4 ms.
LONG_ANSWER_BYTES = 131_072
# Work of one request that waits concurrently (mostly for the disk), and that begins in one turn of the loop.
SIDE_BY_SIDE = 100
Steps = Generator[Any, None, R]
"""Yields None where others may have their turn, LATER, or a future that it waits for."""


class InTurns(asyncio.Future[R]):
    """The future answer of a request that continues in turns."""


class Turns:
    """The long requests of one broker."""

    def __init__(self, now: Callable[[], float]) -> None:
        """`now` returns monotonic seconds."""
        self._now = now
        self._queue: deque[tuple[Steps[Any], InTurns[Any]]] = deque()

    def begin(self, steps: Steps[R]) -> R | InTurns[R]:
        """Runs a request's first turn; returns its answer, or the future of it."""
        until = self._now() + (CROWDED_TURN_S if self._queue else TURN_S)
        try:
            while True:
                yielded = next(steps)
                if yielded is not None or self._now() >= until:
                    break
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        future: InTurns[R] = InTurns()
        self._queue_behind(yielded, steps, future)
        return future

    async def run(self, steps: Steps[R]) -> R:
        """Runs steps to their end, for a task that others wait for."""
        begun = self.begin(steps)
        return await begun if isinstance(begun, InTurns) else begun

    def _queue_behind(self, yielded: Any, steps: Steps[Any], future: InTurns[Any]) -> None:
        """Gives steps another turn, when what they wait for is done."""
        if isinstance(yielded, asyncio.Future):
            yielded.add_done_callback(lambda done: self._queue_behind(None, steps, future))
            return
        self._queue.append((steps, future))
        if len(self._queue) == 1:
            asyncio.get_running_loop().call_soon(self._take_turn)

    def _take_turn(self) -> None:
        steps, future = self._queue[0]
        yielded: Any = None
        try:
            if future.cancelled():
                steps.close()
            else:
                until = self._now() + TURN_S
                while yielded is None and self._now() < until:
                    yielded = next(steps)
        except StopIteration as end:
            future.set_result(end.value)
        except Exception as failure:  # noqa: BLE001 - a handler's mistake is told to whoever waits for its answer
            future.set_exception(failure)
        self._queue.popleft()
        if self._queue:
            asyncio.get_running_loop().call_soon(self._take_turn)
        if not future.done():
            self._queue_behind(yielded, steps, future)


async def side_by_side(works: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Runs many pieces of work, `SIDE_BY_SIDE` at a time; others have their turn between them."""
    left = iter(works)

    async def run_some() -> None:
        for work in left:
            await work()
            await asyncio.sleep(0)

    await asyncio.gather(*(run_some() for _ in range(min(len(works), SIDE_BY_SIDE))))
