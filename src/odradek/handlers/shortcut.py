"""The contract of a shortcut, with which an API serves requests that are like an earlier one without decoding them.

Role: the interface that `network/` uses. An entry of the handlers' table may have a shortcut. A connection makes one
for each version that it uses, lets it learn from decoded requests, and asks it before it decodes a request.

    learn(buffer, start, stop, request)   learns from a decoded request, so that like ones can be taken
    take(buffer, start, stop) -> bytes    takes the first of the complete requests in the buffer, while they are alike
    begin(takes_spans) -> outcomes        carries out the requests taken

Requests are in the buffer as received, each after its length. The requests taken by several calls before `begin` form
one run: they are adjacent, in the order of arrival. A `take` that takes nothing leaves the run as it is.

Invariants: the outcome is the same as with the handler. The shortcut bounds what it learns. If `begin` returns None,
nothing was done, and the requests must be decoded.
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
    """The outcome of `requests` adjacent requests: the pieces of their responses (empty if they have none), the future
    that these wait for before they may be sent, for how long, and the responses to send otherwise."""

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
        """The responses to send if the future has failed or is `late`, each with its correlation id."""
        raise NotImplementedError


class Handled(NamedTuple):
    """The outcome of one request that the handler's own code has answered."""

    correlation_id: int
    answer: Answer | Awaitable[Answer]


class Shortcut(ABC):
    """The shortcut of one API in one version, on one connection."""

    __slots__ = ()

    @abstractmethod
    def learn(self, buffer: bytes | bytearray, start: int, stop: int, request: Any) -> bool:
        """Learns from a decoded request and its bytes in the buffer; returns whether `take` may find like requests."""

    @abstractmethod
    def take(self, buffer: bytes | bytearray, start: int, stop: int) -> int:
        """Takes requests from the first on, while they are alike; returns their bytes, 0 if the first is not. The first
        request of a run has the API and the version that the shortcut was made for."""

    @abstractmethod
    def begin(self, takes_spans: bool) -> Sequence[Begun | Handled] | None:
        """Carries out the requests taken; returns the outcomes in the order of arrival, or None, with nothing done, if
        they must be decoded. `takes_spans` says whether a response may have `FileSpan`s instead of records."""


MakeShortcut = Callable[[BrokerParts, int], Shortcut]
"""Makes a shortcut from the broker's parts and the API version."""
