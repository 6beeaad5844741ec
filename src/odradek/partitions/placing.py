"""Writes batches to a partition's log: those of producers, those that the broker makes, and transaction markers.

Role: check whether the topic accepts a batch (`admission`), write it to the open log, and note it in the producer state
and in the partition's progress. `appending` decides the order in which batches come here.

Invariants:
- What is written is noted in the state of producers before anything else can happen: the next batch is judged by it,
  and who waits for committed data is told by the last stable offset, which follows from it.
- A batch of the broker's own goes to the opening of the log that it was made for, or nowhere.
- A write that fails, but for want of room, is told to the partition, which ends that opening.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Sequence

from odradek.clock import Scheduler
from odradek.config.topic import LogConfig
from odradek.engines.interface import LogFailure, LogIdentity, Refused, StorageFull
from odradek.errors import ErrorCode, KafkaError
from odradek.partitions.admission import Admission, TimesInDoubt
from odradek.partitions.appending import Appending, AppendResult, Marker, Placed
from odradek.partitions.counters import PartitionsCounters
from odradek.partitions.log_start import LogStart
from odradek.partitions.opening import Opening
from odradek.partitions.producer_state import KeptBatch, ProducerState
from odradek.partitions.progress import Progress
from odradek.partitions.space import StorageSpace
from odradek.records.batch import RecordBatch
from odradek.records.builder import CONTROL_ABORT, CONTROL_COMMIT, build_control_batch

_MARKER = struct.Struct(">hi")  # an EndTxnMarker: version, coordinator epoch


class Placing:
    """The writing side of one partition."""

    __slots__ = (
        "_clock",
        "_counters",
        "_identity",
        "_log_start",
        "_offline",
        "_on_failure",
        "_progress",
        "_space",
        "admission",
        "appending",
        "marker_listeners",
        "opening",
        "producers",
    )

    def __init__(
        self,
        identity: LogIdentity,
        config: LogConfig,
        scheduler: Scheduler,
        counters: PartitionsCounters,
        space: StorageSpace,
        progress: Progress,
        log_start: LogStart,
        offline: Callable[[], KafkaError],
        on_failure: Callable[[LogFailure], None],
    ) -> None:
        """`offline` returns the error to answer while no log is open; `on_failure` is called for a failed write."""
        self._identity = identity
        self._clock = scheduler.clock
        self._counters = counters
        self._space = space
        self._progress = progress
        self._log_start = log_start
        self._offline = offline
        self._on_failure = on_failure
        self.opening: Opening | None = None
        """The opening that batches are written to; None while the log is closed."""
        self.producers = ProducerState()
        """The producer state of the opening; while the log is closed, that of the last opening."""
        self.marker_listeners: list[Callable[[int, bool], None]] = []
        """Called with the producer id, and whether the transaction was committed, when a marker has been appended."""
        self.admission = Admission(config)
        self.appending = Appending(
            config,
            self._clock,
            scheduler.executor,
            self.place,
            self._place_marker,
            lambda producer_id, epoch: self.producers.has_open_transaction(producer_id, epoch),
        )

    def begin(self, opening: Opening) -> None:
        """Begins to write to a new opening of the log."""
        self.opening, self.producers = opening, opening.producers

    def configure(self, config: LogConfig) -> None:
        self.admission = Admission(config)
        self.appending.configure(config)

    # --- producers' batches --------------------------------------------------------------------------------------

    def place(self, batch: RecordBatch, word: ErrorCode | None = None, looked_into: bool = False) -> Placed:
        """See `appending.Place`."""
        opening = self.opening
        if opening is None:
            return AppendResult.refused(self._offline())
        if self._log_start.refusal:
            self._counters.guard_refusals += 1
            # Every client retries this error; few would retry those that describe the cause better.
            return AppendResult(ErrorCode.NOT_ENOUGH_REPLICAS, message=self._log_start.refusal)
        now_ms = self._clock.now_ms()
        try:
            admitted = self.admission.admit(batch, now_ms, self.producers, word, looked_into)
        except TimesInDoubt:
            return self.appending.look_into(batch, now_ms, word)
        except KafkaError as refused:
            return AppendResult.refused(refused)
        if isinstance(admitted, KeptBatch):
            # A repeated batch is not appended again. It is acknowledged when the first copy is durable, for which the
            # newest flush suffices, since futures resolve in offset order.
            time_ms = admitted.timestamp_ms if self.admission.has_log_append_time else -1
            durable = self._progress.newest_flush()
            return AppendResult(
                ErrorCode.NONE, admitted.base_offset, time_ms, opening.log.start_offset, durable=durable
            )
        (result,) = self._write((admitted,), admitted.size, now_ms)
        return result

    def write_all(self, batches: Sequence[RecordBatch], now_ms: int, segment_bytes: int) -> list[AppendResult]:
        """Writes admitted batches, in one write where they fit in one segment."""
        size = sum(batch.size for batch in batches)
        if len(batches) > 1 and size <= min(segment_bytes, self._space.left_bytes):
            return self._write(batches, size, now_ms)
        return [self._write((batch,), batch.size, now_ms)[0] for batch in batches]

    def _write(self, batches: Sequence[RecordBatch], size: int, now_ms: int) -> list[AppendResult]:
        """Writes admitted batches, of `size` bytes in all, in one write."""
        opening = self.opening
        if opening is None:
            # The write of an earlier batch of the same call has failed.
            return [AppendResult.refused(self._offline())] * len(batches)
        if size > self._space.left_bytes:
            return [AppendResult(ErrorCode.KAFKA_STORAGE_ERROR, message=self._space.refuse(size))] * len(batches)
        opened = opening.log
        try:
            offset, end_offset, durable = opened.append(batches, opened.epoch)
        except StorageFull as failure:
            self._space.full(self._identity, failure)
            return [AppendResult(ErrorCode.KAFKA_STORAGE_ERROR, message=str(failure))] * len(batches)
        except (Refused, LogFailure) as failure:
            self._on_failure(failure)
            return [AppendResult(ErrorCode.KAFKA_STORAGE_ERROR, message=str(failure))] * len(batches)
        records = end_offset - offset
        append_time_ms = now_ms if self.admission.has_log_append_time else -1
        results = []
        for batch in batches:
            header = batch.header
            if header.producer_id >= 0:
                self.producers.record(header, offset, now_ms)
            results.append(AppendResult(ErrorCode.NONE, offset, append_time_ms, opened.start_offset, durable=durable))
            offset += header.last_offset_delta + 1
        self._progress.note_append(durable, size, records, len(batches))
        return results

    # --- markers, and batches that the broker makes --------------------------------------------------------------

    def _place_marker(self, marker: Marker) -> asyncio.Future[None]:
        producer_id, producer_epoch, coordinator_epoch, committed = marker
        opening = self.opening
        if opening is None:
            raise self._offline()
        self.producers.check_marker(producer_id, producer_epoch, coordinator_epoch)
        now_ms = self._clock.now_ms()
        batch = build_control_batch(
            CONTROL_COMMIT if committed else CONTROL_ABORT,
            _MARKER.pack(0, coordinator_epoch),
            now_ms,
            producer_id=producer_id,
            producer_epoch=producer_epoch,
            transactional=True,
        )
        base_offset = opening.log.end_offset
        durable = self._append_own(batch, opening)
        self.producers.record_marker(batch.header, base_offset, coordinator_epoch, committed, now_ms)
        self._note_own(batch, durable)
        for listener in self.marker_listeners:
            listener(producer_id, committed)
        return durable

    def append_own(self, batch: RecordBatch, opening: Opening | None) -> asyncio.Future[None]:
        """See `Partition.append_own`."""
        if opening is None or opening is not self.opening:
            raise Refused("the log has been opened anew")
        base_offset = opening.log.end_offset
        durable = self._append_own(batch, opening)
        if batch.header.producer_id >= 0:
            self.producers.record(batch.header, base_offset, self._clock.now_ms())
        self._note_own(batch, durable)
        return durable

    def _append_own(self, batch: RecordBatch, opening: Opening) -> asyncio.Future[None]:
        opened = opening.log
        try:
            _, _, durable = opened.append((batch,), opened.epoch)
        except StorageFull as failure:
            self._space.full(self._identity, failure)
            raise
        except LogFailure as failure:
            self._on_failure(failure)
            raise
        return durable

    def _note_own(self, batch: RecordBatch, durable: asyncio.Future[None]) -> None:
        self._progress.note_append(durable, batch.size, batch.header.last_offset_delta + 1, 1)
