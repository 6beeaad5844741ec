"""When Kafka's offset checkpoints of a directory are written: now and then, at the stop, and where something waits for
it.

Role: write what has changed, in a thread, behind the flushed offsets (`flushed_offsets`), which a start believes more.

Invariants: one write at a time, and who asks while one runs shares the next; a name that was deleted is `stale` until
a write without it has returned.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from odradek.clock import Scheduler, Timer
from odradek.engines.local import checkpoints
from odradek.engines.local.checkpoints import Partition
from odradek.engines.local.disk import Disk, Workers
from odradek.engines.local.flushed_offsets import FlushedOffsets
from odradek.logs import get_logger

warn = get_logger("odradek.engine").warning


class Checkpointing:
    """The checkpoints of one engine between a start and a stop. Used on the event loop."""

    def __init__(
        self,
        scheduler: Scheduler,
        disk: Disk,
        path: str,
        background: Workers,
        flushed: FlushedOffsets,
        contents: Callable[[], dict[str, bytes]],
        stale: set[Partition],
    ) -> None:
        """`contents` says what is to be in the files, by name, and notes how far logs are flushed by then. `stale` are
        names that the files on the disk may have, though their logs are deleted."""
        self._scheduler = scheduler
        self._disk = disk
        self._path = path
        self._background = background
        self._flushed = flushed
        self._contents = contents
        self.stale = stale
        self._written: dict[str, bytes] = {}
        self._lock = asyncio.Lock()
        self._wanted = 0
        self._done = 0
        self._timer: Timer | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, interval_ms: int, before: Callable[[], None]) -> None:
        """Writes them now and then, as Kafka does; `before` is called each time."""

        def write() -> None:
            before()
            task = asyncio.ensure_future(self._write_or_warn())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            self.begin(interval_ms, before)

        self._timer = self._scheduler.call_later(max(interval_ms, 1) / 1000, write)

    async def end(self) -> None:
        """Nothing is written by itself any more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _write_or_warn(self) -> None:
        try:
            await self.write()
        except OSError as error:
            warn("the checkpoints were not written", path=self._path, why=str(error))

    async def write(self) -> None:
        """Writes the checkpoints as they are now, if they have changed; concurrent calls share a write. Raises
        `OSError`."""
        self._wanted += 1
        wanted = self._wanted
        async with self._lock:
            if self._done >= wanted:
                return
            covered = self._wanted
            stale = set(self.stale)
            files = {name: data for name, data in self._contents().items() if self._written.get(name) != data}
            if files:
                self._flushed.write()
                await self._background.run(self._replace, files)
                self._written.update(files)
            self.stale -= stale
            self._done = covered

    def _replace(self, files: dict[str, bytes]) -> None:
        self._flushed.sync()  # first: a start that it does not bear out would not be believed
        for name, data in files.items():
            checkpoints.replace_file(self._disk, f"{self._path}/{name}", data)
        self._disk.sync_folder(self._path)
