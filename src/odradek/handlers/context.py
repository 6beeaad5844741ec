"""The context that a handler gets with its request: the client, the API version, and the broker's parts.

A handler is `handle(request, context) -> Response | Awaitable[Response]`. A plain response is written at once; an
awaitable's when it completes, in the order of the requests. A handler of requests that may have many elements is a
generator function that returns one of the two (`turns.py`). Handlers have no state of their own.

Each handler module also has `refused(request, code, version) -> Answer`: the answer if the whole request is refused
without calling `handle`. It fills the same fields as Kafka's error response, in every version: a client that named a
topic looks for the error in that topic's entry.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from odradek.errors import ErrorCode
from odradek.handlers import turns
from odradek.protocol.fields import Message

if TYPE_CHECKING:
    from odradek.clock import Clock, Scheduler
    from odradek.config.layers import BrokerConfig
    from odradek.coordination.groups.coordinator import GroupCoordinator
    from odradek.coordination.transactions.coordinator import TransactionCoordinator
    from odradek.engines.interface import Engine
    from odradek.handlers.deadlines import Deadlines
    from odradek.handlers.fetch_sessions import FetchSessions
    from odradek.handlers.turns import Turns
    from odradek.handlers.unread_responses import UnreadResponses
    from odradek.metadata.metadata import Metadata
    from odradek.partitions.registry import Partitions


@dataclass(slots=True)
class BrokerParts:
    """The parts of a running broker that handlers delegate to."""

    config: BrokerConfig
    clock: Clock
    """The scheduler's clock."""
    scheduler: Scheduler
    engine: Engine
    metadata: Metadata
    partitions: Partitions
    groups: GroupCoordinator
    transactions: TransactionCoordinator
    fetch_sessions: FetchSessions
    deadlines: Deadlines
    unread_responses: UnreadResponses
    turns: Turns
    advertised: dict[str, tuple[str, int]]
    """For each listener's name, the host and port that clients are told."""
    node_id: int


class RequestContext:
    """The context of one request."""

    __slots__ = ("api_version", "broker", "client_host", "client_id", "listener", "takes_spans")

    def __init__(
        self, broker: BrokerParts, listener: str, client_host: str, client_id: str | None, api_version: int
    ) -> None:
        self.broker = broker
        self.listener = listener
        self.client_host = client_host
        self.client_id = client_id
        self.api_version = api_version
        self.takes_spans = False
        """Whether the response may have `FileSpan`s instead of records in memory."""


class NoResponse:
    """The answer to a Produce with acks=0: no response; `close` closes the connection instead."""

    __slots__ = ("close",)

    def __init__(self, close: bool) -> None:
        self.close = close


NO_RESPONSE = NoResponse(close=False)
CLOSE_CONNECTION = NoResponse(close=True)
Answer = Message | NoResponse
Steps = turns.Steps[Answer | Awaitable[Answer]]
"""A handler's generator, which is run in turns: see `turns.py`."""
Handler = Callable[[Any, RequestContext], Answer | Awaitable[Answer] | Steps]
Refusal = Callable[[Any, ErrorCode, int], Answer]
