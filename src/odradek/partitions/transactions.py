"""The transactions of a partition (KIP-98): the open and the aborted ones, and with them the last stable offset.

Sans-IO. A transaction begins in a partition with the first batch that a producer writes for it, and ends with a marker.
Below the last stable offset every transaction has a durable marker. Aborted transactions are kept as long as the log
has their records: a fetch with read_committed returns them, so that the consumer skips their producers' batches.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque

from odradek.engines.interface import AbortedTransaction


class Transactions:
    """The transactions of one partition."""

    __slots__ = ("_ended", "aborted", "open")

    def __init__(self) -> None:
        self.open: dict[int, int] = {}
        """The first offset of each open transaction by producer id, in the order of these offsets."""
        self.aborted: list[AbortedTransaction] = []
        """The aborted transactions in the order of their markers."""
        # (first offset, marker's offset) of ended transactions whose marker may not be durable yet, in markers' order.
        self._ended: deque[tuple[int, int]] = deque()

    def begin(self, producer_id: int, offset: int) -> None:
        self.open[producer_id] = offset

    def end(self, producer_id: int, offset: int, committed: bool) -> None:
        """Notes that a marker at `offset` ends the producer's transaction, if it has one open in this partition."""
        first_offset = self.open.pop(producer_id, None)
        if first_offset is None:
            return
        self._ended.append((first_offset, offset))
        if not committed:
            self.aborted.append(AbortedTransaction(producer_id, first_offset, offset))

    def stable_end(self, durable_end: int) -> int:
        """The last stable offset: all records below it are durable, and none belongs to a transaction that may still be
        aborted."""
        ended = self._ended
        if not ended and not self.open:
            return durable_end
        while ended and ended[0][1] < durable_end:
            ended.popleft()
        stable = durable_end
        if self.open:
            stable = min(stable, next(iter(self.open.values())))
        for first_offset, _ in ended:
            stable = min(stable, first_offset)
        return stable

    def aborted_between(self, offset: int, upto: int) -> list[AbortedTransaction]:
        """The aborted transactions that have records from `offset` to below `upto`, by first offset."""
        begin = bisect_left(self.aborted, offset, key=_last_offset)
        return sorted((one for one in self.aborted[begin:] if one.first_offset < upto), key=_first_offset)

    def forget_before(self, offset: int) -> None:
        """Forgets the aborted transactions whose markers lie below `offset`, the log start offset."""
        if self.aborted and self.aborted[0].last_offset < offset:
            del self.aborted[: bisect_left(self.aborted, offset, key=_last_offset)]


def _last_offset(aborted: AbortedTransaction) -> int:
    return aborted.last_offset


def _first_offset(aborted: AbortedTransaction) -> int:
    return aborted.first_offset
