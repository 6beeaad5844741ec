"""One connection's requests: started in order, answered in order, bounded.

Invariants:
- Responses leave in request order. A request starts when all earlier ones of the connection are answered; only one of
  an API that `starts_early` (Produce) starts behind open ones of its kind, so that a pipelined producer's batches share
  a flush.
- What is received and not answered is bounded, per connection and (`request_memory.py`) over all; so is what was
  answered and not taken by the peer. Beyond a bound reading or starting stops; TCP tells the peer.
- A malformed request closes its connection, with a log line that says what was wrong, and nothing else. What came
  before it is answered first.

Requests with many elements (`_start_large`), and those that are carried out in turns (`handlers/turns.py`), keep
nobody else waiting.

No task per request (25 us): a handler returns a response, written at once, or an awaitable (2 us a call). Requests that
are like an earlier one are not decoded where their API has a shortcut (`handlers/shortcut.py`): what it has learned is
kept here, and asked first.
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
from odradek.network.shared import Shared
from odradek.protocol.errors import DecodeError
from odradek.protocol.fields import Buffer, Message
from odradek.protocol.framing import encode_response, peek_api

log = get_logger("odradek.network")

# Requests with more array elements than this are decoded off the loop: so many take 2 to 4 ms.
INLINE_ELEMENTS = 4000
# Where a frame says which API it is for, and in which version.
_API = slice(LENGTH_BYTES, LENGTH_BYTES + 4)


class Peer(Protocol):
    """Whose requests they are: the transport, and what handlers are told of it."""

    listener: str
    client_host: str
    peer: str
    takes_spans: bool

    def write(self, pieces: list[Buffer]) -> None:
        """Takes a response, to be sent with others at the next `flush`."""

    def flush(self) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None: ...


class Pipeline:
    """The requests of one connection."""

    def __init__(self, shared: Shared, frames: Frames, peer: Peer) -> None:
        self.shared = shared
        self._frames = frames
        self._peer = peer
        self.ended = False
        """The connection is closed, or about to be: nothing starts or leaves any more."""
        self.peer_is_slow = False
        """It does not take what is answered: nothing is started."""
        self.is_reading = True
        self.waiting: deque[bytes | bytearray] = deque()
        """Requests that have not started."""
        self.open: deque[OpenRequest] = deque()
        self.open_count = 0
        """How many requests are in `open`."""
        self._waiting_bytes = 0
        self._open_bytes = 0
        self.awaited: set[asyncio.Future[Any]] = set()
        """What is awaited for this connection alone."""
        self._held: dict[asyncio.Future[None], list[HeldRequest]] = {}
        self._shortcuts: dict[tuple[int, int], Shortcut] = {}
        self.learned: dict[bytes, tuple[Shortcut, Route]] = {}
        """The shortcuts that have learned something, by API key and version as they stand in requests."""
        self._running = False
        self._no_room = False
        self.refused: str | None = None
        """What the peer sent that cannot be: what still arrives is of no use."""
        self._draining = False

    # --- from the connection -------------------------------------------------------------------------------------

    def arrived(self, requests: list[bytes | bytearray], size: int) -> None:
        """Requests are all here, of `size` bytes, which are counted in the memory already."""
        self.waiting += requests
        self._waiting_bytes += size

    def refuse(self, why: str) -> None:
        """Closes the connection for what its peer sent, when everything before that is answered."""
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
        """Takes no more requests; closes when what has started is answered. What waits for others (a Fetch for records,
        a JoinGroup or SyncGroup for members) is not waited for: it has nothing to lose."""
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
        """The connection is gone: gives back what it held."""
        self.ended = True
        memory = self.shared.memory
        memory.give_back(self._waiting_bytes + self._open_bytes)
        self.waiting.clear()
        self.open.clear()
        self._waiting_bytes = self._open_bytes = self.open_count = 0
        memory.forget(self)
        for awaited in list(self.awaited):
            # A wait is over; a task (a change of metadata, say) runs to its end, though nobody hears of it.
            if not isinstance(awaited, asyncio.Task):
                awaited.cancel()

    # --- starting ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Starts the requests that may start, and sends what is answered."""
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
        """Starts the first waiting request; False if it must wait on."""
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
        """Whether a request may start before what is open is answered."""
        last = self.open[-1]
        route = last.route
        return route.starts_early and route.api_key == api_key and not last.is_starting

    def _start_large(self, route: Route, correlation_id: int, frame: bytes | bytearray) -> None:
        """Starts the first waiting request, when it has been decoded off the loop."""
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
        """It is not answered."""
        self.open.remove(started)
        self._open_bytes -= started.size
        self.open_count -= started.count
        self.shared.memory.give_back(started.size)

    def _learn(self, route: Route, make: MakeShortcut, frame: bytes | bytearray, request: Message) -> None:
        """Lets the API's shortcut learn from a request that was decoded."""
        key = route.api_key, route.api_version
        shortcut = self._shortcuts.get(key)
        if shortcut is None:
            shortcut = self._shortcuts[key] = make(self.shared.dispatch.broker, route.api_version)
        if shortcut.learn(frame, 0, len(frame), request):
            self.learned[bytes(frame[_API])] = shortcut, route

    def _start_alike(self, frame: bytes | bytearray) -> bool | None:
        """Starts a request that is like an earlier one, and those behind it that are, too; None, and nothing was
        done, if it is not, or must wait."""
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
        """Takes so many requests from those that wait; returns their bytes."""
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

    # --- what is held until something is done --------------------------------------------------------------------

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
        """What was held for this leaves as it is, or says that it failed."""
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
        """Its time is over."""
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

    # --- answers -------------------------------------------------------------------------------------------------

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
        """A request has been carried out in turns."""
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
        """Encodes a response."""
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
            return encode_response(answer, version, correlation_id)

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
        """A response is there; it leaves when those before it have."""
        started.pieces = pieces
        started.route.counters.took(self.shared.now() - started.began, started.count)
        self._leave()

    def _leave(self) -> None:
        """Sends the responses that can leave in order."""
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
        """Every response leaves here, and gives its request's bytes back; no pieces are no response."""
        self.shared.memory.give_back(size)
        if pieces:
            self._peer.write(pieces)

    def _go_on(self) -> None:
        """Something is answered: others may start, and more may be read."""
        self.run()
        self.control_reading()

    def _broken(self, started: OpenRequest) -> None:
        """A handler failed, which is our own mistake: say so with its traceback, and end this connection only."""
        route = started.route
        log.exception("a request failed", api=route.name, version=route.api_version, peer=self._peer.peer)
        self._peer.close()

    # --- bounds --------------------------------------------------------------------------------------------------

    def control_reading(self) -> None:
        """Stops or resumes reading by what is open."""
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
            # Only a connection whose memory is all in an unfinished request may ask for an exemption: what others hold
            # is given back when they are answered.
            stuck = pending == 0 and self._frames.unfinished is not None
            stop = memory.must_stop(self, self._peer.client_host, held_bytes, stuck)
        if stop == self.is_reading:
            self.is_reading = not stop
            if stop:
                self._peer.pause_reading()
            else:
                self._peer.resume_reading()

    def resume(self) -> None:
        """There is room for requests again (`RequestMemory`)."""
        self.control_reading()

    def _wait_for_room(self) -> None:
        """Starts nothing until enough is flushed."""
        self._no_room = True
        task = asyncio.ensure_future(self.shared.engine.room())
        self.awaited.add(task)

        def room(done: asyncio.Future[None]) -> None:
            self.awaited.discard(done)
            self._no_room = False
            if not self.ended:
                self._go_on()

        task.add_done_callback(room)
