"""Fetches that wait for data: woken by what is appended, or by their deadline.

A parked fetch holds no data and no buffers, only the partitions that it reads. As in Kafka it waits for a number of
bytes: when its partitions have grown by the bytes that it lacks, it is tried again. Each wake costs a comparison, not a
read.

Bounds: a connection has at most one (its later requests wait), so connections bound their number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from odradek.clock import Scheduler
from odradek.partitions.partition import Partition


class ParkedFetch:
    """Calls `ready` once: when the partitions have grown by `missing_bytes`, when one of them went offline, came
    back or was deleted, or after `wait_s` seconds; with True in the last case."""

    __slots__ = ("_base_bytes", "_missing_bytes", "_openings", "_partitions", "_ready", "_timer")

    def __init__(
        self,
        scheduler: Scheduler,
        partitions: Sequence[Partition],
        missing_bytes: int,
        wait_s: float,
        ready: Callable[[bool], None],
    ) -> None:
        self._partitions = partitions
        self._missing_bytes = missing_bytes
        self._ready = ready
        self._base_bytes = sum(partition.progress.readable_bytes for partition in partitions)
        self._openings = [partition.opening for partition in partitions]
        self._timer = scheduler.call_later(wait_s, self._finish, True)
        for partition in partitions:
            partition.progress.wait(self._wake)

    def _wake(self) -> None:
        grown = sum(partition.progress.readable_bytes for partition in self._partitions) - self._base_bytes
        if grown >= self._missing_bytes or [partition.opening for partition in self._partitions] != self._openings:
            self._finish(False)

    def _finish(self, expired: bool) -> None:
        self.cancel()
        self._ready(expired)

    def cancel(self) -> None:
        """Takes the fetch out of every partition; `ready` is not called any more."""
        self._timer.cancel()
        for partition in self._partitions:
            partition.progress.stop_waiting(self._wake)
