"""Offsets that were committed in transactions which have not ended (KIP-98, KIP-447): durable state of a shard.

Role: keep them by producer, until a marker commits or drops them. A commit in a transaction counts as made when it was
written, not when the transaction ends: an ordinary commit that came between the two stays (as in Kafka).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from odradek.coordination.groups.records import Committed, OffsetKey

# A commit with the number of the record that made it; None forgets the offset.
Numbered = tuple[int, Committed | None]


class PendingOffsets:
    """Pending offsets by producer id."""

    __slots__ = ("_by_producer", "_latest", "_number")

    def __init__(self) -> None:
        self._by_producer: dict[int, dict[OffsetKey, Numbered]] = {}
        # Numbers of ordinary commits, only of keys that are pending.
        self._latest: dict[OffsetKey, int] = {}
        self._number = 0

    def __len__(self) -> int:
        """Producers with something pending."""
        return len(self._by_producer)

    def note_commit(self, key: OffsetKey) -> None:
        """An ordinary commit was made."""
        if self._by_producer:
            self._number += 1
            self._latest[key] = self._number

    def take(self, producer_id: int, key: OffsetKey, committed: Committed | None) -> None:
        """A commit was written in a producer's transaction."""
        self._number += 1
        self._by_producer.setdefault(producer_id, {})[key] = (self._number, committed)

    def end(self, producer_id: int, committed: bool) -> Iterator[tuple[OffsetKey, Committed | None]]:
        """A producer's transaction has ended: what counts from now on."""
        ended = self._by_producer.pop(producer_id, {})
        if committed:
            for key, (number, offset) in ended.items():
                if number > self._latest.get(key, 0):
                    self._latest[key] = number
                    yield key, offset
        if not self._by_producer:
            self._latest.clear()

    def forget(self, keys: Iterable[OffsetKey]) -> None:
        """The offsets, or their group, are deleted."""
        for key in keys:
            for producer_id, pending in list(self._by_producer.items()):
                pending.pop(key, None)
                if not pending:
                    del self._by_producer[producer_id]

    def everything(self) -> set[OffsetKey]:
        """Everything pending."""
        return {key for pending in self._by_producer.values() for key in pending}

    def keys_of(self, group_id: str) -> set[OffsetKey]:
        """A group's pending offsets."""
        return {key for pending in self._by_producer.values() for key in pending if key.group_id == group_id}

    def keys_of_topics(self, topics: frozenset[str]) -> set[OffsetKey]:
        return {key for pending in self._by_producer.values() for key in pending if key.topic in topics}
