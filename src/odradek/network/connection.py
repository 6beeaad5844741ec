"""One client connection: the asyncio protocol object between the transport and the request pipeline.

Role: pass received bytes to `frames.py`, the requests cut from them to `pipeline.py`, and the pipeline's responses to
the transport; responses that become ready together leave in one system call. The bytes that a slow peer has not read
are reported to `slow_readers.py`, which bounds them over all connections.

Invariant: `sendfile` (`spans.py`) is used only on plain-text connections. A TLS transport exposes its raw socket too,
but writing to that would bypass the encryption.
"""

from __future__ import annotations

import asyncio
from typing import cast

from odradek.engines.interface import SPAN_MIN_BYTES
from odradek.logs import get_logger
from odradek.network import spans
from odradek.network.frames import FRAME_FIRST_BYTES, Frames
from odradek.network.pipeline import Pipeline
from odradek.network.refusals import guess
from odradek.network.shared import SharedByConnections
from odradek.protocol.fields import Buffer
from odradek.protocol.framing import JOIN_BYTES

log = get_logger("odradek.network")


class Connection(asyncio.BufferedProtocol):
    """The protocol object of one connection."""

    def __init__(self, shared: SharedByConnections, listener: str) -> None:
        self.shared = shared
        self.listener = listener
        self.client_host = ""
        self.peer = ""
        self.last_active = 0.0
        self.frames = Frames(shared.receive, shared.limits.request_bytes)
        self.pipeline = Pipeline(shared, self.frames, self)
        self.takes_spans = False
        """Whether a response on this connection may contain a `FileSpan`."""
        self.transport: asyncio.Transport | None = None
        self._socket_fd = -1
        self._loop = asyncio.get_running_loop()
        self._out: list[Buffer] = []
        self._out_bytes = 0
        self.unread_bytes = 0
        """Unread response bytes that `slow_readers.py` counts for this connection."""
        self._unsent_bytes = 0
        self._receiving_since = 0.0
        """Loop time when the unfinished request began, or when reading was last resumed after that."""

    # --- called by the transport ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=self.shared.limits.response_bytes)
        self._socket_fd = spans.socket_of(transport)
        self.takes_spans = self._socket_fd >= 0
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.client_host, self.peer = str(peer[0]), f"{peer[0]}:{peer[1]}"
        self.last_active = self._loop.time()
        self.shared.connections.add(self)
        self.shared.counters.opened += 1

    def connection_lost(self, error: Exception | None) -> None:
        self.takes_spans = False
        self._socket_fd = -1
        shared = self.shared
        shared.connections.discard(self)
        if not shared.connections and shared.all_closed is not None and not shared.all_closed.done():
            shared.all_closed.set_result(None)
        shared.memory.give_back(self.frames.abandon())
        self.pipeline.lost()
        self.pipeline.peer_is_slow = False
        self.count_unread()

    def pause_writing(self) -> None:
        self.pipeline.peer_is_slow = True
        self.count_unread()

    def resume_writing(self) -> None:
        self.pipeline.peer_is_slow = False
        self.count_unread()
        self.pipeline.run()

    def count_unread(self) -> None:
        """Reports to `slow_readers` how many response bytes the peer has not read; 0 while the transport's write buffer
        is below the bound of this connection."""
        transport = self.transport
        held = transport.get_write_buffer_size() if self.pipeline.peer_is_slow and transport is not None else 0
        if held != self.unread_bytes:
            by, self.unread_bytes = held - self.unread_bytes, held
            self.shared.slow_readers.change(by)

    def eof_received(self) -> bool:
        return False

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.frames.buffer()

    def buffer_updated(self, count: int) -> None:
        self.last_active = self._loop.time()
        shared, frames, pipeline = self.shared, self.frames, self.pipeline
        shared.bytes_in += count
        if pipeline.ended or pipeline.refused is not None:
            return
        held = frames.held_bytes
        requests = frames.received(count)
        size = sum(map(len, requests))
        shared.memory.take(size + frames.held_bytes - held)
        if frames.held_bytes and (requests or not held):
            self._receiving_since = self.last_active
        if requests:
            pipeline.arrived(requests, size)
            if held:
                shared.memory.request_complete(pipeline)
        if frames.impossible_length is not None:
            length, limit = frames.impossible_length, shared.limits.request_bytes
            seems = guess(length.to_bytes(4, "big", signed=True))
            pipeline.refuse(f"a request of {length} bytes; socket.request.max.bytes is {limit}{seems}")
        pipeline.run()
        pipeline.control_reading()

    # --- called by the pipeline ----------------------------------------------------------------------------------

    def pause_reading(self) -> None:
        if self.transport is not None:
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        self._receiving_since = self._loop.time()
        if self.transport is not None:
            self.transport.resume_reading()

    def write(self, pieces: list[Buffer]) -> None:
        """Queues a response until the next `flush`, so that responses that become ready together share one system call.
        A system call costs more than handling a small request (single writes took 30% of a pipelined produce)."""
        self._out += pieces
        self._out_bytes += sum(map(len, pieces))
        if self._out_bytes >= self.shared.limits.response_bytes:
            # The transport calls `pause_writing` if the peer does not read; the pipeline then starts nothing more.
            self.flush()

    def flush(self) -> None:
        """Sends the queued responses."""
        out, transport = self._out, self.transport
        if not out or transport is None:
            return
        count = self._out_bytes
        self._out = []
        self._out_bytes = 0
        self.shared.bytes_out += count
        self.last_active = self._loop.time()
        if count >= SPAN_MIN_BYTES and spans.has_spans(out):
            try:
                spans.write(transport, self._socket_fd, out)
            except OSError as error:
                # The socket is gone, or reading a file failed after the response's length had been sent.
                log.info("connection closed: a response could not be sent", peer=self.peer, why=str(error))
                self.abort()
                return
        elif len(out) == 1:
            transport.write(out[0])
        elif count <= JOIN_BYTES:
            transport.write(b"".join(out))
        else:
            transport.writelines(out)
        if self.pipeline.peer_is_slow:
            self.count_unread()

    # --- closing -------------------------------------------------------------------------------------------------

    def end_if_silent(self, before: float) -> bool:
        """Closes the connection if no request is in progress and no byte was received or sent since `before` (loop
        time). Returns whether it did.

        Called periodically. A write buffer that shrank since the last call counts as activity. A peer that leaves
        response bytes unread is aborted: a graceful close would wait for it and keep those bytes in memory.
        """
        transport, pipeline = self.transport, self.pipeline
        if transport is None:
            return False
        unsent = transport.get_write_buffer_size()
        if unsent < self._unsent_bytes:
            self.last_active = self._loop.time()
        self._unsent_bytes = unsent
        self.count_unread()
        under_way = (pipeline.waiting or pipeline.open) and not (pipeline.peer_is_slow or pipeline.ended)
        if under_way or self.last_active >= before:
            return False
        if unsent:
            self.abort()
        else:
            self.close()
        return True

    def end_if_late(self, before: float) -> bool:
        """Closes the connection if a large request that began before `before` (loop time) is still incomplete, because
        it holds memory that other connections wait for. Time in which this connection was not read does not count.
        Returns whether it closed the connection."""
        frames, pipeline = self.frames, self.pipeline
        if frames.held_bytes <= FRAME_FIRST_BYTES or not pipeline.is_reading or self._receiving_since >= before:
            return False
        self.shared.refusals.say(
            "connection closed", self.peer, f"a request came too slowly: {frames.held_bytes} bytes of it are here"
        )
        self.abort()
        return True

    def end_unread(self) -> None:
        """Closes the connection because its peer does not read its responses and the memory is needed."""
        why = f"{self.unread_bytes} bytes of its responses are unread (odradek.queued.max.response.bytes is reached)"
        self.shared.counters.unread_closed += 1
        self.shared.refusals.say("connection closed", self.peer, why)
        self.abort()
        self.pipeline.peer_is_slow = False
        self.count_unread()

    def drain(self) -> None:
        """Accepts no more requests, and closes the connection when the started ones are answered."""
        self.pipeline.drain()

    def abort(self) -> None:
        """Closes the connection at once and drops unsent responses."""
        self.pipeline.ended = True
        self._out.clear()
        self._out_bytes = 0
        if self.transport is not None:
            self.transport.abort()

    def close(self) -> None:
        """Sends the queued responses, then closes the connection."""
        if not self.pipeline.ended:
            self.pipeline.ended = True
            if self.transport is not None:
                self.flush()
                self.transport.close()
