"""Offsets that were committed in transactions which have not ended (KIP-98, KIP-447): durable state of a shard.

Role: keep them by producer, until a marker commits or drops them. A commit in a transaction counts as made when it was
written, not when the transaction ends: an ordinary commit that came between the two stays (as in Kafka).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set

from odradek.coordination.groups.records import Committed, OffsetKey

# A commit with the number of the record that made it; None forgets the offset.
Numbered = tuple[int, Committed | None]


class PendingOffsets:
    """Pending offsets by producer id."""

    __slots__ = ("_by_group", "_by_producer", "_latest", "_number")

    def __init__(self) -> None:
        self._by_producer: dict[int, dict[OffsetKey, Numbered]] = {}
        # By group, which producers have each of its keys pending.
        self._by_group: dict[str, dict[OffsetKey, set[int]]] = {}
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
        self._by_group.setdefault(key.group_id, {}).setdefault(key, set()).add(producer_id)

    def end(self, producer_id: int, committed: bool) -> Iterator[tuple[OffsetKey, Committed | None]]:
        """A producer's transaction has ended: what counts from now on."""
        ended = self._by_producer.pop(producer_id, {})
        for key in ended:
            producers = self._by_group[key.group_id][key]
            producers.discard(producer_id)
            if not producers:
                self._drop(key)
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
            if key not in self._by_group.get(key.group_id, ()):
                continue
            for producer_id in self._drop(key):
                pending = self._by_producer[producer_id]
                del pending[key]
                if not pending:
                    del self._by_producer[producer_id]

    def _drop(self, key: OffsetKey) -> set[int]:
        """Takes a key out of its group; returns whose it was."""
        keys = self._by_group[key.group_id]
        producers = keys.pop(key)
        if not keys:
            del self._by_group[key.group_id]
        return producers

    def groups(self) -> list[str]:
        """The groups that have something pending."""
        return list(self._by_group)

    def keys_of(self, group_id: str) -> Set[OffsetKey]:
        """A group's pending offsets; not to be kept."""
        return self._by_group.get(group_id, {}).keys()
