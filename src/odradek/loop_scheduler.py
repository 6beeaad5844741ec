"""The scheduler of a broker that runs: a clock, the event loop's timers, and threads.

What takes the time takes it from the clock, never from the loop: a loop reads its own once a turn, and a test's clock
would be another one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

from odradek.clock import Clock, SystemClock, Timer

# Threads for what takes CPU or may wait: records looked at, snapshots, recovery's headers.
WORK_THREADS = 4


class LoopScheduler:
    """`Scheduler` on whatever event loop runs when it is asked. Who uses it shuts its executor down."""

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
