"""Fetches that wait for data: woken by what becomes readable, or by their deadline.

Role: count for each fetch how many bytes it still lacks. A partition tells the fetches that are parked on it by how
much it has grown (`Parking`); a fetch that lacks nothing any more is tried again in the next turn of the event loop
(`ReadyFetches`). A parked fetch holds no data and no buffers, only where it wants to read.

Invariants:
- A move of one partition's high watermark costs a few steps for each fetch that is parked on that partition, however
  many partitions these read.
- What is counted for a fetch is never less than what it would read, and may be more: a fetch that is tried and finds
  too little is parked anew with what it lacks then.
- A fetch is tried once in a turn of the loop at most, however many of its partitions have grown; and a turn tries only
  so many (`LOOKS_A_TURN`), so that thousands that wait for one partition do not keep others waiting.

Bounds: a connection has at most one (its later requests wait), so connections bound their number.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from odradek.clock import Scheduler, Timer
from odradek.config.bounds import LONG_MAX

# Partitions that the fetches tried in one turn of the loop read together; a look at one takes 10 to 50 us.
LOOKS_A_TURN = 200
# More than any fetch lacks: where nobody knows by how much a partition has grown.
UNKNOWN_BYTES = LONG_MAX


class ReadyFetches:
    """Parked fetches that are to be tried again, in the order in which they became ready."""

    __slots__ = ("_fetches", "_is_due")

    def __init__(self) -> None:
        self._fetches: deque[ParkedFetch] = deque()
        self._is_due = False

    def add(self, fetch: ParkedFetch) -> None:
        self._fetches.append(fetch)
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._try)

    def _try(self) -> None:
        looks = 0
        try:
            while self._fetches and looks < LOOKS_A_TURN:
                fetch = self._fetches.popleft()
                looks += len(fetch.places)
                fetch.finish(False)
        finally:
            self._is_due = bool(self._fetches)
            if self._is_due:
                asyncio.get_running_loop().call_soon(self._try)


class Parking:
    """What has become readable of one partition, and the fetches that are parked on it."""

    __slots__ = ("_committed_count", "_ends", "_stable_bytes", "_stable_end", "fetches", "readable_bytes")

    def __init__(self, ends: Callable[[], tuple[int, int]]) -> None:
        """`ends` says the partition's last stable offset and high watermark as they are."""
        self.readable_bytes = 0
        """Bytes that have come below the high watermark since the start."""
        self.fetches: dict[ParkedFetch, int] = {}
        """Each with how many more bytes of this partition its response may take."""
        self._ends = ends
        # For those that read committed data, while there are any:
        self._committed_count = 0
        self._stable_end = 0
        """The last stable offset that they know."""
        self._stable_bytes = 0
        """`readable_bytes` when everything was stable for the last time; very few where that is not known."""

    def add(self, fetch: ParkedFetch, room_bytes: int) -> None:
        if fetch.committed_only:
            if not self._committed_count:
                self._stable_end, high_watermark = self._ends()
                self._stable_bytes = self.readable_bytes if self._stable_end == high_watermark else -UNKNOWN_BYTES
            self._committed_count += 1
        self.fetches[fetch] = room_bytes

    def remove(self, fetch: ParkedFetch) -> None:
        if self.fetches.pop(fetch, None) is not None and fetch.committed_only:
            self._committed_count -= 1

    def grow(self, readable_bytes: int) -> None:
        """Tells the fetches how much is readable now."""
        size = readable_bytes - self.readable_bytes
        if size <= 0:  # with `odradek.flush=os`, the flush of what was readable before it
            return
        self.readable_bytes = readable_bytes
        stable_size = self._stable_growth() if self._committed_count else 0
        fetches = self.fetches
        for fetch, room_bytes in fetches.items():
            counted = stable_size if fetch.committed_only else size
            if counted > room_bytes:
                counted = room_bytes
            if counted > 0:
                fetches[fetch] = room_bytes - counted
                fetch.missing_bytes -= counted
                if fetch.missing_bytes <= 0:
                    fetch.make_ready()

    def _stable_growth(self) -> int:
        """How many more bytes are stable, at most."""
        before = self._stable_end
        self._stable_end, high_watermark = self._ends()
        if self._stable_end == high_watermark:
            # Whether it has moved is not asked: the log may be ahead of what has been told here.
            grown = self.readable_bytes - self._stable_bytes
            self._stable_bytes = self.readable_bytes
            return grown
        return UNKNOWN_BYTES if self._stable_end != before else 0

    def change(self) -> None:
        """Has every fetch tried: the partition went offline, came back or was deleted, or has other settings."""
        for fetch in self.fetches:
            fetch.make_ready()


class ParkedFetch:
    """Is parked on one partition after the other (`park`), with what it has seen of each, and then waits (`wait`). What
    becomes readable of a partition from then on is counted, also before the last one has been looked at."""

    __slots__ = ("_again", "_is_ready", "_ready_fetches", "_timer", "committed_only", "missing_bytes", "places")

    def __init__(self, ready_fetches: ReadyFetches, committed_only: bool) -> None:
        self._ready_fetches = ready_fetches
        self.places: list[Parking] = []
        self.missing_bytes = UNKNOWN_BYTES
        """How many more bytes make it ready."""
        self.committed_only = committed_only
        self._is_ready = False
        self._timer: Timer | None = None
        self._again: Callable[[bool], None] | None = None

    def park(self, parking: Parking, room_bytes: int) -> None:
        """`room_bytes`: how many more bytes its response may take from there."""
        self.places.append(parking)
        parking.add(self, room_bytes)

    def wait(self, scheduler: Scheduler, missing_bytes: int, wait_s: float, again: Callable[[bool], None]) -> None:
        """Calls `again` once: when its partitions have grown by `missing_bytes` since they were looked at, when one of
        them has changed, or after `wait_s` seconds; with True in the last case."""
        self._again = again
        self.missing_bytes -= UNKNOWN_BYTES - missing_bytes
        self._timer = scheduler.call_later(wait_s, self.finish, True)
        if self._is_ready or self.missing_bytes <= 0:
            self._is_ready = True
            self._ready_fetches.add(self)

    def make_ready(self) -> None:
        """Has it tried in the loop's next turn, or as soon as it waits."""
        if not self._is_ready:
            self._is_ready = True
            if self._again is not None:
                self._ready_fetches.add(self)

    def finish(self, expired: bool) -> None:
        """Calls `again`, unless that is over."""
        again = self._again
        if again is not None:
            self.cancel()
            again(expired)

    def cancel(self) -> None:
        """Takes the fetch out of every partition; `again` is not called any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._again = None
        places, self.places = self.places, []
        for parking in places:
            parking.remove(self)
