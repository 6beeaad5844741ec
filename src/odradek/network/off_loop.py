"""Decodes and encodes large messages in a thread, so that they do not block the event loop.

Invariant: one piece of work runs at a time, however many connections ask, because each computing thread holds the
interpreter lock for 5 ms at a time, during which the loop stands still.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

R = TypeVar("R")


class OffLoop:
    """A queue of work for one thread."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._queue: deque[tuple[Callable[[], Any], asyncio.Future[Any]]] = deque()

    def run(self, work: Callable[[], R]) -> asyncio.Future[R]:
        """Queues `work`; the future has what it returns or raises. Work whose future is cancelled before its turn is
        skipped."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._queue.append((work, future))
        if len(self._queue) == 1:
            self._begin()
        return future

    def _begin(self) -> None:
        while self._queue:
            work, future = self._queue[0]
            if not future.cancelled():
                running = asyncio.get_running_loop().run_in_executor(self._executor, work)
                running.add_done_callback(self._end)
                return
            self._queue.popleft()

    def _end(self, done: asyncio.Future[Any]) -> None:
        _, future = self._queue.popleft()
        failure = done.exception()
        if not future.cancelled():
            if failure is None:
                future.set_result(done.result())
            else:
                future.set_exception(failure)
        self._begin()
