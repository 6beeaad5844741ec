"""What the groups of a broker count; `insight` reads it. All shards share it, so that a reload loses nothing."""

from __future__ import annotations


class GroupCounters:
    """Plain ints, added to by operations."""

    __slots__ = ("offset_commits", "rebalances")

    def __init__(self) -> None:
        self.rebalances = 0
        """Generations begun, the empty one after the last member's departure included."""
        self.offset_commits = 0
        """Offsets committed, each partition's by itself."""
