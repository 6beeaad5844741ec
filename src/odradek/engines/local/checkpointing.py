"""Writes Kafka's offset checkpoints of a data directory: periodically, at the stop, and on demand.

Role: write the files that have changed, in a thread, after the flushed offsets (`flushed_offsets`), which take
precedence over them at a start.

Invariants: one write runs at a time, and calls made meanwhile share the next one. The partition of a deleted log is
`stale` until a write without it has returned.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from odradek.clock import Scheduler, Timer
from odradek.engines.local import checkpoints
from odradek.engines.local.disk import Disk, Workers
from odradek.engines.local.flushed_offsets import FlushedOffsets
from odradek.logs import get_logger
from odradek.topic_partition import TopicPartition

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
        offsets: Callable[[], Awaitable[Mapping[str, Mapping[TopicPartition, int]]]],
        stale: set[TopicPartition],
    ) -> None:
        """`offsets` returns the offsets for each file by its name, and notes in the flushed offsets how far logs are
        flushed. `stale` are the partitions whose logs are deleted, but which the files on the disk may still name."""
        self._scheduler = scheduler
        self._disk = disk
        self._path = path
        self._background = background
        self._flushed = flushed
        self._offsets = offsets
        self.stale = stale
        self._written: dict[str, bytes] = {}
        self._lock = asyncio.Lock()
        self._wanted = 0
        self._done = 0
        self._timer: Timer | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, interval_ms: int, before: Callable[[], None]) -> None:
        """Writes the checkpoints every `interval_ms`, as Kafka does; calls `before` each time."""

        def write() -> None:
            before()
            task = asyncio.ensure_future(self._write_or_warn())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            self.begin(interval_ms, before)

        self._timer = self._scheduler.call_later(max(interval_ms, 1) / 1000, write)

    async def end(self) -> None:
        """Stops the periodic writes; returns when a running one has ended."""
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
            offsets = await self._offsets()
            self._flushed.write()
            await self._background.run(self._replace, offsets)
            self.stale -= stale
            self._done = covered

    def _replace(self, offsets: Mapping[str, Mapping[TopicPartition, int]]) -> None:
        """Blocks: of many logs the text alone takes a while."""
        contents = {name: checkpoints.format_offsets(found) for name, found in offsets.items()}
        contents[checkpoints.CLEANER_OFFSETS] = b""
        files = {name: data for name, data in contents.items() if self._written.get(name) != data}
        if not files:
            return
        self._flushed.sync()  # first: a log start offset that the flushed offsets contradict is not trusted
        for name, data in files.items():
            checkpoints.replace_file(self._disk, f"{self._path}/{name}", data)
        self._disk.sync_folder(self._path)
        self._written.update(files)
