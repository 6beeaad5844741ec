"""A broker inside the test's process on a disk of the test's choice."""

from __future__ import annotations

import asyncio
from pathlib import Path

from odradek.clock import Clock
from odradek.descriptors import divide
from odradek.engines.local import Disk, LocalEngine
from odradek.loop_scheduler import LoopScheduler
from odradek.server import Server
from tests.serving import Serving


class ServingOnDisk(Serving):
    """Like `Serving`, with data in `folder`, in files that pass through `disk`."""

    def __init__(self, folder: Path, disk: Disk, clock: Clock | None = None, **settings: str) -> None:
        super().__init__(asyncio.new_event_loop, log__dirs=str(folder), **settings)
        self.disk = disk
        self.clock = clock

    def make_server(self) -> Server:
        scheduler = LoopScheduler(self.clock)
        engine = LocalEngine(self.config.names("log.dirs")[0], self.config, scheduler, self.disk)
        return Server(self.config, engine, scheduler, divide(self.config, files=True, alone=False))

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"
