"""Keeps a partition's batches and transaction markers in order where they cannot be appended at once.

Role: most batches are appended ("placed") by `Partition.append` at once. This module holds those that wait: for a
thread that reads or recompresses their records (`preparation`), for the coordinator's answer on their transaction, or
for an earlier batch that waits. A callback places them in the end; nothing here uses the log.

Invariants:
- Batches and markers are placed in the order in which the partition received them, even where some pass through a
  thread first. So no batch of a transaction is placed after its marker. (A batch that waits for the coordinator has no
  place in this order yet; the coordinator's answer says whether the transaction is still open.)
- A producer's batches are placed in their order, whatever each of them waits for.
- A batch that fails or is refused while it waits does not delay the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Any, NamedTuple, Protocol

from odradek.clock import Clock
from odradek.config.topic import LogConfig
from odradek.engines.interface import LogFailure
from odradek.errors import ErrorCode, KafkaError
from odradek.partitions.admission import RecordsRefused, check_may_ask, check_transaction
from odradek.partitions.preparation import Preparation
from odradek.records.batch import BatchHeader, RecordBatch

# The records of uncompressed batches up to these bounds are read on the event loop: a thread costs more.
RECORDS_AT_ONCE = 50
BYTES_AT_ONCE = 16_384


class AppendResult(NamedTuple):
    """The outcome of one append. `durable` is None for a refused batch, and done where nothing need be awaited."""

    error: ErrorCode
    base_offset: int = -1
    log_append_time_ms: int = -1
    log_start_offset: int = -1
    message: str | None = None
    durable: asyncio.Future[None] | None = None
    record_errors: tuple[tuple[int, str], ...] = ()
    """For refused records: their index in the batch, and why (KIP-467)."""

    @classmethod
    def refused(cls, error: KafkaError) -> AppendResult:
        records = error.record_errors if isinstance(error, RecordsRefused) else ()
        return cls(error.code, message=error.message or None, record_errors=records)


Placed = AppendResult | asyncio.Task[AppendResult]
Ask = Callable[[BatchHeader], Awaitable[ErrorCode]]
"""Asks the coordinator whether a batch belongs to an open transaction."""


class Marker(NamedTuple):
    """The marker that ends a producer's transaction."""

    producer_id: int
    producer_epoch: int
    coordinator_epoch: int
    committed: bool


class Place(Protocol):
    """Appends a batch or refuses it. `word` is the coordinator's answer, where it was asked. Returns a task where the
    batch's records must be read first, and `looked_into` is false."""

    def __call__(self, batch: RecordBatch, word: ErrorCode | None = None, looked_into: bool = False) -> Placed: ...


class Appending:
    """The batches and markers of one partition that wait to be placed."""

    __slots__ = (
        "_admitting",
        "_clock",
        "_ending",
        "_executor",
        "_has_open_transaction",
        "_looking",
        "_place",
        "_place_marker",
        "newest",
        "preparation",
    )

    def __init__(
        self,
        config: LogConfig,
        clock: Clock,
        executor: Executor,
        place: Place,
        place_marker: Callable[[Marker], asyncio.Future[None]],
        has_open_transaction: Callable[[int, int], bool],
    ) -> None:
        """`place_marker` returns a future that is done when the marker is durable, or raises `KafkaError` or
        `LogFailure`; `has_open_transaction` tells, by producer id and epoch, whether the producer has written to the
        partition in its open transaction."""
        self._clock = clock
        self._executor = executor
        self._place = place
        self._place_marker = place_marker
        self._has_open_transaction = has_open_transaction
        self.newest: asyncio.Task[Any] | None = None
        """The last of the batches and markers that wait to be placed; each waits for the one before it."""
        # By producer id: the newest waiting marker.
        self._ending: dict[int, asyncio.Task[asyncio.Future[None]]] = {}
        # By producer id: done when the newest batch that waits for the coordinator's answer has been placed or refused.
        self._admitting: dict[int, asyncio.Future[None]] = {}
        self._looking: Preparation
        self.preparation: Preparation | None
        """The preparation that this topic's batches need; None where they are appended as they come."""
        self.configure(config)

    def configure(self, config: LogConfig) -> None:
        self._looking = Preparation.of(config)
        self.preparation = None if self._looking.is_plain else self._looking

    def _must_wait(self, batch: RecordBatch) -> bool:
        return self.newest is not None or (self.preparation is not None and self.preparation.wanted(batch))

    # --- batches that are read or recompressed -------------------------------------------------------------------

    def prepare(self, batch: RecordBatch, word: ErrorCode | None = None) -> asyncio.Task[AppendResult]:
        """Prepares a batch in a thread, if it needs that, and places it after all that wait already."""
        task = asyncio.ensure_future(self._prepare_then_place(batch, self.newest, word))
        self.newest = task
        return task

    async def _prepare_then_place(
        self, batch: RecordBatch, earlier: asyncio.Task[Any] | None, word: ErrorCode | None
    ) -> AppendResult:
        this = asyncio.current_task()
        refused: AppendResult | None = None
        try:
            looking, now_ms = self._looking, self._clock.now_ms()
            if looking.wanted(batch) or looking.in_doubt(batch.header, now_ms):
                loop, prepare = asyncio.get_running_loop(), looking.prepare
                try:
                    batch = await loop.run_in_executor(self._executor, prepare, batch, now_ms)
                except RecordsRefused as error:
                    refused = AppendResult.refused(error)
            if earlier is not None:
                await asyncio.wait([earlier])
            if refused is not None:
                return refused
            result = self._place(batch, word, looked_into=True)
            assert isinstance(result, AppendResult)
            return result
        finally:
            if self.newest is this:
                self.newest = None

    def look_into(self, batch: RecordBatch, now_ms: int, word: ErrorCode | None) -> Placed:
        """Checks the timestamps in the records of a batch whose header is in doubt, and places it: at once if it is
        small. Call only while no other batch waits."""
        header = batch.header
        if header.codec or header.record_count > RECORDS_AT_ONCE or batch.size > BYTES_AT_ONCE:
            return self.prepare(batch, word)
        try:
            batch = self._looking.prepare(batch, now_ms)
        except RecordsRefused as error:
            return AppendResult.refused(error)
        return self._place(batch, word, looked_into=True)

    # --- transactions --------------------------------------------------------------------------------------------

    def in_transaction(self, batch: RecordBatch, ask: Ask | None) -> Placed:
        """Places a transactional batch. The first batch of a transaction in this partition waits for the coordinator's
        answer; the producer's next batches wait for the first."""
        header = batch.header
        try:
            check_may_ask(header, ask is not None)
        except KafkaError as error:
            return AppendResult.refused(error)
        assert ask is not None
        earlier = self._admitting.get(header.producer_id)
        if earlier is None and self._has_open_transaction(header.producer_id, header.producer_epoch):
            if not self._must_wait(batch):
                return self._place(batch, ErrorCode.NONE)
            if header.producer_id not in self._ending:
                return self.prepare(batch, ErrorCode.NONE)
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._admitting[header.producer_id] = admitted
        return asyncio.ensure_future(self._ask_then_place(batch, ask, earlier, admitted))

    async def _ask_then_place(
        self, batch: RecordBatch, ask: Ask, earlier: asyncio.Future[None] | None, admitted: asyncio.Future[None]
    ) -> AppendResult:
        header = batch.header
        producer_id = header.producer_id
        try:
            if earlier is not None:
                await asyncio.wait([earlier])
            is_open = self._has_open_transaction(producer_id, header.producer_epoch)
            if not is_open or producer_id in self._ending:
                word = await ask(header)
                try:
                    check_transaction(header, word)
                except KafkaError as error:
                    return AppendResult.refused(error)
            # No await between the coordinator's answer and this line: a marker could else overtake the batch.
            place = self.prepare if self._must_wait(batch) else self._place
            placing = place(batch, ErrorCode.NONE)
        finally:
            admitted.set_result(None)
            if self._admitting.get(producer_id) is admitted:
                del self._admitting[producer_id]
        return placing if isinstance(placing, AppendResult) else await placing

    def mark(self, marker: Marker) -> asyncio.Future[None]:
        """Places a marker after all that wait already. The future is done when the marker is durable, or fails as
        `place_marker` does."""
        if self.newest is None:
            try:
                return self._place_marker(marker)
            except (KafkaError, LogFailure) as error:
                failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                failed.set_exception(error)
                return failed
        placing = asyncio.ensure_future(self._mark_behind(self.newest, marker))
        self.newest = self._ending[marker.producer_id] = placing
        ended = asyncio.ensure_future(_durable(placing))
        # Retrieves the exception: asyncio would warn where nothing awaits the future any more.
        ended.add_done_callback(lambda done: done.cancelled() or done.exception())
        return ended

    async def _mark_behind(self, earlier: asyncio.Task[Any], marker: Marker) -> asyncio.Future[None]:
        this = asyncio.current_task()
        try:
            await asyncio.wait([earlier])
            return self._place_marker(marker)
        finally:
            if self.newest is this:
                self.newest = None
            if self._ending.get(marker.producer_id) is this:
                del self._ending[marker.producer_id]


async def _durable(placing: asyncio.Task[asyncio.Future[None]]) -> None:
    await asyncio.shield(await placing)
