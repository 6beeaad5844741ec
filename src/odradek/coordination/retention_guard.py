"""The offsets that retention must not pass: for each partition, the lowest one committed by a guarding group.

Role: compute these guards from a topic's settings (`odradek.retention.guard.*`) and the groups' committed offsets.
`partitions.guard` applies them to the log.

Invariants: while groups are loading, guarded topics are treated as not read at all. A group guards a partition only by
a committed offset there: a group that was deleted, never committed, or whose offsets have expired
(`offsets.retention.minutes`) guards nothing.
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
        """`groups` returns the coordinator; it is a function because the coordinator is made after the partitions."""
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
        # Retention runs before the groups are loaded if the disk is full at the start.
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
    """Whether a group id equals or matches one of the patterns (`*` and `?`; a bracket stands for itself)."""
    return _compiled(patterns).match(group_id) is not None


@lru_cache(PATTERNS_KEPT)
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(translate(pattern.replace("[", "[[]")) for pattern in patterns))
