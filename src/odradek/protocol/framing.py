"""Reads the headers of requests, and encodes whole request and response frames.

Sans-IO. A request is `request header, body`, a response `response header, body`, each after 4 bytes of length, which
the network code reads. Header versions follow from the API and its version: flexible versions have a header with tagged
fields, but the response to ApiVersions never has (KIP-511: a client that does not know the broker's versions must be
able to read it).

Invariants: `read_request_header` reads in bounds or raises `DecodeError`. `encode_response` gives the frame's pieces
with the length in front; record buffers among them are not copied.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from odradek.protocol.decoding import decode
from odradek.protocol.encoding import encode, encoder, has_records
from odradek.protocol.errors import DecodeError
from odradek.protocol.fields import Buffer, Message, field, int16, int32, string

API_VERSIONS_KEY = 18
_FIXED = struct.Struct(">hhi")
_FIXED_AND_LENGTH = struct.Struct(">hhih")
_RESPONSE = struct.Struct(">ii")
# Pieces of a response smaller than this are joined; a bigger one goes to the socket as it is.
JOIN_BYTES = 16_384


class RequestHeader(Message, versions="1-2", flexible="2+"):
    request_api_key: int16 = field("0+")
    request_api_version: int16 = field("0+")
    correlation_id: int32 = field("0+")
    client_id: string | None = field("1+", nullable="1+", flexible=False)


class ResponseHeader(Message, versions="0-1", flexible="1+"):
    correlation_id: int32 = field("0+")


class Request(NamedTuple):
    """The fields of a request header, and the position of the body."""

    api_key: int
    api_version: int
    correlation_id: int
    client_id: str | None
    body_position: int


def peek_api(frame: bytes | bytearray, start: int = 0) -> tuple[int, int, int]:
    """(API key, API version, correlation id) of the request from `start` to the frame's end. Raises `DecodeError`."""
    if len(frame) - start < _FIXED.size:
        raise DecodeError(f"a request of {len(frame) - start} bytes is shorter than its header")
    key, version, correlation_id = _FIXED.unpack_from(frame, start)
    return key, version, correlation_id


def read_request_header(frame: bytes | bytearray, flexible: bool, start: int = 0) -> Request:
    """Reads the header of the request from `start` to the frame's end; `flexible` says whether the header has tagged
    fields. Raises `DecodeError`."""
    try:
        key, version, correlation_id, length = _FIXED_AND_LENGTH.unpack_from(frame, start)
    except struct.error:
        raise DecodeError(f"a request of {len(frame) - start} bytes is shorter than its header") from None
    text = start + _FIXED_AND_LENGTH.size
    position = text + max(length, 0)
    if length < -1 or position > len(frame):
        raise DecodeError(f"a client id of length {length} does not fit in the request")
    # Bytes that are not UTF-8 become U+FFFD, as in every string.
    client_id = None if length < 0 else frame[text:position].decode("utf-8", "replace")
    if flexible:
        if position < len(frame) and frame[position] == 0:
            position += 1
        else:
            _, position = decode(RequestHeader, 2, frame, start)
    return Request(key, version, correlation_id, client_id, position)


def encode_request(message: Message, version: int, correlation_id: int, client_id: str | None) -> bytes:
    """A whole request frame with its length, for clients."""
    header = RequestHeader(
        request_api_key=message.api_key,
        request_api_version=version,
        correlation_id=correlation_id,
        client_id=client_id,
    )
    flexible = version in message.flexible_versions
    body = encode(header, 2 if flexible else 1) + encode(message, version)
    return struct.pack(">i", len(body)) + body


def encode_response(message: Message, version: int, correlation_id: int) -> list[Buffer]:
    """The pieces of a whole response frame, its length first; small neighbours are joined."""
    cls = type(message)
    pieces: list[Buffer] = [b""]
    (cls.encoders.get(version) or encoder(cls, version))(message, pieces.append)
    flexible = version in cls.flexible_versions and cls.api_key != API_VERSIONS_KEY
    length = sum(map(len, pieces)) + (5 if flexible else 4)
    head = _RESPONSE.pack(length, correlation_id)
    pieces[0] = head + b"\0" if flexible else head
    if length <= JOIN_BYTES:
        return [b"".join(pieces)]
    out: list[Buffer] = []
    small: list[Buffer] = []
    for piece in pieces:
        if len(piece) < JOIN_BYTES:
            small.append(piece)
            continue
        if small:
            out.append(b"".join(small))
            small = []
        out.append(piece)
    if small:
        out.append(b"".join(small))
    return out


def encode_large_response(message: Message, version: int, correlation_id: int) -> list[Buffer]:
    """`encode_response` for a message of very many pieces, in a thread. Nothing that it does takes long by itself:
    millions of pieces would be measured, joined and freed in one step each, and the event loop would wait for each."""
    cls = type(message)
    if has_records(cls):
        return encode_response(message, version, correlation_id)
    flexible = version in cls.flexible_versions and cls.api_key != API_VERSIONS_KEY
    out = bytearray(_RESPONSE.size + flexible)
    (cls.encoders.get(version) or encoder(cls, version))(message, out.extend)
    _RESPONSE.pack_into(out, 0, len(out) - 4, correlation_id)
    return [out]
