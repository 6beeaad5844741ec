"""The bound on unread response bytes over all connections (`odradek.queued.max.response.bytes`).

The network counts here the bytes that slow peers leave in their connections' write buffers. Fetch, which has the large
responses, reads no more than there is room for. It always reads a first batch, so that every consumer makes progress.
"""

from __future__ import annotations


class UnreadResponses:
    """Counts the unread bytes of all connections."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0

    def change(self, by: int) -> None:
        """Changes the number of unread bytes by `by`."""
        self.held_bytes += by
        assert self.held_bytes >= 0

    @property
    def room_bytes(self) -> int:
        """How many bytes a response may read now."""
        room_bytes = self.limit_bytes - self.held_bytes
        return room_bytes if room_bytes > 0 else 0
