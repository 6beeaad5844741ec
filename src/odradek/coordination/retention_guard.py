"""What groups guard from retention: the least that any of them has committed, by partition.

Role: from a topic's settings (`odradek.retention.guard.*`) and the groups' committed offsets, say what retention has to
wait for. What that means for the log is `partitions.guard`'s.

Invariants: while groups are still being loaded, nothing of a guarded topic is known to have been read. A group holds a
partition by its offset there and by nothing else: one that was deleted, or whose offsets have expired
(`offsets.retention.minutes`), or that never came, holds nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import translate
from functools import lru_cache

from odradek.coordination.groups.coordinator import GroupCoordinator
from odradek.coordination.runtime import ShardState
from odradek.partitions.guard import Guard
from odradek.partitions.registry import Topic

PATTERNS_KEPT = 1000


class RetentionGuards:
    """The guards of one broker's topics."""

    def __init__(self, groups: Callable[[], GroupCoordinator]) -> None:
        """`groups` gives the coordinator, which is made of the partitions that are guarded."""
        self._groups = groups

    def of(self, topic: Topic) -> dict[int, Guard]:
        """A topic's guards by partition."""
        config = topic.config
        if not config.guard_groups:
            return {}

        def guard(offset: int, group_id: str) -> Guard:
            blocks = config.guard_on_limit == "block"
            return Guard(offset, group_id, config.guard_max_bytes, config.guard_max_ms, blocks)

        groups = self._groups()
        shards = groups.shards()
        # A disk that is full at the start has retention look early.
        if not groups.has_begun or any(shard.state is not ShardState.ACTIVE for shard in shards):
            return {partition.identity.partition: guard(0, "(not loaded yet)") for partition in topic.partitions}
        found: dict[int, Guard] = {}
        for shard in shards:
            for group_id in shard.machine.offsets:
                of_topic = shard.machine.offsets.of(group_id).get(topic.name)
                if of_topic is None or not is_guarding(config.guard_groups, group_id):
                    continue
                for partition, committed in of_topic.items():
                    least = found.get(partition)
                    if committed.offset >= 0 and (least is None or committed.offset < least.offset):
                        found[partition] = guard(committed.offset, group_id)
        return found


def is_guarding(patterns: tuple[str, ...], group_id: str) -> bool:
    """Whether a group's name is, or matches, one of the patterns. Brackets are part of names here."""
    return _compiled(patterns).match(group_id) is not None


@lru_cache(PATTERNS_KEPT)
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(translate(pattern.replace("[", "[[]")) for pattern in patterns))
