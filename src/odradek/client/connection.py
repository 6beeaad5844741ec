"""A connection to one broker: connects, agrees on versions, sends requests and receives responses.

Role: a socket, the versions that both sides know (ApiVersions), and frames. `cluster` decides which broker to ask.

Invariants: every wait has a deadline, every response a maximum size. Responses come in order; a caller takes the
response to its request before it starts the next one. A connection that fails is closed, and raises `ConnectionLost`.
"""

from __future__ import annotations

import select
import socket
import struct
from typing import Any

from odradek import __version__
from odradek.client.error_codes import sentence
from odradek.client.failures import ClientFailed, ConnectionLost
from odradek.errors import ErrorCode
from odradek.protocol.decoding import decode
from odradek.protocol.errors import DecodeError
from odradek.protocol.fields import Message
from odradek.protocol.framing import ResponseHeader, encode_request
from odradek.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse

CLIENT_ID = "odradek"
RESPONSE_MAX_BYTES = 268_435_456
CONNECT_TIMEOUT_S = 10.0

_LENGTH = struct.Struct(">i")


class BrokerConnection:
    """A connection to one broker. Raises `ConnectionLost` where it fails."""

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        self.name = f"{host}:{port}"
        self._correlation_id = 0
        self._waiting: list[tuple[int, type[Message], int, type[Message]]] = []
        self._ranges: dict[int, tuple[int, int]] = {}
        self.features: dict[str, int] = {}
        self._socket = self._connected(host, port, timeout_s)
        # SASL, which is not implemented, would authenticate after this agreement: its requests have versions, too.
        try:
            self._agree_on_versions()
        except ConnectionLost:
            self.close()
            raise

    def _connected(self, host: str, port: int, timeout_s: float) -> socket.socket:
        """Connects and returns the socket. TLS, which is not implemented, would wrap it here."""
        try:
            connected = socket.create_connection((host, port), min(timeout_s, CONNECT_TIMEOUT_S))
        except OSError as error:
            raise ConnectionLost(f"cannot reach {self.name} ({_reason(error)})") from None
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.settimeout(timeout_s)
        return connected

    def _agree_on_versions(self) -> None:
        # A broker that does not know version 3 answers in version 0, with its ranges and UNSUPPORTED_VERSION (KIP-511).
        for version in (3, 0):
            request = ApiVersionsRequest(client_software_name="odradek", client_software_version=__version__)
            self._send(request, version, ApiVersionsResponse)
            frame = self._receive_frame()
            unsupported = int.from_bytes(frame[4:6], "big", signed=True) == ErrorCode.UNSUPPORTED_VERSION
            response = self._decode(ApiVersionsResponse, 0 if unsupported else version, frame, 4)
            self._waiting.clear()
            if not unsupported:
                break
        if response.error_code:
            raise ConnectionLost(f"{self.name} refused ApiVersions: {sentence(response.error_code)}")
        self._ranges = {api.api_key: (api.min_version, api.max_version) for api in response.api_keys}
        self.features = {feature.name: feature.max_version_level for feature in response.finalized_features}

    def version_of(self, cls: type[Message], at_most: int | None = None) -> int:
        """The highest version of a request that both sides know. Raises `ClientFailed`."""
        lowest, highest = self._ranges.get(cls.api_key, (0, -1))
        ours = cls.valid_versions
        version = min(highest, ours.last, ours.last if at_most is None else at_most)
        if version < max(lowest, ours.first):
            name = cls.__name__.removesuffix("Request")
            raise ClientFailed(f"the broker at {self.name} does not serve {name} in a version that this client knows.")
        return version

    def start(self, request: Message, response: type[Message], at_most: int | None = None) -> int:
        """Sends a request; `finish` returns its response. Returns the version used."""
        version = self.version_of(type(request), at_most)
        self._send(request, version, response)
        return version

    def start_unanswered(self, request: Message, at_most: int | None = None) -> None:
        """Sends a request that has no response: Produce with acks=0."""
        self._send(request, self.version_of(type(request), at_most), None)

    def finish(self) -> Any:
        """The response to the oldest open request; waits for it."""
        correlation_id, request, version, response = self._waiting.pop(0)
        flexible = version in request.flexible_versions
        frame = self._receive_frame()
        header, position = self._decode_at(ResponseHeader, 1 if flexible else 0, frame, 0)
        if header.correlation_id != correlation_id:
            raise self._lost("answered a request that was not asked")
        return self._decode(response, version, frame, position)

    def is_answering(self, timeout_s: float) -> bool:
        """Waits for the first bytes of a response, or the connection's end; False where neither came in time."""
        # With TLS, `SSLSocket.pending` would have to be checked as well: poll does not see bytes already decrypted.
        ready = select.poll()
        ready.register(self._socket, select.POLLIN)
        return bool(ready.poll(timeout_s * 1000))

    def _send(self, request: Message, version: int, response: type[Message] | None) -> None:
        self._correlation_id += 1
        try:
            self._socket.sendall(encode_request(request, version, self._correlation_id, CLIENT_ID))
        except OSError as error:
            raise self._lost(_reason(error)) from None
        if response is not None:
            self._waiting.append((self._correlation_id, type(request), version, response))

    def _receive_frame(self) -> bytes:
        (length,) = _LENGTH.unpack(self._receive(_LENGTH.size))
        if not 4 <= length <= RESPONSE_MAX_BYTES:
            raise self._lost(f"a response of {length} bytes; is it a Kafka listener without TLS?")
        return self._receive(length)

    def _receive(self, count: int) -> bytes:
        out = bytearray(count)
        view = memoryview(out)
        position = 0
        while position < count:
            try:
                received = self._socket.recv_into(view[position:])
            except OSError as error:
                raise self._lost(_reason(error)) from None
            if not received:
                raise self._lost("it closed the connection")
            position += received
        return bytes(out)

    def _decode_at(self, cls: type[Message], version: int, frame: bytes, position: int) -> tuple[Any, int]:
        try:
            return decode(cls, version, frame, position)
        except DecodeError as error:
            raise self._lost(f"a response that is not Kafka's protocol: {error}") from None

    def _decode(self, cls: type[Message], version: int, frame: bytes, position: int) -> Any:
        return self._decode_at(cls, version, frame, position)[0]

    def _lost(self, why: str) -> ConnectionLost:
        self.close()
        return ConnectionLost(f"lost the connection to {self.name} ({why})")

    def close(self) -> None:
        self._socket.close()


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (error.strerror or str(error)).lower() or type(error).__name__
