"""The transaction coordinator: serves producers' requests and writes the markers that end transactions.

Role: run operations on the shard of `__transaction_state` that has a transactional id, and complete prepared
transactions: write a marker to every partition of the transaction, and when all markers are durable, append the
complete state. `coordination.sharded_topic` creates, loads and stops the shards.

Invariants:
- EndTxn is answered when the prepared state is durable. From then on the coordinator tries to complete the transaction
  until that succeeds, also after a restart. Kafka answers requests in the meantime with CONCURRENT_TRANSACTIONS; here
  they wait, up to `COMPLETION_WAIT_S`, for the completion.
- A marker is written for a prepared transaction only, with its epoch; a partition refuses a marker with an older epoch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from odradek.ages import Ages
from odradek.clock import Scheduler
from odradek.config.layers import BrokerConfig
from odradek.coordination.operation import Outcome
from odradek.coordination.runtime import Shard
from odradek.coordination.sharded_topic import ShardedTopic, partition_of
from odradek.coordination.transactions.records import NO_PRODUCER_ID, State, Transaction
from odradek.coordination.transactions.shard import TransactionShard
from odradek.errors import ErrorCode, KafkaError
from odradek.internal_topics import OFFSETS_TOPIC, TRANSACTIONS_TOPIC
from odradek.logs import get_logger
from odradek.partitions.registry import Partitions
from odradek.replay.delays import delays
from odradek.topic_partition import TopicPartition

log = get_logger("odradek.transactions")

# Markers that are written before others have their turn: 2 to 4 ms.
MARKERS_AT_ONCE = 64
# How long a request waits for the transaction before to be completed; then CONCURRENT_TRANSACTIONS, and it asks again.
COMPLETION_WAIT_S = 5.0
# One InitProducerId fences the open transaction, waits until it is aborted, and begins: it needs more than one attempt.
INIT_ATTEMPTS = 3
T = TypeVar("T")


def _init(
    transactional_id: str,
    timeout_ms: int,
    expected: tuple[int, int] | None,
    new_producer_id: int,
    machine: TransactionShard,
    outcome: Outcome,
) -> tuple[int, int] | None:
    return machine.init(transactional_id, timeout_ms, expected, new_producer_id, outcome)


def _is_owed(place: TopicPartition, ended: asyncio.Future[None]) -> bool:
    """Whether the marker of a partition must be written again."""
    error = asyncio.CancelledError() if ended.cancelled() else ended.exception()
    if isinstance(error, KafkaError):
        if error.code in (ErrorCode.INVALID_PRODUCER_EPOCH, ErrorCode.TRANSACTION_COORDINATOR_FENCED):
            # The partition has a later epoch: it has this transaction's marker already.
            log.info("a marker is not needed any more", partition=f"{place[0]}-{place[1]}", why=str(error))
            return False
        return error.code != ErrorCode.UNKNOWN_TOPIC_OR_PARTITION  # the topic was deleted
    return error is not None


class TransactionCoordinator:
    """The transactions of one broker."""

    def __init__(
        self,
        config: BrokerConfig,
        scheduler: Scheduler,
        partitions: Partitions,
        create_topic: Callable[[str], Awaitable[None]],
        next_producer_id: Callable[[], Awaitable[int]],
        ages: Ages,
    ) -> None:
        self.config = config
        self.scheduler = scheduler
        self.partitions = partitions
        self._next_producer_id = next_producer_id
        self.ages = ages
        self._topic = ShardedTopic(
            TRANSACTIONS_TOPIC,
            lambda: TransactionShard(scheduler.clock, self._loaded),
            partitions,
            create_topic,
            scheduler,
            config.integer("odradek.coordinator.snapshot.min.records"),
            config.integer("transaction.state.log.load.buffer.size"),
        )
        self._completions: dict[str, asyncio.Task[None]] = {}

    # --- life ----------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Loads a shard for each present partition of `__transaction_state`."""
        if self._topic.has_changed():
            self._end_completions()
            self._topic.load()

    def _loaded(self, prepared: list[str]) -> None:
        for transactional_id in prepared:
            self._begin_completion(transactional_id)

    async def ready(self) -> None:
        """Creates `__transaction_state` if it does not exist. Raises `KafkaError`."""
        await self._topic.ready()

    async def stop(self) -> None:
        """Stops the shards. Transactions that are still prepared are completed after the next start."""
        self._end_completions()
        await self._topic.stop()

    def _end_completions(self) -> None:
        for task in self._completions.values():
            task.cancel()
        self._completions.clear()

    def shards(self) -> Sequence[Shard[TransactionShard]]:
        """The current shards, to be read only."""
        return self._topic.shards

    async def _call(self, transactional_id: str, operation: Callable[[TransactionShard, Outcome], T]) -> T:
        return await self._topic.shard_of(transactional_id).call(operation)

    # --- producers' requests -------------------------------------------------------------------------------------

    async def init(self, transactional_id: str, timeout_ms: int, expected: tuple[int, int] | None) -> tuple[int, int]:
        """InitProducerId: returns the producer id and epoch, after aborting an open transaction of the transactional
        id. Raises `KafkaError`."""
        if not 0 < timeout_ms <= self.config.integer("transaction.max.timeout.ms"):
            raise KafkaError(ErrorCode.INVALID_TRANSACTION_TIMEOUT)
        for _ in range(INIT_ATTEMPTS):
            await self._completed(transactional_id)
            shard = self._topic.shard_of(transactional_id)
            new_id = await self._next_producer_id() if shard.active().needs_producer_id(transactional_id) else -1
            given = await shard.call(partial(_init, transactional_id, timeout_ms, expected, new_id))
            if given is not None:
                return given
            open_one = shard.active().transactions.get(transactional_id)
            if open_one is not None:
                await self._fence(transactional_id, open_one)
        raise KafkaError(ErrorCode.CONCURRENT_TRANSACTIONS)

    async def _fence(self, transactional_id: str, transaction: Transaction) -> None:
        await self._call(
            transactional_id,
            lambda machine, out: machine.fence(transactional_id, transaction.producer_id, transaction.epoch, out),
        )
        self._begin_completion(transactional_id)

    async def add_partitions(
        self, transactional_id: str, producer_id: int, epoch: int, partitions: frozenset[TopicPartition], version: int
    ) -> None:
        """Adds partitions to the producer's transaction; returns when that is durable. Raises `KafkaError`."""
        await self._completed(transactional_id)
        await self._call(
            transactional_id,
            lambda machine, out: machine.add_partitions(transactional_id, producer_id, epoch, partitions, version, out),
        )

    def verify(
        self, transactional_id: str, producer_id: int, epoch: int, partitions: Sequence[TopicPartition]
    ) -> list[bool]:
        """Which of these partitions are part of the open transaction. Raises `KafkaError`."""
        machine = self._topic.shard_of(transactional_id).active()
        return machine.verify(transactional_id, producer_id, epoch, partitions)

    def offsets_partition(self, group_id: str) -> TopicPartition:
        """The partition of `__consumer_offsets` that holds a group's offsets. Raises `KafkaError` while that topic does
        not exist."""
        topic = self.partitions.topics.get(OFFSETS_TOPIC)
        if topic is None or not topic.partitions:
            raise KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE)
        return OFFSETS_TOPIC, partition_of(group_id, len(topic.partitions))

    async def add_group(
        self, transactional_id: str, producer_id: int, epoch: int, group_id: str, implicit: bool
    ) -> ErrorCode:
        """Checks that a group's offsets may be committed in the producer's transaction; with `implicit` (transaction
        version 2) adds their partition to it first. Returns NONE or the error."""
        try:
            place = self.offsets_partition(group_id)
            if implicit:
                await self.add_partitions(transactional_id, producer_id, epoch, frozenset({place}), 2)
            # Checked with `implicit`, too: the producer may have been fenced while the partition was added.
            if not self.verify(transactional_id, producer_id, epoch, [place])[0]:
                return ErrorCode.INVALID_TXN_STATE
        except KafkaError as error:
            # As in Kafka, TxnOffsetCommit reports a fenced producer with this older code.
            is_fenced = error.code == ErrorCode.PRODUCER_FENCED
            return ErrorCode.INVALID_PRODUCER_EPOCH if is_fenced else error.code
        return ErrorCode.NONE

    async def end(
        self, transactional_id: str, producer_id: int, epoch: int, commit: bool, version: int
    ) -> tuple[int, int]:
        """EndTxn: commits or aborts. Returns, once the prepared state is durable, the producer id and epoch for the
        next transaction. Raises `KafkaError`."""
        await self._completed(transactional_id)
        shard = self._topic.shard_of(transactional_id)
        new_id = NO_PRODUCER_ID
        if version >= 2 and shard.active().needs_producer_id(transactional_id):
            new_id = await self._next_producer_id()
        given = await shard.call(
            lambda machine, out: machine.end(transactional_id, producer_id, epoch, commit, version, new_id, out)
        )
        self._begin_completion(transactional_id)
        return given

    # --- administrators' requests --------------------------------------------------------------------------------

    def transaction(self, transactional_id: str) -> Transaction | None:
        """The latest transaction of a transactional id, if it is known. Raises `KafkaError`."""
        return (
            self._topic.shard_of(transactional_id).active().transactions.get(transactional_id)
            if self._topic.shards
            else None
        )

    def all(self) -> list[tuple[str, Transaction]]:
        """Every transactional id with its latest transaction. Raises `KafkaError` if a shard is loading."""
        return [one for shard in self._topic.shards for one in shard.active().transactions.items()]

    # --- completion ----------------------------------------------------------------------------------------------

    async def _completed(self, transactional_id: str) -> None:
        """Waits up to `COMPLETION_WAIT_S` until the id's prepared transaction is complete."""
        task = self._completions.get(transactional_id)
        if task is not None:
            await self.scheduler.wait(task, COMPLETION_WAIT_S)

    def _begin_completion(self, transactional_id: str) -> None:
        if transactional_id in self._completions:
            return
        try:
            transaction = self._topic.shard_of(transactional_id).active().transactions.get(transactional_id)
        except KafkaError:
            return  # `_loaded` begins it when the shard is loaded
        if transaction is None or not transaction.state.is_prepared:
            return
        task = asyncio.ensure_future(self._complete(transactional_id, transaction))
        self._completions[transactional_id] = task
        task.add_done_callback(lambda done: self._ended(transactional_id, done))

    def _ended(self, transactional_id: str, task: asyncio.Task[None]) -> None:
        if self._completions.get(transactional_id) is task:
            del self._completions[transactional_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a transaction was not completed", transactional_id=transactional_id, exc_info=error)

    async def _complete(self, transactional_id: str, prepared: Transaction) -> None:
        """Writes the markers until all are durable, then appends the complete state to the shard's log."""
        left = list(prepared.partitions)
        for delay_s in delays():
            left = await self._write_markers(
                prepared, left, self._topic.shard_of(transactional_id).partition.leader_epoch
            )
            if not left:
                break
            log.warning(
                "markers of a transaction could not be written, trying again",
                transactional_id=transactional_id,
                partitions=len(left),
                retry_s=delay_s,
            )
            await self.scheduler.sleep(delay_s)
        try:
            shard = self._topic.shard_of(transactional_id)
            # This need not be durable: later records of the id follow it in the log.
            shard.run(lambda machine, out: machine.complete(transactional_id, prepared, out))
        except KafkaError as error:
            # The shard is loading; `_loaded` begins the completion again.
            log.info("a transaction is to be completed again", transactional_id=transactional_id, why=str(error))

    async def _write_markers(
        self, prepared: Transaction, wanted: list[TopicPartition], coordinator_epoch: int
    ) -> list[TopicPartition]:
        """Writes a marker to each of the `wanted` partitions; returns those where that must be tried again."""
        asked: list[tuple[TopicPartition, asyncio.Future[None]]] = []
        committed = prepared.state is State.PREPARE_COMMIT
        for number, (name, index) in enumerate(wanted, 1):
            if number % MARKERS_AT_ONCE == 0:
                await asyncio.sleep(0)
            partition = self.partitions.get(name, index)
            if partition is None:
                continue  # the partition was deleted, with the transaction's records
            ended = partition.end_transaction(prepared.producer_id, prepared.epoch, coordinator_epoch, committed)
            asked.append(((name, index), ended))
        waiting = {ended for _, ended in asked if not ended.done()}
        if waiting:
            await asyncio.wait(waiting)
        return [place for place, ended in asked if _is_owed(place, ended)]

    # --- periodic work -------------------------------------------------------------------------------------------

    async def abort_out_of_time(self) -> None:
        """Aborts the open transactions that have exceeded their transaction timeout."""
        for shard in self._topic.shards:
            try:
                late = shard.active().out_of_time()
                for transactional_id, transaction in late:
                    log.warning(
                        "a transaction is out of time and is aborted",
                        transactional_id=transactional_id,
                        timeout_ms=transaction.timeout_ms,
                        producer_id=transaction.producer_id,
                    )
                    await self._fence(transactional_id, transaction)
            except KafkaError as error:
                log.info("transactions were passed over", partition=str(shard.partition.identity), why=str(error))

    async def expire(self) -> None:
        """Removes transactional ids that were not used for `transactional.id.expiration.ms`."""
        now_ms, expiration_ms = self.ages.now_ms(), self.config.integer("transactional.id.expiration.ms")
        await self._topic.on_every_shard(lambda machine: machine.expire(now_ms, expiration_ms))
