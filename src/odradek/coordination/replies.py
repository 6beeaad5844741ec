"""Sends the answers of operations: once the state they depend on is durable, or as refusals.

Role: a reply that a handler can await, and the release of an operation's answers. The state machine has put the answers
into its `Outcome`; the runtime knows which append they wait for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

from odradek.coordination.operation import Reply
from odradek.errors import ErrorCode
from odradek.protocol.fields import Message

T = TypeVar("T")
# Answers given before others have their turn: each takes some 30 us to encode and send.
ANSWERS_AT_ONCE = 100


class Untold(NamedTuple, Generic[T]):
    """What an operation has made, which nobody is to be told before an append is durable."""

    result: T
    durable: asyncio.Future[None] | None
    """None where there was nothing to wait for."""

    @property
    def is_open(self) -> bool:
        """Whether it is to be waited for."""
        return self.durable is not None and not self.durable.done()

    @property
    def is_lost(self) -> bool:
        """Whether the append has failed, when it is not open any more: the answer is NOT_COORDINATOR."""
        durable = self.durable
        return durable is not None and (durable.cancelled() or durable.exception() is not None)


async def settled(untold: Iterable[Untold[T]]) -> None:
    """Waits until none of these is open."""
    waiting = {one.durable for one in untold if one.is_open}
    if waiting:
        await asyncio.wait([durable for durable in waiting if durable is not None])


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


def release(answers: Sequence[tuple[Reply, Message | ErrorCode]]) -> None:
    """Gives the answers now: what they say is durable, or they say nothing of that. Of very many (a large group has
    rebalanced) some in each of the next turns: each wakes a connection."""
    for reply, response in answers[:ANSWERS_AT_ONCE]:
        if isinstance(response, ErrorCode):
            reply.refuse(response)
        else:
            reply.answer(response)
    if len(answers) > ANSWERS_AT_ONCE:
        asyncio.get_running_loop().call_soon(release, answers[ANSWERS_AT_ONCE:])


def settle(answers: Sequence[tuple[Reply, Message | ErrorCode]], durable: asyncio.Future[None]) -> None:
    """Releases the answers that waited for this append, or refuses them. What a coordinator acknowledges, it
    acknowledges here."""
    if durable.cancelled() or durable.exception() is not None:
        for reply, _ in answers:
            reply.refuse(ErrorCode.NOT_COORDINATOR)
    else:
        release(answers)
