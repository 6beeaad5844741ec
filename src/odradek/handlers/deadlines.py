"""Deadlines of many short-lived requests, at the cost of one append to a queue each.

Nearly every request is answered long before its deadline, and nearly all have the same timeout. So each timeout has a
queue whose entries are in the order of their deadlines, and one timer checks the first entries every `RESOLUTION_S`. A
timer of the event loop for each request would cost as much as the request.

Bound: an entry is removed when it is the first and its future is done or its deadline has passed. The number of open
requests is bounded per connection.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from odradek.clock import Scheduler, Timer

RESOLUTION_S = 0.1


class Deadlines:
    """Calls `expire` for each added future that is not done when its timeout is over."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._now = scheduler.clock.monotonic
        self._queues: dict[int, deque[tuple[float, asyncio.Future[Any], Callable[[], None]]]] = {}
        self._timer: Timer | None = None

    def add(self, timeout_ms: int, future: asyncio.Future[Any], expire: Callable[[], None]) -> None:
        queue = self._queues.get(timeout_ms)
        if queue is None:
            queue = self._queues[timeout_ms] = deque()
        while queue and queue[0][1].done():
            queue.popleft()
        queue.append((self._now() + timeout_ms / 1000, future, expire))
        if self._timer is None:
            self._timer = self._scheduler.call_later(RESOLUTION_S, self._look)

    def _look(self) -> None:
        now = self._now()
        for timeout_ms, queue in list(self._queues.items()):
            while queue and (queue[0][1].done() or queue[0][0] <= now):
                _, future, expire = queue.popleft()
                if not future.done():
                    expire()
            if not queue:
                del self._queues[timeout_ms]
        self._timer = self._scheduler.call_later(RESOLUTION_S, self._look) if self._queues else None

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._queues.clear()
