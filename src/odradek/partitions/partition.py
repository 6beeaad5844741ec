"""One partition as producers and consumers see it: append, read, watermarks, lookups.

Role: stand between handlers and a `PartitionLog`. An append is checked (size, times, sequence), placed, and noted in
the producer state; a read is bounded by the high watermark; parked fetches are woken when it moves.

Invariants:
- The high watermark is the log's durable end: nothing above it is ever handed out. The last stable offset is below it
  as long as a transaction is open, or its end not durable.
- Appends are placed in the order in which `append` was called, also when a topic's settings make a batch pass through
  a thread first (recompression, key checks). A marker has its place among them: no batch of a transaction is placed
  behind its marker. (What waits for the coordinator's word has no place yet; that word says whether the transaction is
  still open.)
- State derived from the log (producer state) never outlives an opening of it: after a failure the log is opened
  again, at its durable end and under a higher epoch, and the state is made anew from it.

What a request may do, and how errors look in a response, is the handlers' business.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple

from odradek.clock import Clock
from odradek.config import LogConfig
from odradek.engines.interface import (
    Engine,
    EpochEnd,
    LogFailure,
    LogIdentity,
    OffsetOutOfRange,
    PartitionLog,
    Refused,
    StorageError,
    StorageFull,
)
from odradek.errors import ErrorCode, KafkaError
from odradek.logs import get_logger
from odradek.partitions.counters import PartitionsCounters, Traffic
from odradek.partitions.guard import Guard, Held, hold
from odradek.partitions.preparation import Preparation, RecordsRefused
from odradek.partitions.producer_state import ProducerState, SnapshotDamaged, mended_snapshot
from odradek.partitions.replay import Replay
from odradek.partitions.space import StorageSpace
from odradek.records.batch import (
    LENGTH_OVERHEAD,
    TIMESTAMP_TYPE_BIT,
    TRANSACTIONAL_BIT,
    BatchHeader,
    Buffer,
    CorruptBatch,
    InvalidBatch,
    RecordBatch,
    check_batch,
)
from odradek.records.builder import CONTROL_ABORT, CONTROL_COMMIT, build_control_batch

log = get_logger("odradek.partition")

# A log that failed is opened again after this long, doubled each time up to the maximum, for as long as it takes.
REOPEN_FIRST_DELAY_S = 0.05
REOPEN_MAX_DELAY_S = 10.0
# Uncompressed batches up to these are looked into at once: a thread costs more.
RECORDS_AT_ONCE = 50
BYTES_AT_ONCE = 16_384
# Read at a time where producer state is made from a log's batches.
REPLAY_BYTES = 1_048_576
_MARKER = struct.Struct(">hi")  # an EndTxnMarker: version, coordinator epoch


class AppendResult(NamedTuple):
    """What became of one batch. `durable` is None for a refused one, and done where nothing needs to be awaited."""

    error: ErrorCode
    base_offset: int = -1
    log_append_time_ms: int = -1
    log_start_offset: int = -1
    message: str | None = None
    durable: asyncio.Future[None] | None = None
    record_errors: tuple[tuple[int, str], ...] = ()
    """For refused records: their index in the batch, and why (KIP-467)."""


class _NotAdmitted(Exception):
    """A batch that the topic does not take."""

    def __init__(self, code: ErrorCode, message: str | None = None) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


class _TimesInDoubt(_NotAdmitted):
    """A batch whose records must be asked for their times before anything is said of it."""


class Offsets(NamedTuple):
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
        clock: Clock,
        executor: Executor,
        traffic: Traffic | None = None,
        counters: PartitionsCounters | None = None,
        space: StorageSpace | None = None,
    ) -> None:
        """`traffic` is the topic's, `counters` and `space` are shared by all partitions."""
        self.identity = identity
        self.engine = engine
        self.clock = clock
        self.executor = executor
        self.traffic = traffic if traffic is not None else Traffic()
        self.counters = counters if counters is not None else PartitionsCounters()
        self.space = space if space is not None else StorageSpace()
        self.config = config
        self.log: PartitionLog | None = None
        self.producers = ProducerState()
        self.deleted = False
        self._deletion = asyncio.Event()
        self.readable_bytes = 0
        """Bytes that have come below the high watermark since the start: parked fetches compare two readings."""
        self._epoch = 0
        self._waiters: set[Callable[[], None]] = set()
        self.marker_listeners: list[Callable[[int, bool], None]] = []
        """Called with producer id and outcome when the end of a transaction has been appended."""
        # By producer: done when its newest batch that waits for the coordinator's word has its place, or was refused.
        self._admitting: dict[int, asyncio.Future[None]] = {}
        self._refusal = ""
        """Why the retention guard takes no appends; empty while it does."""
        self._appended_bytes = 0
        # Open flushes in their order, each with `_appended_bytes` after its last batch so far.
        self._flushes: deque[tuple[asyncio.Future[None], int]] = deque()
        self._segment_base = 0
        self._snapshot_offset = -1
        # The newest of the batches and markers that wait to be placed, each behind the one before it.
        self._preparing: asyncio.Task[Any] | None = None
        # By producer: its newest marker among them.
        self._ending: dict[int, asyncio.Task[asyncio.Future[None]]] = {}
        self._preparation: Preparation | None
        """What is done to batches of this topic; None where they are appended as they come."""
        self._background: set[asyncio.Task[None]] = set()
        self._configure(config)

    # --- opening and closing -------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Opens the log and makes the producer state from it. Raises `LogFailure` or `StorageError`."""
        opened = await self.engine.open(self.identity, self.config)
        producers, snapshot_offset = await self._load_producers(opened)
        self.producers = producers
        self._snapshot_offset = snapshot_offset
        self._segment_base = opened.segment_base_offset()
        self._flushes.clear()
        self._epoch = opened.epoch
        self.log = opened

    async def _load_producers(self, opened: PartitionLog) -> tuple[ProducerState, int]:
        upto = opened.end_offset
        producers, start = ProducerState(), opened.start_offset
        snapshot_offset = -1
        while (found := await opened.load_snapshot("producer", upto)) is not None:
            try:
                producers = ProducerState.from_snapshot(found[1])
            except SnapshotDamaged as damage:
                # Where the records have been deleted, nothing else knows their producers.
                whole = await asyncio.get_running_loop().run_in_executor(self.executor, mended_snapshot, found[1])
                log.warning(
                    "producer snapshot damaged",
                    partition=str(self.identity),
                    offset=found[0],
                    why=str(damage),
                    what="it is passed over" if whole is None else "one bit has flipped, and is turned back",
                )
                if whole is None:
                    upto = found[0] - 1
                    continue
                producers = ProducerState.from_snapshot(whole)
            snapshot_offset = found[0]
            start = max(start, snapshot_offset)
            break
        loop = asyncio.get_running_loop()
        if not producers.knows_aborted:
            noted = await loop.run_in_executor(self.executor, opened.read_aborted)
            producers.transactions.aborted = [one for one in noted if one.last_offset < start]
        if start < opened.end_offset:
            now_ms = self.clock.now_ms()
            await Replay(
                opened,
                "producers",
                self.executor,
                self.counters,
                REPLAY_BYTES,
                lambda header, batch: producers.replay(header, batch, now_ms),
                lambda header: producers.replay_damaged(header, now_ms),
            ).run(start, opened.end_offset)
        return producers, snapshot_offset

    async def close(self) -> None:
        """Lets open appends become durable, keeps the producer state, closes the log."""
        opened, self.log = self.log, None
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
        self.deleted = True
        self.log = None
        self.counters.offline.pop(self, None)
        self._hold(Held(0, 0, ""))
        self._wake()
        self._deletion.set()
        # What is under way (an opening after a failure, a snapshot) ends first: the engine deletes closed logs only.
        await asyncio.gather(*self._background, return_exceptions=True)
        self.log = None
        await self.engine.delete(self.identity)

    def configure(self, config: LogConfig) -> None:
        """Puts changed topic settings into force."""
        self._configure(config)
        if self.log is not None:
            self.log.configure(config)

    def _configure(self, config: LogConfig) -> None:
        self.config = config
        self._looking = Preparation.of(config)
        self._preparation = None if self._looking.is_plain else self._looking
        self._has_log_append_time = config.timestamp_type == "LogAppendTime"
        self._max_message_bytes = self._size_limit()
        self._timestamp_after_max_ms = config.timestamp_after_max_ms

    def _size_limit(self) -> int:
        """What batches are compared with. Those that the guard refuses are found by a question that is asked anyway, so
        that those that are taken pay nothing."""
        return -1 if self._refusal else self.config.max_message_bytes

    # --- watermarks ----------------------------------------------------------------------------------------------

    @property
    def leader_epoch(self) -> int:
        """The epoch under which this broker serves the partition; the last one known while the log is closed."""
        return self.log.epoch if self.log is not None else self._epoch

    def opened(self) -> PartitionLog:
        """The open log. Raises `KafkaError` with KAFKA_STORAGE_ERROR while there is none."""
        if self.log is None:
            if self.deleted:
                raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, "the partition's log is offline")
        return self.log

    def offsets(self) -> Offsets:
        """High watermark, last stable offset and start offset."""
        opened = self.opened()
        return Offsets(opened.durable_end, self.stable_end(opened), opened.start_offset)

    def stable_end(self, opened: PartitionLog) -> int:
        """The last stable offset: below it every transaction has ended, and for certain."""
        stable_end = self.producers.transactions.stable_end(opened.durable_end)
        return stable_end if stable_end > opened.start_offset else opened.start_offset

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

    def append(
        self, data: Buffer, admission: Callable[[BatchHeader], Awaitable[ErrorCode]] | None = None
    ) -> AppendResult | asyncio.Task[AppendResult]:
        """Checks and appends the one batch in `data`, as a producer sent it. `admission` asks the coordinator whether a
        batch belongs to an open transaction; without it no transactional batch is taken.

        Returns a result, or a task of one where the topic's settings need the records looked at. Never raises for
        what the peer or the disk did."""
        try:
            batch = check_batch(data)
        except CorruptBatch as error:
            return AppendResult(ErrorCode.CORRUPT_MESSAGE, message=str(error))
        except InvalidBatch as error:
            return AppendResult(ErrorCode.INVALID_RECORD, message=str(error))
        if batch.header.attributes & TRANSACTIONAL_BIT:
            return self._append_in_transaction(batch, admission)
        if self._preparing is not None or (self._preparation is not None and self._preparation.wanted(batch)):
            return self._append_prepared(batch)
        return self._append_checked(batch)

    def append_all(self, datas: Sequence[Buffer]) -> list[AppendResult | asyncio.Task[AppendResult]]:
        """`append` for each of several, in their order. Neighbours that need nothing but room share one write, which
        costs less than half of one for each."""
        results: list[AppendResult | asyncio.Task[AppendResult]] = []
        group: list[RecordBatch] = []
        now_ms = self.clock.now_ms()
        for data in datas:
            if self._preparing is None and self._preparation is None:
                try:
                    batch = self._admit(check_batch(data), now_ms)
                except (InvalidBatch, _NotAdmitted):
                    pass  # `append` says it again, with the answer
                else:
                    if batch.header.producer_id < 0:
                        group.append(batch)
                        continue
            if group:
                results += self._write_all(group, now_ms)
                group = []
            results.append(self.append(data))
        if group:
            results += self._write_all(group, now_ms)
        return results

    def _write_all(self, batches: Sequence[RecordBatch], now_ms: int) -> list[AppendResult]:
        """Writes admitted batches, together where they fit."""
        size = sum(batch.size for batch in batches)
        if len(batches) > 1 and size <= min(self.config.segment_bytes, self.space.left_bytes):
            return self._write(batches, size, now_ms)
        return [self._write((batch,), batch.size, now_ms)[0] for batch in batches]

    # --- append: transactions ------------------------------------------------------------------------------------

    def _append_in_transaction(
        self, batch: RecordBatch, admission: Callable[[BatchHeader], Awaitable[ErrorCode]] | None
    ) -> AppendResult | asyncio.Task[AppendResult]:
        """The first batch of a producer's transaction here waits for the coordinator; what the producer sends meanwhile
        waits behind it."""
        header = batch.header
        if header.is_control:
            return AppendResult(ErrorCode.INVALID_RECORD, message="clients may not write control batches")
        if admission is None:
            return AppendResult(
                ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
                message="a transactional batch in a request without a transactional id",
            )
        earlier = self._admitting.get(header.producer_id)
        if earlier is None and self.producers.has_open_transaction(header.producer_id, header.producer_epoch):
            if self._preparing is None and (self._preparation is None or not self._preparation.wanted(batch)):
                return self._append_checked(batch, in_transaction=True)
            if header.producer_id not in self._ending:
                return self._append_prepared(batch, in_transaction=True)
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._admitting[header.producer_id] = admitted
        return asyncio.ensure_future(self._admit_then_append(batch, admission, earlier, admitted))

    async def _admit_then_append(
        self,
        batch: RecordBatch,
        admission: Callable[[BatchHeader], Awaitable[ErrorCode]],
        earlier: asyncio.Future[None] | None,
        admitted: asyncio.Future[None],
    ) -> AppendResult:
        header = batch.header
        producer_id = header.producer_id
        try:
            if earlier is not None:
                await asyncio.wait([earlier])
            is_open = self.producers.has_open_transaction(producer_id, header.producer_epoch)
            if not is_open or producer_id in self._ending:
                code = await admission(header)
                if code != ErrorCode.NONE:
                    return AppendResult(code)
            # Nothing may wait between the coordinator's word and here: a marker is asked for after that word only.
            if self._preparing is None and (self._preparation is None or not self._preparation.wanted(batch)):
                placing = self._append_checked(batch, in_transaction=True)
            else:
                placing = self._append_prepared(batch, in_transaction=True)
        finally:
            admitted.set_result(None)
            if self._admitting.get(producer_id) is admitted:
                del self._admitting[producer_id]
        return placing if isinstance(placing, AppendResult) else await placing

    def end_transaction(
        self, producer_id: int, producer_epoch: int, coordinator_epoch: int, committed: bool
    ) -> asyncio.Future[None]:
        """Appends the marker that ends a producer's transaction, behind what waits to be placed; done when that is
        durable. It fails with `KafkaError`: INVALID_PRODUCER_EPOCH, TRANSACTION_COORDINATOR_FENCED, or as `opened`; or
        with `LogFailure`."""
        marker = producer_id, producer_epoch, coordinator_epoch, committed
        if self._preparing is None:
            try:
                return self._append_marker(*marker)
            except (KafkaError, LogFailure) as error:
                failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                failed.set_exception(error)
                return failed
        placing = asyncio.ensure_future(self._append_marker_behind(self._preparing, *marker))
        self._preparing = self._ending[producer_id] = placing
        ended = asyncio.ensure_future(_durable(placing))
        # Whoever asked may have gone.
        ended.add_done_callback(lambda done: done.cancelled() or done.exception())
        return ended

    async def _append_marker_behind(
        self, earlier: asyncio.Task[Any], producer_id: int, producer_epoch: int, coordinator_epoch: int, committed: bool
    ) -> asyncio.Future[None]:
        this = asyncio.current_task()
        try:
            await asyncio.wait([earlier])
            return self._append_marker(producer_id, producer_epoch, coordinator_epoch, committed)
        finally:
            if self._preparing is this:
                self._preparing = None
            if self._ending.get(producer_id) is this:
                del self._ending[producer_id]

    def _append_marker(
        self, producer_id: int, producer_epoch: int, coordinator_epoch: int, committed: bool
    ) -> asyncio.Future[None]:
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

    # --- append: the rest ----------------------------------------------------------------------------------------

    def _append_prepared(self, batch: RecordBatch, in_transaction: bool = False) -> asyncio.Task[AppendResult]:
        task = asyncio.ensure_future(self._prepare_then_append(batch, self._preparing, in_transaction))
        self._preparing = task
        return task

    async def _prepare_then_append(
        self, batch: RecordBatch, earlier: asyncio.Task[Any] | None, in_transaction: bool
    ) -> AppendResult:
        """Prepares a batch in a thread; appends it when the one before it has been."""
        this = asyncio.current_task()
        refused: AppendResult | None = None
        try:
            looking, now_ms = self._looking, self.clock.now_ms()
            if looking.wanted(batch) or looking.in_doubt(batch.header, now_ms):
                loop, prepare = asyncio.get_running_loop(), looking.prepare
                try:
                    batch = await loop.run_in_executor(self.executor, prepare, batch, now_ms)
                except RecordsRefused as error:
                    refused = AppendResult(error.code, message=str(error), record_errors=error.record_errors)
            if earlier is not None:
                await asyncio.wait([earlier])
            if refused is not None:
                return refused
            result = self._append_checked(batch, in_transaction, looked_into=True)
            assert isinstance(result, AppendResult)
            return result
        finally:
            if self._preparing is this:
                self._preparing = None

    def _look_into_then_append(
        self, batch: RecordBatch, now_ms: int, in_transaction: bool
    ) -> AppendResult | asyncio.Task[AppendResult]:
        """For a batch whose header is in doubt while none is being prepared."""
        header = batch.header
        if header.codec or header.record_count > RECORDS_AT_ONCE or batch.size > BYTES_AT_ONCE:
            return self._append_prepared(batch, in_transaction)
        try:
            batch = self._looking.prepare(batch, now_ms)
        except RecordsRefused as error:
            return AppendResult(error.code, message=str(error), record_errors=error.record_errors)
        return self._append_checked(batch, in_transaction, looked_into=True)

    def _admit(
        self, batch: RecordBatch, now_ms: int, in_transaction: bool = False, looked_into: bool = False
    ) -> RecordBatch:
        """The batch as it is to be written, if the topic takes it; sequence numbers are not looked at. Raises
        `_NotAdmitted`; and `_TimesInDoubt` where it is to be looked into first, and has not been."""
        if self.log is None:
            if self.deleted:
                raise _NotAdmitted(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
            raise _NotAdmitted(ErrorCode.KAFKA_STORAGE_ERROR, "the partition's log is offline")
        header = batch.header
        size = header.batch_length + LENGTH_OVERHEAD
        if size > self._max_message_bytes:
            if self._refusal:
                # An error that every client tries again; few do so with those that would say it better.
                raise _NotAdmitted(ErrorCode.NOT_ENOUGH_REPLICAS, self._refusal)
            raise _NotAdmitted(
                ErrorCode.MESSAGE_TOO_LARGE,
                f"the batch has {size} bytes, max.message.bytes is {self._max_message_bytes}",
            )
        if size > self.config.segment_bytes:
            raise _NotAdmitted(
                ErrorCode.RECORD_LIST_TOO_LARGE,
                f"the batch has {size} bytes, segment.bytes is {self.config.segment_bytes}",
            )
        if header.attributes & 0x30:
            if header.is_control:
                raise _NotAdmitted(ErrorCode.INVALID_RECORD, "clients may not write control batches")
            if not in_transaction:
                raise _NotAdmitted(ErrorCode.INVALID_TXN_STATE, "the record was not part of an ongoing transaction")
        if header.base_offset != 0:
            # Kafka's answer; a producer that numbers its batches itself expects something that will not be.
            raise _NotAdmitted(
                ErrorCode.INVALID_RECORD, f"a producer's batch begins at offset 0, not {header.base_offset}"
            )
        if self._has_log_append_time:
            return batch.with_log_append_time(now_ms)
        # As `Preparation.in_doubt`, without a call.
        if not 0 <= header.base_timestamp <= header.max_timestamp <= now_ms + self._timestamp_after_max_ms and (
            not looked_into
        ):
            raise _TimesInDoubt(ErrorCode.INVALID_TIMESTAMP)
        if header.attributes & TIMESTAMP_TYPE_BIT:
            return batch.with_header(header._replace(attributes=header.attributes & ~TIMESTAMP_TYPE_BIT))
        return batch

    def _append_checked(
        self, batch: RecordBatch, in_transaction: bool = False, looked_into: bool = False
    ) -> AppendResult | asyncio.Task[AppendResult]:
        """A result, or a task of one where the batch must be looked into."""
        now_ms = self.clock.now_ms()
        try:
            batch = self._admit(batch, now_ms, in_transaction, looked_into)
        except _TimesInDoubt:
            return self._look_into_then_append(batch, now_ms, in_transaction)
        except _NotAdmitted as refused:
            self.counters.guard_refusals += refused.code is ErrorCode.NOT_ENOUGH_REPLICAS
            return AppendResult(refused.code, message=refused.message)
        header, opened = batch.header, self.log
        assert opened is not None
        if header.producer_id >= 0:
            if header.base_sequence < 0 or header.producer_epoch < 0:
                return AppendResult(
                    ErrorCode.INVALID_RECORD, message="a batch with a producer id needs an epoch and a sequence number"
                )
            try:
                kept = self.producers.check(header)
            except KafkaError as error:
                return AppendResult(error.code, message=error.message)
            if kept is not None:
                # A repetition: not appended again, but acknowledged only when the first copy is durable, which the
                # newest future covers, since futures resolve in offset order.
                time_ms = kept.timestamp_ms if self._has_log_append_time else -1
                durable = self._flushes[-1][0] if self._flushes else _resolved()
                return AppendResult(ErrorCode.NONE, kept.base_offset, time_ms, opened.start_offset, durable=durable)
        (result,) = self._write((batch,), batch.size, now_ms)
        return result

    def _write(self, batches: Sequence[RecordBatch], size: int, now_ms: int) -> list[AppendResult]:
        """Writes admitted batches of `size` bytes in all, at once."""
        opened = self.log
        if opened is None:
            # The write before this one failed.
            return [AppendResult(ErrorCode.KAFKA_STORAGE_ERROR, message="the partition's log is offline")] * len(
                batches
            )
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
        if opened.segment_base_offset() != self._segment_base:
            self._note_roll(opened, offset)
        self._await_durable(durable, size, end_offset - offset, len(batches))
        append_time_ms = now_ms if self._has_log_append_time else -1
        results = []
        for batch in batches:
            header = batch.header
            if header.producer_id >= 0:
                self.producers.record(header, offset, now_ms)
            results.append(AppendResult(ErrorCode.NONE, offset, append_time_ms, opened.start_offset, durable=durable))
            offset += header.last_offset_delta + 1
        return results

    def append_own(self, batch: RecordBatch, opened: PartitionLog) -> asyncio.Future[None]:
        """Appends a batch of the broker's own to the opening of the log that it was made for; what is durable when it
        has. Raises `LogFailure`, `Refused` where that opening is over."""
        if self.log is not opened:
            raise Refused("the log has been opened anew")
        base_offset = opened.end_offset
        durable = self._append_own(batch, opened)
        if batch.header.producer_id >= 0:
            self.producers.record(batch.header, base_offset, self.clock.now_ms())
        return durable

    def _append_own(self, batch: RecordBatch, opened: PartitionLog) -> asyncio.Future[None]:
        try:
            base_offset, _, durable = opened.append((batch,), opened.epoch)
        except StorageFull as failure:
            self.space.full(self.identity, failure)
            raise
        except LogFailure as failure:
            self._fail(failure)
            raise
        if opened.segment_base_offset() != self._segment_base:
            self._note_roll(opened, base_offset)
        self._await_durable(durable, batch.size, batch.header.last_offset_delta + 1, 1)
        return durable

    def _note_roll(self, opened: PartitionLog, base_offset: int) -> None:
        """The log rolled before this batch: Kafka keeps the producer state of a segment's beginning."""
        self._segment_base = opened.segment_base_offset()
        # As it is now, before the batch.
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
        failed, self.log = self.log, None
        self._went_offline()
        self._flushes.clear()
        self._wake()
        self._run(self._reopen(failed))

    async def _reopen(self, failed: PartitionLog | None) -> None:
        delay_s = REOPEN_FIRST_DELAY_S
        while not self.deleted:
            try:
                if failed is not None:
                    await failed.close()
                await self.open()
            except (LogFailure, StorageError, OSError) as failure:
                log.error("log still offline", partition=str(self.identity), why=str(failure), retry_s=delay_s)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._deletion.wait(), delay_s)
                delay_s = min(delay_s * 2, REOPEN_MAX_DELAY_S)
                continue
            assert self.log is not None
            self.counters.log_reopenings += 1
            self.counters.offline.pop(self, None)
            log.warning(
                "log back", partition=str(self.identity), end_offset=self.log.end_offset, leader_epoch=self.log.epoch
            )
            self._wake()
            return

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
        expendable = await opened.expendable(now_ms, upto)
        if not expendable:
            return 0
        upto = expendable[-1].end_offset
        async with self._keeping_producers(opened, upto):
            return await opened.retain(now_ms, upto)

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
            held = hold(guard, await opened.expendable(now_ms, held.upto), held.upto)
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
        self._max_message_bytes = self._size_limit()

    def expire_producers(self, now_ms: int, expiration_ms: int) -> None:
        self.producers.expire(now_ms, expiration_ms)
        if self.log is not None:
            self.producers.transactions.forget_before(self.log.start_offset)


async def _durable(placing: asyncio.Task[asyncio.Future[None]]) -> None:
    await asyncio.shield(await placing)


def _resolved() -> asyncio.Future[None]:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_result(None)
    return future
