"""A broker that does as a test tells it: real frames over a real socket, scripted answers."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from odradek.protocol.decoding import decode
from odradek.protocol.fields import Message
from odradek.protocol.framing import encode_response, read_request_header
from odradek.protocol.messages.api_versions import ApiVersion, ApiVersionsRequest, ApiVersionsResponse
from odradek.protocol.messages.metadata import (
    MetadataRequest,
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)
from odradek.protocol.registry import BY_KEY

TOPIC = "scripted"


class Close:
    """An answer: hang up without one."""


class Silence:
    """An answer: none, and the connection stays open."""


Answer = Message | bytes | Close | Silence
Script = Callable[[Any, int], Answer]


class ScriptedBroker:
    """Answers ApiVersions and Metadata by itself (one topic, this broker leading), all else by `script`, which gets
    (request, version). What `script` returns as bytes is sent as the whole frame."""

    def __init__(self, script: Script, partitions: int = 1) -> None:
        self.script = script
        self.partitions = partitions
        self.requests: list[Message] = []
        self.api_versions: Script = self.answer_api_versions
        self.ranges = {key: (api.served.first, api.served.last) for key, api in BY_KEY.items()}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.advertised = ("127.0.0.1", self._listener.getsockname()[1])
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            self._threads.append(threading.Thread(target=self._serve, args=(connection,), daemon=True))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            while len(head := self._read(stream, 4)) == 4:
                frame = self._read(stream, *struct.unpack(">i", head))
                key, version = struct.unpack_from(">hh", frame)
                cls = BY_KEY[key].request
                header = read_request_header(frame, version in cls.flexible_versions)
                request, _ = decode(cls, version, frame, header.body_position)
                self.requests.append(request)
                if isinstance(request, ApiVersionsRequest):
                    answer = self.api_versions(request, version)
                elif isinstance(request, MetadataRequest):
                    answer = self._answer_metadata()
                else:
                    answer = self.script(request, version)
                if isinstance(answer, Close):
                    return
                if isinstance(answer, Silence):
                    continue
                if not isinstance(answer, bytes):
                    answer = b"".join(encode_response(answer, version, header.correlation_id))
                try:
                    connection.sendall(answer)
                except OSError:
                    return

    @staticmethod
    def _read(stream: BinaryIO, count: int) -> bytes:
        try:
            return stream.read(count)
        except OSError:  # a client that hangs up is no surprise
            return b""

    def answer_api_versions(self, request: Any, version: int) -> Answer:
        keys = [ApiVersion(api_key=k, min_version=a, max_version=b) for k, (a, b) in self.ranges.items()]
        return ApiVersionsResponse(api_keys=keys)

    def _answer_metadata(self) -> Answer:
        host, port = self.advertised
        partitions = [
            MetadataResponsePartition(partition_index=p, leader_id=1, replica_nodes=[1], isr_nodes=[1])
            for p in range(self.partitions)
        ]
        return MetadataResponse(
            brokers=[MetadataResponseBroker(node_id=1, host=host, port=port)],
            controller_id=1,
            topics=[MetadataResponseTopic(name=TOPIC, partitions=partitions)],
        )

    def close(self) -> None:
        for open_socket in (self._listener, *self._open):
            with contextlib.suppress(OSError):  # the client was faster
                open_socket.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)


@contextmanager
def scripted(script: Script, partitions: int = 1) -> Iterator[ScriptedBroker]:
    broker = ScriptedBroker(script, partitions)
    try:
        yield broker
    finally:
        broker.close()
