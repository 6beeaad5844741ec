"""The committed offsets of a shard's groups: durable state that only replay changes.

Role: keep the offsets by group, topic and partition, and find those that have expired (KIP-211). `committing.py`
decides who may commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from odradek.coordination.groups.records import NO_TIMESTAMP, Committed, OffsetKey

Topics = dict[str, dict[int, Committed]]


class CommittedOffsets:
    """Committed offsets by group."""

    __slots__ = ("_groups", "count")

    def __init__(self) -> None:
        self._groups: dict[str, Topics] = {}
        self.count = 0
        """The number of committed offsets of all groups."""

    def replay(self, key: OffsetKey, committed: Committed | None) -> None:
        topics = self._groups.get(key.group_id)
        if committed is not None:
            if topics is None:
                topics = self._groups[key.group_id] = {}
            partitions = topics.get(key.topic)
            if partitions is None:
                partitions = topics[key.topic] = {}
            if key.partition not in partitions:
                self.count += 1
            partitions[key.partition] = committed
        elif topics is not None and (partitions := topics.get(key.topic)) is not None:
            if partitions.pop(key.partition, None) is not None:
                self.count -= 1
            if not partitions:
                del topics[key.topic]
                if not topics:
                    del self._groups[key.group_id]

    def __contains__(self, group_id: object) -> bool:
        return group_id in self._groups

    def __iter__(self) -> Iterator[str]:
        """The ids of the groups with committed offsets."""
        return iter(self._groups)

    def get(self, group_id: str, topic: str, partition: int) -> Committed | None:
        topics = self._groups.get(group_id)
        if topics is None:
            return None
        partitions = topics.get(topic)
        return None if partitions is None else partitions.get(partition)

    def of(self, group_id: str) -> Topics:
        """All of a group's offsets. The caller must not change them."""
        return self._groups.get(group_id, {})

    def count_of(self, group_id: str) -> int:
        """How many a group has."""
        return sum(map(len, self.of(group_id).values()))

    def items_of(self, group_id: str) -> Iterator[tuple[OffsetKey, Committed]]:
        """All of a group's offsets with their keys."""
        for topic, partitions in self.of(group_id).items():
            for partition, committed in partitions.items():
                yield OffsetKey(group_id, topic, partition), committed

    def keys_of(self, group_id: str, is_wanted: Callable[[str], bool] = lambda topic: True) -> list[OffsetKey]:
        """The keys of a group's offsets, of the topics that are wanted."""
        return [
            OffsetKey(group_id, topic, partition)
            for topic, partitions in self.of(group_id).items()
            if is_wanted(topic)
            for partition in partitions
        ]

    def expired(
        self, group_id: str, now_ms: int, retention_ms: int, since_ms: Callable[[str, Committed], int | None]
    ) -> Iterator[OffsetKey]:
        """The group's offsets whose time is over: the time asked for with the commit, else `retention_ms` after
        `since_ms(topic, committed)`, which says None of those that stay."""
        for topic, partitions in self.of(group_id).items():
            for partition, committed in partitions.items():
                since = since_ms(topic, committed)
                if since is None:
                    continue
                end_ms = committed.expire_ms if committed.expire_ms != NO_TIMESTAMP else since + retention_ms
                if now_ms >= end_ms:
                    yield OffsetKey(group_id, topic, partition)

    def copy(self) -> list[tuple[OffsetKey, Committed]]:
        """A copy of all offsets."""
        return [
            (OffsetKey(group_id, topic, partition), committed)
            for group_id, topics in self._groups.items()
            for topic, partitions in topics.items()
            for partition, committed in partitions.items()
        ]
