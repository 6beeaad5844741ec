"""When a response to Produce may leave, where its batches are not appended at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

from odradek.errors import ErrorCode
from odradek.handlers.produce import Settling
from odradek.partitions.partition import AppendResult
from odradek.protocol.messages.produce import PartitionProduceResponse, ProduceResponse


async def end_after_its_time() -> None:
    mistakes: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: mistakes.append(context))
    expire: list[Callable[[], None]] = []
    deadlines = SimpleNamespace(add=lambda timeout_ms, future, call: expire.append(call))
    broker: Any = SimpleNamespace(deadlines=deadlines)
    looked_at = asyncio.Event()

    async def append() -> AppendResult:
        await looked_at.wait()
        return AppendResult(ErrorCode.NONE, 7)

    settling, answer = Settling(broker, 1, 5), PartitionProduceResponse(index=0)
    task = asyncio.ensure_future(append())
    settling.settle(answer, task, None)
    response = settling.answer(ProduceResponse())
    assert isinstance(response, Awaitable)
    expire[0]()
    await response
    assert answer.error_code == ErrorCode.REQUEST_TIMED_OUT
    looked_at.set()
    await task
    await asyncio.sleep(0)
    assert not mistakes
    assert answer.error_code == ErrorCode.REQUEST_TIMED_OUT


def test_an_append_that_ends_after_its_time_is_nobodys_business_any_more() -> None:
    asyncio.run(end_after_its_time())
