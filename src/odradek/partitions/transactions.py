"""The transactions of a partition (KIP-98): the open and the aborted ones, and with them the last stable offset.

Sans-IO. A transaction begins in a partition with the first batch that a producer writes for it, and ends with a marker.
Below the last stable offset every transaction has a durable marker. Aborted transactions are kept as long as the log
has their records: a fetch with read_committed returns them, so that the consumer skips their producers' batches.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence

from odradek.config.bounds import LONG_MAX
from odradek.engines.interface import AbortedTransaction


class Transactions:
    """The transactions of one partition."""

    __slots__ = ("_ended", "_least_behind", "aborted", "open")

    def __init__(self) -> None:
        self.open: dict[int, int] = {}
        """The first offset of each open transaction by producer id, in the order of these offsets."""
        self.aborted: list[AbortedTransaction] = []
        """In the order of their markers."""
        # For each of them: the least first offset of those behind it. It never falls from one to the next.
        self._least_behind: list[int] = []
        # (first offset, marker's offset) of those whose marker may not be durable yet, in the markers' order.
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
            self._note_first(first_offset)
            self.aborted.append(AbortedTransaction(producer_id, first_offset, offset))
            self._least_behind.append(LONG_MAX)

    def _note_first(self, first_offset: int) -> None:
        """Another one comes behind all others. It takes a step for each that ended while it was open, and one more."""
        least = self._least_behind
        for index in range(len(least) - 1, -1, -1):
            if least[index] <= first_offset:
                break
            least[index] = first_offset

    def restore(self, aborted: Sequence[AbortedTransaction]) -> None:
        """The aborted ones are these, in the order of their markers."""
        self.aborted = list(aborted)
        self._least_behind = [LONG_MAX] * len(self.aborted)
        for index in range(len(self.aborted) - 1, 0, -1):
            self._least_behind[index - 1] = min(self._least_behind[index], self.aborted[index].first_offset)

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
        found: list[AbortedTransaction] = []
        for index in range(begin, len(self.aborted)):
            one = self.aborted[index]
            if one.first_offset < upto:
                found.append(one)
            if self._least_behind[index] >= upto:
                break
        found.sort(key=_first_offset)
        return found

    def forget_before(self, offset: int) -> None:
        """Forgets the aborted transactions whose markers lie below `offset`, the log start offset."""
        if self.aborted and self.aborted[0].last_offset < offset:
            count = bisect_left(self.aborted, offset, key=_last_offset)
            del self.aborted[:count], self._least_behind[:count]


def _last_offset(aborted: AbortedTransaction) -> int:
    return aborted.last_offset


def _first_offset(aborted: AbortedTransaction) -> int:
    return aborted.first_offset
