"""What one log has done in a thread because it waits for the disk. Closing the log waits for it.

Role: run it, and say in the contract's words how it failed. Used on the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from odradek.engines.interface import LogIdentity, StorageFull, Unknown
from odradek.engines.local.disk import NO_ROOM, Workers


class Background:
    """See the module."""

    __slots__ = ("_identity", "_running", "workers")

    def __init__(self, workers: Workers, identity: LogIdentity) -> None:
        self.workers = workers
        """For what the log's end need not wait for."""
        self._identity = identity
        self._running: set[asyncio.Future[Any]] = set()

    def begin(self, work: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Begins what nobody may wait for."""
        future = self.workers.run(work, *args)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        return future

    async def run(self, work: Callable[..., Any], *args: Any) -> Any:
        """Raises `StorageFull` or `Unknown` for an `OSError`. It goes on where who waits for it is cancelled."""
        try:
            return await asyncio.shield(self.begin(work, *args))
        except OSError as error:
            if error.errno in NO_ROOM:
                raise StorageFull(f"no room for {self._identity}: {error.strerror}") from error
            raise Unknown(f"{self._identity}: {error}") from error

    async def end(self) -> None:
        """Returns when nothing runs any more."""
        while self._running:
            await asyncio.wait(self._running)
