"""What a handler is given beside its request: who asks, in which version, and the broker's parts.

A handler is `handle(request, context) -> Response | Awaitable[Response]`. A plain response is written at once; an
awaitable is written when it completes, in request order. One that may have many elements to work through is a generator
function that returns one of the two (`turns.py`). Handlers hold no state of their own.

Beside it each handler module has `refused(request, code, version) -> Answer`: what answers a request when the whole of
it is refused, before `handle` has seen it. It fills what Kafka's own error response fills, in every version: a client
that named a topic looks for its error beside that topic.
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
    """The scheduler's."""
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
    """One request's circumstances."""

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
        """Whether a response may have a `FileSpan` in the place of records."""


class NoResponse:
    """What Produce with acks=0 answers: nothing, or by closing the connection."""

    __slots__ = ("close",)

    def __init__(self, close: bool) -> None:
        self.close = close


NO_RESPONSE = NoResponse(close=False)
CLOSE_CONNECTION = NoResponse(close=True)
Answer = Message | NoResponse
Steps = turns.Steps[Answer | Awaitable[Answer]]
"""A request that is carried out in turns: see `turns.py`."""
Handler = Callable[[Any, RequestContext], Answer | Awaitable[Answer] | Steps]
Refusal = Callable[[Any, ErrorCode, int], Answer]
