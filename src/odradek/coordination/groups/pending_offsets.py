"""Offsets that were committed in open transactions (KIP-98, KIP-447): durable state of a shard.

Role: keep them by producer id until a marker commits or drops them. Commits take effect in the order in which they were
written: if an ordinary commit was written after the transactional one, the end of the transaction does not overwrite
it, as in Kafka.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set

from odradek.coordination.groups.records import Committed, OffsetKey

# A commit (None for a tombstone) with a number that rises with each commit written.
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
        self._by_group.setdefault(key.group_id, {}).setdefault(key, set()).add(producer_id)

    def end(self, producer_id: int, committed: bool) -> Iterator[tuple[OffsetKey, Committed | None]]:
        """Ends a producer's transaction; yields the offsets that take effect, none if it was aborted."""
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
        """Drops pending offsets that were deleted, or whose group was."""
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
