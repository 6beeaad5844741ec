"""One connection's requests: started in order, answered in order, bounded.

Invariants:
- Responses leave in request order. A request starts when all earlier requests of the connection are answered. The
  exception is an API that `starts_early` (Produce): its requests start while earlier ones of the same API are open, so
  that a pipelined producer's batches share a flush.
- Requests that are received and not answered are bounded, per connection and (`request_memory.py`) over all
  connections; so are response bytes that the peer has not read. Above a bound the connection is not read, or starts no
  request; TCP flow control slows the peer down.
- A malformed request closes its connection and nothing else, with a log line that says what was wrong. The requests
  before it are answered first.

Requests with many array elements are decoded in a thread (`_start_large`), and long handlers work in turns
(`handlers/turns.py`), so that other connections do not wait for them.

No task per request (25 us): a handler returns a response, which is written at once, or an awaitable (2 us a call). A
request that is like an earlier one is not decoded if its API has a shortcut (`handlers/shortcut.py`). The pipeline
keeps the shortcuts of its connection and asks them first.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Generator
from itertools import islice
from typing import Any, Protocol

from odradek.handlers.context import Answer, NoResponse, RequestContext, Steps
from odradek.handlers.shortcut import Begun, MakeShortcut, Shortcut
from odradek.handlers.turns import InTurns
from odradek.logs import get_logger
from odradek.network.dispatch import FaultRules, LargeRequest, NotServed, Route, UnknownVersion
from odradek.network.frames import LENGTH_BYTES, Frames
from odradek.network.open_requests import HeldRequest, OpenRequest
from odradek.network.shared import SharedByConnections
from odradek.protocol.errors import DecodeError
from odradek.protocol.fields import Buffer, Message
from odradek.protocol.framing import encode_large_response, encode_response, peek_api

log = get_logger("odradek.network")

# Requests with more array elements than this are decoded in a thread: decoding this many takes 2 to 4 ms.
INLINE_ELEMENTS = 4000
# The bytes of a frame that hold the API key and version.
_API = slice(LENGTH_BYTES, LENGTH_BYTES + 4)


class Peer(Protocol):
    """The connection, as its pipeline uses it: its transport, and what handlers are told about it."""

    listener: str
    client_host: str
    peer: str
    takes_spans: bool

    def write(self, pieces: list[Buffer]) -> None:
        """Queues a response, to be sent with others at the next `flush`."""

    def flush(self) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None: ...


class Pipeline:
    """The requests of one connection."""

    def __init__(self, shared: SharedByConnections, frames: Frames, peer: Peer) -> None:
        self.shared = shared
        self._frames = frames
        self._peer = peer
        self.ended = False
        """Whether the connection is closed or closing: no request starts and no response leaves any more."""
        self.peer_is_slow = False
        """Whether the peer does not read its responses: no request is started."""
        self.is_reading = True
        self.waiting: deque[bytes | bytearray] = deque()
        """Requests that have not started."""
        self.open: deque[OpenRequest] = deque()
        self.open_count = 0
        """How many requests are in `open`."""
        self._waiting_bytes = 0
        self._open_bytes = 0
        self.awaited: set[asyncio.Future[Any]] = set()
        """Futures and tasks that this connection waits for."""
        self._held: dict[asyncio.Future[None], list[HeldRequest]] = {}
        self._shortcuts: dict[tuple[int, int], Shortcut] = {}
        self.learned: dict[bytes, tuple[Shortcut, Route]] = {}
        """The shortcuts that have learned a request, by API key and version as encoded in the frame."""
        self._running = False
        self._no_room = False
        self.refused: str | None = None
        """Why the connection will be closed: what was wrong with a request. Bytes received afterwards are dropped."""
        self._draining = False

    # --- called by the connection --------------------------------------------------------------------------------

    def arrived(self, requests: list[bytes | bytearray], size: int) -> None:
        """Queues complete requests of `size` bytes in all, which `RequestMemory` has counted already."""
        self.waiting += requests
        self._waiting_bytes += size

    def refuse(self, why: str) -> None:
        """Closes the connection because of a malformed request, once all requests before it are answered."""
        self.refused = why
        if not self.open and not self.waiting:
            self._end_refused()
        elif self.is_reading:
            self.is_reading = False
            self._peer.pause_reading()

    def _end_refused(self) -> None:
        self.shared.counters.malformed += 1
        self.shared.refusals.say("connection closed: malformed request", self._peer.peer, self.refused or "")
        self._peer.close()

    def drain(self) -> None:
        """Accepts no more requests; closes the connection when the started ones are answered. It does not wait for
        requests of APIs that `waits_for_others` (a Fetch waits for records, a JoinGroup or SyncGroup for members):
        nothing is lost when they are cut off."""
        self._draining = True
        if self.is_reading:
            self.is_reading = False
            self._peer.pause_reading()
        self._drop_waiting()
        if not self.open or self.open[-1].route.waits_for_others:
            self._peer.close()

    def _drop_waiting(self) -> None:
        """Forgets the requests that have not started."""
        waiting_bytes, self._waiting_bytes = self._waiting_bytes, 0
        self.waiting.clear()
        self.shared.memory.give_back(waiting_bytes)

    def lost(self) -> None:
        """Releases the memory and cancels the waits of a lost connection."""
        self.ended = True
        memory = self.shared.memory
        memory.give_back(self._waiting_bytes + self._open_bytes)
        self.waiting.clear()
        self.open.clear()
        self._waiting_bytes = self._open_bytes = self.open_count = 0
        memory.forget(self)
        for awaited in list(self.awaited):
            # Bare futures are cancelled. A task (such as a metadata change) runs to its end without being answered.
            if not isinstance(awaited, asyncio.Task):
                awaited.cancel()

    # --- starting ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Starts the requests that may start, and sends the responses that are ready."""
        if self._running:
            return
        self._running = True
        try:
            waiting = self.waiting
            while waiting and not (self.peer_is_slow or self.ended or self._no_room):
                if not self._start(waiting[0]):
                    break
        finally:
            self._running = False
            self._peer.flush()
            if self.refused is not None and not (self.ended or self.waiting or self.open):
                self._end_refused()

    def _start(self, frame: bytes | bytearray) -> bool:
        """Starts the first waiting request; returns False if it must go on waiting or the connection ends."""
        shared, peer = self.shared, self._peer
        dispatch = shared.dispatch
        faults = dispatch.faults
        if faults is not None and not faults.rules:
            faults = None
        if self.learned and faults is None and (alike := self._start_alike(frame)) is not None:
            return alike
        try:
            api_key, api_version, correlation_id = peek_api(frame, LENGTH_BYTES)
            if self.open and not self._may_start_early(api_key):
                return False
            route = dispatch.route(api_key, api_version)
            if route.appends and not shared.engine.has_room():
                self._wait_for_room()
                return False
            request, context = dispatch.read(route, frame, peer.listener, peer.client_host, INLINE_ELEMENTS)
        except LargeRequest:
            self._start_large(route, correlation_id, frame)
            return True
        except UnknownVersion as unknown:
            self._send(encode_response(unknown.response, 0, correlation_id), self._dequeue(1))
            return True
        except (DecodeError, NotServed) as error:
            self._drop_waiting()
            self.refuse(str(error))
            return False
        route.counters.requests += 1
        started = self._open_one(OpenRequest(route, correlation_id, self._dequeue(1), shared.now()))
        self._carry_out(started, request, context, faults)
        if route.shortcut is not None and not self.ended:
            self._learn(route, route.shortcut, frame, request)
        return not self.ended

    def _carry_out(
        self, started: OpenRequest, request: Message, context: RequestContext, faults: FaultRules | None
    ) -> None:
        context.takes_spans = self._peer.takes_spans
        route = started.route
        try:
            if faults is None:
                self._take_answer(started, route.handle(request, context))
            else:
                self._take_answer(started, faults.handle(route.name, route.handle, request, context))
        except Exception:  # noqa: BLE001 - our own mistake in a handler ends this connection, never the broker
            self._broken(started)

    def _may_start_early(self, api_key: int) -> bool:
        """Whether a request may start while earlier ones are open."""
        last = self.open[-1]
        route = last.route
        return route.starts_early and route.api_key == api_key and not last.is_starting

    def _start_large(self, route: Route, correlation_id: int, frame: bytes | bytearray) -> None:
        """Starts the first waiting request: decodes it in a thread, then calls its handler."""
        shared, peer = self.shared, self._peer
        dispatch = shared.dispatch
        started = self._open_one(OpenRequest(route, correlation_id, self._dequeue(1), shared.now()))
        started.is_large = started.is_starting = True

        def read() -> tuple[Message, RequestContext]:
            return dispatch.read(route, frame, peer.listener, peer.client_host, dispatch.max_elements)

        def go_on(done: asyncio.Future[tuple[Message, RequestContext]]) -> None:
            self.awaited.discard(decoding)
            if self.ended:
                if not done.cancelled():
                    done.exception()
                return
            started.is_starting = False
            try:
                request, context = done.result()
            except DecodeError as error:
                self._forget(started)
                self._drop_waiting()
                self.refuse(str(error))
            else:
                route.counters.requests += 1
                faults = dispatch.faults
                self._carry_out(started, request, context, faults if faults is not None and faults.rules else None)
            if not self.ended:
                self._go_on()

        decoding = shared.off_loop.run(read)
        self.awaited.add(decoding)
        decoding.add_done_callback(go_on)

    def _forget(self, started: OpenRequest) -> None:
        """Removes an open request that will not be answered."""
        self.open.remove(started)
        self._open_bytes -= started.size
        self.open_count -= started.count
        self.shared.memory.give_back(started.size)

    def _learn(self, route: Route, make: MakeShortcut, frame: bytes | bytearray, request: Message) -> None:
        """Lets the API's shortcut learn from a decoded request."""
        key = route.api_key, route.api_version
        shortcut = self._shortcuts.get(key)
        if shortcut is None:
            shortcut = self._shortcuts[key] = make(self.shared.dispatch.broker, route.api_version)
        if shortcut.learn(frame, 0, len(frame), request):
            self.learned[bytes(frame[_API])] = shortcut, route

    def _start_alike(self, frame: bytes | bytearray) -> bool | None:
        """Starts a request that is like an earlier one, together with the like requests right behind it. Returns None,
        with nothing done, if it is not like one or must wait; False if the connection ended; else True."""
        found = self.learned.get(bytes(frame[_API]))
        if found is None:
            return None
        shortcut, route = found
        shared = self.shared
        if self.open and not self._may_start_early(route.api_key):
            return None
        if route.appends and not shared.engine.has_room():
            return None
        if not shortcut.take(frame, 0, len(frame)):
            return None
        if len(self.waiting) > 1:
            for following in islice(self.waiting, 1, None):
                if not shortcut.take(following, 0, len(following)):
                    break
        began = shared.now()
        try:
            outcomes = shortcut.begin(self._peer.takes_spans)
        except Exception:  # noqa: BLE001 - our own mistake in a handler ends this connection, never the broker
            self._broken(OpenRequest(route, -1, 0, began))
            return False
        if outcomes is None:
            return None
        for one in outcomes:
            if isinstance(one, Begun):
                count = one.requests
                size = self._dequeue(count)
                route.counters.requests += count
                if one.waits_for is not None:
                    self._hold(HeldRequest(route, size, began, self, one), one.waits_for)
                elif self.open:
                    self._ready(self._open_one(OpenRequest(route, -1, size, began, count)), one.pieces)
                else:
                    route.counters.took(shared.now() - began, count)
                    self._send(one.pieces, size)
            else:
                route.counters.requests += 1
                started = self._open_one(OpenRequest(route, one.correlation_id, self._dequeue(1), began))
                self._take_answer(started, one.answer)
            if self.ended:
                return False
        return True

    def _dequeue(self, count: int) -> int:
        """Removes the first `count` waiting requests; returns their bytes."""
        size = len(self.waiting.popleft())
        while count > 1:
            size += len(self.waiting.popleft())
            count -= 1
        self._waiting_bytes -= size
        return size

    def _open_one(self, started: OpenRequest) -> OpenRequest:
        self.open.append(started)
        self._open_bytes += started.size
        self.open_count += started.count
        return started

    # --- responses held until a future completes -----------------------------------------------------------------

    def _hold(self, one: HeldRequest, waits_for: asyncio.Future[None]) -> None:
        self._open_one(one)
        held = self._held.get(waits_for)
        if held is not None:
            held.append(one)
        else:
            self._held[waits_for] = [one]
            waits_for.add_done_callback(self._release)
        if one.begun.timeout_ms >= 0:
            self.shared.dispatch.broker.deadlines.add(one.begun.timeout_ms, waits_for, one.expire)

    def _release(self, done: asyncio.Future[None]) -> None:
        """Sends the responses held for this future, or error responses if the future failed."""
        held = self._held.pop(done)
        failure = done.exception()
        for one in held:
            if self.ended:
                return
            if one.pieces is not None:
                continue
            if failure is None:
                self._ready(one, one.begun.pieces)
            else:
                self._replace(one, late=False)
        self._go_on()

    def expire(self, one: HeldRequest) -> None:
        """Answers a held request with a timeout error, unless it is answered already."""
        if self.ended or one.pieces is not None:
            return
        self._replace(one, late=True)
        self._go_on()

    def _replace(self, one: HeldRequest, late: bool) -> None:
        counters, version = one.route.counters, one.route.api_version
        pieces: list[Buffer] = []
        for correlation_id, response in one.begun.instead(late):
            counters.count_errors(response, counters.errors)
            pieces += encode_response(response, version, correlation_id)
        self._ready(one, pieces)

    # --- responses -----------------------------------------------------------------------------------------------

    def _take_answer(self, started: OpenRequest, answer: Answer | Awaitable[Answer] | Steps | InTurns[Any]) -> None:
        if isinstance(answer, Message | NoResponse):
            self._answered(started, answer)
        elif isinstance(answer, Generator):
            steps: Steps = answer
            begun = self.shared.dispatch.broker.turns.begin(steps)
            self._take_answer(started, begun)
        elif isinstance(answer, InTurns):
            started.is_starting = started.is_large = True
            self.awaited.add(answer)
            answer.add_done_callback(lambda done: self._carried_out(started, done))
        else:
            awaited = asyncio.ensure_future(answer)
            self.awaited.add(awaited)
            awaited.add_done_callback(lambda done: self._answered_later(started, done))

    def _carried_out(self, started: OpenRequest, done: asyncio.Future[Any]) -> None:
        """Takes the answer of a handler that worked in turns."""
        self.awaited.discard(done)
        if self.ended:
            # It may have begun to wait just before the connection was lost.
            if not done.cancelled() and done.exception() is None and isinstance(done.result(), asyncio.Future):
                done.result().cancel()
            return
        started.is_starting = False
        try:
            self._take_answer(started, done.result())
        except Exception:  # noqa: BLE001 - our own mistake in a handler ends this connection, never the broker
            self._broken(started)
            return
        self._go_on()

    def _answered_later(self, started: OpenRequest, done: asyncio.Future[Any]) -> None:
        self.awaited.discard(done)
        if self.ended:
            if not done.cancelled():
                done.exception()
            return
        try:
            self._answered(started, done.result())
        except Exception:  # noqa: BLE001 - our own mistake in a handler ends this connection, never the broker
            self._broken(started)
            return
        self._go_on()

    def _answered(self, started: OpenRequest, answer: Any) -> None:
        """Encodes a handler's response, in a thread if it is large."""
        if isinstance(answer, NoResponse):
            started.close = answer.close
            self._ready(started, [])
        elif started.is_large:
            self._encode_off_loop(started, answer)
        else:
            counters = started.route.counters
            counters.count_errors(answer, counters.errors)
            self._ready(started, encode_response(answer, started.route.api_version, started.correlation_id))

    def _encode_off_loop(self, started: OpenRequest, answer: Message) -> None:
        counters, version, correlation_id = started.route.counters, started.route.api_version, started.correlation_id
        errors: dict[int, int] = {}

        def encode() -> list[Buffer]:
            counters.count_errors(answer, errors)
            return encode_large_response(answer, version, correlation_id)

        def encoded(done: asyncio.Future[list[Buffer]]) -> None:
            for code, count in errors.items():
                counters.errors[code] = counters.errors.get(code, 0) + count
            self.awaited.discard(encoding)
            if self.ended:
                if not done.cancelled():
                    done.exception()
                return
            try:
                self._ready(started, done.result())
            except Exception:  # noqa: BLE001 - our own mistake in a handler ends this connection, never the broker
                self._broken(started)
                return
            self._go_on()

        encoding = self.shared.off_loop.run(encode)
        self.awaited.add(encoding)
        encoding.add_done_callback(encoded)

    def _ready(self, started: OpenRequest, pieces: list[Buffer]) -> None:
        """Stores an encoded response; it is sent when those before it have been."""
        started.pieces = pieces
        started.route.counters.took(self.shared.now() - started.began, started.count)
        self._leave()

    def _leave(self) -> None:
        """Sends the responses that are ready, up to the first open request that is not."""
        queue = self.open
        while queue and queue[0].pieces is not None:
            first = queue.popleft()
            self._open_bytes -= first.size
            self.open_count -= first.count
            self._send(first.pieces or [], first.size)
            if first.close:
                self._peer.close()
                return
        if self._draining and not queue:
            self._peer.close()

    def _send(self, pieces: list[Buffer], size: int) -> None:
        """Hands one response to the connection and gives its request's bytes back to `RequestMemory`. Every response
        passes here; an empty list means that the request has no response (`acks=0`)."""
        self.shared.memory.give_back(size)
        if pieces:
            self._peer.write(pieces)

    def _go_on(self) -> None:
        """Starts waiting requests and reads more, after a request has been answered."""
        self.run()
        self.control_reading()

    def _broken(self, started: OpenRequest) -> None:
        """Logs the traceback of a handler that failed, which is the broker's bug, and closes only this connection."""
        route = started.route
        log.exception("a request failed", api=route.name, version=route.api_version, peer=self._peer.peer)
        self._peer.close()

    # --- bounds --------------------------------------------------------------------------------------------------

    def control_reading(self) -> None:
        """Stops or resumes reading from the socket, by the requests and bytes that are held."""
        if self.ended or self._draining or self.refused is not None:
            return
        limits = self.shared.limits
        pending = len(self.waiting) + self.open_count
        full = pending >= limits.open_requests or (
            pending > 0 and self._waiting_bytes + self._open_bytes >= limits.open_request_bytes
        )
        memory = self.shared.memory
        stop = full
        if not stop and memory.used_bytes >= memory.short_bytes:
            held_bytes = self._waiting_bytes + self._open_bytes + self._frames.held_bytes
            # Only a connection that holds nothing but an unfinished request may ask for the exemption: other
            # connections give memory back when their requests are answered.
            stuck = pending == 0 and self._frames.unfinished is not None
            stop = memory.must_stop(self, self._peer.client_host, held_bytes, stuck)
        if stop == self.is_reading:
            self.is_reading = not stop
            if stop:
                self._peer.pause_reading()
            else:
                self._peer.resume_reading()

    def resume(self) -> None:
        """Called by `RequestMemory` when there is room for requests again."""
        self.control_reading()

    def _wait_for_room(self) -> None:
        """Starts no request until the engine has flushed enough."""
        self._no_room = True
        task = asyncio.ensure_future(self.shared.engine.room())
        self.awaited.add(task)

        def room(done: asyncio.Future[None]) -> None:
            self.awaited.discard(done)
            self._no_room = False
            if not self.ended:
                self._go_on()

        task.add_done_callback(room)
