"""In which order a partition's batches and markers get their places, where they cannot get them at once.

Role: most batches are placed by `Partition.append` as they come. Here are those that wait: for a thread that looks at
their records or compresses them anew (`preparation`), for the coordinator's word on their transaction, or for one that
waits before them. What places them in the end is a callback; nothing here knows of the log.

Invariants:
- Places are given in the order in which the partition was asked, also where some pass through a thread first. A marker
  has its place among them: no batch of a transaction is placed behind its marker. (What waits for the coordinator's
  word has no place yet; that word says whether the transaction is still open.)
- A producer's batches are placed in their order, whatever each of them waits for.
- What fails or is refused while it waits holds nobody up.
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

# Uncompressed batches up to these are looked into at once: a thread costs more.
RECORDS_AT_ONCE = 50
BYTES_AT_ONCE = 16_384


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

    @classmethod
    def refused(cls, error: KafkaError) -> AppendResult:
        records = error.record_errors if isinstance(error, RecordsRefused) else ()
        return cls(error.code, message=error.message or None, record_errors=records)


Placed = AppendResult | asyncio.Task[AppendResult]
Ask = Callable[[BatchHeader], Awaitable[ErrorCode]]
"""Asks the coordinator whether a batch belongs to an open transaction."""


class Marker(NamedTuple):
    """The end of a producer's transaction."""

    producer_id: int
    producer_epoch: int
    coordinator_epoch: int
    committed: bool


class Place(Protocol):
    """Gives a batch its place, or refuses it, by the coordinator's word where there is one. Returns a task where the
    batch must be looked into first, and has not been."""

    def __call__(self, batch: RecordBatch, word: ErrorCode | None = None, looked_into: bool = False) -> Placed: ...


class Appending:
    """What waits for its place in one partition."""

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
        """`place_marker` returns what is done when the marker is durable, or raises `KafkaError` or `LogFailure`;
        `has_open_transaction` says whether a producer, by id and epoch, has written to the partition in one."""
        self._clock = clock
        self._executor = executor
        self._place = place
        self._place_marker = place_marker
        self._has_open_transaction = has_open_transaction
        self.newest: asyncio.Task[Any] | None = None
        """Of the batches and markers that wait to be placed, each behind the one before it."""
        # By producer: its newest marker among them.
        self._ending: dict[int, asyncio.Task[asyncio.Future[None]]] = {}
        # By producer: done when its newest batch that waits for the coordinator's word has its place, or was refused.
        self._admitting: dict[int, asyncio.Future[None]] = {}
        self._looking: Preparation
        self.preparation: Preparation | None
        """What is done to batches of this topic; None where they are appended as they come."""
        self.configure(config)

    def configure(self, config: LogConfig) -> None:
        self._looking = Preparation.of(config)
        self.preparation = None if self._looking.is_plain else self._looking

    def _must_wait(self, batch: RecordBatch) -> bool:
        return self.newest is not None or (self.preparation is not None and self.preparation.wanted(batch))

    # --- batches that are looked at or compressed anew -----------------------------------------------------------

    def prepare(self, batch: RecordBatch, word: ErrorCode | None = None) -> asyncio.Task[AppendResult]:
        """Prepares a batch in a thread, where it must be, and places it behind what waits already."""
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
        """For a batch whose header is in doubt while none is being prepared."""
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
        """The first batch of a producer's transaction here waits for the coordinator; what the producer sends meanwhile
        waits behind it."""
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
            # Nothing may wait between the coordinator's word and here: a marker is asked for after that word only.
            place = self.prepare if self._must_wait(batch) else self._place
            placing = place(batch, ErrorCode.NONE)
        finally:
            admitted.set_result(None)
            if self._admitting.get(producer_id) is admitted:
                del self._admitting[producer_id]
        return placing if isinstance(placing, AppendResult) else await placing

    def mark(self, marker: Marker) -> asyncio.Future[None]:
        """Places a marker behind what waits; done when it is durable, or fails as `place_marker` does."""
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
        # Whoever asked may have gone.
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
