"""Fetch requests that equal an earlier one of their connection except for the offset: served without decoding them.

A consumer of one partition sends the same request again and again, with another fetch offset; the responses differ in
their offsets and records. A `FetchShape` is learned from the first request, which is decoded as usual. A request whose
other bytes are the same is answered from a template, if its records are in memory.

Invariants: the answer is the one that `fetch.handle` would have given. Only a success with enough records is answered
here; everything else is left to `fetch`. The topic is looked up each time, so a shape is not used after its deletion.
"""

from __future__ import annotations

import struct
from collections.abc import Coroutine, Sequence

from odradek.engines.interface import LogFailure, OffsetOutOfRange
from odradek.errors import KafkaError
from odradek.handlers import fetch
from odradek.handlers.context import BrokerParts
from odradek.handlers.fetch_sessions import FINAL_EPOCH, INVALID_SESSION_ID, TOPIC_ID_SINCE
from odradek.handlers.shortcut import Begun, Shortcut
from odradek.handlers.topics import finder
from odradek.protocol.decoding import decode
from odradek.protocol.errors import DecodeError
from odradek.protocol.fields import Buffer
from odradek.protocol.framing import encode_response, read_request_header
from odradek.protocol.messages.fetch import FetchableTopicResponse, FetchRequest, FetchResponse, PartitionData
from odradek.protocol.varints import encode_uvarint

# How many shapes (of different lengths) a connection keeps for each version, and how often it learns one.
SHAPES_MAX = 4
LEARNED_MAX = 16
# Positions in a request: its length, API key and version, correlation id; the rest is equal in like requests.
_API = 4
_CORRELATION = 8
_SHAPE_POSITION = 12
_LENGTH = struct.Struct(">i")
_OFFSET = struct.Struct(">q")
_OFFSETS = struct.Struct(">qqq")  # high watermark, last stable offset, log start offset
_MARK = _OFFSETS.pack(0x0123456789ABCDEF, 0x1123456789ABCDEF, 0x2123456789ABCDEF)
_RECORDS_MARK = b"\x31\x23\x45\x67\x89\xab\xcd\xef"
# If the offset's bytes occur at more positions than this, nothing is learned.
_PLACES_MAX = 4


class FetchAlike(Shortcut):
    """The shapes of one connection's requests in one version."""

    __slots__ = ("_broker", "_taken", "_version", "learned", "shapes")

    def __init__(self, broker: BrokerParts, version: int) -> None:
        self._broker = broker
        self._version = version
        self.shapes: dict[int, FetchShape] = {}
        """Shapes by the length of their requests."""
        self.learned = 0
        self._taken: tuple[FetchShape, bytes | bytearray, int] | None = None

    def learn(self, buffer: bytes | bytearray, start: int, stop: int, request: FetchRequest) -> bool:
        length = stop - start - _LENGTH.size
        if self.learned < LEARNED_MAX and (length in self.shapes or len(self.shapes) < SHAPES_MAX):
            self.learned += 1
            shape = learn(bytes(buffer[start:stop]), request, self._version, self._broker)
            if shape is not None:
                self.shapes[length] = shape
        return bool(self.shapes)

    def take(self, buffer: bytes | bytearray, start: int, stop: int) -> int:
        """Takes one request at a time: an answer is large, and a consumer waits for it before its next request."""
        if self._taken is not None:
            return 0
        length: int = _LENGTH.unpack_from(buffer, start)[0]
        shape = self.shapes.get(length)
        if (
            shape is None
            or not buffer.startswith(shape.begin, start + _SHAPE_POSITION)
            or not buffer.startswith(shape.end, start + shape.offset_at + _OFFSET.size)
        ):
            return 0
        self._taken = shape, buffer, start
        return _LENGTH.size + length

    def begin(self, takes_spans: bool) -> Sequence[Begun] | None:
        assert self._taken is not None
        (shape, buffer, start), self._taken = self._taken, None
        pieces = shape.answer(buffer, start, takes_spans)
        return None if pieces is None else (Begun(1, pieces),)


class FetchShape:
    """The bytes that like requests share, and the template of their response."""

    __slots__ = (
        "_after",
        "_before",
        "_broker",
        "_encode",
        "_epoch",
        "_find_topic",
        "_flexible",
        "_index",
        "_isolation_level",
        "_max_bytes",
        "_min_bytes",
        "_partition_max_bytes",
        "begin",
        "end",
        "offset_at",
    )

    def __init__(self, broker: BrokerParts, frame: bytes, request: FetchRequest, version: int, offset_at: int) -> None:
        (topic,) = request.topics
        (asked,) = topic.partitions
        self._broker = broker
        self.begin = frame[_SHAPE_POSITION:offset_at]
        self.end = frame[offset_at + _OFFSET.size :]
        self.offset_at = offset_at
        by_id = version >= TOPIC_ID_SINCE
        self._flexible = version in FetchRequest.flexible_versions
        self._find_topic = finder(broker.partitions, topic.topic, topic.topic_id, by_id)
        self._index = asked.partition
        self._epoch = asked.current_leader_epoch
        self._isolation_level = request.isolation_level
        self._max_bytes = max(0, min(request.max_bytes, broker.config.integer("fetch.max.bytes")))
        self._min_bytes = min(request.min_bytes, self._max_bytes)
        self._partition_max_bytes = max(0, asked.partition_max_bytes)
        offsets = _OFFSETS.unpack(_MARK)
        answer = PartitionData(
            partition_index=asked.partition,
            high_watermark=offsets[0],
            last_stable_offset=offsets[1],
            log_start_offset=offsets[2],
            aborted_transactions=[] if request.isolation_level else None,
            records=[_RECORDS_MARK],
        )
        told = FetchableTopicResponse(topic="" if by_id else topic.topic, topic_id=topic.topic_id, partitions=[answer])
        encoded = b"".join(bytes(one) for one in encode_response(FetchResponse(responses=[told]), version, 0))
        before, mark, rest = encoded.partition(_MARK)
        between, records, after = rest.partition(_RECORDS_MARK)
        assert mark and records
        between = between[:-1] if self._flexible else between[:-4]  # without the length of the records
        self._encode = struct.Struct(f">i4s{len(before) - 8}sqqq{len(between)}s").pack
        self._before = (before[8:], between)
        self._after = after

    def answer(self, buffer: bytes | bytearray, start: int, spans: bool) -> list[Buffer] | None:
        """The pieces of the response frame, with `spans` a `FileSpan` among them; None if `fetch.handle` must serve the
        request."""
        found = self._find_topic()
        if found is None or self._index >= len(found.partitions):
            return None
        partition = found.partitions[self._index]
        try:
            opened, start_offset, high_watermark, stable_end, end = partition.visible(
                self._epoch, self._isolation_level == fetch.READ_COMMITTED
            )
        except KafkaError:
            return None
        (offset,) = _OFFSET.unpack_from(buffer, start + self.offset_at)
        if not start_offset <= offset < end:
            return None
        if self._isolation_level == fetch.READ_COMMITTED and partition.aborted_between(offset, end):
            return None
        room = self._broker.unread_responses.room_bytes
        if room > self._max_bytes:
            room = self._max_bytes
        try:
            most = self._partition_max_bytes
            records = opened.read(offset, most if most < room else room, end, True, spans)
        except (OffsetOutOfRange, LogFailure, OSError):
            return None
        if not isinstance(records, list):
            # The records are on the disk, not in memory.
            assert isinstance(records, Coroutine)
            records.close()
            return None
        size = sum(map(len, records))
        if size < min(self._min_bytes, max(1, room)):
            return None
        partition.traffic.fetched_bytes += size
        before, between = self._before
        length = encode_uvarint(size + 1) if self._flexible else size.to_bytes(4, "big")
        after = self._after
        head = self._encode(
            len(before) + len(between) + len(length) + size + len(after) + 28,
            bytes(buffer[start + _CORRELATION : start + _SHAPE_POSITION]),
            before,
            high_watermark,
            stable_end,
            start_offset,
            between,
        )
        return [head + length, *records, after] if after else [head + length, *records]


def learn(frame: bytes, request: FetchRequest, version: int, broker: BrokerParts) -> FetchShape | None:
    """The shape of a request for one partition, outside a session; None if the request has no use for one, or the
    offset's position in it is not certain."""
    if (
        version < fetch.ZSTD_SINCE
        or request.session_id != INVALID_SESSION_ID
        or request.session_epoch != FINAL_EPOCH
        or request.isolation_level not in (fetch.READ_UNCOMMITTED, fetch.READ_COMMITTED)
        or len(request.topics) != 1
        or len(request.topics[0].partitions) != 1
    ):
        return None
    asked = request.topics[0].partitions[0]
    if asked.last_fetched_epoch >= 0 or asked.partition < 0:
        return None
    wanted, place = _OFFSET.pack(asked.fetch_offset), _SHAPE_POSITION - 1
    for _ in range(_PLACES_MAX):
        place = frame.find(wanted, place + 1)
        if place < 0:
            return None
        # This is the offset's position if changing the bytes there changes the decoded offset accordingly.
        if _offset_of(_changed(frame, place, 1), version) == 1 and _offset_of(_changed(frame, place, 2), version) == 2:
            return FetchShape(broker, frame, request, version, place)
    return None


def _changed(frame: bytes, place: int, offset: int) -> bytes:
    return frame[:place] + _OFFSET.pack(offset) + frame[place + _OFFSET.size :]


def _offset_of(frame: bytes, version: int) -> int:
    try:
        header = read_request_header(frame, version in FetchRequest.flexible_versions, _API)
        request, _ = decode(FetchRequest, version, frame, header.body_position)
        return int(request.topics[0].partitions[0].fetch_offset)
    except (DecodeError, IndexError, struct.error, UnicodeDecodeError):
        return -1
