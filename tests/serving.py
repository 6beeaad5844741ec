"""A broker inside the test's process, on a loop and a thread of its own: quick to start, its parts can be looked at."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Self, TypeVar

from odradek.config import BrokerConfig
from odradek.network.shared import SharedByConnections
from odradek.server import Server, compose

R = TypeVar("R")
TIMEOUT_S = 30.0


class Serving:
    """A memory-engine broker. Use as a context manager; `port` is where it listens."""

    def __init__(self, loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None, **settings: str) -> None:
        given = {name.replace("__", "."): value for name, value in settings.items()}
        self.config = BrokerConfig({"listeners": "PLAINTEXT://127.0.0.1:0", **given})
        self.loop = (loop_factory or asyncio.new_event_loop)()
        self.thread = threading.Thread(target=self._run, name="serving")
        self.port = 0

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        self.loop.close()

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Runs a coroutine on the broker's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(TIMEOUT_S)

    def look(self, at: Callable[[], R]) -> R:
        """Evaluates something on the broker's loop."""

        async def work() -> R:
            return at()

        return self.run(work())

    def make_server(self) -> Server:
        """The broker, not started; called on its loop."""
        return compose(self.config, memory=True)

    def __enter__(self) -> Self:
        self.thread.start()

        async def start() -> Server:
            server = self.make_server()
            await server.start()
            return server

        self.server = self.run(start())
        self.port = self.server.bound["PLAINTEXT"][1]
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self.server.stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(TIMEOUT_S)
        assert not self.thread.is_alive()

    @property
    def shared(self) -> SharedByConnections:
        """What its connections share: counters, bounds, the connections themselves."""
        return self.server.listeners.shared
