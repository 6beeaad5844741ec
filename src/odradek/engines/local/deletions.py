"""Removes the files of deleted logs and segments, which have been renamed already, after `file.delete.delay.ms`.

Role: remove these folders and files in a thread after their delay, or at once when the disk is nearly full. A stop
removes none of those that still wait: the next start finds them by their names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from odradek.clock import Scheduler, Timer
from odradek.engines.local.disk import Disk, Workers
from odradek.engines.local.segments import remove_all
from odradek.logs import get_logger

warn = get_logger("odradek.engine").warning


class Deletions:
    """The deletions of one engine between a start and a stop. Used on the event loop."""

    def __init__(self, scheduler: Scheduler, disk: Disk, background: Workers) -> None:
        self._scheduler = scheduler
        self._disk = disk
        self._background = background
        self._waiting: dict[Timer, Callable[[], None]] = {}
        """The deletions whose delay is not over: for each timer, the function that starts the deletion."""
        self._running: set[asyncio.Future[None]] = set()
        self._stopped = False

    def remove_folder(self, folder: str, delay_ms: int) -> None:
        self._later(delay_ms, lambda: self._disk.remove_folder(folder), f"{folder} was not removed")

    def remove_files(self, paths: Sequence[str], delay_ms: int) -> None:
        self._later(delay_ms, lambda: remove_all(self._disk, paths), f"{len(paths)} deleted files were not removed")

    def _later(self, delay_ms: int, work: Callable[[], None], sentence: str) -> None:
        def begin() -> None:
            self._waiting.pop(timer, None)
            task = self._background.run(work)
            self._running.add(task)
            task.add_done_callback(done)

        def done(task: asyncio.Future[None]) -> None:
            self._running.discard(task)
            error = task.exception()
            if isinstance(error, OSError):
                warn(sentence, why=str(error))
            elif error is not None:
                raise error

        if not self._stopped:
            timer = self._scheduler.call_later(delay_ms / 1000, begin)
            self._waiting[timer] = begin

    def free_now(self) -> None:
        """Starts all waiting deletions now."""
        for timer, begin in list(self._waiting.items()):
            timer.cancel()
            begin()

    async def stop(self) -> None:
        """Drops the waiting deletions; returns when the running ones have ended."""
        self._stopped = True
        for timer in self._waiting:
            timer.cancel()
        self._waiting.clear()
        if self._running:
            await asyncio.wait(self._running)
