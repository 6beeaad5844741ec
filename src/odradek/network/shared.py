"""What the connections of a broker share: dispatch, engine, bounds, the receive buffer and counters."""

from __future__ import annotations

import asyncio
from typing import Protocol

from odradek.config.layers import BrokerConfig
from odradek.engines.interface import Engine
from odradek.network.counters import ConnectionCounters
from odradek.network.dispatch import Dispatch
from odradek.network.frames import RECEIVE_BYTES
from odradek.network.off_loop import OffLoop
from odradek.network.refusals import Refusals
from odradek.network.request_memory import RequestMemory
from odradek.network.slow_readers import Reading, SlowReaders


class ConnectionLimits:
    """The bounds of every connection, from the settings."""

    def __init__(self, config: BrokerConfig) -> None:
        self.request_bytes = config.integer("socket.request.max.bytes")
        self.open_requests = config.integer("odradek.connection.max.requests")
        self.open_request_bytes = config.integer("odradek.connection.max.request.bytes")
        self.response_bytes = config.integer("odradek.connection.max.response.bytes")


class Connected(Reading, Protocol):
    """A connection, as the listeners see it."""

    peer: str

    def drain(self) -> None:
        """Accepts no more requests, and closes the connection when the started ones are answered."""

    def abort(self) -> None:
        """Closes the connection at once and drops unsent responses."""

    def end_if_silent(self, before: float) -> bool:
        """Closes the connection if no byte went either way since `before` (loop time) and no request is in progress."""

    def end_if_late(self, before: float) -> bool:
        """Closes the connection if a large request that began before `before` (loop time) is incomplete."""


class SharedByConnections:
    """What the connections of one broker share."""

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
        self.off_loop = OffLoop(dispatch.broker.scheduler.executor)
        self.receive = memoryview(bytearray(RECEIVE_BYTES))
        self.connections: set[Connected] = set()
        self.slow_readers = SlowReaders(dispatch.broker, self.connections)
        self.all_closed: asyncio.Future[None] | None = None
        """Resolved when the last connection is gone; set only while a stop waits for that."""
        self.now = dispatch.broker.clock.monotonic
        self.counters = ConnectionCounters()
        self.bytes_in = 0
        self.bytes_out = 0
