"""A broker inside the test's process on a disk of the test's choice."""

from __future__ import annotations

import asyncio
from pathlib import Path

from odradek.clock import Clock
from odradek.engines.interface import Engine
from odradek.engines.local import Disk, LocalEngine
from odradek.loop_scheduler import LoopScheduler
from odradek.server import Server
from tests.serving import Serving


class DiskServer(Server):
    """A server whose files pass through `disk`."""

    disk: Disk

    def _make_engine(self) -> Engine:
        return LocalEngine(self.config.names("log.dirs")[0], self.config, self.clock, self.disk)


class ServingOnDisk(Serving):
    """Like `Serving`, with data in `folder`."""

    def __init__(self, folder: Path, disk: Disk, clock: Clock | None = None, **settings: str) -> None:
        super().__init__(asyncio.new_event_loop, log__dirs=str(folder), **settings)
        self.disk = disk
        self.clock = clock

    def __enter__(self) -> ServingOnDisk:
        self.thread.start()

        async def start() -> Server:
            DiskServer.disk = self.disk
            server = DiskServer(self.config, scheduler=LoopScheduler(self.clock))
            await server.start()
            return server

        self.server = self.run(start())
        self.port = self.server.bound["PLAINTEXT"][1]
        return self

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"
