"""A broker to hand bytes to: that of `odradek serve`, in this process, and connections to it without sockets.

Role: the way in for steps from bytes to bytes. Nothing here knows how the broker is built: it is started by its command
on the command's event loop; a connection is what it gave to `loop.create_server`, and is used as asyncio's own
transports would. So the same steps run before and after its inside has changed.

Invariant: what a `Client` waits for is bytes that were written to it. An answer with an error in it ends the run, since
a refusal would look like a gain.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from odradek.cli.serve import serve
from odradek.protocol.decoding import decode
from odradek.protocol.fields import Message, Struct
from odradek.protocol.framing import encode_request
from odradek.protocol.registry import BY_KEY

Factory = Callable[[], asyncio.BaseProtocol]
T = TypeVar("T")
LENGTH_BYTES = 4
CORRELATION_BYTES = 4
# What a step needs done once (a topic, a group) may take this long, also under valgrind.
ANSWERED_S = 60


def run_beside(work: Callable[[Factory], Awaitable[T]], folder: Path, settings: dict[str, str]) -> T:
    """Runs `work` on the loop of a broker with these settings, once clients can connect, and stops the broker."""
    given: list[Factory] = []
    results: list[T] = []
    failures: list[BaseException] = []
    tasks: list[asyncio.Task[None]] = []

    async def begin() -> None:
        try:
            results.append(await work(given[0]))
        except BaseException as failure:  # noqa: BLE001 - it is raised where the broker was started
            failures.append(failure)
        finally:
            signal.raise_signal(signal.SIGTERM)

    class Told(io.StringIO):
        """Where the command says that it is ready."""

        def write(self, text: str) -> int:
            if not tasks:
                tasks.append(asyncio.ensure_future(begin()))
            return len(text)

    with _kept_factories(given), contextlib.redirect_stdout(Told()):
        serve(
            listen="127.0.0.1:0",
            data_dir=str(folder),
            set_=[f"{name}={value}" for name, value in settings.items()],
        )
    if failures:
        raise failures[0]
    return results[0]


@contextlib.contextmanager
def _kept_factories(given: list[Factory]) -> Iterator[None]:
    """Keeps what event loops are given to make connections with."""
    kinds: list[Any] = [asyncio.BaseEventLoop, uvloop.Loop]
    before = [kind.create_server for kind in kinds]

    def keeping(create_server: Any) -> Any:
        async def kept(loop: Any, factory: Factory, *arguments: Any, **named: Any) -> Any:
            given.append(factory)
            return await create_server(loop, factory, *arguments, **named)

        return kept

    for kind in kinds:
        kind.create_server = keeping(kind.create_server)
    try:
        yield
    finally:
        for kind, create_server in zip(kinds, before, strict=True):
            kind.create_server = create_server


class Transport(asyncio.Transport):
    """Where a connection writes to when there is no socket."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.written = 0
        self.kept: list[bytes] | None = None
        """What was written, while somebody wants to read it."""
        self.closed = False
        self._awaited = 0
        self._reached: asyncio.Future[None] | None = None

    def _wrote(self, count: int) -> None:
        self.written += count
        if self._reached is not None and self.written >= self._awaited and not self._reached.done():
            self._reached.set_result(None)

    async def reach(self, written: int) -> None:
        """Returns when so many bytes have been written."""
        if self.written < written:
            self._awaited, self._reached = written, asyncio.get_running_loop().create_future()
            await self._reached
            self._reached = None

    def write(self, data: Any) -> None:
        if self.kept is not None:
            self.kept.append(bytes(data))
        self._wrote(len(data))

    def writelines(self, list_of_data: Any) -> None:
        if self.kept is not None:
            self.kept += map(bytes, list_of_data)
        self._wrote(sum(map(len, list_of_data)))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return 0, 1 << 30

    def is_reading(self) -> bool:
        return True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True


class Client:
    """A connection, from the peer's side."""

    def __init__(self, factory: Factory) -> None:
        self.protocol: Any = factory()
        self.transport = Transport()
        self.protocol.connection_made(self.transport)
        self.send = self._send_buffered if isinstance(self.protocol, asyncio.BufferedProtocol) else self._send_plain

    def _send_buffered(self, data: bytes) -> None:
        protocol, done = self.protocol, 0
        while done < len(data):
            view = protocol.get_buffer(-1)
            count = min(len(view), len(data) - done)
            view[:count] = data[done : done + count]
            protocol.buffer_updated(count)
            done += count

    def _send_plain(self, data: bytes) -> None:
        self.protocol.data_received(data)

    async def answers(self, data: bytes, kind: type[Message], version: int, count: int = 1) -> list[Any]:
        """Sends requests in one read and returns their responses; one with an error in it raises."""
        transport = self.transport
        kept: list[bytes] = []
        transport.kept = kept
        self.send(data)
        deadline = asyncio.get_running_loop().time() + ANSWERED_S
        while len(frames := _frames(b"".join(kept))) < count:
            if transport.closed or asyncio.get_running_loop().time() > deadline:
                raise RuntimeError(f"a {kind.__name__} of version {version} has no answer")
            await asyncio.sleep(0.001)
        transport.kept = None
        responses = [_response(frame, kind, version) for frame in frames]
        for response in responses:
            if (codes := set(_error_codes(response)) - {0}) != set():
                raise RuntimeError(f"{kind.__name__} of version {version} was answered with the errors {codes}")
        return responses

    async def ask(self, request: Message, version: int) -> Any:
        (response,) = await self.answers(encode_request(request, version, 1, "steps"), type(request), version)
        return response

    def close(self) -> None:
        self.protocol.connection_lost(None)


def _frames(data: bytes) -> list[bytes]:
    """The whole response frames in what was written, without their lengths."""
    frames, position = [], 0
    while len(data) - position >= LENGTH_BYTES:
        end = position + LENGTH_BYTES + int.from_bytes(data[position : position + LENGTH_BYTES], "big")
        if end > len(data):
            break
        frames.append(data[position + LENGTH_BYTES : end])
        position = end
    return frames


def _response(frame: bytes, kind: type[Message], version: int) -> Any:
    response = BY_KEY[kind.api_key].response
    tags = version in response.flexible_versions
    message, _ = decode(response, version, frame, CORRELATION_BYTES + tags)
    return message


def _error_codes(value: Any) -> Iterator[int]:
    """Every error code in a message."""
    if isinstance(value, list):
        for one in value:
            yield from _error_codes(one)
    elif isinstance(value, Struct):
        for declared in value.__declared__:
            inner = getattr(value, declared.name)
            if declared.name == "error_code":
                yield inner
            else:
                yield from _error_codes(inner)
