"""One client's connection: bytes in, requests dispatched, responses out in the order of the requests.

Invariants:
- Responses leave in request order. A request starts when all earlier ones of the connection are answered; only a
  Produce behind open Produces starts early, so that a pipelined producer's batches share a flush.
- What is received and not answered is bounded, per connection and (`request_memory.py`) over all; so is what was
  answered and not taken by the peer. Beyond a bound reading or starting stops; TCP tells the peer.
- A malformed request closes its connection, with a log line that says what was wrong, and nothing else. What came
  before it is answered first.

Receiving: all connections of a loop share one buffer, because a read is parsed before the next begins; what is left of
an unfinished frame moves into a buffer of its own, which grows with what arrives, never with what was announced.
Requests are decoded from, and record views point into, the frame's own bytes.

No task per request (25 us): a handler returns a response, written at once, or an awaitable (2 us a call).
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Any, cast

from odradek.config import BrokerConfig
from odradek.durations import BOUNDS_S
from odradek.engines.interface import SPAN_MIN_BYTES, Engine
from odradek.handlers import fetch, fetch_alike, produce
from odradek.handlers.context import Answer, NoResponse
from odradek.handlers.fetch_alike import FetchShape
from odradek.handlers.produce_alike import SHAPE_POSITION, Shape, Written, correlation_id_of, learn
from odradek.logs import get_logger
from odradek.network import spans
from odradek.network.counters import ConnectionCounters
from odradek.network.dispatch import (
    PARKED_KEYS,
    PRODUCE_KEY,
    Dispatch,
    NotServed,
    Route,
    answer_unknown_api_versions,
    is_unknown_api_versions,
)
from odradek.network.refusals import Refusals, guess
from odradek.network.request_memory import RequestMemory
from odradek.protocol.compiler import DecodeError
from odradek.protocol.fields import Buffer, Message
from odradek.protocol.framing import JOIN_BYTES, encode_response, peek_api
from odradek.protocol.messages.fetch import FetchRequest
from odradek.protocol.messages.produce import PartitionProduceResponse, ProduceRequest

log = get_logger("odradek.network")

RECEIVE_BYTES = 262_144
# A frame's own buffer begins with at most this much, and doubles as bytes arrive: what is announced costs nothing.
FRAME_FIRST_BYTES = 65_536
# When so much of a frame is missing, it is received into the frame's buffer without a copy.
DIRECT_BYTES = 32_768
LENGTH_BYTES = 4
# Shapes of Produce requests that a connection remembers, and of how many lengths they may be.
SHAPES_MAX = 256
SHAPE_LENGTHS_MAX = 4
# Requests alike that are served together, and their bytes.
ALIKE_MAX = 64
ALIKE_MAX_BYTES = 1_048_576
# Shapes of Fetch requests that a connection remembers, by their lengths, and how often it learns one.
FETCH_SHAPES_MAX = 4
FETCH_LEARNED_MAX = 16


class ConnectionLimits:
    """The bounds of every connection, from the settings."""

    def __init__(self, config: BrokerConfig) -> None:
        self.request_bytes = config.integer("socket.request.max.bytes")
        self.open_requests = config.integer("odradek.connection.max.requests")
        self.open_request_bytes = config.integer("odradek.connection.max.request.bytes")
        self.response_bytes = config.integer("odradek.connection.max.response.bytes")


class Shared:
    """What the connections of a listener share."""

    def __init__(
        self,
        dispatch: Dispatch,
        engine: Engine,
        memory: RequestMemory,
        limits: ConnectionLimits,
        refusals: Refusals,
    ) -> None:
        self.dispatch = dispatch
        self.engine = engine
        self.memory = memory
        self.limits = limits
        self.refusals = refusals
        self.receive = bytearray(RECEIVE_BYTES)
        self.receive_view = memoryview(self.receive)
        self.connections: set[Connection] = set()
        self.all_closed: asyncio.Future[None] | None = None
        """Resolved when the last connection is gone, for a stop that waits for it."""
        self.now = dispatch.broker.clock.monotonic
        self.counters = ConnectionCounters()
        self.bytes_in = 0
        self.bytes_out = 0


class _Open:
    """A request that has started and is not answered."""

    __slots__ = ("began", "close", "correlation_id", "count", "pieces", "route", "size")

    def __init__(self, route: Route, correlation_id: int, size: int, began: float, count: int = 1) -> None:
        """`count` requests that are answered together, of `size` bytes in all."""
        self.route = route
        self.correlation_id = correlation_id
        self.size = size
        self.began = began
        self.count = count
        self.pieces: list[Buffer] | None = None
        self.close = False


class _Unflushed(_Open):
    """Produce requests that were served by their shape, and are answered when their batches are durable."""

    __slots__ = ("connection", "shape", "written")

    def __init__(
        self,
        route: Route,
        size: int,
        began: float,
        connection: Connection,
        shape: Shape,
        written: Written,
    ) -> None:
        super().__init__(route, -1, size, began, written.requests)
        self.connection = connection
        self.shape = shape
        self.written = written

    def expire(self) -> None:
        self.connection.expire(self)


class Connection(asyncio.BufferedProtocol):
    """The protocol object of one connection."""

    def __init__(self, shared: Shared, listener: str) -> None:
        self.shared = shared
        self.listener = listener
        self.client_host = ""
        self.peer = ""
        self.last_active = 0.0
        self._transport: asyncio.Transport | None = None
        self._socket_fd = -1
        """Where the bytes of files can go by themselves; -1 where there is no such way."""
        self._loop = asyncio.get_running_loop()
        # receiving
        self._head = b""
        self._frame: bytearray | None = None
        self._filled = 0
        self._size = 0
        self._direct = False
        self._reading = True
        # started and waiting requests
        self._waiting: deque[bytes | bytearray] = deque()
        self._waiting_bytes = 0
        self._open: deque[_Open] = deque()
        self._open_bytes = 0
        self._open_count = 0
        self._awaited: set[asyncio.Future[Any]] = set()
        # Shapes of Produce requests, by what requests of a shape have in common, and how long that may be.
        self._shapes: dict[bytes, tuple[Shape, Route]] = {}
        self._shape_ends: list[int] = []
        self._fetch_shapes: dict[int, tuple[FetchShape, Route]] = {}
        self._fetch_learned = 0
        self._unflushed: dict[asyncio.Future[None], list[_Unflushed]] = {}
        self._out: list[Buffer] = []
        self._out_bytes = 0
        self._running = False
        self._no_room = False
        self._peer_slow = False
        self._unread_bytes = 0
        self._unsent_bytes = 0
        self._refused: str | None = None
        self._closing = False
        self._draining = False

    # --- the transport's calls -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self.shared.limits.response_bytes)
        connected = transport.get_extra_info("socket")
        if connected is not None:
            self._socket_fd = connected.fileno()
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.client_host, self.peer = str(peer[0]), f"{peer[0]}:{peer[1]}"
        self.last_active = self._loop.time()
        self.shared.connections.add(self)
        self.shared.counters.opened += 1

    def connection_lost(self, error: Exception | None) -> None:
        self._closing = True
        self._socket_fd = -1
        shared = self.shared
        shared.connections.discard(self)
        if not shared.connections and shared.all_closed is not None and not shared.all_closed.done():
            shared.all_closed.set_result(None)
        shared.memory.give_back(self._waiting_bytes + self._open_bytes + self._filled)
        self._waiting.clear()
        self._open.clear()
        self._waiting_bytes = self._open_bytes = self._open_count = self._filled = 0
        self._frame = None
        shared.memory.forget(self)
        self._peer_slow = False
        self._count_unread()
        for awaited in list(self._awaited):
            # A wait is over; a task (a change of metadata, say) runs to its end, though nobody hears of it.
            if not isinstance(awaited, asyncio.Task):
                awaited.cancel()

    def pause_writing(self) -> None:
        self._peer_slow = True
        self._count_unread()

    def resume_writing(self) -> None:
        self._peer_slow = False
        self._count_unread()
        self._run()

    def _count_unread(self) -> None:
        """Tells the bound over all connections what this one's peer has not taken; below its own bound that counts as
        nothing."""
        transport = self._transport
        held = transport.get_write_buffer_size() if self._peer_slow and transport is not None else 0
        if held != self._unread_bytes:
            self.shared.dispatch.broker.unread_responses.change(held - self._unread_bytes)
            self._unread_bytes = held

    def eof_received(self) -> bool:
        return False

    def get_buffer(self, sizehint: int) -> memoryview:
        frame = self._frame
        if frame is not None and self._size - self._filled >= DIRECT_BYTES:
            self._direct = True
            if self._filled == len(frame):
                frame.extend(bytes(min(len(frame), self._size - len(frame))))
            return memoryview(frame)[self._filled :]
        self._direct = False
        return self.shared.receive_view

    def buffer_updated(self, count: int) -> None:
        self.last_active = self._loop.time()
        self.shared.bytes_in += count
        if self._closing or self._refused is not None:
            return
        if self._direct:
            self._filled += count
            self.shared.memory.take(count)
            if self._filled == self._size:
                self._finish_frame()
        else:
            self._parse(count)
        self._run()
        self._control_reading()

    # --- frames --------------------------------------------------------------------------------------------------

    def _parse(self, count: int) -> None:
        """Cuts frames out of the shared buffer's first `count` bytes; keeps what is left of an unfinished one."""
        view = self.shared.receive_view
        position = 0
        if self._frame is not None:
            position = min(count, self._size - self._filled)
            end = self._filled + position
            frame = self._frame
            if end > len(frame):
                frame.extend(bytes(min(max(len(frame), end - len(frame)), self._size - len(frame))))
            frame[self._filled : end] = view[:position]
            self._filled = end
            self.shared.memory.take(position)
            if end < self._size:
                return
            self._finish_frame()
        elif self._head:
            missing = LENGTH_BYTES - len(self._head)
            if count < missing:
                self._head += bytes(view[:count])
                return
            size = int.from_bytes(self._head + bytes(view[:missing]), "big", signed=True)
            self._head = b""
            position = missing
            position = self._take_frame(size, view, position, count)
        receive = self.shared.receive
        while position < count and not self._closing and self._refused is None:
            if count - position < LENGTH_BYTES:
                self._head = bytes(view[position:count])
                return
            size = int.from_bytes(receive[position : position + LENGTH_BYTES], "big", signed=True)
            position = self._take_frame(size, view, position + LENGTH_BYTES, count)

    def _take_frame(self, size: int, view: memoryview, position: int, count: int) -> int:
        """Takes a frame of `size` bytes that begins at `position`, or begins to; returns where to go on."""
        if size < 0 or size > self.shared.limits.request_bytes:
            seems = guess(size.to_bytes(4, "big", signed=True))
            limit = self.shared.limits.request_bytes
            self._refuse(f"a request of {size} bytes; socket.request.max.bytes is {limit}{seems}")
            return count
        end = position + size
        if end <= count:
            self.shared.memory.take(size)
            self._deliver(bytes(view[position:end]))
            return end
        here = count - position
        self._frame = bytearray(max(here, min(size, FRAME_FIRST_BYTES)))
        self._frame[:here] = view[position:count]
        self._filled = here
        self._size = size
        self.shared.memory.take(here)
        return count

    def _finish_frame(self) -> None:
        frame = self._frame
        assert frame is not None and len(frame) == self._size
        self._frame = None
        self._filled = 0
        self._deliver(frame)
        self.shared.memory.request_complete(self)

    def _deliver(self, frame: bytes | bytearray) -> None:
        self._waiting.append(frame)
        self._waiting_bytes += len(frame)

    # --- requests ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        """Starts the requests that may start."""
        if self._running:
            return
        self._running = True
        try:
            waiting = self._waiting
            while waiting and not (self._peer_slow or self._closing or self._no_room):
                if not self._start(waiting[0]):
                    break
        finally:
            self._running = False
            if self._out:
                self._write_out()
            if self._refused is not None and not (self._closing or self._waiting or self._open):
                self._end_refused()

    def _start(self, frame: bytes | bytearray) -> bool:
        """Starts the first waiting request; False if it must wait on."""
        if self._shapes and (alike := self._start_alike(frame)) is not None:
            return alike
        if self._fetch_shapes and (alike := self._fetch_alike(frame)) is not None:
            return alike
        shared = self.shared
        dispatch = shared.dispatch
        try:
            api_key, api_version, correlation_id = peek_api(frame)
            if self._open and (api_key != PRODUCE_KEY or self._open[-1].route.api_key != PRODUCE_KEY):
                return False
            if is_unknown_api_versions(api_key, api_version):
                self._dequeue(frame)
                shared.memory.give_back(len(frame))
                dispatch.count_unknown_api_versions()
                self._write(answer_unknown_api_versions(correlation_id))
                return True
            route = dispatch.route(api_key, api_version)
            if api_key == PRODUCE_KEY and not shared.engine.has_room():
                self._wait_for_room()
                return False
            request, context = dispatch.read(route, frame, self.listener, self.client_host)
            context.takes_spans = self._socket_fd >= 0
        except (DecodeError, NotServed) as error:
            self._drop_waiting()
            self._refuse(str(error))
            return False
        self._dequeue(frame)
        route.counters.requests += 1
        size = len(frame)
        started = _Open(route, correlation_id, size, shared.now())
        self._open_one(started)
        try:
            self._take_answer(started, route.handle(request, context))
            if route.handle is produce.handle and len(self._shapes) < SHAPES_MAX:
                self._learn(frame, cast(ProduceRequest, request), route)
            elif route.handle is fetch.handle and self._fetch_learned < FETCH_LEARNED_MAX:
                self._learn_fetch(frame, cast(FetchRequest, request), route)
        except Exception:  # noqa: BLE001 - our own mistake in a handler ends this connection, never the broker
            self._broken(started)
        return not self._closing

    # --- Produce requests that are like an earlier one -----------------------------------------------------------

    def _learn(self, frame: bytes | bytearray, request: ProduceRequest, route: Route) -> None:
        shape = learn(frame, request, route.api_version, self.shared.dispatch.broker)
        if shape is None:
            return
        if shape.end not in self._shape_ends:
            if len(self._shape_ends) == SHAPE_LENGTHS_MAX:
                return
            self._shape_ends.append(shape.end)
        self._shapes[shape.key] = (shape, route)

    def _start_alike(self, frame: bytes | bytearray) -> bool | None:
        """Starts a request that is like an earlier one, and those behind it that are, too; None, and nothing was
        done, if it is not."""
        for end in self._shape_ends:
            found = self._shapes.get(bytes(frame[SHAPE_POSITION:end]))
            if found is not None:
                break
        else:
            return None
        shape, route = found
        if not frame.startswith(shape.api) or (records := shape.records(frame)) is None:
            return None
        shared = self.shared
        if self._open and self._open[-1].route.api_key != PRODUCE_KEY:
            return False
        if not shared.engine.has_room():
            self._wait_for_room()
            return False
        frames = [frame]
        batches = [records]
        size = len(frame)
        for following in islice(self._waiting, 1, ALIKE_MAX):
            size += len(following)
            if size > ALIKE_MAX_BYTES or not shape.begins(following) or (records := shape.records(following)) is None:
                break
            frames.append(following)
            batches.append(records)
        began = shared.now()
        try:
            answers = shape.handle(frames, batches)
        except Exception:  # noqa: BLE001 - our own mistake in a handler ends this connection, never the broker
            self._broken(_Open(route, -1, 0, began))
            return False
        if answers is None:
            return None
        waiting = self._waiting
        for _ in frames:
            waiting.popleft()
        route.counters.requests += len(frames)
        position = 0
        for answer in answers:
            count = answer.requests if isinstance(answer, Written) else 1
            size = sum(map(len, frames[position : position + count]))
            self._waiting_bytes -= size
            started: _Open
            if not isinstance(answer, Written):
                started = self._open_one(_Open(route, correlation_id_of(frames[position]), size, began))
                self._take_answer(started, answer)
            elif answer.durable is None:
                started = self._open_one(_Open(route, -1, size, began, count))
                self._done(started, answer.responses)
                self._leave()
            else:
                self._wait_flush(_Unflushed(route, size, began, self, shape, answer), answer.durable)
            position += count
            if self._closing:
                return False
        return True

    def _wait_flush(self, one: _Unflushed, durable: asyncio.Future[None]) -> None:
        self._open_one(one)
        waiting = self._unflushed.get(durable)
        if waiting is not None:
            waiting.append(one)
        else:
            self._unflushed[durable] = [one]
            durable.add_done_callback(self._flushed)
        if one.shape.timeout_ms >= 0:
            self.shared.dispatch.broker.deadlines.add(one.shape.timeout_ms, durable, one.expire)

    def _flushed(self, durable: asyncio.Future[None]) -> None:
        """What waited for a flush is acknowledged, or not."""
        waiting = self._unflushed.pop(durable)
        failure = durable.exception()
        if self._closing:
            return
        for one in waiting:
            if one.pieces is not None:
                continue
            if failure is None:
                self._done(one, one.written.responses)
            else:
                self._deny(one, produce.storage_failed)
        self._leave()
        self._run()
        self._control_reading()

    def expire(self, one: _Unflushed) -> None:
        """Answers that batches were not durable in time."""
        if self._closing or one.pieces is not None:
            return
        self._deny(one, produce.timed_out)
        self._leave()
        self._run()
        self._control_reading()

    def _deny(self, one: _Unflushed, why: Callable[[PartitionProduceResponse], None]) -> None:
        counters, version = one.route.counters, one.route.api_version
        pieces: list[Buffer] = []
        for response, correlation in zip(
            one.shape.not_durable(one.written, why), one.written.correlations, strict=True
        ):
            counters.count_errors(response, counters.errors)
            pieces += encode_response(response, version, int.from_bytes(correlation, "big", signed=True))
        self._done(one, b"".join(pieces))

    def _open_one(self, started: _Open) -> _Open:
        self._open.append(started)
        self._open_bytes += started.size
        self._open_count += started.count
        return started

    def _done(self, started: _Open, responses: bytes) -> None:
        """The responses of requests that were served alike are ready."""
        started.pieces = [responses] if responses else []
        seconds = self.shared.now() - started.began
        durations = started.route.counters.durations
        durations.sum_s += seconds * started.count
        durations.buckets[bisect_left(BOUNDS_S, seconds)] += started.count

    # --- Fetch requests that are like an earlier one -------------------------------------------------------------

    def _learn_fetch(self, frame: bytes | bytearray, request: FetchRequest, route: Route) -> None:
        if len(frame) not in self._fetch_shapes and len(self._fetch_shapes) == FETCH_SHAPES_MAX:
            return
        self._fetch_learned += 1
        shape = fetch_alike.learn(frame, request, route.api_version, self.shared.dispatch.broker)
        if shape is not None:
            self._fetch_shapes[len(frame)] = (shape, route)

    def _fetch_alike(self, frame: bytes | bytearray) -> bool | None:
        """Answers a Fetch that is like an earlier one and need not wait; None, and nothing was done, if it is not."""
        found = self._fetch_shapes.get(len(frame))
        if found is None or self._open:
            return None
        shape, route = found
        began = self.shared.now()
        try:
            pieces = shape.answer(frame, self._socket_fd >= 0)
        except Exception:  # noqa: BLE001 - our own mistake in a handler ends this connection, never the broker
            self._broken(_Open(route, -1, 0, began))
            return False
        if pieces is None:
            return None
        self._dequeue(frame)
        self.shared.memory.give_back(len(frame))
        route.counters.requests += 1
        seconds = self.shared.now() - began
        route.counters.durations.sum_s += seconds
        route.counters.durations.buckets[bisect_left(BOUNDS_S, seconds)] += 1
        self._write(pieces)
        return not self._closing

    # --- answers -------------------------------------------------------------------------------------------------

    def _dequeue(self, frame: bytes | bytearray) -> None:
        self._waiting.popleft()
        self._waiting_bytes -= len(frame)

    def _take_answer(self, started: _Open, answer: Answer | Awaitable[Answer]) -> None:
        if isinstance(answer, Message | NoResponse):
            self._answered(started, answer)
        else:
            awaited = asyncio.ensure_future(answer)
            self._awaited.add(awaited)
            awaited.add_done_callback(lambda done: self._answered_later(started, done))

    def _answered_later(self, started: _Open, done: asyncio.Future[Any]) -> None:
        self._awaited.discard(done)
        if self._closing:
            if not done.cancelled():
                done.exception()
            return
        try:
            self._answered(started, done.result())
        except Exception:  # noqa: BLE001 - our own mistake in a handler ends this connection, never the broker
            self._broken(started)
            return
        self._run()
        self._control_reading()

    def _answered(self, started: _Open, answer: Any) -> None:
        """Encodes a response; it leaves when those before it have."""
        counters = started.route.counters
        if isinstance(answer, NoResponse):
            started.pieces = []
            started.close = answer.close
        else:
            counters.count_errors(answer, counters.errors)
            started.pieces = encode_response(answer, started.route.api_version, started.correlation_id)
        seconds = self.shared.now() - started.began
        counters.durations.sum_s += seconds
        counters.durations.buckets[bisect_left(BOUNDS_S, seconds)] += 1
        self._leave()

    def _leave(self) -> None:
        """Writes the responses that can leave in order."""
        queue = self._open
        while queue and queue[0].pieces is not None:
            first = queue.popleft()
            self._open_bytes -= first.size
            self._open_count -= first.count
            self.shared.memory.give_back(first.size)
            if first.pieces:
                self._write(first.pieces)
            elif first.close:
                self.close()
                return
        if self._draining and not queue:
            self.close()

    def _write(self, pieces: list[Buffer]) -> None:
        """Queues a response. Those that become ready together leave in one system call, which costs more than
        handling a small request does (30% of the time of a pipelined produce went into single writes)."""
        out = self._out
        if not out and not self._running:
            self._loop.call_soon(self._write_out)
        out += pieces
        self._out_bytes += sum(map(len, pieces))
        if self._out_bytes >= self.shared.limits.response_bytes:
            # To the transport, which tells when the peer does not take it: then nothing more is started.
            self._write_out()

    def _write_out(self) -> None:
        out, transport = self._out, self._transport
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
                # Of the socket, which is gone, or of a file: its length has been promised.
                log.info("connection closed: a response could not be sent", peer=self.peer, why=str(error))
                self.abort()
                return
        elif len(out) == 1:
            transport.write(out[0])
        elif count <= JOIN_BYTES:
            transport.write(b"".join(out))
        else:
            transport.writelines(out)
        if self._peer_slow:
            self._count_unread()

    def _broken(self, started: _Open) -> None:
        """A handler failed, which is our own mistake: say so with its traceback, and end this connection only."""
        log.exception("a request failed", api=started.route.name, version=started.route.api_version, peer=self.peer)
        self.close()

    def _refuse(self, why: str) -> None:
        """Closes the connection for what its peer sent, when everything before that is answered."""
        self._refused = why
        if not self._open and not self._waiting:
            self._end_refused()
        elif self._reading and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()

    def _end_refused(self) -> None:
        self.shared.counters.malformed += 1
        self.shared.refusals.say("connection closed: malformed request", self.peer, self._refused or "")
        self.close()

    # --- bounds --------------------------------------------------------------------------------------------------

    def _control_reading(self) -> None:
        """Stops or resumes reading by what is open."""
        if self._transport is None or self._closing or self._draining or self._refused is not None:
            return
        limits = self.shared.limits
        pending = len(self._waiting) + self._open_count
        full = pending >= limits.open_requests or (
            pending > 0 and self._waiting_bytes + self._open_bytes >= limits.open_request_bytes
        )
        # Only a connection whose memory is all in an unfinished request may ask for an exemption: what others hold
        # is given back when they are answered.
        stuck = self._frame is not None and pending == 0
        stop = full or self.shared.memory.must_stop(self, stuck)
        if stop == self._reading:
            self._reading = not stop
            if stop:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def resume(self) -> None:
        """There is room for requests again (`RequestMemory`)."""
        self._control_reading()

    def _wait_for_room(self) -> None:
        """Starts no Produce until enough is flushed."""
        self._no_room = True
        task = asyncio.ensure_future(self.shared.engine.room())
        self._awaited.add(task)

        def room(done: asyncio.Future[None]) -> None:
            self._awaited.discard(done)
            self._no_room = False
            if not self._closing:
                self._run()
                self._control_reading()

        task.add_done_callback(room)

    def end_if_silent(self, before: float) -> bool:
        """Closes the connection if nothing is under way and no byte went either way since `before` (loop time).

        Asked now and then: what the peer took of its responses between two looks is a sign of life. One that takes
        nothing is cut off, since a graceful close would wait for it and keep what was read for it.
        """
        transport = self._transport
        if transport is None:
            return False
        unsent = transport.get_write_buffer_size()
        if unsent < self._unsent_bytes:
            self.last_active = self._loop.time()
        self._unsent_bytes = unsent
        self._count_unread()
        under_way = (self._waiting or self._open) and not (self._peer_slow or self._closing)
        if under_way or self.last_active >= before:
            return False
        if unsent:
            self.abort()
        else:
            self.close()
        return True

    def drain(self) -> None:
        """Takes no more requests; closes when what has started is answered. What waits for others (a Fetch for records,
        a JoinGroup or SyncGroup for members) is not waited for: it has nothing to lose."""
        self._draining = True
        if self._transport is not None and self._reading:
            self._reading = False
            self._transport.pause_reading()
        self._drop_waiting()
        if not self._open or self._open[-1].route.api_key in PARKED_KEYS:
            self.close()

    def _drop_waiting(self) -> None:
        """Forgets the requests that have not started."""
        waiting_bytes, self._waiting_bytes = self._waiting_bytes, 0
        self._waiting.clear()
        self.shared.memory.give_back(waiting_bytes)

    def abort(self) -> None:
        """Closes at once, whatever was not written."""
        self._closing = True
        self._out.clear()
        self._out_bytes = 0
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Writes what was answered, then closes."""
        if not self._closing:
            self._closing = True
            if self._transport is not None:
                self._write_out()
                self._transport.close()
