"""Listening sockets: accept connections up to the bounds, and close idle and slow ones.

Bounds: `max.connections` over all listeners, `max.connections.per.ip`, and the connections' part of the process's file
descriptors. A connection above a bound is closed at once, with a log line. It has a descriptor before it can be
refused, so each listener accepts at most `ACCEPTS_PER_TURN` connections per turn of the event loop.

A connection is closed after `connections.max.idle.ms` without a byte in either direction if it has no request in
progress, has an incomplete request, or has unread responses. It is also closed if a large request is incomplete after
`odradek.request.receive.timeout.ms`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from odradek.config.layers import BrokerConfig
from odradek.logs import get_logger
from odradek.network.connection import Connection
from odradek.network.shared import SharedByConnections

log = get_logger("odradek.network")

# Idle connections are looked for this often per timeout, and at least every `IDLE_LOOK_MAX_S`.
IDLE_LOOKS_PER_TIMEOUT = 10
IDLE_LOOK_MAX_S = 10.0
BACKLOG = 1024
# asyncio accepts up to `backlog` connections per turn of the loop; uvloop accepts one, whatever the backlog.
ACCEPTS_PER_TURN = 16


class Listeners:
    """All listening sockets of a broker."""

    def __init__(self, shared: SharedByConnections, config: Callable[[], BrokerConfig], descriptors: int) -> None:
        """`descriptors` is the number of file descriptors available for connections."""
        self.shared = shared
        self.config = config
        self.descriptors = descriptors
        self._servers: list[asyncio.Server] = []
        self._by_host = shared.memory.hosts
        self._idle_look: asyncio.TimerHandle | None = None

    async def listen(self, name: str, host: str, port: int) -> tuple[str, int]:
        """Listens on an address; returns the bound host and port (port 0 chooses a free one). Raises `OSError`."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: _Counted(self, self.shared, name), host or None, port, backlog=ACCEPTS_PER_TURN
        )
        for listening in server.sockets:
            with socket.fromfd(listening.fileno(), listening.family, listening.type) as same:
                same.listen(BACKLOG)
        self._servers.append(server)
        if self._idle_look is None:
            self._look_for_idle()
        bound = server.sockets[0].getsockname()
        return bound[0], bound[1]

    def admit(self, connection: Connection) -> bool:
        """Counts a new connection and returns True if it is within the bounds; else logs the refusal."""
        config = self.config()
        host = connection.client_host
        if len(self.shared.connections) > config.integer("max.connections"):
            self.shared.counters.refused_above_maximum += 1
            self.shared.refusals.say("connection refused", connection.peer, "max.connections is reached")
            return False
        if len(self.shared.connections) > self.descriptors:
            self.shared.counters.refused_for_descriptors += 1
            self.shared.refusals.say(
                "connection refused", connection.peer, "no descriptor is left for it (RLIMIT_NOFILE)"
            )
            return False
        if self._by_host[host] >= config.integer("max.connections.per.ip"):
            self.shared.counters.refused_above_maximum_per_ip += 1
            self.shared.refusals.say("connection refused", connection.peer, "max.connections.per.ip is reached")
            return False
        self._by_host[host] += 1
        return True

    def release(self, host: str) -> None:
        self._by_host[host] -= 1
        if self._by_host[host] <= 0:
            del self._by_host[host]

    def _look_for_idle(self) -> None:
        loop = asyncio.get_running_loop()
        config, now = self.config(), loop.time()
        idle_ms = config.integer("connections.max.idle.ms")
        receive_ms = config.integer("odradek.request.receive.timeout.ms")
        wait_s = IDLE_LOOK_MAX_S
        for timeout_ms in (idle_ms, receive_ms):
            if timeout_ms >= 0:
                wait_s = min(wait_s, max(0.01, timeout_ms / 1000 / IDLE_LOOKS_PER_TIMEOUT))
        for connection in list(self.shared.connections):
            if idle_ms >= 0 and connection.end_if_silent(now - idle_ms / 1000):
                self.shared.counters.idle_closed += 1
                log.info("idle connection closed", peer=connection.peer)
            elif receive_ms >= 0 and connection.end_if_late(now - receive_ms / 1000):
                self.shared.counters.late_closed += 1
        self._idle_look = loop.call_later(wait_s, self._look_for_idle)

    def stop_accepting(self) -> None:
        for server in self._servers:
            server.close()

    async def close(self, grace_s: float) -> None:
        """Lets started requests finish for up to `grace_s` seconds, then closes every connection."""
        self.stop_accepting()
        self.shared.slow_readers.close()
        if self._idle_look is not None:
            self._idle_look.cancel()
        for connection in list(self.shared.connections):
            connection.drain()
        if self.shared.connections:
            self.shared.all_closed = asyncio.get_running_loop().create_future()
            await asyncio.wait([self.shared.all_closed], timeout=grace_s)
        for connection in list(self.shared.connections):
            connection.abort()
        await asyncio.gather(*(server.wait_closed() for server in self._servers))


class _Counted(Connection):
    """A connection that counts against the bounds."""

    def __init__(self, listeners: Listeners, shared: SharedByConnections, name: str) -> None:
        super().__init__(shared, name)
        self._listeners = listeners
        self._admitted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._admitted = self._listeners.admit(self)
        if not self._admitted:
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        if self._admitted:
            self._listeners.release(self.client_host)
