"""One partition as producers and consumers see it: append, read, watermarks.

Role: stand between handlers and a `PartitionLog`. A batch that the topic takes (`admission`) is written when it is its
turn (`appending`), and noted in the producer state; a read is bounded by the high watermark; parked fetches are woken
when it moves.

Invariants:
- The high watermark is the log's durable end: nothing above it is ever handed out. The last stable offset is below it
  as long as a transaction is open, or its end not durable.
- State derived from the log (producer state) never outlives an opening of it: after a failure the log is opened
  again, at its durable end and under a higher epoch, and the state is made anew from it.

What a request may do, and how errors look in a response, is the handlers' business.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import partial
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
    Refused,
    StorageError,
    StorageFull,
    Unread,
)
from odradek.errors import ErrorCode, KafkaError
from odradek.logs import get_logger
from odradek.partitions import retention
from odradek.partitions.admission import Admission, TimesInDoubt, unsound
from odradek.partitions.appending import Appending, AppendResult, Ask, Marker, Placed
from odradek.partitions.counters import PartitionsCounters, Traffic
from odradek.partitions.guard import Guard, Held, hold
from odradek.partitions.producer_state import KeptBatch, Producer, ProducerState
from odradek.partitions.reopening import load_producers, reopen
from odradek.partitions.space import StorageSpace
from odradek.records.batch import (
    TRANSACTIONAL_BIT,
    Buffer,
    InvalidBatch,
    RecordBatch,
    check_batch,
)
from odradek.records.builder import CONTROL_ABORT, CONTROL_COMMIT, build_control_batch
from odradek.replay.batches import Take
from odradek.replay.loading import load

__all__ = ["AppendResult", "Offsets", "Opening", "Partition"]

log = get_logger("odradek.partition")

_MARKER = struct.Struct(">hi")  # an EndTxnMarker: version, coordinator epoch


class Offsets(NamedTuple):
    """A partition's offsets, read at one moment."""

    high_watermark: int
    last_stable_offset: int
    log_start_offset: int


class Opening:
    """Stands for one opening of a partition's log, and for nothing else: whoever makes state of the log keeps the one
    that it was made of, and compares."""

    __slots__ = ()


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
        """For this room alone: others ask the partition."""
        self.opening: Opening | None = None
        """Another one for each opening; None while the log is closed."""
        self.producers = ProducerState()
        self._deletion = asyncio.Event()
        self.readable_bytes = 0
        """Bytes that have come below the high watermark since the start: parked fetches compare two readings."""
        self._epoch = 0
        self._waiters: set[Callable[[], None]] = set()
        self.marker_listeners: list[Callable[[int, bool], None]] = []
        """Called with producer id and outcome when the end of a transaction has been appended."""
        self._refusal = ""
        """Why the retention guard takes no appends; empty while it does."""
        self._appended_bytes = 0
        # Open flushes in their order, each with `_appended_bytes` after its last batch so far.
        self._flushes: deque[tuple[asyncio.Future[None], int]] = deque()
        self._snapshot_offset = -1
        self._background: set[asyncio.Task[None]] = set()
        self._admission = Admission(config)
        self._appending = Appending(
            config,
            self.clock,
            self.executor,
            self._place,
            self._place_marker,
            lambda producer_id, epoch: self.producers.has_open_transaction(producer_id, epoch),
        )

    # --- opening and closing -------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Opens the log and makes the producer state from it. Raises `LogFailure`, `StorageError` or `OSError`."""
        opened = await self.engine.open(self.identity, self.config)
        try:
            producers, snapshot_offset = await load_producers(opened, self._scheduler, self.counters)
        except BaseException:
            await opened.close()  # a read that fails does not end an opening, and there is one at a time
            raise
        self.producers = producers
        self._snapshot_offset = snapshot_offset
        self._flushes.clear()
        self._epoch = opened.epoch
        opened.on_roll = partial(self._note_roll, opened)
        self.log, self.opening = opened, Opening()

    def _let_go(self) -> PartitionLog | None:
        opened, self.log, self.opening = self.log, None, None
        return opened

    async def close(self) -> None:
        """Lets open appends become durable, keeps the producer state, closes the log."""
        opened = self._let_go()
        if opened is None:
            return
        for task in list(self._background):
            await asyncio.gather(task, return_exceptions=True)
        try:
            await opened.flush()
            if opened.end_offset > 0 and opened.end_offset != self._snapshot_offset:
                await self._saving_state(opened, opened.end_offset)
            await opened.close()
        except (LogFailure, OSError) as failure:
            log.error("log not closed cleanly", partition=str(self.identity), why=str(failure))
        self._wake()

    async def delete(self) -> None:
        """Deletes the partition's log; parked fetches learn of it."""
        self._deletion.set()
        self._let_go()
        self.counters.offline.pop(self, None)
        self._hold(Held(0, 0, ""))
        self._wake()
        # What is under way (an opening after a failure, a snapshot) ends first: the engine deletes closed logs only.
        await asyncio.gather(*self._background, return_exceptions=True)
        self._let_go()
        await self.engine.delete(self.identity)

    def configure(self, config: LogConfig) -> None:
        """Puts changed topic settings into force."""
        self.config = config
        self._admission = Admission(config)
        self._appending.configure(config)
        if self.log is not None:
            self.log.configure(config)
            self._wake()  # what is durable may have moved with `odradek.flush`

    @property
    def deleted(self) -> bool:
        return self._deletion.is_set()

    # --- for who makes state of the log --------------------------------------------------------------------------

    def _of(self, opening: Opening | None) -> PartitionLog:
        if self.log is None or self.opening is not opening:
            raise Refused("the log has been opened anew")
        return self.log

    @property
    def end_offset(self) -> int:
        """Behind the last batch, durable or not. Raises `KafkaError` while the log is closed."""
        if self.log is None:
            raise self._offline()
        return self.log.end_offset

    async def load(
        self, opening: Opening, kind: str, read_bytes: int, restore: Callable[[int, bytes], None], take: Take
    ) -> None:
        """Has a state made of all that is in the log, as `replay.loading` does, when that is on the storage. Raises
        `LogFailure`, `OffsetOutOfRange`, `OSError`."""
        opened = self._of(opening)
        await opened.flush()
        oldest = opened.start_offset
        await load(opened, kind, self.executor, self.counters, read_bytes, restore, take, oldest=oldest)

    async def save_snapshot(self, opening: Opening, kind: str, offset: int, data: bytes) -> None:
        """Keeps what such a state is at an offset that is durable. Raises `LogFailure`, `OSError`."""
        await self._of(opening).save_snapshot(kind, offset, data)

    # --- watermarks ----------------------------------------------------------------------------------------------

    @property
    def leader_epoch(self) -> int:
        """The epoch under which this broker serves the partition; the last one known while the log is closed."""
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

    def offsets(self) -> Offsets:
        """High watermark, last stable offset and start offset."""
        opened = self.opened()
        return Offsets(opened.durable_end, self.stable_end(opened), opened.start_offset)

    def visible(self, current_leader_epoch: int, committed_only: bool) -> tuple[PartitionLog, int, int, int, int]:
        """What a consumer may see at this moment: the opened log, its start offset, high watermark and last stable
        offset, and which of the last two ends what it reads. Raises `KafkaError`: where the log is offline, or the
        consumer's leader epoch is not the partition's."""
        opened = self.log or self.opened()  # for the error: a call for each partition would be felt
        if current_leader_epoch >= 0:
            self.check_epoch(current_leader_epoch)
        high_watermark, stable_end = opened.durable_end, self.stable_end(opened)
        return opened, opened.start_offset, high_watermark, stable_end, stable_end if committed_only else high_watermark

    def stable_end(self, opened: PartitionLog) -> int:
        """The last stable offset: below it every transaction has ended, and for certain."""
        stable_end = self.producers.transactions.stable_end(opened.durable_end)
        return stable_end if stable_end > opened.start_offset else opened.start_offset

    def aborted_between(self, offset: int, upto: int) -> list[AbortedTransaction]:
        """The aborted transactions that have records from `offset` to before `upto`, by first offset."""
        return self.producers.transactions.aborted_between(offset, upto)

    def active_producers(self) -> Iterable[Producer]:
        """What is known of the idempotent and transactional producers."""
        return self.producers.producers.values()

    def size_bytes(self) -> int:
        """Bytes of batches held; 0 while the log is closed."""
        return self.log.size_bytes() if self.log is not None else 0

    def unread_from(self, offset: int) -> Unread | Awaitable[Unread | None] | None:
        """See `PartitionLog.unread_from`. Raises `KafkaError` while the log is closed; `LogFailure`."""
        return self.opened().unread_from(offset)

    def check_epoch(self, current_leader_epoch: int) -> None:
        """Compares a client's idea of the leader epoch (KIP-320); -1 is none. Raises `KafkaError`."""
        if current_leader_epoch < 0 or current_leader_epoch == self.leader_epoch:
            return
        if current_leader_epoch < self.leader_epoch:
            raise KafkaError(ErrorCode.FENCED_LEADER_EPOCH)
        raise KafkaError(ErrorCode.UNKNOWN_LEADER_EPOCH)

    def epoch_end(self, epoch: int) -> EpochEnd | None:
        """Where the largest epoch not above `epoch` ends, up to the high watermark; None if there is none."""
        opened = self.opened()
        if epoch == opened.epoch:
            return EpochEnd(epoch, opened.durable_end)
        if epoch > opened.epoch or epoch < 0:
            return None
        return opened.epoch_end(epoch, opened.durable_end)

    # --- append --------------------------------------------------------------------------------------------------

    def append(self, data: Buffer, ask: Ask | None = None) -> Placed:
        """Checks and appends the one batch in `data`, as a producer sent it. `ask` asks the coordinator whether a batch
        belongs to an open transaction; without it no transactional batch is taken.

        Returns a result, or a task of one where the topic's settings need the records looked at. Never raises for
        what the peer or the disk did."""
        try:
            batch = check_batch(data)
        except InvalidBatch as error:
            return AppendResult.refused(unsound(error))
        return self._append_sound(batch, ask)

    def _append_sound(self, batch: RecordBatch, ask: Ask | None) -> Placed:
        appending = self._appending
        if batch.header.attributes & TRANSACTIONAL_BIT:
            return appending.in_transaction(batch, ask)
        # As `Appending` asks, without a call.
        if appending.newest is not None or (appending.preparation is not None and appending.preparation.wanted(batch)):
            return appending.prepare(batch)
        return self._place(batch)

    def append_all(self, datas: Sequence[Buffer]) -> list[Placed]:
        """`append` for each of several, in their order. Neighbours that need nothing but room share one write, which
        costs less than half of one for each."""
        results: list[Placed] = []
        group: list[RecordBatch] = []
        now_ms = self.clock.now_ms()
        appending = self._appending
        takes = self.log is not None and not self._refusal and appending.preparation is None
        for data in datas:
            placed: Placed | None = None
            try:
                batch = check_batch(data)
                if takes and batch.header.producer_id < 0 and appending.newest is None:
                    admitted = self._admission.admit(batch, now_ms, self.producers)
                    if type(admitted) is RecordBatch:
                        group.append(admitted)
                        continue
            except InvalidBatch as error:
                placed = AppendResult.refused(unsound(error))
            except (TimesInDoubt, KafkaError):
                pass  # `append` says it again, with the answer
            if group:
                results += self._write_all(group, now_ms)
                group = []
            results.append(self._append_sound(batch, None) if placed is None else placed)
        if group:
            results += self._write_all(group, now_ms)
        return results

    def _write_all(self, batches: Sequence[RecordBatch], now_ms: int) -> list[AppendResult]:
        """Writes admitted batches, together where they fit."""
        size = sum(batch.size for batch in batches)
        if len(batches) > 1 and size <= min(self.config.segment_bytes, self.space.left_bytes):
            return self._write(batches, size, now_ms)
        return [self._write((batch,), batch.size, now_ms)[0] for batch in batches]

    def _place(self, batch: RecordBatch, word: ErrorCode | None = None, looked_into: bool = False) -> Placed:
        """A result, or a task of one where the batch must be looked into."""
        opened = self.log
        if opened is None:
            return AppendResult.refused(self._offline())
        if self._refusal:
            self.counters.guard_refusals += 1
            # An error that every client tries again; few do so with those that would say it better.
            return AppendResult(ErrorCode.NOT_ENOUGH_REPLICAS, message=self._refusal)
        now_ms = self.clock.now_ms()
        try:
            admitted = self._admission.admit(batch, now_ms, self.producers, word, looked_into)
        except TimesInDoubt:
            return self._appending.look_into(batch, now_ms, word)
        except KafkaError as refused:
            return AppendResult.refused(refused)
        if isinstance(admitted, KeptBatch):
            # A repetition: not appended again, but acknowledged only when the first copy is durable, which the
            # newest future covers, since futures resolve in offset order.
            time_ms = admitted.timestamp_ms if self._admission.has_log_append_time else -1
            durable = self._flushes[-1][0] if self._flushes else _resolved()
            return AppendResult(ErrorCode.NONE, admitted.base_offset, time_ms, opened.start_offset, durable=durable)
        (result,) = self._write((admitted,), admitted.size, now_ms)
        return result

    def _write(self, batches: Sequence[RecordBatch], size: int, now_ms: int) -> list[AppendResult]:
        """Writes admitted batches of `size` bytes in all, at once."""
        opened = self.log
        if opened is None:
            # The write before this one failed.
            return [AppendResult.refused(self._offline())] * len(batches)
        if size > self.space.left_bytes:
            return [AppendResult(ErrorCode.KAFKA_STORAGE_ERROR, message=self.space.refuse(size))] * len(batches)
        try:
            offset, end_offset, durable = opened.append(batches, opened.epoch)
        except StorageFull as failure:
            self.space.full(self.identity, failure)
            return [AppendResult(ErrorCode.KAFKA_STORAGE_ERROR, message=str(failure))] * len(batches)
        except (Refused, LogFailure) as failure:
            self._fail(failure)
            return [AppendResult(ErrorCode.KAFKA_STORAGE_ERROR, message=str(failure))] * len(batches)
        self._await_durable(durable, size, end_offset - offset, len(batches))
        append_time_ms = now_ms if self._admission.has_log_append_time else -1
        results = []
        for batch in batches:
            header = batch.header
            if header.producer_id >= 0:
                self.producers.record(header, offset, now_ms)
            results.append(AppendResult(ErrorCode.NONE, offset, append_time_ms, opened.start_offset, durable=durable))
            offset += header.last_offset_delta + 1
        return results

    def end_transaction(
        self, producer_id: int, producer_epoch: int, coordinator_epoch: int, committed: bool
    ) -> asyncio.Future[None]:
        """Appends the marker that ends a producer's transaction, behind what waits to be placed; done when that is
        durable. It fails with `KafkaError`: INVALID_PRODUCER_EPOCH, TRANSACTION_COORDINATOR_FENCED, or as `opened`; or
        with `LogFailure`."""
        return self._appending.mark(Marker(producer_id, producer_epoch, coordinator_epoch, committed))

    def _place_marker(self, marker: Marker) -> asyncio.Future[None]:
        producer_id, producer_epoch, coordinator_epoch, committed = marker
        opened = self.opened()
        self.producers.check_marker(producer_id, producer_epoch, coordinator_epoch)
        now_ms = self.clock.now_ms()
        batch = build_control_batch(
            CONTROL_COMMIT if committed else CONTROL_ABORT,
            _MARKER.pack(0, coordinator_epoch),
            now_ms,
            producer_id=producer_id,
            producer_epoch=producer_epoch,
            transactional=True,
        )
        base_offset = opened.end_offset
        durable = self._append_own(batch, opened)
        self.producers.record_marker(batch.header, base_offset, coordinator_epoch, committed, now_ms)
        for listener in self.marker_listeners:
            listener(producer_id, committed)
        return durable

    def append_own(self, batch: RecordBatch, opening: Opening | None) -> asyncio.Future[None]:
        """Appends a batch of the broker's own to the opening of the log that it was made for; what is durable when it
        has. Raises `LogFailure`, `Refused` where that opening is over."""
        opened = self._of(opening)
        base_offset = opened.end_offset
        durable = self._append_own(batch, opened)
        if batch.header.producer_id >= 0:
            self.producers.record(batch.header, base_offset, self.clock.now_ms())
        return durable

    def _append_own(self, batch: RecordBatch, opened: PartitionLog) -> asyncio.Future[None]:
        try:
            _, _, durable = opened.append((batch,), opened.epoch)
        except StorageFull as failure:
            self.space.full(self.identity, failure)
            raise
        except LogFailure as failure:
            self._fail(failure)
            raise
        self._await_durable(durable, batch.size, batch.header.last_offset_delta + 1, 1)
        return durable

    def _note_roll(self, opened: PartitionLog, base_offset: int) -> None:
        """The log rolls before its next batch: Kafka keeps the producer state of a segment's beginning, which is as it
        is now."""
        if base_offset != self._snapshot_offset:
            self._run(self._save_producers(self._saving_state(opened, base_offset)))

    def _await_durable(self, durable: asyncio.Future[None], size: int, records: int, batches: int) -> None:
        """Counts what was just appended, and moves the high watermark when it is durable."""
        traffic = self.traffic
        traffic.appended_records += records
        traffic.appended_batches += batches
        traffic.appended_bytes += size
        self.space.left_bytes -= size
        self._appended_bytes += size
        flushes = self._flushes
        if flushes and flushes[-1][0] is durable:
            flushes[-1] = (durable, self._appended_bytes)
        elif durable.done():
            self.readable_bytes = self._appended_bytes
            self._wake()
        else:
            flushes.append((durable, self._appended_bytes))
            durable.add_done_callback(self._on_durable)

    def must_wait(self) -> bool:
        """Whether even an acks=1 append waits for its flush: the leader epoch itself is not durable yet."""
        return self.log is not None and not self.log.established

    def _on_durable(self, durable: asyncio.Future[None]) -> None:
        if not self._flushes or self._flushes[0][0] is not durable:
            # Of an opening that is over: `_fail` has seen to it.
            durable.exception()
            return
        _, readable_bytes = self._flushes.popleft()
        failure = durable.exception()
        if failure is None:
            self.readable_bytes = readable_bytes
            self._wake()
        elif isinstance(failure, LogFailure):
            if self.log is not None and self.log.failed is not None:
                self._fail(failure)
        else:
            raise failure

    # --- failure and recovery ------------------------------------------------------------------------------------

    def _fail(self, failure: LogFailure) -> None:
        """Takes the log offline and begins to open it again."""
        if self.log is None or self.deleted:
            return
        log.error("log failed, opening it again", partition=str(self.identity), why=str(failure))
        self._epoch = self.log.epoch
        failed = self._let_go()
        self._went_offline()
        self._flushes.clear()
        self._wake()
        self._run(self._reopen(failed))

    async def _reopen(self, failed: PartitionLog | None) -> None:
        if not await reopen(self.identity, self._scheduler, failed, self.open, self._deletion):
            return
        assert self.log is not None
        self.counters.log_reopenings += 1
        self.counters.offline.pop(self, None)
        log.warning(
            "log back", partition=str(self.identity), end_offset=self.log.end_offset, leader_epoch=self.log.epoch
        )
        self._wake()

    def _went_offline(self) -> None:
        self.counters.log_failures += 1
        self.counters.offline[self] = self.clock.monotonic()

    def begin_offline(self, failure: LogFailure | StorageError | OSError) -> None:
        """Serves nothing until a log that failed to open does open."""
        log.error("log not opened, trying again", partition=str(self.identity), why=str(failure))
        self._went_offline()
        self._run(self._reopen(None))

    def _run(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _save_producers(self, saving: Awaitable[None]) -> None:
        try:
            await saving
        except (LogFailure, OSError) as failure:
            # Not fatal: the state is made again from the log's headers.
            log.warning("producer snapshot not saved", partition=str(self.identity), why=str(failure))

    def _saving_state(self, opened: PartitionLog, offset: int) -> Awaitable[None]:
        """Keeps what is known of producers at the moment of the call, which is that at `offset`."""
        snapshot, aborted = self.producers.to_snapshot(), list(self.producers.transactions.aborted)

        async def save() -> None:
            await opened.save_aborted(aborted)
            await opened.save_snapshot("producer", offset, snapshot)
            self._snapshot_offset = max(self._snapshot_offset, offset)

        return save()

    # --- read ----------------------------------------------------------------------------------------------------

    def read(
        self, offset: int, max_bytes: int, minimum_one: bool, upto: int | None = None, spans: bool = False
    ) -> list[Buffer] | Awaitable[list[Buffer]]:
        """Batches from the one that contains `offset` up to the high watermark, or to `upto` below it; see
        `PartitionLog.read`.

        Raises `KafkaError`, also when it is awaited: OFFSET_OUT_OF_RANGE below the start or above the end,
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

    def wait(self, wake: Callable[[], None]) -> None:
        """Calls `wake` whenever the high watermark may have moved, or the partition changed its state."""
        self._waiters.add(wake)

    def stop_waiting(self, wake: Callable[[], None]) -> None:
        self._waiters.discard(wake)

    def _wake(self) -> None:
        if self._waiters:
            for wake in list(self._waiters):
                wake()

    # --- the rest ------------------------------------------------------------------------------------------------

    async def delete_records(self, offset: int) -> int:
        """Moves the start to `offset` (-1: the high watermark); returns the new start. Raises `KafkaError`."""
        opened = self.opened()
        if "compact" in self.config.cleanup_policy and "delete" not in self.config.cleanup_policy:
            raise KafkaError(ErrorCode.POLICY_VIOLATION, "a topic that is only compacted keeps its records")
        high_watermark = opened.durable_end
        if offset == -1:
            offset = high_watermark
        if offset < 0 or offset > high_watermark:
            raise KafkaError(
                ErrorCode.OFFSET_OUT_OF_RANGE, f"offset {offset} is above the high watermark {high_watermark}"
            )
        try:
            async with self._keeping_producers(opened, offset):
                await opened.truncate_before(offset)
        except (LogFailure, OSError) as failure:
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, str(failure)) from failure
        return opened.start_offset

    @contextlib.asynccontextmanager
    async def _keeping_producers(self, opened: PartitionLog, offset: int) -> AsyncIterator[None]:
        """For deleting the records below `offset`: what is known of their producers is kept first, else a batch that is
        sent again after a crash would be taken for a new one. On a full disk it is kept when the deletion has made
        room. Raises `LogFailure` or `OSError` where it cannot be kept: then nothing is deleted."""
        is_due = bool(self.producers.producers) and self._snapshot_offset < min(offset, opened.end_offset)
        if is_due:
            try:
                await self._saving_state(opened, opened.end_offset)
                is_due = False
            except StorageFull as failure:
                log.warning("producers are kept after a deletion", partition=str(self.identity), why=str(failure))
        yield
        if is_due:
            await self._save_producers(self._saving_state(opened, opened.end_offset))

    async def retain(self, now_ms: int, guard: Guard | None = None) -> int:
        """Deletes what retention no longer keeps, and the guard does not hold; returns the bytes."""
        upto = await self.look_at_guard(now_ms, guard)
        opened = self.log
        if opened is None or upto is None:
            return 0
        expendable = await retention.expendable(opened, now_ms, upto)
        if not expendable:
            return 0
        upto = expendable[-1].end_offset
        async with self._keeping_producers(opened, upto):
            return await retention.delete(opened, upto)

    async def look_at_guard(self, now_ms: int, guard: Guard | None) -> int | None:
        """Up to where retention may delete; None where it may not. From now on appends are refused where the guard is
        at its limits and blocks, and taken again where it no longer is."""
        opened = self.log
        if opened is None:
            return None
        if "delete" not in self.config.cleanup_policy:
            self._hold(Held(0, 0, ""))
            return None
        held = Held(opened.durable_end, 0, "")
        if guard is not None:
            held = hold(guard, await retention.expendable(opened, now_ms, held.upto), held.upto)
        if not self.deleted:
            self._hold(held)
        return held.upto

    def _hold(self, held: Held) -> None:
        if held.size_bytes:
            self.counters.guarded_bytes[self] = held.size_bytes
        else:
            self.counters.guarded_bytes.pop(self, None)
        if held.refusal:
            self.counters.blocked.add(self)
        else:
            self.counters.blocked.discard(self)
        if held.refusal and not self._refusal:
            log.warning("appends are refused", partition=str(self.identity), why=held.refusal)
        elif self._refusal and not held.refusal:
            log.info("appends are taken again", partition=str(self.identity))
        self._refusal = held.refusal

    def expire_producers(self, now_ms: int, expiration_ms: int) -> None:
        self.producers.expire(now_ms, expiration_ms)
        if self.log is not None:
            self.producers.transactions.forget_before(self.log.start_offset)


def _resolved() -> asyncio.Future[None]:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_result(None)
    return future
