"""Produce requests that equal an earlier one of their connection except for the batch: served without decoding them.

A producer's requests for one partition differ only in their correlation id and their batch, the responses only in the
correlation id and offsets. A `Shape` is learned from the first request, which is decoded as usual. If all other bytes
of a later request are the same, its batch is cut out and appended, and its response is made from a template.

Invariants: the outcome is the same as with `produce.handle`. Only successes are answered from the template; `produce`
makes all other answers. The topic is looked up each time, so a shape is not used after its deletion.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence

from odradek.errors import ErrorCode
from odradek.handlers import produce
from odradek.handlers.context import BrokerParts
from odradek.handlers.shortcut import Begun, Handled, Shortcut
from odradek.handlers.topics import find_topic, finder
from odradek.internal_topics import INTERNAL_TOPICS
from odradek.partitions.partition import AppendResult, Partition
from odradek.protocol.fields import Message
from odradek.protocol.framing import encode_response
from odradek.protocol.messages.produce import (
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceResponse,
)
from odradek.protocol.varints import read_uvarint

# How many shapes a connection keeps for each version, and how many different lengths their keys may have.
SHAPES_MAX = 256
SHAPE_LENGTHS_MAX = 4
# The most requests, and bytes of them, that are served together.
ALIKE_MAX = 64
ALIKE_MAX_BYTES = 1_048_576
# Positions in a request: length, API key and version, correlation id; the rest, up to the batch, is the shape's key.
_API = 4
_CORRELATION = 8
SHAPE_POSITION = 12
_INT32 = struct.Struct(">i")
_OFFSETS = struct.Struct(">qqq")  # base offset, log append time, log start offset
_MARK = _OFFSETS.pack(0x0123456789ABCDEF, 0x1123456789ABCDEF, 0x2123456789ABCDEF)
_NO_TAGS = b"\0\0\0"  # of the partition, of the topic, of the request


class ProduceAlike(Shortcut):
    """The shapes of one connection's requests in one version."""

    __slots__ = ("_batches", "_broker", "_correlations", "_lengths", "_shape", "_size", "_version", "shapes")

    def __init__(self, broker: BrokerParts, version: int) -> None:
        self._broker = broker
        self._version = version
        self.shapes: dict[bytes, Shape] = {}
        """Shapes by their keys, the bytes that their requests share."""
        self._lengths: list[int] = []
        # The requests taken since the last `begin`, all of one shape.
        self._shape: Shape | None = None
        self._batches: list[memoryview] = []
        self._correlations: list[bytes] = []
        self._size = 0

    def learn(self, buffer: bytes | bytearray, start: int, stop: int, request: ProduceRequest) -> bool:
        if len(self.shapes) < SHAPES_MAX:
            shape = learn(buffer, start, stop, request, self._version, self._broker)
            if shape is not None and self._may_be_so_long(len(shape.key)):
                self.shapes[shape.key] = shape
        return bool(self.shapes)

    def _may_be_so_long(self, length: int) -> bool:
        if length not in self._lengths:
            if len(self._lengths) == SHAPE_LENGTHS_MAX:
                return False
            self._lengths.append(length)
        return True

    def take(self, buffer: bytes | bytearray, start: int, stop: int) -> int:
        position = start
        while position < stop and len(self._batches) < ALIKE_MAX:
            (length,) = _INT32.unpack_from(buffer, position)
            end = position + _INT32.size + length
            shape = self._shape
            if shape is None:
                shape = self._shape_at(buffer, position)
                if shape is None:
                    break
            elif self._size + length > ALIKE_MAX_BYTES or not shape.begins(buffer, position):
                break
            records = shape.records(buffer, position, end)
            if records is None:
                break
            self._shape = shape
            self._batches.append(records)
            self._correlations.append(bytes(buffer[position + _CORRELATION : position + SHAPE_POSITION]))
            self._size += length
            position = end
        return position - start

    def _shape_at(self, buffer: bytes | bytearray, start: int) -> Shape | None:
        position = start + SHAPE_POSITION
        for length in self._lengths:
            shape = self.shapes.get(bytes(buffer[position : position + length]))
            if shape is not None:
                return shape if buffer.startswith(shape.api, start + _API) else None
        return None

    def begin(self, takes_spans: bool) -> Sequence[Begun | Handled] | None:
        shape, batches, correlations = self._shape, self._batches, self._correlations
        assert shape is not None
        self._shape = None
        self._batches, self._correlations, self._size = [], [], 0
        return shape.handle(correlations, batches)


class Shape:
    """The bytes that like requests share, and the template of their responses."""

    __slots__ = (
        "_after",
        "_before",
        "_broker",
        "_encode",
        "_find_topic",
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

    def __init__(self, broker: BrokerParts, request: ProduceRequest, version: int, api: bytes, key: bytes) -> None:
        (topic,) = request.topic_data
        (data,) = topic.partition_data
        self.api = api
        """The bytes of the API key and version."""
        self.key = key
        """The bytes from the end of the correlation id to the batch's length."""
        self.end = SHAPE_POSITION + len(key)
        self.acks = request.acks
        self.timeout_ms = request.timeout_ms
        self._broker = broker
        self._flexible = version in ProduceRequest.flexible_versions
        self._name = topic.name
        self._topic_id = topic.topic_id
        self._find_topic = finder(broker.partitions, topic.name, topic.topic_id, version >= produce.TOPIC_ID_SINCE)
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

    def begins(self, buffer: bytes | bytearray, start: int) -> bool:
        """Whether a request has this shape up to the batch."""
        return buffer.startswith(self.key, start + SHAPE_POSITION) and buffer.startswith(self.api, start + _API)

    def records(self, buffer: bytes | bytearray, start: int, stop: int) -> memoryview | None:
        """The batch in a request that `begins` with this shape; None if the rest does not match."""
        at = start + self.end
        try:
            if self._flexible:
                length, position = read_uvarint(buffer, at)  # type: ignore[arg-type]
                end = position + length - 1
                if length < 2 or end + len(_NO_TAGS) != stop or not buffer.startswith(_NO_TAGS, end):
                    return None
            else:
                (length,) = _INT32.unpack_from(buffer, at)
                position = at + _INT32.size
                end = position + length
                if length < 1 or end != stop:
                    return None
        except (IndexError, struct.error, ValueError):
            return None
        return memoryview(buffer)[position:end]

    def handle(self, correlations: list[bytes], batches: list[memoryview]) -> list[Begun | Handled] | None:
        """Appends the batches of requests of this shape; returns the outcomes in their order, or None, with nothing
        appended, if the topic has changed."""
        found = self._find_topic()
        if found is None or self._index >= len(found.partitions):
            return None
        partition = found.partitions[self._index]
        results = partition.append_all(batches)
        outcomes: list[Begun | Handled] = []
        plain: list[AppendResult] = []
        for number, result in enumerate(results):
            if type(result) is AppendResult and result.error is ErrorCode.NONE:
                if plain and plain[-1].durable is not result.durable:
                    outcomes.append(self._written(correlations[number - len(plain) : number], plain, partition))
                    plain = []
                plain.append(result)
                continue
            if plain:
                outcomes.append(self._written(correlations[number - len(plain) : number], plain, partition))
                plain = []
            answer = PartitionProduceResponse(index=self._index, base_offset=-1, log_start_offset=-1)
            settling = produce.Settling(self._broker, self.acks, self.timeout_ms)
            settling.settle(answer, result, partition)
            outcomes.append(Handled(_number(correlations[number]), settling.answer(self._response(answer))))
        if plain:
            outcomes.append(self._written(correlations[len(correlations) - len(plain) :], plain, partition))
        return outcomes

    def _written(self, correlations: list[bytes], results: list[AppendResult], partition: Partition) -> Written:
        if self.acks == 0:
            return Written(self, [], results, b"", None)
        durable = results[0].durable
        assert durable is not None
        encode, (length, head), after = self._encode, self._before, self._after
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
        return Written(self, correlations, results, responses, produce.awaited(durable, self.acks, partition))

    def not_written(self, result: AppendResult, late: bool) -> ProduceResponse:
        """The response for a batch that is not durable, because the log failed or (`late`) the timeout is over."""
        answer = PartitionProduceResponse(index=self._index)
        produce.fill(answer, result)
        if late:
            produce.timed_out(answer)
        else:
            produce.storage_failed(answer)
        return self._response(answer)


class Written(Begun):
    """Adjacent requests whose batches are written, with the responses of their success (none with `acks=0`)."""

    __slots__ = ("correlations", "results", "shape")

    def __init__(
        self,
        shape: Shape,
        correlations: list[bytes],
        results: list[AppendResult],
        responses: bytes,
        durable: asyncio.Future[None] | None,
    ) -> None:
        self.requests = len(results)
        self.pieces = [responses] if responses else []
        self.waits_for = durable
        self.timeout_ms = shape.timeout_ms
        self.shape = shape
        self.correlations = correlations
        self.results = results

    def instead(self, late: bool) -> list[tuple[int, Message]]:
        return [
            (_number(correlation), self.shape.not_written(result, late))
            for correlation, result in zip(self.correlations, self.results, strict=True)
        ]


def _number(correlation: bytes) -> int:
    return int.from_bytes(correlation, "big", signed=True)


def learn(
    buffer: bytes | bytearray, start: int, stop: int, request: ProduceRequest, version: int, broker: BrokerParts
) -> Shape | None:
    """The shape of a request with one batch; None if the request has no use for one, or its encoding is not the usual
    one."""
    if version < produce.ZSTD_SINCE or len(request.topic_data) != 1 or len(request.topic_data[0].partition_data) != 1:
        return None
    topic = request.topic_data[0]
    records = topic.partition_data[0].records
    if request.transactional_id is not None or not records or request.acks not in (produce.ACKS_ALL, 0, 1):
        return None
    known = find_topic(broker.partitions, topic.name, topic.topic_id, version >= produce.TOPIC_ID_SINCE)
    if known is None or known.name in INTERNAL_TOPICS:
        return None
    flexible = version in ProduceRequest.flexible_versions
    end = stop - (len(_NO_TAGS) if flexible else 0)
    begin = end - len(records)
    length_bytes = (1 if len(records) + 1 < 1 << 7 else 2 if len(records) + 1 < 1 << 14 else 3) if flexible else 4
    if len(records) + 1 >= 1 << 21:
        length_bytes += flexible
    key = bytes(buffer[start + SHAPE_POSITION : begin - length_bytes])
    shape = Shape(broker, request, version, bytes(buffer[start + _API : start + _CORRELATION]), key)
    found = shape.records(buffer, start, stop)
    # No shape is learned from a request in an unusual encoding (tagged fields, varints that are longer than needed).
    return shape if found is not None and found == records and len(found) == len(records) else None
