"""Opens a partition's log again after a failure, with as many attempts as that takes.

Role: the loop with its delays. The partition answers requests while the log is closed.

Invariant: only success or the partition's deletion ends the attempts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from odradek.clock import Scheduler
from odradek.engines.interface import LogFailure, LogIdentity, PartitionLog, StorageError
from odradek.logs import get_logger
from odradek.replay.delays import delays

log = get_logger("odradek.partition")


async def reopen(
    identity: LogIdentity,
    scheduler: Scheduler,
    failed: PartitionLog | None,
    open_log: Callable[[], Awaitable[None]],
    ending: asyncio.Event,
) -> bool:
    """Closes the failed opening, if there is one, and calls `open_log` until it succeeds. Returns False if the
    partition is closed or deleted before."""
    for delay_s in delays():
        if ending.is_set():
            break
        try:
            if failed is not None:
                await failed.close()
            await open_log()
            return True
        except (LogFailure, StorageError, OSError) as failure:
            log.error("log still offline", partition=str(identity), why=str(failure), retry_s=delay_s)
            ended = asyncio.ensure_future(ending.wait())
            try:
                await scheduler.wait(ended, delay_s)
            finally:
                ended.cancel()
    return False
