"""The scheduler of a real broker: a clock, the event loop's timers, and threads.

Code that needs the time reads the clock, never `loop.time()`: a loop may read its own only once per iteration, and a
test's clock differs from it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

from odradek.clock import Clock, SystemClock, Timer

# Threads for work that takes CPU or blocks: validation of records, snapshots, batch headers at recovery.
WORK_THREADS = 4


class LoopScheduler:
    """The `Scheduler` of the running event loop. Its user must shut down the executor."""

    def __init__(self, clock: Clock | None = None, executor: Executor | None = None) -> None:
        self.clock: Clock = clock if clock is not None else SystemClock()
        self.executor: Executor = executor or ThreadPoolExecutor(WORK_THREADS, thread_name_prefix="odradek-work")

    def call_later(self, delay_s: float, work: Callable[..., object], *arguments: object) -> Timer:
        return asyncio.get_running_loop().call_later(delay_s, work, *arguments)

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)

    async def wait(self, future: asyncio.Future[Any], limit_s: float) -> bool:
        await asyncio.wait([future], timeout=limit_s)
        return future.done()
