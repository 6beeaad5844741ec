"""The transactions of one partition of `__transaction_state`: a state machine that the runtime runs.

Role: turn each request for a transactional id into records. The coordinator writes the markers. The rules are Kafka's:
KIP-98, KIP-360 (a producer that recovers), KIP-890 (version 2: the producer epoch rises with each transaction, so that
a late request cannot affect the next one).

Invariants: durable state changes in `replay` only. A prepared transaction always completes with the outcome, commit or
abort, that it was prepared with. An operation either raises `KafkaError` and changes nothing, or adds its record to
the outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from odradek.clock import Clock
from odradek.coordination.operation import STEP_LOOKS, STEP_RECORDS, InSteps, Outcome, Reply
from odradek.coordination.timers import Timers
from odradek.coordination.transactions.records import (
    NO_EPOCH,
    NO_PRODUCER_ID,
    NO_TIME,
    State,
    Transaction,
    read_key,
    read_transaction,
    record,
)
from odradek.errors import ErrorCode, KafkaError
from odradek.topic_partition import TopicPartition

EPOCH_MAX = 32767
LAST_EPOCH = EPOCH_MAX - 1
"""The highest producer epoch that a client gets; the coordinator reserves the one above for fencing it."""
VERSION_2 = 2


class TransactionShard:
    """One shard's transactions."""

    def __init__(self, clock: Clock, on_loaded: Callable[[list[str]], None] = lambda prepared: None) -> None:
        """`on_loaded` is called after loading with the ids of the prepared transactions, which must be completed."""
        self.clock = clock
        self.timers = Timers()
        self.transactions: dict[str, Transaction] = {}
        self._others: dict[bytes, bytes] = {}
        # By transactional id, the producer epoch before it was last raised: a repeated request still carries it. As in
        # Kafka, it is not in the log.
        self._last_epochs: dict[str, int] = {}
        # By transactional id, when the latest transaction began, in monotonic time: a leap of wall time must not end
        # the transaction timeout.
        self._began_s: dict[str, float] = {}
        self._on_loaded = on_loaded

    # --- durable state -------------------------------------------------------------------------------------------

    def replay(self, key: bytes, value: bytes | None) -> None:
        transactional_id = read_key(key)
        if transactional_id is None:
            if value is None:
                self._others.pop(key, None)
            else:
                self._others[key] = value
        elif value is None:
            self.transactions.pop(transactional_id, None)
            self._last_epochs.pop(transactional_id, None)
            self._began_s.pop(transactional_id, None)
        else:
            self.transactions[transactional_id] = read_transaction(value)

    def replay_transactional(self, producer_id: int, key: bytes, value: bytes | None) -> None:
        """Does nothing: this log has no transactional records."""

    def end_transaction(self, producer_id: int, committed: bool) -> None:
        """Does nothing: this log has no transactional records."""

    def has_pending(self) -> bool:
        return False

    def records(self) -> Callable[[], Iterable[tuple[bytes, bytes]]]:
        transactions, others = dict(self.transactions), dict(self._others)

        def encode() -> Iterator[tuple[bytes, bytes]]:
            yield from others.items()
            for transactional_id, transaction in transactions.items():
                made = record(transactional_id, transaction, NO_TIME)
                assert made.key is not None and made.value is not None
                yield made.key, made.value

        return encode

    def prepare(self) -> None:
        now_s, now_ms = self.clock.monotonic(), self.clock.now_ms()
        for name, transaction in self.transactions.items():
            if transaction.state is State.ONGOING:
                self._began_s[name] = now_s - max(0, now_ms - transaction.started_ms) / 1000

    def loaded(self) -> None:
        self._on_loaded([name for name, transaction in self.transactions.items() if transaction.state.is_prepared])

    def due(self, key: object, outcome: Outcome) -> None:
        """Does nothing: there are no timers. As in Kafka, the coordinator looks for timed-out transactions
        periodically."""

    def waiting(self) -> list[Reply]:
        return []

    # --- operations ----------------------------------------------------------------------------------------------

    def _put(self, transactional_id: str, transaction: Transaction, outcome: Outcome) -> Transaction:
        outcome.alters = False
        now_ms = self.clock.now_ms()
        transaction = transaction._replace(updated_ms=now_ms)
        outcome.records.append(record(transactional_id, transaction, now_ms))
        return transaction

    def _refuse_while_prepared(self, transactional_id: str) -> None:
        """Raises `KafkaError` with CONCURRENT_TRANSACTIONS while a transaction is prepared and not complete. Must come
        before a check of the epoch: the EndTxn response may have given the producer its next epoch and producer id
        already."""
        transaction = self.transactions.get(transactional_id)
        if transaction is not None and transaction.state.is_prepared:
            raise KafkaError(ErrorCode.CONCURRENT_TRANSACTIONS)

    def _of(self, transactional_id: str, producer_id: int, epoch: int) -> Transaction:
        transaction = self.transactions.get(transactional_id)
        if transaction is None or transaction.producer_id != producer_id:
            raise KafkaError(ErrorCode.INVALID_PRODUCER_ID_MAPPING)
        if transaction.epoch != epoch:
            raise KafkaError(ErrorCode.PRODUCER_FENCED)
        if transaction.state.is_prepared:
            raise KafkaError(ErrorCode.CONCURRENT_TRANSACTIONS)
        return transaction

    def needs_producer_id(self, transactional_id: str) -> bool:
        """Whether a transactional id needs a new producer id for its next epoch."""
        transaction = self.transactions.get(transactional_id)
        return transaction is None or transaction.epoch >= LAST_EPOCH

    def init(
        self,
        transactional_id: str,
        timeout_ms: int,
        expected: tuple[int, int] | None,
        new_producer_id: int,
        out: Outcome,
    ) -> tuple[int, int] | None:
        """InitProducerId: returns the producer id and epoch. `expected` is the pair that a recovering producer had
        before (KIP-360). Returns None while a transaction is open: it must be fenced and aborted first. Raises
        `KafkaError`."""
        self._refuse_while_prepared(transactional_id)
        transaction = self.transactions.get(transactional_id)
        if transaction is None:
            transaction = Transaction(new_producer_id, NO_EPOCH, timeout_ms)
        if expected is not None and not (
            transaction.epoch == NO_EPOCH
            or expected[0] == transaction.producer_id
            or (expected[0] == transaction.previous_producer_id and expected[1] >= LAST_EPOCH)
        ):
            raise KafkaError(ErrorCode.PRODUCER_FENCED)
        if transaction.state is State.ONGOING:
            if expected is not None and expected[1] != transaction.epoch:
                raise KafkaError(ErrorCode.PRODUCER_FENCED)
            return None
        producer_id, epoch = transaction.producer_id, transaction.epoch + 1
        previous_producer_id = transaction.previous_producer_id
        if expected is not None and transaction.epoch != NO_EPOCH and expected != (producer_id, transaction.epoch):
            if expected[1] != self._last_epochs.get(transactional_id):
                raise KafkaError(ErrorCode.PRODUCER_FENCED)
            epoch = transaction.epoch  # a repeated request: the response to the first was lost
        elif expected is not None:
            self._last_epochs[transactional_id] = transaction.epoch
        else:
            self._last_epochs.pop(transactional_id, None)
        if epoch > LAST_EPOCH:
            previous_producer_id, producer_id, epoch = producer_id, new_producer_id, 0
        self._put(
            transactional_id,
            Transaction(
                producer_id,
                epoch,
                timeout_ms,
                version=transaction.version,
                previous_producer_id=previous_producer_id,
            ),
            out,
        )
        return producer_id, epoch

    def add_partitions(
        self,
        transactional_id: str,
        producer_id: int,
        epoch: int,
        partitions: frozenset[TopicPartition],
        version: int,
        outcome: Outcome,
    ) -> None:
        """Adds partitions to the transaction; the first ones begin it. Raises `KafkaError`."""
        self._refuse_while_prepared(transactional_id)
        transaction = self._of(transactional_id, producer_id, epoch)
        if transaction.state is State.ONGOING:
            if partitions <= transaction.partitions:
                return
            partitions |= transaction.partitions
            started_ms = transaction.started_ms
        else:
            started_ms = self.clock.now_ms()
            self._began_s[transactional_id] = self.clock.monotonic()
        self._put(
            transactional_id,
            transaction._replace(state=State.ONGOING, partitions=partitions, started_ms=started_ms, version=version),
            outcome,
        )

    def verify(
        self, transactional_id: str, producer_id: int, epoch: int, partitions: Iterable[TopicPartition]
    ) -> list[bool]:
        """Which of these partitions are part of the open transaction. Raises `KafkaError`."""
        transaction = self._of(transactional_id, producer_id, epoch)
        members = transaction.partitions if transaction.state is State.ONGOING else frozenset()
        return [partition in members for partition in partitions]

    def end(
        self, transactional_id: str, producer_id: int, epoch: int, commit: bool, version: int, new_id: int, out: Outcome
    ) -> tuple[int, int]:
        """EndTxn: prepares the commit or abort; returns the producer id and epoch for the producer's next transaction.
        Raises `KafkaError`, with CONCURRENT_TRANSACTIONS if the transaction is prepared already and not complete."""
        raises = version >= VERSION_2
        if raises:
            self._refuse_while_prepared(transactional_id)
        transaction = self.transactions.get(transactional_id)
        if transaction is None:
            raise KafkaError(ErrorCode.INVALID_PRODUCER_ID_MAPPING)
        ended = transaction.state in (State.COMPLETE_COMMIT, State.COMPLETE_ABORT)
        # A repeated request: the response to the first was lost, and the epoch has risen since.
        again = raises and ended and (producer_id, epoch + 1) == (transaction.producer_id, transaction.epoch)
        again = again or (
            raises
            and ended
            and (producer_id, epoch) == (transaction.previous_producer_id, LAST_EPOCH)
            and transaction.epoch == 0
        )
        if not again:
            self._of(transactional_id, producer_id, epoch)
        if transaction.state is not State.ONGOING:
            was_commit = transaction.state is State.COMPLETE_COMMIT
            if ended and was_commit == commit and (again or not raises):
                return transaction.producer_id, transaction.epoch
            if commit or not raises or again:
                raise KafkaError(ErrorCode.INVALID_TXN_STATE)
        return self._prepare(transactional_id, transaction, commit, version, new_id, out)

    def _prepare(
        self, transactional_id: str, transaction: Transaction, commit: bool, version: int, new_id: int, outcome: Outcome
    ) -> tuple[int, int]:
        epoch, next_producer_id = transaction.epoch, NO_PRODUCER_ID
        if version >= VERSION_2:
            if epoch >= LAST_EPOCH:
                next_producer_id = new_id
            epoch = min(epoch + 1, EPOCH_MAX)
        self._last_epochs[transactional_id] = transaction.epoch
        empty = transaction.state is not State.ONGOING
        self._put(
            transactional_id,
            transaction._replace(
                epoch=epoch,
                state=State.PREPARE_COMMIT if commit else State.PREPARE_ABORT,
                partitions=frozenset() if empty else transaction.partitions,
                started_ms=self.clock.now_ms() if empty else transaction.started_ms,
                version=version,
                next_producer_id=next_producer_id,
            ),
            outcome,
        )
        return (transaction.producer_id, epoch) if next_producer_id == NO_PRODUCER_ID else (next_producer_id, 0)

    def fence(self, transactional_id: str, producer_id: int, epoch: int, outcome: Outcome) -> None:
        """Prepares the abort of an open transaction and raises its epoch, so that its producer is fenced. Does nothing
        if that transaction is no longer open."""
        transaction = self.transactions.get(transactional_id)
        if transaction is None or transaction.state is not State.ONGOING:
            return
        if (transaction.producer_id, transaction.epoch) != (producer_id, epoch):
            return
        fenced = transaction._replace(epoch=min(transaction.epoch + 1, EPOCH_MAX))
        self._prepare(transactional_id, fenced, False, 0, NO_PRODUCER_ID, outcome)

    def complete(self, transactional_id: str, prepared: Transaction, outcome: Outcome) -> None:
        """Marks a prepared transaction as complete: all its markers are durable."""
        transaction = self.transactions.get(transactional_id)
        if transaction is None or not transaction.state.is_prepared or transaction.epoch != prepared.epoch:
            return
        is_commit = transaction.state is State.PREPARE_COMMIT
        producer_id, epoch, previous = transaction.producer_id, transaction.epoch, transaction.previous_producer_id
        if transaction.next_producer_id != NO_PRODUCER_ID:
            producer_id, epoch, previous = transaction.next_producer_id, 0, transaction.producer_id
        self._put(
            transactional_id,
            transaction._replace(
                producer_id=producer_id,
                epoch=epoch,
                previous_producer_id=previous,
                next_producer_id=NO_PRODUCER_ID,
                state=State.COMPLETE_COMMIT if is_commit else State.COMPLETE_ABORT,
                partitions=frozenset(),
            ),
            outcome,
        )

    def expire(self, now_ms: int, expiration_ms: int) -> InSteps[None]:
        """Forgets ids that were silent for long."""
        outcome = Outcome(alters=False)
        for looks, transactional_id in enumerate(list(self.transactions), 1):
            transaction = self.transactions.get(transactional_id)
            if transaction is None:
                continue
            if transaction.state.rests and now_ms - transaction.updated_ms >= expiration_ms:
                outcome.records.append(record(transactional_id, None, self.clock.now_ms()))
            if len(outcome.records) >= STEP_RECORDS or looks % STEP_LOOKS == 0:
                yield outcome
                outcome = Outcome(alters=False)
        yield outcome

    def out_of_time(self) -> list[tuple[str, Transaction]]:
        """The open transactions that have exceeded their transaction timeout."""
        now_s = self.clock.monotonic()
        return [
            (transactional_id, transaction)
            for transactional_id, transaction in self.transactions.items()
            if transaction.state is State.ONGOING
            and (now_s - self._began_s[transactional_id]) * 1000 > transaction.timeout_ms
        ]
