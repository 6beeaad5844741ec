"""Counters of a broker's groups, read by `insight`. All shards share them, so that loading a shard again does not
reset them."""

from __future__ import annotations


class GroupCounters:
    """Plain ints that operations increase."""

    __slots__ = ("offset_commits", "rebalances")

    def __init__(self) -> None:
        self.rebalances = 0
        """Generations begun, including the empty one after the last member has left."""
        self.offset_commits = 0
        """Offsets committed, counted per partition."""
