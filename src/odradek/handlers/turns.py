"""Long requests give way: a handler that works through many elements does so in turns.

Role: the contract of such a handler, and who runs it. It is a generator function: it yields wherever others may have
their turn, at best after each element, and returns its answer. `Turns` runs it until it has taken `TURN_S`; most are
done by then, and nothing is different for them. The others go on in later turns of the event loop, one of them a turn,
so that everybody else's requests are served between them. One that yields a future goes on when that is done.

Invariants: a request that is in turns has not been carried out yet: its connection starts no other. What must happen
at once (one batch of records, one change of metadata) has no `yield` in it. What a handler has read before a `yield`
may have changed behind it. A request whose connection is lost ends at its last `yield`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, TypeVar

R = TypeVar("R")

# One turn of a long request. Everybody else waits so long at most, and a little longer where one element takes long.
TURN_S = 0.004
# The first turn, while others are in turns already: many long requests that come together take no turn each at once.
CROWDED_TURN_S = 0.0005
# Work of one request that waits side by side (for the disk, mostly), and that begins in one turn of the loop.
SIDE_BY_SIDE = 100
Steps = Generator[Any, None, R]
"""What yields None where others may have their turn, or a future that it waits for."""


class InTurns(asyncio.Future[R]):
    """What becomes of a request that goes on in turns."""


class Turns:
    """The long requests of one broker."""

    def __init__(self, now: Callable[[], float]) -> None:
        """`now`: monotonic seconds."""
        self._now = now
        self._queue: deque[tuple[Steps[Any], InTurns[Any]]] = deque()

    def begin(self, steps: Steps[R]) -> R | InTurns[R]:
        """Runs a request's first turn; returns its answer, or what becomes of it."""
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
