"""A client of one socket that sends what it is told, in any version, and reads what comes: to test the protocol."""

from __future__ import annotations

import socket
import struct
from typing import Any, TypeVar

from odradek.protocol.decoding import decode
from odradek.protocol.fields import Message
from odradek.protocol.framing import API_VERSIONS_KEY, encode_request
from odradek.protocol.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic
from odradek.protocol.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from odradek.records.batch import split_batches
from odradek.records.builder import NewRecord, batch_bytes, build_batch
from odradek.records.iteration import Record, iterate

R = TypeVar("R", bound=Message)
TIMEOUT_S = 20.0


class Closed(Exception):
    """The broker closed the connection."""


class RawClient:
    """One connection. Use as a context manager."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection((host, port), timeout=TIMEOUT_S)
        self.correlation_id = 0

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send_bytes(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send(self, request: Message, version: int) -> int:
        """Sends a request; returns its correlation id."""
        self.correlation_id += 1
        self.socket.sendall(encode_request(request, version, self.correlation_id, "raw"))
        return self.correlation_id

    def receive_bytes(self, count: int) -> bytes:
        out = bytearray()
        while len(out) < count:
            try:
                piece = self.socket.recv(count - len(out))
            except ConnectionError as error:
                raise Closed(str(error)) from None
            if not piece:
                raise Closed(f"after {len(out)} of {count} bytes")
            out += piece
        return bytes(out)

    def receive_frame(self) -> bytes:
        return self.receive_bytes(struct.unpack(">i", self.receive_bytes(4))[0])

    def receive(self, response: type[R], version: int) -> R:
        """Reads one response, which must be the next one and hold nothing more."""
        frame = self.receive_frame()
        flexible = version in response.flexible_versions and response.api_key != API_VERSIONS_KEY
        message, end = decode(response, version, frame, 5 if flexible else 4)
        assert end == len(frame), f"{len(frame) - end} bytes after the response"
        self.last_correlation_id = struct.unpack(">i", frame[:4])[0]
        return message  # type: ignore[no-any-return]

    def call(self, request: Message, response: type[R], version: int) -> R:
        sent = self.send(request, version)
        answer = self.receive(response, version)
        assert self.last_correlation_id == sent
        return answer

    def is_closed(self) -> bool:
        """Waits for the broker to close, or to say something."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionError:
            return True

    # --- the everyday requests -----------------------------------------------------------------------------------

    def produce(
        self, topic: str, data: bytes | None, *, partition: int = 0, acks: int = -1, version: int = 9
    ) -> PartitionProduceResponse:
        answer = self.call(produce_request(topic, data, partition=partition, acks=acks), ProduceResponse, version)
        return answer.responses[0].partition_responses[0]

    def fetch(
        self,
        topic: str,
        offset: int,
        *,
        partition: int = 0,
        max_wait_ms: int = 0,
        min_bytes: int = 1,
        max_bytes: int = 1 << 24,
        version: int = 12,
        **more: Any,
    ) -> Any:
        """The one partition's answer of a full Fetch."""
        wanted = FetchPartition(partition=partition, fetch_offset=offset, partition_max_bytes=max_bytes, **more)
        request = FetchRequest(
            max_wait_ms=max_wait_ms, min_bytes=min_bytes, topics=[FetchTopic(topic=topic, partitions=[wanted])]
        )
        answer = self.call(request, FetchResponse, version)
        assert answer.error_code == 0, answer
        return answer.responses[0].partitions[0]


def produce_request(topic: str, data: bytes | None, *, partition: int = 0, acks: int = -1) -> ProduceRequest:
    return ProduceRequest(
        acks=acks,
        timeout_ms=30_000,
        topic_data=[TopicProduceData(name=topic, partition_data=[PartitionProduceData(index=partition, records=data)])],
    )


def batch(*values: bytes, timestamp_ms: int = 1_700_000_000_000, **more: Any) -> bytes:
    """The bytes of a batch of records with these values."""
    return batch_bytes(build_batch([NewRecord(None, value, timestamp_ms) for value in values], **more))


def records_of(data: Any) -> list[Record]:
    """All records of the whole batches in a Fetch answer's data."""
    return [record for header, piece in split_batches(data or b"") for record in iterate(header, piece)]
