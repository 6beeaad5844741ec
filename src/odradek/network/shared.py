"""What the connections of a broker share: dispatch and engine, the bounds, the receive buffer, what is counted."""

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
    """A connection, as far as it is one of many."""

    peer: str

    def drain(self) -> None:
        """Takes no more requests, and closes when what has started is answered."""

    def abort(self) -> None:
        """Closes at once, whatever was not written."""

    def end_if_silent(self, before: float) -> bool:
        """Closes it if no byte went either way since then (loop time), and nothing is under way."""

    def end_if_late(self, before: float) -> bool:
        """Closes it if a large request that began before then (loop time) is not here whole."""


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
        self.off_loop = OffLoop(dispatch.broker.scheduler.executor)
        self.receive = memoryview(bytearray(RECEIVE_BYTES))
        self.connections: set[Connected] = set()
        self.slow_readers = SlowReaders(dispatch.broker, self.connections)
        self.all_closed: asyncio.Future[None] | None = None
        """Resolved when the last connection is gone, for a stop that waits for it."""
        self.now = dispatch.broker.clock.monotonic
        self.counters = ConnectionCounters()
        self.bytes_in = 0
        self.bytes_out = 0
