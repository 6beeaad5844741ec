"""The progress of a partition: the bytes appended, the bytes that have become readable, and the waiting fetches.

Role: count appends, follow the flushes that make them durable, and wake waiting fetches when the high watermark has
moved. The log knows where the high watermark is (`PartitionLog.durable_end`).

Invariants: flushes end in the order in which they were begun, so that the end of one makes all earlier appends
readable; a flush of an opening that is over changes nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from odradek.engines.interface import LogFailure
from odradek.partitions.counters import Traffic
from odradek.partitions.space import StorageSpace


class Progress:
    """The progress of one partition, through all openings of its log."""

    __slots__ = ("_appended_bytes", "_flushes", "_on_failure", "_space", "_traffic", "readable_bytes", "waiting")

    def __init__(self, traffic: Traffic, space: StorageSpace, on_failure: Callable[[LogFailure], None]) -> None:
        """`on_failure` is told of a flush that has failed."""
        self._traffic = traffic
        self._space = space
        self._on_failure = on_failure
        self._appended_bytes = 0
        # Open flushes in their order, each with `_appended_bytes` after its last batch so far.
        self._flushes: deque[tuple[asyncio.Future[None], int]] = deque()
        self.readable_bytes = 0
        """Bytes that have become readable since the start: parked fetches compare two values of it."""
        self.waiting: set[Callable[[], None]] = set()
        """The functions that are called when there may be more to read."""

    def note_append(self, durable: asyncio.Future[None], size: int, records: int, batches: int) -> None:
        """Counts what was just appended; it is readable when it is durable."""
        traffic = self._traffic
        traffic.appended_records += records
        traffic.appended_batches += batches
        traffic.appended_bytes += size
        self._space.left_bytes -= size
        self._appended_bytes += size
        flushes = self._flushes
        if flushes and flushes[-1][0] is durable:
            flushes[-1] = (durable, self._appended_bytes)
        elif durable.done():
            self.readable_bytes = self._appended_bytes
            self.wake()
        else:
            flushes.append((durable, self._appended_bytes))
            durable.add_done_callback(self._on_durable)

    def _on_durable(self, durable: asyncio.Future[None]) -> None:
        if not self._flushes or self._flushes[0][0] is not durable:
            # A flush of an opening that is over, which `forget_flushes` has dropped.
            durable.exception()
            return
        _, readable_bytes = self._flushes.popleft()
        failure = durable.exception()
        if failure is None:
            self.readable_bytes = readable_bytes
            self.wake()
        elif isinstance(failure, LogFailure):
            self._on_failure(failure)
        else:
            raise failure

    def newest_flush(self) -> asyncio.Future[None]:
        """Done when all that was appended so far is durable."""
        if self._flushes:
            return self._flushes[-1][0]
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_result(None)
        return future

    def forget_flushes(self) -> None:
        """Drops the open flushes, because the opening that they belong to is over."""
        self._flushes.clear()

    def wait(self, wake: Callable[[], None]) -> None:
        """Calls `wake` whenever the high watermark may have moved, or the partition changed its state."""
        self.waiting.add(wake)

    def stop_waiting(self, wake: Callable[[], None]) -> None:
        self.waiting.discard(wake)

    def wake(self) -> None:
        """Calls all waiting functions."""
        if self.waiting:
            for wake in list(self.waiting):
                wake()
