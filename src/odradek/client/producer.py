"""A producer: collects records in batches, sends them to partition leaders, and retries without duplicates.

Role: choose partitions as the Java producer does (murmur2 of the key; a record without a key goes to the partition of
the present batch), fill a batch for each partition, and send them with acks and, by default, idempotence (KIP-98):
every batch has a producer id, epoch and sequence, so that a batch sent twice is appended once.

Invariants: each broker has at most one open request, and the next batches are built meanwhile. A partition's batches
are sent in order, and a batch that is retried goes before later ones. Collected records are bounded by `REQUEST_BYTES`
and one batch a partition. `flush` returns when all records are acknowledged, or raises `ClientFailed` with the number
acknowledged. A batch that the broker finds too large is halved, down to single records.
"""

from __future__ import annotations

import contextlib
import random
from collections import deque
from collections.abc import Callable
from functools import lru_cache

from odradek.client.cluster import Client
from odradek.client.connection import BrokerConnection
from odradek.client.deadline import Deadline
from odradek.client.error_codes import RETRIED, sentence
from odradek.client.failures import ClientFailed, ConnectionLost, InvalidArgument, NoProducerId
from odradek.client.partitioner import murmur2
from odradek.errors import ErrorCode
from odradek.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from odradek.protocol.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from odradek.records.batch import NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, RecordBatch
from odradek.records.builder import BatchBuilder, Headers, batch_bytes
from odradek.records.iteration import iterate

BATCH_BYTES = 262_144
REQUEST_BYTES = 1_048_576
# Versions from 13 on name topics by id; with names the same request serves older brokers.
_PRODUCE_BY_NAME = 12
_INT_MASK = 0x7FFFFFFF


class _Batch:
    """A batch that is not acknowledged yet: its bytes, and its first sequence number."""

    __slots__ = ("batch", "data", "partition", "sequence")

    def __init__(self, partition: int, sequence: int, batch: RecordBatch) -> None:
        self.partition = partition
        self.sequence = sequence
        self.batch = batch
        self.data = batch_bytes(batch)

    @property
    def count(self) -> int:
        return self.batch.header.record_count


class Producer:
    """Writes records to one topic."""

    def __init__(
        self,
        client: Client,
        topic: str,
        *,
        acks: int = -1,
        codec: int = 0,
        idempotent: bool = True,
        batch_bytes: int = BATCH_BYTES,
        random_source: random.Random | None = None,
        acknowledged: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._client = client
        self._topic = topic
        self._acks = acks
        self._codec = codec
        self._batch_bytes = batch_bytes
        self._random = random_source or random.Random()
        self._acknowledged = acknowledged
        self.sent_records = 0
        self._partition_count = len(client.topic(topic, create=True).partitions)
        self._partition_of = lru_cache(maxsize=65_536)(lambda key: (murmur2(key) & _INT_MASK) % self._partition_count)
        self._sticky = self._random.randrange(self._partition_count)
        self._building: dict[int, BatchBuilder] = {}
        self._sequences: dict[int, int] = {}
        self._ready: deque[_Batch] = deque()
        self._ready_bytes = 0
        self._open: dict[int, tuple[BrokerConnection, list[_Batch]]] = {}
        """By broker id: the connection and the batches of its open request."""
        self._deadline: Deadline | None = None
        self._producer_id, self._producer_epoch = NO_PRODUCER_ID, NO_PRODUCER_EPOCH
        if idempotent:
            self._producer_id, self._producer_epoch = self._new_producer_id()

    def _new_producer_id(self) -> tuple[int, int]:
        request = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=60_000)
        deadline = Deadline(self._client.timeout_s)
        while True:
            response: InitProducerIdResponse = self._client.ask_any(request, InitProducerIdResponse, at_most=5)
            if response.error_code == 0:
                return response.producer_id, response.producer_epoch
            if response.error_code not in RETRIED or not deadline.pause():
                raise NoProducerId(f"the broker gave no producer id: {sentence(response.error_code)}.")

    def add(
        self,
        key: bytes | None,
        value: bytes | None,
        timestamp: int,
        headers: Headers = (),
        partition: int | None = None,
    ) -> None:
        """Adds a record; sends batches when enough are collected. `timestamp` is in ms. Raises `ClientFailed`."""
        if partition is None:
            partition = self._sticky if key is None else self._partition_of(key)
        elif not 0 <= partition < self._partition_count:
            raise InvalidArgument(
                f"topic {self._topic!r} has partitions 0 to {self._partition_count - 1}, not {partition}."
            )
        builder = self._building.get(partition)
        if builder is None:
            builder = self._building[partition] = BatchBuilder()
        builder.append(key, value, timestamp, headers)
        if builder.size >= self._batch_bytes:
            self._close(partition)
            if self._ready_bytes >= REQUEST_BYTES:
                self._send(REQUEST_BYTES)

    def flush(self) -> None:
        """Sends all collected records; returns when they are acknowledged (with acks=0: sent). Raises
        `ClientFailed`."""
        for partition in list(self._building):
            self._close(partition)
        self._send(0)
        self._collect_all()
        while self._ready:
            self._send(0)
            self._collect_all()

    # --- batches -----------------------------------------------------------------------------------------------------

    def _close(self, partition: int) -> None:
        builder = self._building.pop(partition)
        sequence = self._sequences.get(partition, 0)
        self._sequences[partition] = (sequence + builder.count) & _INT_MASK
        self._queue(_Batch(partition, sequence, self._built(builder, sequence)))
        if partition == self._sticky and self._partition_count > 1:
            self._sticky = self._random.randrange(self._partition_count)

    def _built(self, builder: BatchBuilder, sequence: int) -> RecordBatch:
        idempotent = self._producer_id != NO_PRODUCER_ID
        return builder.build(
            codec=self._codec,
            producer_id=self._producer_id,
            producer_epoch=self._producer_epoch,
            base_sequence=sequence if idempotent else NO_SEQUENCE,
        )

    def _queue(self, batch: _Batch) -> None:
        self._ready.append(batch)
        self._ready_bytes += len(batch.data)

    def _halves(self, batch: _Batch) -> list[_Batch]:
        records = list(iterate(batch.batch.header, batch.data))
        middle = len(records) // 2
        out = []
        for part, sequence in ((records[:middle], batch.sequence), (records[middle:], batch.sequence + middle)):
            builder = BatchBuilder()
            for record in part:
                builder.append(record.key, record.value, record.timestamp, record.headers)
            sequence &= _INT_MASK
            out.append(_Batch(batch.partition, sequence, self._built(builder, sequence)))
        return out

    # --- requests ----------------------------------------------------------------------------------------------------

    def _send(self, leave_bytes: int) -> None:
        """Sends ready batches until fewer than `leave_bytes` of them wait (0: all). First takes the response of a
        broker that still has an open request."""
        while self._ready and self._ready_bytes >= leave_bytes:
            by_leader: dict[int, list[_Batch]] = {}
            held_back: list[_Batch] = []
            taken_bytes = 0
            partitions: set[int] = set()
            while self._ready:
                batch = self._ready.popleft()
                # One batch a partition in each request: brokers accept no more, and a retry keeps the order.
                if batch.partition in partitions or (taken_bytes and taken_bytes + len(batch.data) > REQUEST_BYTES):
                    held_back.append(batch)
                    partitions.add(batch.partition)
                    continue
                partitions.add(batch.partition)
                taken_bytes += len(batch.data)
                by_leader.setdefault(self._client.leader(self._topic, batch.partition), []).append(batch)
            self._ready.extend(held_back)
            self._ready_bytes -= taken_bytes
            # An earlier response may return batches for a retry, which must go before these of their partitions. Where
            # a partition's leader has moved, that response comes from another broker than the one asked next.
            waiting = len(self._ready)
            for node_id, (_, batches) in list(self._open.items()):
                if node_id in by_leader or any(batch.partition in partitions for batch in batches):
                    self._collect(node_id)
            if len(self._ready) != waiting:
                for batches in by_leader.values():
                    self._return(batches)
                continue
            for node_id, batches in by_leader.items():
                self._start(node_id, batches)

    def _return(self, batches: list[_Batch]) -> None:
        """Queues batches for a retry, each partition's in the order of sequence numbers."""
        for batch in batches:
            self._queue(batch)
        self._ready = deque(sorted(self._ready, key=self._age))

    def _age(self, batch: _Batch) -> int:
        # The negative distance to the next sequence number, so that the order is right where numbers wrap to 0.
        return -((self._sequences[batch.partition] - batch.sequence) & _INT_MASK)

    def _start(self, node_id: int, batches: list[_Batch]) -> None:
        request = ProduceRequest(
            acks=self._acks,
            timeout_ms=int(self._client.timeout_s * 1000),
            topic_data=[
                TopicProduceData(
                    name=self._topic,
                    partition_data=[PartitionProduceData(index=b.partition, records=b.data) for b in batches],
                )
            ],
        )
        connection: BrokerConnection | None = None
        try:
            connection = self._client.connection(node_id)
            if self._acks == 0:
                connection.start_unanswered(request, _PRODUCE_BY_NAME)
                self._done(sum(batch.count for batch in batches))
            else:
                connection.start(request, ProduceResponse, _PRODUCE_BY_NAME)
                self._open[node_id] = connection, batches
        except ConnectionLost as error:
            if connection is not None:
                self._client.drop(connection)
            self._again(batches, str(error), error)

    def _collect_all(self) -> None:
        for node_id in list(self._open):
            self._collect(node_id)

    def _collect(self, node_id: int) -> None:
        """Takes a broker's response to its open request, and queues the batches that must be retried."""
        connection, batches = self._open.pop(node_id)
        try:
            response: ProduceResponse = connection.finish()
        except ConnectionLost as error:
            self._client.drop(connection)
            self._again(batches, str(error), error)
            return
        answers = {answer.index: answer for answer in response.responses[0].partition_responses}
        again: list[_Batch] = []
        why = ""
        for batch in batches:
            answer = answers.get(batch.partition)
            if answer is None:
                raise self._failed(f"{connection.name} did not answer for partition {batch.partition}")
            code = answer.error_code
            if code in (ErrorCode.NONE, ErrorCode.DUPLICATE_SEQUENCE_NUMBER):
                self._done(batch.count)
            elif code == ErrorCode.MESSAGE_TOO_LARGE and batch.count > 1:
                self._return(self._halves(batch))
            elif code in RETRIED:
                again.append(batch)
                why = sentence(code, answer.error_message)
            else:
                raise self._failed(self._explain(batch, answer))
        if again:
            self._again(again, why)

    def _explain(self, batch: _Batch, answer: PartitionProduceResponse) -> str:
        where = f"{self._topic}-{batch.partition}"
        if answer.error_code == ErrorCode.MESSAGE_TOO_LARGE:
            size = len(batch.data)
            return f"{where} refused a record of {size} bytes: raise the topic's max.message.bytes"
        if answer.record_errors:
            first = answer.record_errors[0].batch_index_error_message
            if first:
                return f"{where} refused a record: {sentence(answer.error_code, first)}"
        return f"{where} refused records: {sentence(answer.error_code, answer.error_message)}"

    def _done(self, count: int) -> None:
        self.sent_records += count
        self._deadline = None
        self._acknowledged(count)

    def _again(self, batches: list[_Batch], why: str, cause: ConnectionLost | None = None) -> None:
        """Queues batches again after a retriable error, pauses, and refreshes the metadata. Raises `ClientFailed` where
        the client's timeout has passed since the first failure after the last success."""
        self._return(batches)
        if self._deadline is None:
            self._deadline = Deadline(self._client.timeout_s)
        if not self._deadline.pause():
            raise self._failed(f"gave up after {self._client.timeout_s:g} s: {why.rstrip('.')}") from cause
        with contextlib.suppress(ConnectionLost):  # the next attempt meets the failure again, and reports it
            self._client.metadata([self._topic])

    def _failed(self, why: str) -> ClientFailed:
        return ClientFailed(f"{why} ({self.sent_records} records were acknowledged before).")
