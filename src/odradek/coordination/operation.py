"""The contract between the runtime and a coordinator's state machine, and the outcome of an operation.

An operation reads the state and fills an `Outcome`: records that change the durable state when they are replayed, and
answers to requests, its own or others' that have waited. The machine changes durable state in `replay` only; soft
state (who waits, sessions, timers) it changes as it goes, and begins afresh when it is loaded. An operation that would
keep others waiting is a generator of several outcomes (`InSteps`): each is appended and replayed before the next is
asked for, and others' operations may come between them.

Sans-IO: the machine keeps a `Reply` and hands it back with a response; the runtime sends the response.
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
# What one step of an operation does, some ms each: when it has made so many records, or looked at so many things, the
# next step begins.
STEP_RECORDS = 200
STEP_LOOKS = 1000


class Reply(Protocol):
    """The way back to the client for the response to one request."""

    def answer(self, response: Message) -> None:
        """Sends the response, or drops it if the client has disconnected. To be called once."""
        ...

    def refuse(self, code: ErrorCode) -> None:
        """Answers with the response that carries this error."""
        ...


@dataclass(slots=True)
class Outcome:
    """The effects of an operation: the runtime appends and replays the records, then releases the answers."""

    records: list[NewRecord] = field(default_factory=list)
    answers: list[tuple[Reply, Message | ErrorCode]] = field(default_factory=list)
    """Replies with their responses; for an error code the reply makes the response itself."""
    alters: bool = True
    """Whether the operation has changed soft state along with the durable: if the records cannot be appended, the
    state must then be loaded again."""
    producer: tuple[int, int] | None = None
    """The producer (id, epoch) in whose transaction the records are written: they take effect when it commits."""
    continues: bool = False
    """Whether earlier records of the same request have been written in that transaction: it must still be open."""
    waits: bool = True
    """Whether the answers depend on the durable state and so wait for the last append before them."""

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
        """Applies a record of the log to the durable state. Raises `DecodeError` for one that cannot be read."""
        ...

    def replay_transactional(self, producer_id: int, key: bytes, value: bytes | None) -> None:
        """Keeps a record of a producer's open transaction until `end_transaction` applies or drops it."""
        ...

    def end_transaction(self, producer_id: int, committed: bool) -> None:
        """Applies (`committed`) or drops the records of a producer's transaction."""
        ...

    def has_pending(self) -> bool:
        """Whether records of open transactions are kept."""
        ...

    def records(self) -> Callable[[], Iterable[tuple[bytes, bytes]]]:
        """Copies the durable state, quickly, and returns a function that encodes the copy as records (key, value)
        whose replay makes the same state. The function may run in a thread."""
        ...

    def prepare(self) -> None:
        """Makes what takes long of the soft state, in a thread: the log has been replayed, and nobody else has the
        machine."""
        ...

    def loaded(self) -> None:
        """Begins the soft state: from now on the machine serves."""
        ...

    def due(self, key: object, outcome: Outcome) -> None:
        """An operation: runs what the timer `key` was set for, when its deadline has come."""
        ...

    def waiting(self) -> list[Reply]:
        """The replies of requests that wait for other members; the runtime refuses them when it drops this state."""
        ...
