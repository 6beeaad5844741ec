"""The progress of a partition: the bytes appended, the bytes that have become readable, and the waiting fetches.

Role: count appends, follow the flushes that make them durable, and tell the fetches that are parked on the partition
when the high watermark has moved. Others are told when the partition has another opening of its log. Where the high
watermark lies is the log's knowledge (`PartitionLog.durable_end`).

Invariants: flushes end in the order in which they were begun, so that the end of one makes all earlier appends
readable; a flush of an opening that is over changes nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from odradek.engines.interface import LogFailure
from odradek.partitions.counters import Traffic
from odradek.partitions.parked_fetches import Parking
from odradek.partitions.space import StorageSpace


class Progress:
    """The progress of one partition, through all openings of its log."""

    __slots__ = ("_appended_bytes", "_flushes", "_on_failure", "_space", "_traffic", "_waiting", "parking")

    def __init__(
        self,
        traffic: Traffic,
        space: StorageSpace,
        on_failure: Callable[[LogFailure], None],
        ends: Callable[[], tuple[int, int]],
    ) -> None:
        """`on_failure` is told of a flush that has failed; `ends` is as in `Parking`."""
        self._traffic = traffic
        self._space = space
        self._on_failure = on_failure
        self._appended_bytes = 0
        # Open flushes in their order, each with `_appended_bytes` after its last batch so far.
        self._flushes: deque[tuple[asyncio.Future[None], int]] = deque()
        self.parking = Parking(ends)
        self._waiting: set[Callable[[], None]] = set()

    def note_append(self, durable: asyncio.Future[None], size: int, records: int, batches: int) -> None:
        """Counts what was just appended, and is noted in the state of producers; it is readable when it is durable."""
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
            self._advance(self._appended_bytes)
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
            self._advance(readable_bytes)
        elif isinstance(failure, LogFailure):
            self._on_failure(failure)
        else:
            raise failure

    def _advance(self, readable_bytes: int) -> None:
        """So many bytes have become readable since the start."""
        parking = self.parking
        if parking.fetches:
            parking.grow(readable_bytes)
        else:
            parking.readable_bytes = readable_bytes

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

    def wait(self, changed: Callable[[], None]) -> None:
        """Calls `changed` whenever the partition may have another opening of its log, or none."""
        self._waiting.add(changed)

    def stop_waiting(self, changed: Callable[[], None]) -> None:
        self._waiting.discard(changed)

    def change(self) -> None:
        """Tells whoever waits, parked fetches among them, that the partition's log is another or has other settings."""
        self.parking.change()
        for changed in list(self._waiting):
            changed()
