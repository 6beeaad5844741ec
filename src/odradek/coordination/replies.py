"""Sends the answers of operations: once the state they depend on is durable, or as refusals.

Role: a reply that a handler can await, and the release of an operation's answers. The state machine has put the answers
into its `Outcome`; the runtime knows which append they wait for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from odradek.coordination.operation import Reply
from odradek.errors import ErrorCode
from odradek.protocol.fields import Message


class FutureReply:
    """A reply whose future response a handler returns to its connection."""

    __slots__ = ("future", "refusal")

    def __init__(self, refusal: Callable[[ErrorCode], Message]) -> None:
        self.future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self.refusal = refusal

    def answer(self, response: Message) -> None:
        # The connection cancels the future when the client disconnects.
        if not self.future.done():
            self.future.set_result(response)

    def refuse(self, code: ErrorCode) -> None:
        self.answer(self.refusal(code))


def release(answers: Iterable[tuple[Reply, Message | ErrorCode]]) -> None:
    """Sends the answers now: the state they depend on is durable, or they depend on none."""
    for reply, response in answers:
        if isinstance(response, ErrorCode):
            reply.refuse(response)
        else:
            reply.answer(response)


def settle(answers: Iterable[tuple[Reply, Message | ErrorCode]], durable: asyncio.Future[None]) -> None:
    """Releases the answers that waited for this append, or refuses them if it failed. Every acknowledgement that
    waits for the disk is sent here."""
    if durable.cancelled() or durable.exception() is not None:
        for reply, _ in answers:
            reply.refuse(ErrorCode.NOT_COORDINATOR)
    else:
        release(answers)
