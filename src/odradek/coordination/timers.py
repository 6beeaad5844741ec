"""Deadlines of a state machine. The caller passes the time in.

A deadline has a key; setting it again replaces it. Most deadlines are moved long before they are reached (a member's
session, at every heartbeat), so moving one later costs a dictionary entry: the heap keeps the earlier time, and when
that has come, queues the key again at its deadline.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from itertools import count


class Timers:
    """Deadlines by key, in seconds of a monotonic clock."""

    __slots__ = ("_deadlines", "_heap", "_queued", "_serial")

    def __init__(self) -> None:
        self._deadlines: dict[Hashable, float] = {}
        # For each key, its time in the heap, which is at or before its deadline.
        self._queued: dict[Hashable, float] = {}
        self._heap: list[tuple[float, int, Hashable]] = []
        self._serial = count()

    def __len__(self) -> int:
        return len(self._deadlines)

    def set(self, key: Hashable, deadline: float) -> None:
        self._deadlines[key] = deadline
        queued = self._queued.get(key)
        if queued is None or deadline < queued:
            self._queue(key, deadline)

    def _queue(self, key: Hashable, at: float) -> None:
        self._queued[key] = at
        heapq.heappush(self._heap, (at, next(self._serial), key))

    def cancel(self, key: Hashable) -> None:
        self._deadlines.pop(key, None)

    def deadline(self, key: Hashable) -> float | None:
        return self._deadlines.get(key)

    def next(self) -> float | None:
        """When `due` is to be called next: at the next deadline or sooner. None without deadlines."""
        self._settle()
        return self._heap[0][0] if self._heap else None

    def _settle(self) -> None:
        """Removes stale entries from the top of the heap: cancelled ones, and those queued again at another time."""
        while self._heap:
            at, _, key = self._heap[0]
            if self._queued.get(key) == at and key in self._deadlines:
                return
            heapq.heappop(self._heap)
            if self._queued.get(key) == at:
                del self._queued[key]

    def due(self, now: float) -> list[Hashable]:
        """Removes the keys whose deadline has come, and returns them in the order of their deadlines."""
        found: list[tuple[float, Hashable]] = []
        while True:
            self._settle()
            if not self._heap or self._heap[0][0] > now:
                break
            _, _, key = heapq.heappop(self._heap)
            del self._queued[key]
            deadline = self._deadlines[key]
            if deadline > now:
                self._queue(key, deadline)
            else:
                del self._deadlines[key]
                found.append((deadline, key))
        found.sort(key=lambda item: item[0])
        return [key for _, key in found]
