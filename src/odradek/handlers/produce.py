"""Produce (API key 0), versions 3-13; 0-2 are announced and close the connection, as in Kafka (KAFKA-18659).

Card:
- 3 record batches of magic 2, one a partition; 5 log start offset; 7 zstd; 8 record errors (KIP-467); 10 current
  leader (never needed with one broker); 13 topics by id (KIP-516).
- acks=all is answered when the batch is durable; acks=1 when it is written, which is before it can be read; acks=0
  not at all: after an error the connection is closed, the only sign that such a producer notices.
- A request open longer than its `timeout_ms` gets REQUEST_TIMED_OUT; its batches may still become durable.
- Internal topics are refused with INVALID_TOPIC_EXCEPTION, except for a client with the id `__admin_client`.
- The partition of a transactional batch (3) must be in its producer's transaction: from version 12 on the batch adds it
  (KIP-890), before that the coordinator is asked whether it was added; if not, INVALID_TXN_STATE.

Order: batches are appended in the order of arrival, those of a long request in turns (`turns.py`), between which other
connections' batches come. Only their acknowledgement waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import CLOSE_CONNECTION, NO_RESPONSE, Answer, BrokerParts, RequestContext, Steps
from odradek.handlers.refusals import sentence
from odradek.handlers.topics import find_topic, unknown
from odradek.internal_topics import INTERNAL_TOPICS, check_produce
from odradek.partitions.partition import AppendResult, Partition
from odradek.protocol.fields import Buffer
from odradek.protocol.messages.produce import (
    BatchIndexAndErrorMessage,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceResponse,
)
from odradek.records.batch import BatchHeader

ACKS_ALL = -1
TOPIC_ID_SINCE = 13
ABORTABLE_SINCE = 11
IMPLICIT_SINCE = 12
ZSTD_SINCE = 7
# Between two steps of a long request: so many bytes of batches, and each batch counts like this many more.
STEP_COST = 65_536
BATCH_COST = 8_192
_CODEC_POSITION = 22  # of a batch: the low byte of its attributes
_ZSTD = 4
_RETRIABLE = (
    ErrorCode.CONCURRENT_TRANSACTIONS,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_COORDINATOR,
)


def handle(request: ProduceRequest, context: RequestContext) -> Answer | Awaitable[Answer] | Steps:
    """Appends every batch; returns the answer, or an awaitable of it if `acks` requires to wait."""
    steps = _append_all(request, context)
    try:
        waits_for = next(steps)
    except StopIteration as end:
        return cast("Answer | Awaitable[Answer]", end.value)
    return _go_on(waits_for, steps)


def _go_on(waits_for: asyncio.Future[None] | None, steps: Steps) -> Steps:
    yield waits_for
    return (yield from steps)


def _append_all(request: ProduceRequest, context: RequestContext) -> Steps:
    broker = context.broker
    by_id = context.api_version >= TOPIC_ID_SINCE
    acks = request.acks
    topics: list[TopicProduceResponse] = []
    settling = Settling(broker, acks, request.timeout_ms)
    cost = 0
    for topic in request.topic_data:
        found = find_topic(broker.partitions, topic.name, topic.topic_id, by_id)
        answers: list[PartitionProduceResponse] = []
        topics.append(TopicProduceResponse(name=topic.name, topic_id=topic.topic_id, partition_responses=answers))
        for data in topic.partition_data:
            if cost >= STEP_COST:
                cost = 0
                # Also for the files of many partitions: beyond the bound they would be synced one by one.
                yield None if broker.engine.has_room() else asyncio.ensure_future(broker.engine.room())
                found = find_topic(broker.partitions, topic.name, topic.topic_id, by_id)
            answer = PartitionProduceResponse(index=data.index, base_offset=-1, log_start_offset=-1)
            answers.append(answer)
            result: Any = None
            partition: Partition | None = None
            if found is None or not 0 <= data.index < len(found.partitions):
                result = AppendResult(unknown(found, by_id))
            elif not data.records:
                result = AppendResult(ErrorCode.INVALID_RECORD, message="the request has no record batch")
            elif context.api_version < ZSTD_SINCE and _is_zstd(data.records):
                result = AppendResult(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE)
            elif acks not in (ACKS_ALL, 0, 1):
                result = AppendResult(ErrorCode.INVALID_REQUIRED_ACKS)
            elif found.name in INTERNAL_TOPICS and (refusal := check_produce(found.name, context.client_id)):
                result = AppendResult(refusal, message="the topic is the broker's own")
            else:
                partition = found.partitions[data.index]
                cost += len(data.records)
                result = partition.append(
                    cast(Buffer, data.records),
                    None if request.transactional_id is None else _Admission(request, context, partition),
                )
            cost += BATCH_COST
            settling.settle(answer, result, partition)
    return settling.answer(ProduceResponse(responses=topics))


def refused(request: ProduceRequest, code: ErrorCode, version: int) -> Answer:
    """The answer that refuses the whole request. With acks=0 it closes the connection."""
    if request.acks == 0:
        return CLOSE_CONNECTION
    return ProduceResponse(
        responses=[
            TopicProduceResponse(
                name=topic.name,
                topic_id=topic.topic_id,
                partition_responses=[
                    PartitionProduceResponse(
                        index=data.index, error_code=code, base_offset=-1, error_message=sentence(code)
                    )
                    for data in topic.partition_data
                ],
            )
            for topic in request.topic_data
        ]
    )


class _Admission:
    """Asks whether a batch is part of its producer's transaction."""

    __slots__ = ("context", "partition", "transactional_id")

    def __init__(self, request: ProduceRequest, context: RequestContext, partition: Partition) -> None:
        assert request.transactional_id is not None
        self.transactional_id = request.transactional_id
        self.context = context
        self.partition = partition

    async def __call__(self, header: BatchHeader) -> ErrorCode:
        broker = self.context.broker
        transactions = broker.transactions
        identity = self.partition.identity
        place = (identity.topic, identity.partition)
        producer = self.transactional_id, header.producer_id, header.producer_epoch
        implicit = self.context.api_version >= IMPLICIT_SINCE
        try:
            if implicit:
                await transactions.add_partitions(*producer, frozenset({place}), 2)
            # This is checked even then, because the producer may have been fenced while its partition was added.
            if (
                broker.config.flag("transaction.partition.verification.enable")
                and not transactions.verify(*producer, [place])[0]
            ):
                abortable = self.context.api_version >= ABORTABLE_SINCE
                return ErrorCode.TRANSACTION_ABORTABLE if abortable else ErrorCode.INVALID_TXN_STATE
        except KafkaError as error:
            if error.code == ErrorCode.PRODUCER_FENCED:
                return ErrorCode.INVALID_PRODUCER_EPOCH
            # A retriable error becomes one that producers of these versions retry, as in Kafka.
            return ErrorCode.NOT_ENOUGH_REPLICAS if error.code in _RETRIABLE and not implicit else error.code
        return ErrorCode.NONE


class Settling:
    """Turns what became of each batch into its part of the response, and says when the response may leave: when what
    it waits for (flushes and, on topics that look at records, appends) is done, or `timeout_ms` is over. Some of it may
    be done before the last batch has come."""

    __slots__ = ("_broken", "_failed", "_response", "_result", "_waiting", "acks", "broker", "timeout_ms")

    def __init__(self, broker: BrokerParts, acks: int, timeout_ms: int) -> None:
        self.broker = broker
        self.acks = acks
        self.timeout_ms = timeout_ms
        self._failed = False
        # The answers that wait, by their future; most requests have one of each.
        self._waiting: dict[asyncio.Future[Any], list[PartitionProduceResponse]] | None = None
        self._response: ProduceResponse
        self._result: asyncio.Future[Answer] | None = None
        self._broken: BaseException | None = None

    def settle(
        self,
        answer: PartitionProduceResponse,
        result: AppendResult | asyncio.Task[AppendResult],
        partition: Partition | None,
    ) -> None:
        """Fills in the answer for one batch, at once or when its append is done."""
        if not isinstance(result, AppendResult):
            self._wait(answer, result, lambda done: self._appended(done, answer, partition))
            return
        self._failed = self._failed or result.error != ErrorCode.NONE
        fill(answer, result)
        if result.durable is not None and partition is not None:
            durable = awaited(result.durable, self.acks, partition)
            if durable is not None:
                self._wait(answer, durable, self._durable)

    def answer(self, response: ProduceResponse) -> Answer | Awaitable[Answer]:
        """The handler's answer; called once `settle` has been called for every batch."""
        self._response = response
        if self._broken is not None:
            raise self._broken
        if not self._waiting:
            return self._acknowledge()
        result = self._result = asyncio.get_running_loop().create_future()
        if self.timeout_ms >= 0 and self.acks != 0:
            self.broker.deadlines.add(self.timeout_ms, result, self._expire)
        return result

    def _acknowledge(self) -> Answer:
        """The finished answer. Every response to a decoded Produce request passes here; `produce_alike.Written` has the
        others."""
        if self.acks == 0:
            return CLOSE_CONNECTION if self._failed else NO_RESPONSE
        return self._response

    def _wait(
        self, answer: PartitionProduceResponse, done: asyncio.Future[Any], then: Callable[[asyncio.Future[Any]], None]
    ) -> None:
        if self._waiting is None:
            self._waiting = {}
        answers = self._waiting.get(done)
        if answers is None:
            self._waiting[done] = [answer]
            done.add_done_callback(then)
        else:
            answers.append(answer)

    def _appended(
        self, done: asyncio.Future[AppendResult], answer: PartitionProduceResponse, partition: Partition | None
    ) -> None:
        assert self._waiting is not None
        if self._waiting.pop(done, None) is None:
            return  # it was late
        failure = done.exception()
        if failure is None:
            self.settle(answer, done.result(), partition)
            self._finish()
        # Our own mistake: it must end the connection, not leave the request open for ever.
        elif self._result is None:
            self._broken = failure
        elif not self._result.done():
            self._result.set_exception(failure)

    def _durable(self, durable: asyncio.Future[None]) -> None:
        assert self._waiting is not None
        answers = self._waiting.pop(durable, None)
        if answers is None:
            return  # it was late
        if durable.exception() is not None:
            for answer in answers:
                storage_failed(answer)
        self._finish()

    def _expire(self) -> None:
        """Answers REQUEST_TIMED_OUT for the batches that still wait when `timeout_ms` is over."""
        assert self._waiting is not None
        for answers in self._waiting.values():
            for answer in answers:
                timed_out(answer)
        self._waiting.clear()
        self._finish()

    def _finish(self) -> None:
        if not self._waiting and self._result is not None and not self._result.done():
            self._result.set_result(self._acknowledge())


def awaited(durable: asyncio.Future[None], acks: int, partition: Partition) -> asyncio.Future[None] | None:
    """The future that the acknowledgement of an append waits for: its flush, which may have failed already; or None."""
    if acks == 0:
        return None
    if durable.done():
        return None if durable.exception() is None else durable
    return durable if acks == ACKS_ALL or partition.must_wait() else None


def _is_zstd(records: Any) -> bool:
    return len(records) > _CODEC_POSITION and records[_CODEC_POSITION] & 7 == _ZSTD


def fill(answer: PartitionProduceResponse, result: AppendResult) -> None:
    """Fills in the result of an append."""
    answer.error_code = result.error
    answer.base_offset = result.base_offset
    answer.log_append_time_ms = result.log_append_time_ms
    answer.log_start_offset = result.log_start_offset
    answer.error_message = result.message
    if result.record_errors:
        answer.record_errors = [
            BatchIndexAndErrorMessage(batch_index=index, batch_index_error_message=why)
            for index, why in result.record_errors
        ]


def storage_failed(answer: PartitionProduceResponse) -> None:
    """Fills in that the log failed before the batch was durable."""
    answer.error_code = ErrorCode.KAFKA_STORAGE_ERROR
    answer.base_offset = -1
    answer.log_append_time_ms = -1
    answer.log_start_offset = -1
    answer.error_message = "the log failed before the batch was durable"


def timed_out(answer: PartitionProduceResponse) -> None:
    """Fills in that the batch was not durable after `timeout_ms`."""
    answer.error_code = ErrorCode.REQUEST_TIMED_OUT
    answer.base_offset = -1
    answer.error_message = "the batch was not durable in time; it may still become so"
