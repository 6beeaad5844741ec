"""What a coordinator's state machine gives back from an operation, and what the runtime asks of the machine.

An operation reads the state and fills an `Outcome`: records that change the durable state when they are replayed, and
answers to requests, its own or others' that have waited. The machine changes durable state in `replay` only; soft
state (who waits, sessions, timers) it changes as it goes, and begins afresh when it is loaded. An operation that would
keep others waiting is a generator of several outcomes (`InSteps`): each is appended and replayed before the next is
asked for, and others' operations may come between them.

Sans-IO: a `Reply` is whatever the caller can answer through. The machine keeps it and hands it back with a response.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from odradek.coordination.timers import Timers
from odradek.errors import ErrorCode
from odradek.protocol.fields import Message
from odradek.records.builder import NewRecord

T = TypeVar("T")
# What one step of an operation does at most, some ms each: records it makes, and things it only looks at.
STEP_RECORDS = 200
STEP_LOOKS = 1000


class Reply(Protocol):
    """Where the answer to one request goes."""

    def answer(self, response: Message) -> None:
        """To be called once; who has gone away meanwhile gets nothing."""
        ...

    def refuse(self, code: ErrorCode) -> None:
        """Answers with the response that carries this error."""
        ...


@dataclass(slots=True)
class Outcome:
    """What an operation wants done, in this order: the records appended and replayed, then the answers given."""

    records: list[NewRecord] = field(default_factory=list)
    answers: list[tuple[Reply, Message | ErrorCode]] = field(default_factory=list)
    """A bare code is answered by the reply's own form of a refusal."""
    alters: bool = True
    """Whether the operation has changed soft state with the durable: then, if the records cannot be kept, the state has
    to be made anew."""
    producer: tuple[int, int] | None = None
    """The producer (id, epoch) in whose transaction the records are written: they count when it is committed."""
    waits: bool = True
    """Whether the answers say something of the durable state, so that they wait for the last append before them."""

    def answer(self, reply: Reply, response: Message) -> None:
        self.answers.append((reply, response))

    def refuse(self, reply: Reply, code: ErrorCode) -> None:
        self.answers.append((reply, code))


InSteps = Generator[Outcome, None, T]
"""An operation in steps, and what it returns."""


class StateMachine(Protocol):
    """One shard's state."""

    timers: Timers

    def replay(self, key: bytes, value: bytes | None) -> None:
        """Takes a record of the log into the durable state. Raises `DecodeError` for one that cannot be read."""
        ...

    def replay_transactional(self, producer_id: int, key: bytes, value: bytes | None) -> None:
        """Takes a record that was written in a producer's transaction, to count or not when that ends."""
        ...

    def end_transaction(self, producer_id: int, committed: bool) -> None:
        """What was taken of a producer's transaction counts from now on, or is gone."""
        ...

    def has_pending(self) -> bool:
        """Whether something was taken of transactions that have not ended."""
        ...

    def records(self) -> Callable[[], Iterable[tuple[bytes, bytes]]]:
        """Makes a copy of the durable state that later operations do not touch, quickly; what is returned turns it
        into the records (key, value) that make it when replayed, and may run in a thread."""
        ...

    def prepare(self) -> None:
        """Makes what takes long of the soft state, in a thread: the log has been replayed, and nobody else has the
        machine."""
        ...

    def loaded(self) -> None:
        """Begins the soft state: from now on the machine serves."""
        ...

    def due(self, key: object, outcome: Outcome) -> None:
        """An operation: a timer's deadline has come."""
        ...

    def waiting(self) -> list[Reply]:
        """Everyone who waits for others: to be refused when this state will not be used any more."""
        ...
