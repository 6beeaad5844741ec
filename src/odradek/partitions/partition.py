"""One partition as producers and consumers see it: append, read, watermarks.

Role: stand between handlers and a `PartitionLog`. A batch that the topic accepts is written in its turn (`placing`,
`appending`), and is readable when it is durable (`progress`); a read is bounded by the high watermark. `log_start`
deletes records at the start of the log.

Invariants:
- The high watermark is the log's durable end: nothing above it is returned to consumers. The last stable offset is
  below it as long as a transaction is open, or its marker is not durable.
- State derived from the log never outlives an opening of it (`opening`): after a failure the log is opened again, at
  its durable end and under a higher leader epoch, and the state is made again from it.

Handlers decide what a request may do, and how errors look in a response.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from typing import NamedTuple

from odradek.clock import Scheduler
from odradek.config.topic import LogConfig
from odradek.engines.interface import (
    AbortedTransaction,
    Engine,
    EpochEnd,
    LogFailure,
    LogIdentity,
    OffsetOutOfRange,
    PartitionLog,
    StorageError,
    Unread,
)
from odradek.errors import ErrorCode, KafkaError
from odradek.logs import get_logger
from odradek.partitions.admission import TimesInDoubt, unsound
from odradek.partitions.appending import AppendResult, Ask, Marker, Placed
from odradek.partitions.counters import PartitionsCounters, Traffic
from odradek.partitions.guard import Guard
from odradek.partitions.log_start import LogStart
from odradek.partitions.opening import Opening, open_log
from odradek.partitions.placing import Placing
from odradek.partitions.producer_state import Producer, ProducerState
from odradek.partitions.progress import Progress
from odradek.partitions.reopening import reopen
from odradek.partitions.space import StorageSpace
from odradek.records.batch import TRANSACTIONAL_BIT, Buffer, InvalidBatch, RecordBatch, check_batch

__all__ = ["AppendResult", "Opening", "Partition", "PartitionOffsets"]

log = get_logger("odradek.partition")


class PartitionOffsets(NamedTuple):
    """A partition's offsets, read at one moment."""

    high_watermark: int
    last_stable_offset: int
    log_start_offset: int


class Partition:
    """One partition. Made by `Partitions`; used on the event loop only."""

    def __init__(
        self,
        engine: Engine,
        identity: LogIdentity,
        config: LogConfig,
        scheduler: Scheduler,
        traffic: Traffic | None = None,
        counters: PartitionsCounters | None = None,
        space: StorageSpace | None = None,
    ) -> None:
        """`traffic` is the topic's, `counters` and `space` are shared by all partitions."""
        self.identity = identity
        self.engine = engine
        self.clock = scheduler.clock
        self.executor = scheduler.executor
        self._scheduler = scheduler
        self.traffic = traffic if traffic is not None else Traffic()
        self.counters = counters if counters is not None else PartitionsCounters()
        self.space = space if space is not None else StorageSpace()
        self.config = config
        self.log: PartitionLog | None = None
        """Used only within `partitions`: other code asks the partition."""
        self.opening: Opening | None = None
        """The present opening of the log, a new object each time; None while the log is closed."""
        self.producers = ProducerState()
        self.progress = Progress(self.traffic, self.space, self._flush_failed, self._ends)
        self.log_start = LogStart(identity, self.counters)
        self._placing = Placing(
            identity,
            config,
            scheduler,
            self.counters,
            self.space,
            self.progress,
            self.log_start,
            self._offline,
            self._fail,
        )
        self._appending = self._placing.appending
        self.marker_listeners = self._placing.marker_listeners
        self.deleted = False
        self._ending = asyncio.Event()
        """Set when the partition is closed or deleted: a failed log is not opened again."""
        self._epoch = 0
        self._background: set[asyncio.Task[None]] = set()

    # --- opening and closing -------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Opens the log and makes its producer state. Raises `LogFailure`, `StorageError` or `OSError`."""
        opening = await open_log(self.engine, self.identity, self.config, self._scheduler, self.counters, self._run)
        self.progress.forget_flushes()
        self._epoch = opening.log.epoch
        self._placing.begin(opening)
        self.producers = opening.producers
        self.log, self.opening = opening.log, opening

    def _let_go(self) -> Opening | None:
        opening, self.log, self.opening, self._placing.opening = self.opening, None, None, None
        if opening is not None:
            opening.is_over = True
        return opening

    async def close(self) -> None:
        """Flushes the log, saves the producer state, and closes the log. Ends what reopens it after a failure."""
        self._ending.set()
        opening = self._let_go()
        await asyncio.gather(*self._background, return_exceptions=True)
        if opening is not None:
            await opening.close()
        elif (reopened := self._let_go()) is not None:
            await reopened.close()
        self.progress.change()

    async def delete(self) -> None:
        """Deletes the partition's log, and wakes parked fetches."""
        self.deleted = True
        self._ending.set()
        self._let_go()
        self.counters.offline.pop(self.identity, None)
        self.log_start.end()
        self.progress.change()
        # What is under way (an opening after a failure, a snapshot) ends first: the engine deletes closed logs only.
        await asyncio.gather(*self._background, return_exceptions=True)
        self._let_go()
        await self.engine.delete(self.identity)

    def configure(self, config: LogConfig) -> None:
        """Puts changed topic settings into force."""
        self.config = config
        self._placing.configure(config)
        if self.log is not None:
            self.log.configure(config)
            self.progress.change()  # what is durable may have moved with `odradek.flush`

    # --- watermarks ----------------------------------------------------------------------------------------------

    @property
    def end_offset(self) -> int:
        """The log's end offset, after the last batch, durable or not. Raises `KafkaError` while the log is closed."""
        if self.log is None:
            raise self._offline()
        return self.log.end_offset

    @property
    def leader_epoch(self) -> int:
        """The leader epoch under which this broker serves the partition; while the log is closed, the last one."""
        return self.log.epoch if self.log is not None else self._epoch

    def opened(self) -> PartitionLog:
        """The open log. Raises `KafkaError` with KAFKA_STORAGE_ERROR while there is none."""
        if self.log is None:
            raise self._offline()
        return self.log

    def _offline(self) -> KafkaError:
        if self.deleted:
            return KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        return KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, "the partition's log is offline")

    def offsets(self) -> PartitionOffsets:
        """The high watermark, last stable offset and log start offset."""
        opened = self.opened()
        return PartitionOffsets(opened.durable_end, self.stable_end(opened), opened.start_offset)

    def visible(self, current_leader_epoch: int, committed_only: bool) -> tuple[PartitionLog, int, int, int, int]:
        """What a consumer may read now: the open log, its start offset, high watermark and last stable offset, and the
        offset that bounds its reads (one of the last two). Raises `KafkaError` where the log is offline, or the
        consumer's leader epoch is not the partition's."""
        opened = self.log or self.opened()  # `opened` only raises here: a call for each partition costs too much
        if current_leader_epoch >= 0:
            self.check_epoch(current_leader_epoch)
        high_watermark, stable_end = opened.durable_end, self.stable_end(opened)
        return opened, opened.start_offset, high_watermark, stable_end, stable_end if committed_only else high_watermark

    def stable_end(self, opened: PartitionLog) -> int:
        """The last stable offset: below it every transaction has ended, with a durable marker."""
        stable_end = self.producers.transactions.stable_end(opened.durable_end)
        return stable_end if stable_end > opened.start_offset else opened.start_offset

    def _ends(self) -> tuple[int, int]:
        """Last stable offset and high watermark, for who waits for them to move; equal while the log is closed."""
        opened = self.log
        return (self.stable_end(opened), opened.durable_end) if opened is not None else (-1, -1)

    def aborted_between(self, offset: int, upto: int) -> list[AbortedTransaction]:
        """The aborted transactions that have records from `offset` to before `upto`, by first offset."""
        return self.producers.transactions.aborted_between(offset, upto)

    def transaction_error(self, producer_id: int, epoch: int, continues: bool) -> ErrorCode | None:
        """Why a producer may not write in its transaction now, as far as this partition knows: it has a newer epoch,
        or, if the write `continues` an earlier one, the transaction has ended. None if it may."""
        if self.producers.is_fenced(producer_id, epoch):
            return ErrorCode.INVALID_PRODUCER_EPOCH
        if continues and not self.producers.has_open_transaction(producer_id, epoch):
            return ErrorCode.INVALID_TXN_STATE
        return None

    def active_producers(self) -> Iterable[Producer]:
        """The state of each idempotent and transactional producer."""
        return self.producers.producers.values()

    def size_bytes(self) -> int:
        """Bytes of batches in the log; 0 while it is closed."""
        return self.log.size_bytes() if self.log is not None else 0

    def unread_from(self, offset: int) -> Unread | Awaitable[Unread | None] | None:
        """See `PartitionLog.unread_from`. Raises `KafkaError` while the log is closed; `LogFailure`."""
        return self.opened().unread_from(offset)

    def check_epoch(self, current_leader_epoch: int) -> None:
        """Compares a client's leader epoch with the partition's (KIP-320); -1 is none. Raises `KafkaError` where they
        differ."""
        if current_leader_epoch < 0 or current_leader_epoch == self.leader_epoch:
            return
        if current_leader_epoch < self.leader_epoch:
            raise KafkaError(ErrorCode.FENCED_LEADER_EPOCH)
        raise KafkaError(ErrorCode.UNKNOWN_LEADER_EPOCH)

    def epoch_end(self, epoch: int) -> EpochEnd | None:
        """The largest leader epoch not above `epoch` and its end, at most the high watermark; None if there is none."""
        opened = self.opened()
        if epoch == opened.epoch:
            return EpochEnd(epoch, opened.durable_end)
        if epoch > opened.epoch or epoch < 0:
            return None
        return opened.epoch_end(epoch, opened.durable_end)

    # --- append --------------------------------------------------------------------------------------------------

    def append(self, data: Buffer, ask: Ask | None = None) -> Placed:
        """Checks and appends the one batch in `data`, as a producer sent it. `ask` asks the coordinator whether a batch
        belongs to an open transaction; without it transactional batches are refused.

        Returns a result, or a task of one where the batch must wait. Errors of the client or the disk are in the
        result, never raised."""
        try:
            batch = check_batch(data)
        except InvalidBatch as error:
            return AppendResult.refused(unsound(error))
        return self._append_sound(batch, ask)

    def _append_sound(self, batch: RecordBatch, ask: Ask | None) -> Placed:
        appending = self._appending
        if batch.header.attributes & TRANSACTIONAL_BIT:
            return appending.in_transaction(batch, ask)
        # The condition of `Appending._must_wait`, inlined to save a call.
        if appending.newest is not None or (appending.preparation is not None and appending.preparation.wanted(batch)):
            return appending.prepare(batch)
        return self._placing.place(batch)

    def append_all(self, datas: Sequence[Buffer]) -> list[Placed]:
        """`append` for each of several batches, in their order. Adjacent batches without a producer id that need no
        preparation share one write, which costs less than half of one write each."""
        results: list[Placed] = []
        group: list[RecordBatch] = []
        now_ms = self.clock.now_ms()
        appending, placing = self._appending, self._placing
        takes = self.log is not None and not self.log_start.refusal and appending.preparation is None
        for data in datas:
            placed: Placed | None = None
            try:
                batch = check_batch(data)
                if takes and batch.header.producer_id < 0 and appending.newest is None:
                    admitted = placing.admission.admit(batch, now_ms, self.producers)
                    if type(admitted) is RecordBatch:
                        group.append(admitted)
                        continue
            except InvalidBatch as error:
                placed = AppendResult.refused(unsound(error))
            except (TimesInDoubt, KafkaError):
                pass  # `_append_sound` below meets it again, and returns the result
            if group:
                results += placing.write_all(group, now_ms, self.config.segment_bytes)
                group = []
            results.append(self._append_sound(batch, None) if placed is None else placed)
        if group:
            results += placing.write_all(group, now_ms, self.config.segment_bytes)
        return results

    def end_transaction(
        self, producer_id: int, producer_epoch: int, coordinator_epoch: int, committed: bool
    ) -> asyncio.Future[None]:
        """Appends the marker that ends a producer's transaction, after all batches that wait to be placed. The future
        is done when the marker is durable. It fails with `KafkaError` (INVALID_PRODUCER_EPOCH,
        TRANSACTION_COORDINATOR_FENCED, or as `opened` does) or with `LogFailure`."""
        return self._appending.mark(Marker(producer_id, producer_epoch, coordinator_epoch, committed))

    def append_own(self, batch: RecordBatch, opening: Opening | None) -> asyncio.Future[None]:
        """Appends a batch that the broker itself has made, to the opening that it was made for. Returns a future that
        is done when the batch is durable. Raises `LogFailure`; `Refused` where that opening is over."""
        return self._placing.append_own(batch, opening)

    def must_wait(self) -> bool:
        """Whether even an acks=1 append must wait for its flush, because the leader epoch is not durable yet."""
        return self.log is not None and not self.log.established

    # --- failure and recovery ------------------------------------------------------------------------------------

    def _flush_failed(self, failure: LogFailure) -> None:
        if self.log is not None and self.log.failed is not None:
            self._fail(failure)

    def _fail(self, failure: LogFailure) -> None:
        """Takes the log offline and begins to open it again."""
        if self.log is None or self.deleted:
            return
        log.error("log failed, opening it again", partition=str(self.identity), why=str(failure))
        failed = self.log
        self._epoch = failed.epoch
        self._let_go()
        self._went_offline()
        self.progress.forget_flushes()
        self.progress.change()
        self._run(self._reopen(failed))

    async def _reopen(self, failed: PartitionLog | None) -> None:
        if not await reopen(self.identity, self._scheduler, failed, self.open, self._ending):
            return
        assert self.log is not None
        self.counters.log_reopenings += 1
        self.counters.offline.pop(self.identity, None)
        log.warning(
            "log back", partition=str(self.identity), end_offset=self.log.end_offset, leader_epoch=self.log.epoch
        )
        self.progress.change()

    def _went_offline(self) -> None:
        self.counters.log_failures += 1
        self.counters.offline[self.identity] = self.clock.monotonic()

    def begin_offline(self, failure: LogFailure | StorageError | OSError) -> None:
        """Begins the partition offline, because its log failed to open, and tries to open it again until it opens."""
        log.error("log not opened, trying again", partition=str(self.identity), why=str(failure))
        self._went_offline()
        self._run(self._reopen(None))

    def _run(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    # --- read ----------------------------------------------------------------------------------------------------

    def read(
        self, offset: int, max_bytes: int, minimum_one: bool, upto: int | None = None, spans: bool = False
    ) -> list[Buffer] | Awaitable[list[Buffer]]:
        """Reads batches from the one that contains `offset` up to the high watermark, or to `upto` below it; see
        `PartitionLog.read`.

        Raises `KafkaError`, also when awaited: OFFSET_OUT_OF_RANGE below the start or above the end,
        KAFKA_STORAGE_ERROR where the disk fails."""
        opened = self.opened()
        if offset > opened.end_offset or offset < opened.start_offset:
            raise KafkaError(ErrorCode.OFFSET_OUT_OF_RANGE)
        end = opened.durable_end if upto is None else upto
        if offset >= end:
            return []
        try:
            data = opened.read(offset, max_bytes, end, minimum_one, spans)
        except (OffsetOutOfRange, LogFailure, OSError) as error:
            raise self._read_failed(offset, error) from None
        return data if isinstance(data, list) else self._read_from_disk(offset, data)

    async def _read_from_disk(self, offset: int, reading: Awaitable[list[Buffer]]) -> list[Buffer]:
        try:
            return await reading
        except (OffsetOutOfRange, LogFailure, OSError) as error:
            raise self._read_failed(offset, error) from None

    def _read_failed(self, offset: int, error: Exception) -> KafkaError:
        if isinstance(error, OffsetOutOfRange):
            return KafkaError(ErrorCode.OFFSET_OUT_OF_RANGE)
        log.error("read failed", partition=str(self.identity), offset=offset, why=str(error))
        return KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, str(error))

    # --- deletion ------------------------------------------------------------------------------------------------

    async def delete_records(self, offset: int) -> int:
        """Moves the log start offset to `offset` (-1: the high watermark); returns the new one. Raises `KafkaError`."""
        if self.opening is None:
            raise self._offline()
        return await self.log_start.delete_records(self.opening, offset)

    async def retain(self, now_ms: int, guard: Guard | None = None) -> int:
        """Deletes the segments that retention does not keep and the guard does not hold; returns their bytes."""
        return await self.log_start.retain(self.opening, now_ms, guard) if self.opening is not None else 0

    async def look_at_guard(self, now_ms: int, guard: Guard | None) -> None:
        """Applies the guard: decides whether it refuses appends from now on."""
        if self.opening is not None:
            await self.log_start.look_at_guard(self.opening, now_ms, guard)

    def expire_producers(self, now_ms: int, expiration_ms: int) -> None:
        self.producers.expire(now_ms, expiration_ms)
        if self.log is not None:
            self.producers.transactions.forget_before(self.log.start_offset)
