"""Runs coordinators' state machines, one for each partition of an internal topic, on that partition's log.

Role: run a shard's operations, append and replay their records, release the responses when the records are durable
(`replies.py`), keep the shard's timers, and load the state again (`loading.py`) when the log has failed.

Invariants:
- An operation's records are appended together (one batch, unless they are very many) and replayed at once, so that the
  next operation sees them; nothing waits for anything in between.
- An operation in steps (`steps`) is several: others may come between two of them, and each is kept by itself.
- An answer that says something of the durable state leaves when the last append before it is durable. Nobody is told
  what a crash could take back.
- Whatever somebody else writes to the log (an administrator may), the state is made again from the log, before the next
  operation: it never misses a batch below one of its own. Ends of transactions alone are followed as they come.
- A failed append or flush ends the shard: everyone who waits is refused, and the state is made again from the log
  before it serves. State never outlives the opening of the log that it was made from.

The state machine decides what an operation does, `sharded_topic.py` which shard runs it, the coordinator which response
carries an error, and `saving.py` when a snapshot is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator
from enum import Enum
from typing import Generic, TypeVar

from odradek.clock import Scheduler, Timer
from odradek.coordination.loading import Loaded, load
from odradek.coordination.operation import InSteps, Outcome, Reply, StateMachine
from odradek.coordination.replies import FutureReply, Untold, release, settle, settled
from odradek.coordination.saving import Saving
from odradek.engines.interface import LogFailure, StorageFull
from odradek.errors import ErrorCode, KafkaError
from odradek.logs import get_logger
from odradek.partitions.partition import Opening, Partition
from odradek.protocol.fields import Message
from odradek.records.batch import RecordBatch
from odradek.records.builder import BatchBuilder, NewRecord

log = get_logger("odradek.coordination")

# An operation with more bytes of records (the deletion of a group with very many offsets) appends several batches.
BATCH_BYTES = 524_288
S = TypeVar("S", bound=StateMachine)
T = TypeVar("T")


class ShardState(Enum):
    """A shard's state; the value is the error that clients get while it lasts."""

    LOADING = ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    ACTIVE = ErrorCode.NONE
    CLOSED = ErrorCode.NOT_COORDINATOR


class Shard(Generic[S]):
    """One partition's state machine."""

    def __init__(
        self,
        partition: Partition,
        make: Callable[[], S],
        scheduler: Scheduler,
        snapshot_min_records: int,
        load_bytes: int,
    ) -> None:
        self.partition = partition
        self.make = make
        self.scheduler = scheduler
        self.clock = scheduler.clock
        self.load_bytes = load_bytes
        self.saving = Saving(partition, scheduler.clock, snapshot_min_records)
        self.state = ShardState.LOADING
        self.machine = make()
        self._opening: Opening | None = None
        self._known_end = 0
        """The offset after the last batch of the log that the state machine has replayed."""
        self._last_append: asyncio.Future[None] | None = None
        self._timer: Timer | None = None
        self._timer_at = 0.0
        self._loading: asyncio.Task[None] | None = None
        partition.progress.wait(self._partition_changed)
        partition.marker_listeners.append(self._transaction_ended)

    # --- operations ----------------------------------------------------------------------------------------------

    def active(self) -> S:
        """The state machine, for callers that change no durable state and need not wait for the disk. Raises
        `KafkaError`."""
        if self.state is ShardState.ACTIVE and not self._is_current():
            self._begin_again()
        if self.state is not ShardState.ACTIVE:
            raise KafkaError(self.state.value)
        return self.machine

    def _is_current(self) -> bool:
        """Whether the state is that of the log: the log was not opened again and has no batch that was not replayed."""
        opening, partition = self._opening, self.partition
        return opening is not None and partition.opening is opening and partition.end_offset == self._known_end

    def ask(
        self, operation: Callable[[S, Reply, Outcome], None], refusal: Callable[[ErrorCode], Message]
    ) -> Awaitable[Message]:
        """Runs an operation that answers through a reply, now or later; returns the future response. `refusal` makes
        the response for an error code, also for a `KafkaError` that the operation raises."""
        reply = FutureReply(refusal)
        try:
            machine = self.active()
            outcome = Outcome()
            operation(machine, reply, outcome)
        except KafkaError as error:
            reply.refuse(error.code)
            return reply.future
        self._carry_out(outcome)
        return reply.future

    def run(self, operation: Callable[[S, Outcome], T]) -> T:
        """Runs an operation and appends its records; returns the operation's result without waiting until they are
        durable. Raises `KafkaError`."""
        outcome = Outcome()
        result = operation(self.active(), outcome)
        refused = self._carry_out(outcome)
        if refused is not None:
            raise KafkaError(refused)
        return result

    async def call(self, operation: Callable[[S, Outcome], T]) -> T:
        """Runs an operation at once; returns its result when everything it saw and appended is durable. Raises
        `KafkaError`."""
        made = self.start(operation)
        if made.is_open:
            await settled((made,))
        if made.is_lost:
            raise KafkaError(ErrorCode.NOT_COORDINATOR)
        return made.result

    def start(self, operation: Callable[[S, Outcome], T]) -> Untold[T]:
        """`call`, for who waits for several together."""
        return Untold(self.run(operation), self._last_append)

    def steps(self, operation: Callable[[S], InSteps[T]]) -> Generator[None, None, Untold[T]]:
        """Runs an operation that would keep others waiting for long: what it yields is appended and replayed, and then
        others may have their turn. Raises `KafkaError`, also where the state was made anew between two steps: what came
        before has been appended."""
        machine = self.active()
        work = operation(machine)
        while True:
            try:
                outcome = next(work)
            except StopIteration as end:
                return Untold(end.value, self._last_append)
            refused = self._carry_out(outcome)
            if refused is not None:
                raise KafkaError(refused)
            yield
            if self.active() is not machine:
                raise KafkaError(ErrorCode.NOT_COORDINATOR)

    def _carry_out(self, outcome: Outcome) -> ErrorCode | None:
        """Appends and replays the records and releases the answers; returns the error if nothing was appended."""
        if outcome.records and (refused := self._append(outcome)) is not None:
            for reply, _ in outcome.answers:
                reply.refuse(refused)
            return refused
        answers = outcome.answers
        last = self._last_append
        if answers:
            if last is None or last.done() or not outcome.waits:
                release(answers)
            else:
                last.add_done_callback(lambda durable: settle(answers, durable))
        self._set_timer()
        return None

    def _append(self, outcome: Outcome) -> ErrorCode | None:
        """Appends and replays the records; returns the error if nothing was appended. If the log has failed, the shard
        loads its state again."""
        records, opening = outcome.records, self._opening
        assert opening is not None
        if outcome.producer is not None:
            # The coordinator was asked before others had their turn: the transaction may have ended since.
            ended = self.partition.transaction_error(*outcome.producer, outcome.continues)
            if ended is not None:
                return ended
        try:
            for batch in _batches(records, outcome.producer):
                durable = self.partition.append_own(batch, opening)
        except LogFailure as failure:
            if isinstance(failure, StorageFull):  # the partition has logged it, once for many appends
                if not outcome.alters:
                    return ErrorCode.COORDINATOR_NOT_AVAILABLE
            else:
                log.error("a coordinator's append failed", partition=str(self.partition.identity), why=str(failure))
            self._begin_again()
            return ErrorCode.NOT_COORDINATOR
        self._known_end = self.partition.end_offset
        for record in records:
            assert record.key is not None
            if outcome.producer is None:
                self.machine.replay(record.key, record.value)
            else:
                self.machine.replay_transactional(outcome.producer[0], record.key, record.value)
        self._last_append = durable
        if durable.done():
            self._on_durable(durable)
        else:
            durable.add_done_callback(self._on_durable)
        saving = self.saving
        saving.records += len(records)
        # A snapshot holds no pending offsets: it waits for the transactions, which are short, to end.
        if saving.records > saving.due_above and saving.task is None and not self.machine.has_pending():
            saving.begin(self.machine, opening, self._known_end, durable)
        return None

    def _transaction_ended(self, producer_id: int, committed: bool) -> None:
        """Applies a transaction marker that was appended to this shard's log."""
        if self.state is ShardState.ACTIVE and self.partition.opening is self._opening:
            self._known_end += 1  # still not the log's end if others have appended: then `_is_current` is False
            self.machine.end_transaction(producer_id, committed)

    def _on_durable(self, durable: asyncio.Future[None]) -> None:
        if durable is self._last_append and (durable.cancelled() or durable.exception() is not None):
            self._begin_again()

    # --- timers --------------------------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        at = self.machine.timers.next()
        if at is None:
            return
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer_at = at
        delay_s = max(at - self.clock.monotonic(), 0.0)
        self._timer = self.scheduler.call_later(delay_s, self._time)

    def _time(self) -> None:
        self._timer = None
        if self.state is not ShardState.ACTIVE:
            return
        if not self._is_current():
            self._begin_again()
            return
        machine = self.machine
        for key in machine.timers.due(self.clock.monotonic()):
            outcome = Outcome()
            machine.due(key, outcome)
            self._carry_out(outcome)
            if self.machine is not machine:
                return
        self._set_timer()

    # --- loading -------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Starts to load the state; the shard is active when that is done, at once if the log is empty."""
        opening = self.partition.opening
        if opening is not None and self.partition.end_offset == 0:
            self._activate(Loaded(opening, self.make(), 0, 0))
        elif self._loading is None:
            self._loading = asyncio.ensure_future(self._load())

    async def _load(self) -> None:
        loaded = await load(self.partition, self.make, self.load_bytes, self.scheduler)
        if self.state is ShardState.LOADING:
            self._loading = None
            self._activate(loaded)

    def _activate(self, loaded: Loaded[S]) -> None:
        self.machine = loaded.machine
        self._opening = loaded.opening
        self._known_end = self.partition.end_offset
        self._last_append = None
        self.saving.begin_behind(loaded.restored, loaded.replayed)
        self.state = ShardState.ACTIVE
        self.machine.loaded()
        self._set_timer()

    def _partition_changed(self) -> None:
        """Loads the state again if the partition's log has failed or was opened again."""
        if self.state is ShardState.ACTIVE and self.partition.opening is not self._opening:
            self._begin_again()

    def _begin_again(self) -> None:
        """Refuses all waiting requests, drops the state, and loads it again."""
        if self.state is not ShardState.ACTIVE:
            return
        self._end(ShardState.LOADING, ErrorCode.NOT_COORDINATOR)
        if self.partition.deleted:
            self.close()
        else:
            self._loading = asyncio.ensure_future(self._load())

    def _end(self, state: ShardState, code: ErrorCode) -> None:
        waiting = self.machine.waiting() if self.state is ShardState.ACTIVE else []
        self.state = state
        self.machine = self.make()
        self._opening = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for reply in waiting:
            reply.refuse(code)

    # --- closing -------------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Closes the shard after saving a snapshot, which makes the next start quick."""
        saving = self.saving
        while saving.task is not None:
            await asyncio.wait([saving.task])
        opening = self._opening
        serves = self.state is ShardState.ACTIVE and self._is_current()
        if serves and opening is not None and saving.records and not self.machine.has_pending():
            await saving.begin(self.machine, opening, self._known_end, self._last_append)
        self.close()

    def close(self) -> None:
        """Closes the shard at once and refuses all waiting requests."""
        self.partition.progress.stop_waiting(self._partition_changed)
        if self._transaction_ended in self.partition.marker_listeners:
            self.partition.marker_listeners.remove(self._transaction_ended)
        self._end(ShardState.CLOSED, ErrorCode.NOT_COORDINATOR)
        if self._loading is not None:
            self._loading.cancel()
            self._loading = None


def _batches(records: Iterable[NewRecord], producer: tuple[int, int] | None = None) -> Iterator[RecordBatch]:
    """The records as batches of about `BATCH_BYTES`, which consumers with default settings can fetch."""

    def build(builder: BatchBuilder) -> RecordBatch:
        if producer is None:
            return builder.build()
        return builder.build(producer_id=producer[0], producer_epoch=producer[1], transactional=True)

    builder = BatchBuilder()
    for record in records:
        builder.append(record.key, record.value, record.timestamp)
        if builder.size >= BATCH_BYTES:
            yield build(builder)
            builder = BatchBuilder()
    if builder.count:
        yield build(builder)
