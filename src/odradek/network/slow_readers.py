"""Closes connections whose peers send requests but do not read the responses, when those take too much memory.

Role: keep the unread response bytes of all connections below `odradek.queued.max.response.bytes`. Each connection
starts no request above `odradek.connection.max.response.bytes`, so it holds at most that and one response, and Fetch
reads little while there is no room. If the bound over all connections is exceeded nevertheless, the connections with
the most unread bytes are closed, checked every `LOOK_S` seconds, until the total is below the bound.

Invariant: a peer that read at least `TAKEN_MIN_BYTES` between two checks is closed only above twice the bound.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Protocol

from odradek.handlers.context import BrokerParts

LOOK_S = 0.25
TAKEN_MIN_BYTES = 65_536


class Reading(Protocol):
    """A connection whose unread response bytes are counted."""

    unread_bytes: int

    def count_unread(self) -> None:
        """Brings `unread_bytes` up to date."""

    def end_unread(self) -> None:
        """Closes the connection because of its unread bytes."""


class SlowReaders:
    """The slow readers among all connections of a broker."""

    def __init__(self, broker: BrokerParts, connections: Collection[Reading]) -> None:
        self._unread = broker.unread_responses
        self._connections = connections
        self._look: asyncio.TimerHandle | None = None
        self._held_before: dict[Reading, int] = {}

    def change(self, by: int) -> None:
        """Changes the total of unread bytes by `by`; above the bound, schedules a check."""
        self._unread.change(by)
        if self._unread.held_bytes > self._unread.limit_bytes and self._look is None:
            self._begin()

    def _begin(self) -> None:
        self._held_before = {one: one.unread_bytes for one in self._connections if one.unread_bytes}
        self._look = asyncio.get_running_loop().call_later(LOOK_S, self._end_some)

    def _end_some(self) -> None:
        self._look = None
        unread, before = self._unread, self._held_before
        for one in list(before):
            one.count_unread()
        for one in sorted(before, key=lambda one: one.unread_bytes, reverse=True):
            if unread.held_bytes <= unread.limit_bytes:
                break
            takes = before[one] - one.unread_bytes >= TAKEN_MIN_BYTES
            if one.unread_bytes and not (takes and unread.held_bytes <= 2 * unread.limit_bytes):
                one.end_unread()
        if unread.held_bytes > unread.limit_bytes:
            self._begin()
        else:
            self._held_before = {}

    def close(self) -> None:
        if self._look is not None:
            self._look.cancel()
