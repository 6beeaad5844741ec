"""Produce requests that are like an earlier one of their connection but for the batch: served without decoding them.

A producer's requests for one partition differ in their correlation id and their batch, and in nothing else; so do
the responses, in their offsets. From the first, which is decoded like any other, a `Shape` is learned; a request whose
every other byte is the same is cut at the batch, appended, and answered from a template.

Invariants: what happens is what `produce.handle` would have done. Only plain successes come from the template; every
other outcome is made by `produce` itself. The topic is looked up each time, so that a shape never outlives it.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from odradek.errors import ErrorCode
from odradek.handlers import produce
from odradek.handlers.context import Answer, Broker
from odradek.internal_topics import INTERNAL_TOPICS
from odradek.partitions.partition import AppendResult, Partition
from odradek.protocol.compiler import read_uvarint
from odradek.protocol.framing import encode_response
from odradek.protocol.messages.produce import (
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceResponse,
)

# Behind the API key and the version; requests that are alike are equal from behind the correlation id on.
_CORRELATION = slice(4, 8)
SHAPE_POSITION = 8
_INT32 = struct.Struct(">i")
_OFFSETS = struct.Struct(">qqq")  # base offset, log append time, log start offset
_MARK = _OFFSETS.pack(0x0123456789ABCDEF, 0x1123456789ABCDEF, 0x2123456789ABCDEF)
_NO_TAGS = b"\0\0\0"  # of the partition, of the topic, of the request


def correlation_id_of(frame: bytes | bytearray) -> int:
    """The correlation id of a request."""
    return int.from_bytes(frame[_CORRELATION], "big", signed=True)


class Written(NamedTuple):
    """Plain successes of neighbouring requests: the responses that say so (none with `acks=0`), and what `acks=all`
    waits for before they may leave."""

    requests: int
    responses: bytes
    durable: asyncio.Future[None] | None
    correlations: list[bytes]
    results: list[AppendResult]


class Shape:
    """What such requests have in common, and their answer but for what differs."""

    __slots__ = (
        "_after",
        "_before",
        "_broker",
        "_by_id",
        "_encode",
        "_flexible",
        "_index",
        "_name",
        "_topic_id",
        "acks",
        "api",
        "end",
        "key",
        "timeout_ms",
    )

    def __init__(self, broker: Broker, request: ProduceRequest, version: int, api: bytes, key: bytes) -> None:
        (topic,) = request.topic_data
        (data,) = topic.partition_data
        self.api = api
        """API key and version, as they stand in the request."""
        self.key = key
        """From behind the correlation id to the batch's length."""
        self.end = SHAPE_POSITION + len(key)
        self.acks = request.acks
        self.timeout_ms = request.timeout_ms
        self._broker = broker
        self._by_id = version >= produce.TOPIC_ID_SINCE
        self._flexible = version in ProduceRequest.flexible_versions
        self._name = topic.name
        self._topic_id = topic.topic_id
        self._index = data.index
        offsets = _OFFSETS.unpack(_MARK)
        answer = PartitionProduceResponse(
            index=data.index, base_offset=offsets[0], log_append_time_ms=offsets[1], log_start_offset=offsets[2]
        )
        encoded = b"".join(encode_response(self._response(answer), version, 0))
        before, mark, after = encoded.partition(_MARK)
        assert mark
        # The frame's length; the correlation id; what follows it; the offsets; the rest.
        self._encode = struct.Struct(f">4s4s{len(before) - 8}sqqq{len(after)}s").pack
        self._before = (before[:4], before[8:])
        self._after = after

    def _response(self, answer: PartitionProduceResponse) -> ProduceResponse:
        topic = TopicProduceResponse(name=self._name, topic_id=self._topic_id, partition_responses=[answer])
        return ProduceResponse(responses=[topic])

    def begins(self, frame: bytes | bytearray) -> bool:
        """Whether a request is like this one up to the batch."""
        return frame.startswith(self.key, SHAPE_POSITION) and frame.startswith(self.api)

    def records(self, frame: bytes | bytearray) -> memoryview | None:
        """The batch in a request that begins like this one; None if the rest is not like it."""
        try:
            if self._flexible:
                length, position = read_uvarint(frame, self.end)  # type: ignore[arg-type]
                end = position + length - 1
                if length < 2 or frame[end:] != _NO_TAGS:
                    return None
            else:
                (length,) = _INT32.unpack_from(frame, self.end)
                position = self.end + 4
                end = position + length
                if length < 1 or end != len(frame):
                    return None
        except (IndexError, struct.error, ValueError):
            return None
        return memoryview(frame)[position:end]

    def handle(
        self, frames: Sequence[bytes | bytearray], records: Sequence[memoryview]
    ) -> list[Written | Answer | Awaitable[Answer]] | None:
        """Appends the batches of requests of this shape. What became of them in their order: of one each, or of as
        many as a `Written` counts. None, and nothing was done, where the topic is not what it was."""
        partitions = self._broker.partitions
        found = partitions.topics_by_id.get(self._topic_id) if self._by_id else partitions.topics.get(self._name)
        if found is None or self._index >= len(found.partitions):
            return None
        partition = found.partitions[self._index]
        results = partition.append_all(records)
        answers: list[Written | Answer | Awaitable[Answer]] = []
        plain: list[AppendResult] = []
        for number, result in enumerate(results):
            if type(result) is AppendResult and result.error is ErrorCode.NONE:
                if plain and plain[-1].durable is not result.durable:
                    answers.append(self._written(frames[number - len(plain) : number], plain, partition))
                    plain = []
                plain.append(result)
                continue
            if plain:
                answers.append(self._written(frames[number - len(plain) : number], plain, partition))
                plain = []
            answer = PartitionProduceResponse(index=self._index, base_offset=-1, log_start_offset=-1)
            settling = produce.Settling(self._broker, self.acks, self.timeout_ms)
            settling.settle(answer, result, partition)
            answers.append(settling.answer(self._response(answer)))
        if plain:
            answers.append(self._written(frames[len(frames) - len(plain) :], plain, partition))
        return answers

    def _written(
        self, frames: Sequence[bytes | bytearray], results: list[AppendResult], partition: Partition
    ) -> Written:
        if self.acks == 0:
            return Written(len(results), b"", None, [], results)
        durable = results[0].durable
        assert durable is not None
        waits = produce.awaited(durable, self.acks, partition)
        encode, (length, head), after = self._encode, self._before, self._after
        correlations = [bytes(frame[_CORRELATION]) for frame in frames]
        responses = b"".join(
            [
                encode(
                    length,
                    correlation,
                    head,
                    result.base_offset,
                    result.log_append_time_ms,
                    result.log_start_offset,
                    after,
                )
                for correlation, result in zip(correlations, results, strict=True)
            ]
        )
        return Written(len(results), responses, waits, correlations, results)

    def not_durable(self, written: Written, why: Callable[[PartitionProduceResponse], None]) -> list[ProduceResponse]:
        """The responses where batches did not become durable: `produce.storage_failed`, or not in time,
        `produce.timed_out`."""
        responses = []
        for result in written.results:
            answer = PartitionProduceResponse(index=self._index)
            produce.fill(answer, result)
            why(answer)
            responses.append(self._response(answer))
        return responses


def learn(frame: bytes | bytearray, request: ProduceRequest, version: int, broker: Broker) -> Shape | None:
    """The shape of a request for one batch of one partition; None where there is nothing to gain or to be sure of."""
    if version < produce.ZSTD_SINCE or len(request.topic_data) != 1 or len(request.topic_data[0].partition_data) != 1:
        return None
    topic = request.topic_data[0]
    records = topic.partition_data[0].records
    if request.transactional_id is not None or not records or topic.name in INTERNAL_TOPICS:
        return None
    if request.acks not in (produce.ACKS_ALL, 0, 1):
        return None
    if version >= produce.TOPIC_ID_SINCE:
        known = broker.partitions.topics_by_id.get(topic.topic_id)
        if known is None or known.name in INTERNAL_TOPICS:
            return None
    flexible = version in ProduceRequest.flexible_versions
    end = len(frame) - (len(_NO_TAGS) if flexible else 0)
    start = end - len(records)
    length_bytes = (1 if len(records) + 1 < 1 << 7 else 2 if len(records) + 1 < 1 << 14 else 3) if flexible else 4
    if len(records) + 1 >= 1 << 21:
        length_bytes += flexible
    key = bytes(frame[SHAPE_POSITION : start - length_bytes])
    shape = Shape(broker, request, version, bytes(frame[: _CORRELATION.start]), key)
    found = shape.records(frame)
    # A request may say the same in other bytes (tags, longer numbers): that is none to learn from.
    return shape if found is not None and found == records and len(found) == len(records) else None
