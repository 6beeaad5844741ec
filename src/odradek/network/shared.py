"""What the connections of a broker share: dispatch and engine, the bounds, the receive buffer, what is counted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from odradek.config.layers import BrokerConfig
from odradek.engines.interface import Engine
from odradek.network.counters import ConnectionCounters
from odradek.network.dispatch import Dispatch
from odradek.network.frames import RECEIVE_BYTES
from odradek.network.refusals import Refusals
from odradek.network.request_memory import RequestMemory
from odradek.network.slow_readers import SlowReaders

if TYPE_CHECKING:
    from odradek.network.connection import Connection


class ConnectionLimits:
    """The bounds of every connection, from the settings."""

    def __init__(self, config: BrokerConfig) -> None:
        self.request_bytes = config.integer("socket.request.max.bytes")
        self.open_requests = config.integer("odradek.connection.max.requests")
        self.open_request_bytes = config.integer("odradek.connection.max.request.bytes")
        self.response_bytes = config.integer("odradek.connection.max.response.bytes")


class Shared:
    """Of the connections of one broker."""

    def __init__(
        self,
        dispatch: Dispatch,
        engine: Engine,
        memory: RequestMemory,
        limits: ConnectionLimits,
        refusals: Refusals,
    ) -> None:
        self.dispatch = dispatch
        self.engine = engine
        self.memory = memory
        self.limits = limits
        self.refusals = refusals
        self.receive = memoryview(bytearray(RECEIVE_BYTES))
        self.connections: set[Connection] = set()
        self.slow_readers = SlowReaders(dispatch.broker, self.connections)
        self.all_closed: asyncio.Future[None] | None = None
        """Resolved when the last connection is gone, for a stop that waits for it."""
        self.now = dispatch.broker.clock.monotonic
        self.counters = ConnectionCounters()
        self.bytes_in = 0
        self.bytes_out = 0
