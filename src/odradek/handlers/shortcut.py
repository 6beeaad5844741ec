"""The contract of a shortcut: how an API serves requests that are like an earlier one without decoding each.

Role: all that `network/` knows of them. An entry of the handlers' table may have a shortcut; a connection makes one for
each version it is asked in, lets it learn from requests that were decoded, keeps it, and asks it before it decodes.

    learn(buffer, start, stop, request)   this request was decoded: others may be like it
    take(buffer, start, stop) -> bytes    takes what is alike of the whole requests that lie there, from the first on
    begin(takes_spans) -> outcomes        carries out what was taken

Requests lie in a buffer as they came, each with its length in front. What is taken in several calls before `begin` is
one run: neighbours, in the order of arrival. A `take` that takes nothing leaves the run as it is.

Invariants: what happens is what the handler would have done. Whatever is learned is bounded by the shortcut. Where
`begin` returns None nothing was done, and the requests are to be decoded.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from odradek.handlers.context import Answer, BrokerParts
from odradek.protocol.fields import Buffer, Message

NO_TIMEOUT_MS = -1


class Begun:
    """What became of `requests` neighbours: the pieces of their responses (none where there are none), what these wait
    for before they may leave, for how long, and what they become otherwise."""

    __slots__ = ("pieces", "requests", "timeout_ms", "waits_for")

    def __init__(
        self,
        requests: int,
        pieces: list[Buffer],
        waits_for: asyncio.Future[None] | None = None,
        timeout_ms: int = NO_TIMEOUT_MS,
    ) -> None:
        self.requests = requests
        self.pieces = pieces
        self.waits_for = waits_for
        self.timeout_ms = timeout_ms

    def instead(self, late: bool) -> list[tuple[int, Message]]:
        """The responses, each after its request's correlation id, where what they wait for failed, or is `late`."""
        raise NotImplementedError


class Handled(NamedTuple):
    """What became of one request, as its handler would have answered it."""

    correlation_id: int
    answer: Answer | Awaitable[Answer]


class Shortcut(ABC):
    """Of one API in one version, on one connection."""

    __slots__ = ()

    @abstractmethod
    def learn(self, buffer: bytes | bytearray, start: int, stop: int, request: Any) -> bool:
        """Learns from a request that lies there and was decoded; returns whether there is anything to ask for."""

    @abstractmethod
    def take(self, buffer: bytes | bytearray, start: int, stop: int) -> int:
        """Takes the requests that are alike from the first on; returns their bytes, 0 where the first is not. The first
        of a run is of the API and the version that the shortcut was made for."""

    @abstractmethod
    def begin(self, takes_spans: bool) -> Sequence[Begun | Handled] | None:
        """Carries out what was taken, and says what became of it in the order of arrival; None, and nothing was done,
        where it is to be decoded. `takes_spans`: whether a `FileSpan` may stand in the place of records."""


MakeShortcut = Callable[[BrokerParts, int], Shortcut]
"""From the broker and the version."""
