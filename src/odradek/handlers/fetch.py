"""Fetch (API key 1), versions 4-18.

Card:
- 4 read_committed: up to the last stable offset, with the aborted transactions in the range read (KIP-98); 5 log start
  offset, 7 sessions (KIP-227), 9 leader epochs (KIP-320), 10 zstd, 11 rack, 12 last fetched epoch and divergence
  (KIP-595), 13 topics by id (KIP-516), 15 replica state, 16 node endpoints (never needed with one broker).
- Long poll: a response waits until `min_bytes` are readable, a partition has an error, or `max_wait_ms` is over.
- Bytes are limited as in Kafka (KIP-74): partitions are read in the order of the request; the first batch of the first
  partition with data is returned whole, whatever its size; after that `max_bytes` and `partition_max_bytes` hold, and
  a partition's last batch may be cut short.
- Only consumers fetch here: a request with a replica id is answered like any other.

Records are returned as the engine's buffers and never parsed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from odradek.config.bounds import INT_MAX
from odradek.errors import ErrorCode, KafkaError
from odradek.handlers import turns
from odradek.handlers.context import BrokerParts, RequestContext, Steps
from odradek.handlers.fetch_sessions import TOPIC_ID_SINCE, CachedPartition, FetchContext, gather_in_turns
from odradek.handlers.topics import find_topic, unknown
from odradek.partitions.counters import Traffic
from odradek.partitions.parked_fetches import ParkedFetch
from odradek.partitions.partition import Partition
from odradek.protocol.fields import Buffer
from odradek.protocol.messages.fetch import (
    AbortedTransaction,
    EpochEndOffset,
    FetchableTopicResponse,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    PartitionData,
)
from odradek.records.batch import HEADER_BYTES, read_header

ZSTD_SINCE = 10
# A request that reads more partitions is carried out in turns; so many are looked at in one step, which takes 0.1 to 1
# ms.
PARTITIONS_AT_ONCE = 200
PARTITIONS_A_STEP = 20
READ_UNCOMMITTED, READ_COMMITTED = 0, 1


def handle(request: FetchRequest, context: RequestContext) -> FetchResponse | Awaitable[FetchResponse] | Steps:
    """Reads the partitions; returns an awaitable if there is too little data or the disk must be read."""
    asked = 0
    for topic in request.topics:
        asked += len(topic.partitions)
    if asked > PARTITIONS_AT_ONCE:
        return _handle_in_turns(request, context)
    broker = context.broker
    try:
        fetch = broker.fetch_sessions.begin(request, context.api_version, broker.clock.monotonic())
    except KafkaError as error:
        return FetchResponse(error_code=error.code)
    return _Fetch(request, context, fetch).begin()


def _handle_in_turns(request: FetchRequest, context: RequestContext) -> Steps:
    broker, version = context.broker, context.api_version
    asked = yield from gather_in_turns(request, version)
    try:
        fetch = broker.fetch_sessions.begin(request, version, broker.clock.monotonic(), asked)
    except KafkaError as error:
        return FetchResponse(error_code=error.code)
    return (yield from _Fetch(request, context, fetch).begin_in_turns())


def refused(request: FetchRequest, code: ErrorCode, version: int) -> FetchResponse:
    """The answer that refuses the whole request. A request of a session need not name its partitions, so from version 7
    on the top-level error code is set, from 13 on only that."""
    response = FetchResponse(error_code=code, session_id=request.session_id)
    if version < TOPIC_ID_SINCE:
        response.responses = [
            FetchableTopicResponse(
                topic=topic.topic,
                partitions=[
                    PartitionData(partition_index=wanted.partition, error_code=code, high_watermark=-1)
                    for wanted in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    return response


class _Look:
    """What one pass over the partitions gave: the answers in order, their bytes and whose they are, whether something
    cannot wait, or came from the disk."""

    __slots__ = ("answers", "from_disk", "left", "max_bytes", "read", "total", "urgent")

    def __init__(self, max_bytes: int) -> None:
        self.answers: list[PartitionData] = []
        self.read: list[tuple[Traffic, int]] = []
        self.total = 0
        self.max_bytes = max_bytes
        self.left = max_bytes
        self.urgent = False
        self.from_disk = False

    def add(self, answer: PartitionData, records: list[Buffer], partition: Partition | None) -> None:
        answer.records = records
        if records:
            size = sum(map(len, records))
            if partition is not None:
                self.read.append((partition.traffic, size))
            self.total += size
            self.left = max(0, self.left - size)
        if answer.error_code != 0 or answer.diverging_epoch.epoch >= 0:
            self.urgent = True
        self.answers.append(answer)


class _Fetch:
    """One request, from its first read to its response."""

    def __init__(self, request: FetchRequest, context: RequestContext, fetch: FetchContext) -> None:
        self.request = request
        self.broker: BrokerParts = context.broker
        self.version = context.api_version
        self.by_id = context.api_version >= TOPIC_ID_SINCE
        self.spans = context.takes_spans
        self.fetch = fetch
        self.max_bytes = max(0, min(request.max_bytes, self.broker.config.integer("fetch.max.bytes")))
        self.min_bytes = min(request.min_bytes, self.max_bytes)
        self.deadline = 0.0
        self.parked: ParkedFetch | None = None
        self.response: asyncio.Future[FetchResponse] | None = None

    def begin(self) -> FetchResponse | Awaitable[FetchResponse] | Steps:
        if len(self.fetch.partitions) > PARTITIONS_AT_ONCE:
            return self.begin_in_turns()
        look = self._look()
        if not isinstance(look, _Look):
            return self._slow(look)
        if self._enough(look):
            return self._respond(look)
        wait_s = self.request.max_wait_ms / 1000
        self.deadline = self.broker.clock.monotonic() + wait_s
        return self._begin_to_wait(self._park_everywhere(look), look, wait_s)

    def begin_in_turns(self) -> Steps:
        """`begin`, for many partitions: it is parked on each as soon as that has been looked at, so that what comes
        while the others are looked at is not missed."""
        wait_s = max(0, self.request.max_wait_ms) / 1000
        self.deadline = self.broker.clock.monotonic() + wait_s
        parked = self._new_parked()
        look = yield from self._look_in_turns(parked)
        if look.from_disk or self._enough(look):
            parked.cancel()
            return (yield from self._respond_in_turns(look))
        return self._begin_to_wait(parked, look, wait_s)

    def _enough(self, look: _Look) -> bool:
        return (
            look.urgent
            or look.total >= min(self.min_bytes, max(1, look.max_bytes))
            or self.request.max_wait_ms <= 0
            or not self.fetch.partitions
        )

    # --- waiting -------------------------------------------------------------------------------------------------

    def _new_parked(self) -> ParkedFetch:
        return ParkedFetch(self.broker.partitions.ready_fetches, self.request.isolation_level == READ_COMMITTED)

    def _park_everywhere(self, look: _Look) -> ParkedFetch:
        parked = self._new_parked()
        for cached, answer in zip(self.fetch.partitions, look.answers, strict=True):
            partition = self._find(cached)
            assert partition is not None  # an unknown one is answered at once
            self._park(parked, partition, cached, answer, look)
        return parked

    def _park(
        self, parked: ParkedFetch, partition: Partition, cached: CachedPartition, answer: PartitionData, look: _Look
    ) -> None:
        room_bytes = INT_MAX  # while there is nothing: the first batch comes whole, whatever its size
        if look.total:
            room_bytes = max(0, cached.request.partition_max_bytes - _size(answer))
        parked.park(partition.progress.parking, room_bytes)

    def _begin_to_wait(self, parked: ParkedFetch, look: _Look, wait_s: float) -> asyncio.Future[FetchResponse]:
        self.response = asyncio.get_running_loop().create_future()
        self.response.add_done_callback(self._abandoned)
        self._wait(parked, look, wait_s)
        return self.response

    def _wait(self, parked: ParkedFetch, look: _Look, wait_s: float) -> None:
        self.parked = parked
        parked.wait(self.broker.scheduler, max(1, self.min_bytes - look.total), wait_s, self._ready)
        self.broker.partitions.counters.parked_fetches += 1

    def _ready(self, expired: bool) -> None:
        assert self.response is not None
        self.parked = None
        self.broker.partitions.counters.parked_fetches -= 1
        if self.response.done():
            return
        task: asyncio.Future[FetchResponse | None]
        if len(self.fetch.partitions) > PARTITIONS_AT_ONCE:
            task = asyncio.ensure_future(self._look_again_in_turns(expired))
            task.add_done_callback(self._relay)
            return
        look = self._look()
        if not isinstance(look, _Look):
            # Some data is not in memory: read it, then answer with whatever has been read.
            task = asyncio.ensure_future(self._slow(look))
            task.add_done_callback(self._relay)
        elif expired or self._enough(look):
            self.response.set_result(self._respond(look))
        else:
            wait_s = max(0.0, self.deadline - self.broker.clock.monotonic())
            self._wait(self._park_everywhere(look), look, wait_s)

    async def _look_again_in_turns(self, expired: bool) -> FetchResponse | None:
        """The response; None where it waits on."""
        assert self.response is not None
        run, parked = self.broker.turns.run, self._new_parked()
        look = await run(self._look_in_turns(parked))
        if not (self.response.done() or expired or look.from_disk or self._enough(look)):
            self._wait(parked, look, max(0.0, self.deadline - self.broker.clock.monotonic()))
            return None
        parked.cancel()
        return None if self.response.done() else await run(self._respond_in_turns(look))

    def _relay(self, task: asyncio.Future[FetchResponse | None]) -> None:
        assert self.response is not None
        if self.response.done():
            task.exception()
        elif (error := task.exception()) is not None:
            self.response.set_exception(error)
        elif (response := task.result()) is not None:
            self.response.set_result(response)

    def _abandoned(self, response: asyncio.Future[FetchResponse]) -> None:
        """Cancels the parked fetch, because the connection is gone."""
        if response.cancelled() and self.parked is not None:
            self.parked.cancel()
            self.parked = None
            self.broker.partitions.counters.parked_fetches -= 1

    # --- reading -------------------------------------------------------------------------------------------------

    def _look(self) -> _Look | Awaitable[_Look]:
        """Reads every partition once; returns an awaitable if the disk must be read."""
        # Unread responses take memory: the less room is left, the less this response may read.
        look = _Look(min(self.max_bytes, self.broker.unread_responses.room_bytes))
        for position, cached in enumerate(self.fetch.partitions):
            partition = self._find(cached)
            answer, records = self._read(cached, partition, look)
            if not isinstance(records, list):
                return self._look_on(look, position, answer, records, self._reserve(look, position))
            look.add(answer, records, partition)
        return look

    def _look_in_turns(self, parked: ParkedFetch) -> turns.Steps[_Look]:
        """`_look`, in turns, and waiting for the disk where it must. Parks the fetch on what it has looked at, for as
        long as it is one that has to wait."""
        look = _Look(min(self.max_bytes, self.broker.unread_responses.room_bytes))
        reserved_bytes = self._reserve(look, 0)
        try:
            for position, cached in enumerate(self.fetch.partitions):
                if position % PARTITIONS_A_STEP == PARTITIONS_A_STEP - 1:
                    yield
                partition = self._find(cached)
                answer, found = self._read(cached, partition, look)
                if not isinstance(found, list):
                    reading = asyncio.ensure_future(self._wait_for_disk(position, answer, found))
                    yield reading
                    answer, found = reading.result()
                    look.from_disk = True
                look.add(answer, found, partition)
                if partition is not None and not (look.from_disk or self._enough(look)):
                    self._park(parked, partition, cached, answer, look)
        except BaseException:
            parked.cancel()
            raise
        finally:
            self.broker.unread_responses.change(-reserved_bytes)
        return look

    def _reserve(self, look: _Look, position: int) -> int:
        """Reserves room while the disk is read, so that concurrent reads do not use the same room; returns the bytes
        reserved."""
        asked = sum(max(0, cached.request.partition_max_bytes) for cached in self.fetch.partitions[position:])
        reserved_bytes = min(look.left, asked)
        self.broker.unread_responses.change(reserved_bytes)
        return reserved_bytes

    async def _look_on(
        self,
        look: _Look,
        position: int,
        answer: PartitionData,
        records: Awaitable[list[Buffer]],
        reserved_bytes: int,
    ) -> _Look:
        """Continues `_look` at the partition at `position`, whose data is not in memory."""
        try:
            cached = self.fetch.partitions[position]
            look.add(*await self._wait_for_disk(position, answer, records), self._find(cached))
            for later in range(position + 1, len(self.fetch.partitions)):
                cached = self.fetch.partitions[later]
                partition = self._find(cached)
                answer, found = self._read(cached, partition, look)
                if isinstance(found, list):
                    look.add(answer, found, partition)
                else:
                    look.add(*await self._wait_for_disk(later, answer, found), partition)
        finally:
            self.broker.unread_responses.change(-reserved_bytes)
        return look

    async def _wait_for_disk(
        self, position: int, answer: PartitionData, records: Awaitable[list[Buffer]]
    ) -> tuple[PartitionData, list[Buffer]]:
        try:
            return answer, await records
        except KafkaError as error:
            return _refused(self.fetch.partitions[position].request, error.code), []

    async def _slow(self, looking: Awaitable[_Look]) -> FetchResponse:
        """Answers at once after reading from the disk, without waiting for more data."""
        return self._respond(await looking)

    def _find(self, cached: CachedPartition) -> Partition | None:
        key = cached.key
        topic = find_topic(self.broker.partitions, key.topic, key.topic_id, self.by_id)
        if topic is None or not 0 <= key.partition < len(topic.partitions):
            return None
        return topic.partitions[key.partition]

    def _read(
        self, cached: CachedPartition, partition: Partition | None, look: _Look
    ) -> tuple[PartitionData, list[Buffer] | Awaitable[list[Buffer]]]:
        """Reads one partition; returns its answer without the records, and the records."""
        asked = cached.request
        if partition is None:
            key = cached.key
            topic = find_topic(self.broker.partitions, key.topic, key.topic_id, self.by_id)
            return _refused(asked, unknown(topic, self.by_id)), []
        try:
            opened, start, high_watermark, stable_end, end = partition.visible(
                asked.current_leader_epoch, self.request.isolation_level == READ_COMMITTED
            )
            answer = PartitionData(
                partition_index=asked.partition,
                high_watermark=high_watermark,
                last_stable_offset=stable_end,
                log_start_offset=start,
                aborted_transactions=None,
            )
            if asked.last_fetched_epoch >= 0 and asked.last_fetched_epoch != opened.epoch:
                known = partition.epoch_end(asked.last_fetched_epoch)
                if known is None:
                    return _refused(asked, ErrorCode.OFFSET_OUT_OF_RANGE), []
                if known.epoch < asked.last_fetched_epoch or known.end_offset < asked.fetch_offset:
                    answer.diverging_epoch = EpochEndOffset(epoch=known.epoch, end_offset=known.end_offset)
                    return answer, []
            if self.version < ZSTD_SINCE and partition.config.compression_type == "zstd":
                return _refused(asked, ErrorCode.UNSUPPORTED_COMPRESSION_TYPE), []
            max_bytes = max(0, min(asked.partition_max_bytes, look.left))
            if self.request.isolation_level == READ_UNCOMMITTED:
                return answer, partition.read(asked.fetch_offset, max_bytes, look.total == 0, end, self.spans)
            aborted = partition.aborted_between(asked.fetch_offset, end)
            # The aborted transactions in the answer depend on the last batch read, so its header must be in memory.
            spans = self.spans and not aborted
            records = partition.read(asked.fetch_offset, max_bytes, look.total == 0, end, spans)
            if aborted and isinstance(records, list):
                read_end = _end_of(records)
                aborted = [one for one in aborted if one.first_offset < read_end]
            answer.aborted_transactions = [
                AbortedTransaction(producer_id=one.producer_id, first_offset=one.first_offset) for one in aborted
            ]
            return answer, records
        except KafkaError as error:
            refused = _refused(asked, error.code)
            if error.code == ErrorCode.OFFSET_OUT_OF_RANGE and partition.opening is not None:
                offsets = partition.offsets()
                refused.log_start_offset = offsets.log_start_offset
                refused.high_watermark = offsets.high_watermark
                refused.last_stable_offset = offsets.last_stable_offset
            return refused, []

    # --- the response --------------------------------------------------------------------------------------------

    def _respond(self, look: _Look) -> FetchResponse:
        topics: list[FetchableTopicResponse] = []
        self._tell(topics, self.fetch.partitions, look.answers)
        return self._response(look, topics)

    def _respond_in_turns(self, look: _Look) -> turns.Steps[FetchResponse]:
        topics: list[FetchableTopicResponse] = []
        for first in range(0, len(look.answers), PARTITIONS_AT_ONCE):
            some = slice(first, first + PARTITIONS_AT_ONCE)
            self._tell(topics, self.fetch.partitions[some], look.answers[some])
            yield
        return self._response(look, topics)

    def _response(self, look: _Look, topics: list[FetchableTopicResponse]) -> FetchResponse:
        for traffic, size in look.read:
            traffic.fetched_bytes += size
        return FetchResponse(session_id=self.fetch.session_id, responses=topics)

    def _tell(
        self, topics: list[FetchableTopicResponse], partitions: list[CachedPartition], answers: list[PartitionData]
    ) -> None:
        """Adds to the response's topics what must be told of these partitions."""
        session = self.fetch.session
        current: Any = topics[-1] if topics else None
        for cached, answer in zip(partitions, answers, strict=True):
            key = cached.key
            if session is not None:
                tell = cached.must_tell(answer)
                if self.fetch.incremental:
                    if not tell:
                        continue
                    if answer.records and key in session.partitions:
                        session.partitions.move_to_end(key)
            if current is None or current.topic != key.topic or current.topic_id != key.topic_id:
                current = FetchableTopicResponse(topic=key.topic, topic_id=key.topic_id)
                topics.append(current)
            current.partitions.append(answer)


def _size(answer: PartitionData) -> int:
    """The bytes of records in an answer of `_Look`."""
    assert isinstance(answer.records, list)
    return sum(map(len, answer.records))


def _end_of(records: list[Buffer]) -> int:
    """The offset after the last batch read, which may be cut short."""
    data = records[0] if len(records) == 1 else b"".join(records)
    position, end = 0, 0
    while len(data) - position >= HEADER_BYTES:
        header = read_header(data, position)
        end = header.next_offset
        position += header.size
    return end


def _refused(asked: FetchPartition, code: ErrorCode) -> PartitionData:
    return PartitionData(
        partition_index=asked.partition,
        error_code=code,
        high_watermark=-1,
        last_stable_offset=-1,
        log_start_offset=-1,
        aborted_transactions=None,
        records=b"",
    )
