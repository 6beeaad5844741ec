"""Responses with records that are still in a file: from there to the socket, past the process where that can be.

Role: write pieces in order, some of them `FileSpan`s. While the transport holds nothing back, everything goes to the
socket by system calls of our own, spans by `sendfile`: 1 MB fetches of cached data cost 0.13 s of CPU a GB instead of
0.41, and 128 KB ones 0.17 instead of 0.38 (four connections; a bare server, the load on the same machine). What the
socket does not take is read, and left to the transport, which tells when the peer is slow.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

from odradek.engines.interface import FileSpan
from odradek.records.batch import Buffer

Piece = Buffer | FileSpan


def socket_of(transport: asyncio.BaseTransport) -> int:
    """The descriptor that the bytes of files can go to by themselves; -1 where there is no such way, as under TLS: the
    transport gives its socket all the same, but what is written to that is not what the peer is to read."""
    connected = transport.get_extra_info("socket")
    if connected is None or transport.get_extra_info("ssl_object") is not None:
        return -1
    return int(connected.fileno())


def has_spans(pieces: Sequence[Piece]) -> bool:
    """Whether any piece is still in a file."""
    return any(type(piece) is FileSpan for piece in pieces)


def write(transport: asyncio.Transport, socket_fd: int, pieces: Sequence[Piece]) -> None:
    """Writes them in order; `socket_fd` is the transport's own. Raises `OSError` where the socket, or a file, fails:
    then the connection is of no use any more."""
    rest = pieces if transport.get_write_buffer_size() else _send(socket_fd, pieces)
    if rest:
        transport.writelines([piece.read() if isinstance(piece, FileSpan) else piece for piece in rest])


def _send(socket_fd: int, pieces: Sequence[Piece]) -> Sequence[Piece]:
    """Sends what the socket takes now; what it did not."""
    for index, piece in enumerate(pieces):
        if isinstance(piece, FileSpan):
            sent = piece.send(socket_fd)
            if sent < len(piece):
                return [piece.read(sent), *pieces[index + 1 :]]
        else:
            try:
                sent = os.write(socket_fd, piece)
            except BlockingIOError:
                sent = 0
            if sent < len(piece):
                return [memoryview(piece)[sent:], *pieces[index + 1 :]]
    return ()
