"""Runs the disk work of one log in threads. Closing the log waits until all of it has ended.

Role: start the work, and turn its `OSError`s into the contract's `LogFailure`s. Used on the event loop.
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
        """Threads for work that closing the log need not wait for."""
        self._identity = identity
        self._running: set[asyncio.Future[Any]] = set()

    def begin(self, work: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Starts work whose result the caller need not await."""
        future = self.workers.run(work, *args)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        return future

    async def run(self, work: Callable[..., Any], *args: Any) -> Any:
        """Runs the work and returns its result. Raises `StorageFull` or `Unknown` for an `OSError`. The work goes on
        where the awaiting task is cancelled."""
        try:
            return await asyncio.shield(self.begin(work, *args))
        except OSError as error:
            if error.errno in NO_ROOM:
                raise StorageFull(f"no room for {self._identity}: {error.strerror}") from error
            raise Unknown(f"{self._identity}: {error}") from error

    async def end(self) -> None:
        """Returns when no work is running any more."""
        while self._running:
            await asyncio.wait(self._running)
