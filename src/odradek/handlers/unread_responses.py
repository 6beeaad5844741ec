"""The bound on what peers have asked for and not taken, over all connections (`odradek.queued.max.response.bytes`).

The network counts here what a slow peer leaves in its connection's buffer; Fetch, whose responses alone are large,
reads no more than there is room for. A first batch is always read, so that every consumer gets on, if slowly.
"""

from __future__ import annotations


class UnreadResponses:
    """Counts the bytes."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0

    def change(self, by: int) -> None:
        """More is held, or less."""
        self.held_bytes += by
        assert self.held_bytes >= 0

    @property
    def room_bytes(self) -> int:
        """How much a response may read now."""
        return max(0, self.limit_bytes - self.held_bytes)
