"""Where the answers of operations leave: when what they say is durable, or as a refusal.

Role: a reply that a handler can wait for, and the release of the answers that an operation gave. What they are, and to
whom they go, the state machine has said in its `Outcome`; which append they wait for is the runtime's to know.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from odradek.coordination.operation import Reply
from odradek.errors import ErrorCode
from odradek.protocol.fields import Message


class FutureReply:
    """A reply that a handler returns to its connection: a future of the response."""

    __slots__ = ("future", "refusal")

    def __init__(self, refusal: Callable[[ErrorCode], Message]) -> None:
        self.future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self.refusal = refusal

    def answer(self, response: Message) -> None:
        # Done already: the client has gone, and the connection has cancelled it.
        if not self.future.done():
            self.future.set_result(response)

    def refuse(self, code: ErrorCode) -> None:
        self.answer(self.refusal(code))


def release(answers: Iterable[tuple[Reply, Message | ErrorCode]]) -> None:
    """Gives the answers now: what they say is durable, or they say nothing of that."""
    for reply, response in answers:
        if isinstance(response, ErrorCode):
            reply.refuse(response)
        else:
            reply.answer(response)


def settle(answers: Iterable[tuple[Reply, Message | ErrorCode]], durable: asyncio.Future[None]) -> None:
    """Releases the answers that waited for this append, or refuses them. What a coordinator acknowledges, it
    acknowledges here."""
    if durable.cancelled() or durable.exception() is not None:
        for reply, _ in answers:
            reply.refuse(ErrorCode.NOT_COORDINATOR)
    else:
        release(answers)
