"""Offsets that were committed in open transactions (KIP-98, KIP-447): durable state of a shard.

Role: keep them by producer id until a marker commits or drops them. Commits take effect in the order in which they were
written: if an ordinary commit was written after the transactional one, the end of the transaction does not overwrite
it, as in Kafka.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from odradek.coordination.groups.records import Committed, OffsetKey

# A commit (None for a tombstone) with a number that rises with each commit written.
Numbered = tuple[int, Committed | None]


class PendingOffsets:
    """Pending offsets by producer id."""

    __slots__ = ("_by_producer", "_latest", "_number")

    def __init__(self) -> None:
        self._by_producer: dict[int, dict[OffsetKey, Numbered]] = {}
        # The numbers of the latest commits that took effect while anything was pending.
        self._latest: dict[OffsetKey, int] = {}
        self._number = 0

    def __len__(self) -> int:
        """The number of producers with pending offsets."""
        return len(self._by_producer)

    def note_commit(self, key: OffsetKey) -> None:
        """Notes that an ordinary commit was written."""
        if self._by_producer:
            self._number += 1
            self._latest[key] = self._number

    def take(self, producer_id: int, key: OffsetKey, committed: Committed | None) -> None:
        """Keeps a commit that was written in a producer's transaction."""
        self._number += 1
        self._by_producer.setdefault(producer_id, {})[key] = (self._number, committed)

    def end(self, producer_id: int, committed: bool) -> Iterator[tuple[OffsetKey, Committed | None]]:
        """Ends a producer's transaction; yields the offsets that take effect, none if it was aborted."""
        ended = self._by_producer.pop(producer_id, {})
        if committed:
            for key, (number, offset) in ended.items():
                if number > self._latest.get(key, 0):
                    self._latest[key] = number
                    yield key, offset
        if not self._by_producer:
            self._latest.clear()

    def forget(self, keys: Iterable[OffsetKey]) -> None:
        """Drops pending offsets that were deleted, or whose group was."""
        for key in keys:
            for producer_id, pending in list(self._by_producer.items()):
                pending.pop(key, None)
                if not pending:
                    del self._by_producer[producer_id]

    def everything(self) -> set[OffsetKey]:
        """The keys of all pending offsets."""
        return {key for pending in self._by_producer.values() for key in pending}

    def keys_of(self, group_id: str) -> set[OffsetKey]:
        """The keys of a group's pending offsets."""
        return {key for pending in self._by_producer.values() for key in pending if key.group_id == group_id}

    def keys_of_topics(self, topics: frozenset[str]) -> set[OffsetKey]:
        return {key for pending in self._by_producer.values() for key in pending if key.topic in topics}
