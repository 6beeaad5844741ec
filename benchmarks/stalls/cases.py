"""What a case is, and the table of them all.

Role: `case` enters a function into the table. The function prepares, yields what is to be sent and measured, and cleans
up after the last `yield`; where it yields more than once, the worst of them counts. Its order in the table is the order
of the run: cases that use up what is prepared come after those that only look at it.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

from benchmarks.stalls.prepared import Prepared
from odradek.protocol.decoding import decode
from odradek.protocol.fields import Message, Struct
from odradek.protocol.framing import API_VERSIONS_KEY, encode_request
from odradek.protocol.registry import BY_KEY
from tests.raw_client import RawClient

# Of larger responses nobody looks at the error codes: decoding them takes longer than the run.
LOOKED_AT_BYTES = 4 << 20


class Sent(Protocol):
    """What is measured: a call that sends something and returns the bytes of all that was answered."""

    def __call__(self) -> int: ...

    def settle(self) -> None:
        """Waits for what the broker does after its answer and because of it. Stalls by then count too."""

    def codes(self) -> Counter[int]:
        """The error codes of the answer, each with how often it was there."""


class Request:
    """One request, encoded before it is measured."""

    def __init__(
        self, client: RawClient, request: Message, version: int, settle: Callable[[], None] = lambda: None
    ) -> None:
        self._client = client
        self._bytes = encode_request(request, version, 1, "stalls")
        self._response = BY_KEY[request.api_key].response
        self._version = version
        self._settle = settle
        self._frame = b""

    def __call__(self) -> int:
        self._client.send_bytes(self._bytes)
        (size,) = struct.unpack(">i", self._client.receive_bytes(4))
        self._frame = _received(self._client, size)
        return int(size)

    def settle(self) -> None:
        self._settle()

    def answer(self) -> Any:
        flexible = self._version in self._response.flexible_versions and self._response.api_key != API_VERSIONS_KEY
        return decode(self._response, self._version, self._frame, 5 if flexible else 4)[0]

    def codes(self) -> Counter[int]:
        return Counter(_codes(self.answer(), self._version)) if self._frame else Counter()


class Requests:
    """Many small requests on one connection, so many on their way at a time."""

    def __init__(self, client: RawClient, requests: list[tuple[Message, int]], in_flight: int) -> None:
        self._client = client
        frames = [encode_request(request, version, 1, "stalls") for request, version in requests]
        self._turns = [frames[start : start + in_flight] for start in range(0, len(frames), in_flight)]

    def __call__(self) -> int:
        received = 0
        for frames in self._turns:
            self._client.send_bytes(b"".join(frames))
            for _ in frames:
                received += len(self._client.receive_frame())
        return received

    def settle(self) -> None:
        pass

    def codes(self) -> Counter[int]:
        return Counter()


Run = Callable[..., Iterator[Sent]]


class Case(NamedTuple):
    """One row of the table."""

    name: str
    title: str
    """With a place for each of `sizes`."""
    sizes: tuple[int, ...]
    """How many of what, in a run of full size; the function's arguments."""
    run: Run
    once: bool
    """Whether it uses up what it is measured with, and so has no second round."""
    not_kafka: str
    """Why it is not put to Kafka."""

    def scaled(self, prepared: Prepared) -> tuple[int, ...]:
        return tuple(map(prepared.scaled, self.sizes))


CASES: dict[str, Case] = {}


def case(name: str, title: str, *sizes: int, once: bool = False, not_kafka: str = "") -> Callable[[Run], Run]:
    """Enters a function into the table of cases."""

    def enter(run: Run) -> Run:
        assert name not in CASES, name
        CASES[name] = Case(name, title, sizes, run, once, not_kafka)
        return run

    return enter


def _received(client: RawClient, size: int) -> bytes:
    """A frame's bytes where they are few; of more, nothing is kept."""
    if size <= LOOKED_AT_BYTES:
        return client.receive_bytes(size)
    place = memoryview(bytearray(1 << 20))
    while size:
        got = client.socket.recv_into(place, min(size, len(place)))
        if not got:
            client.receive_bytes(1)
        size -= got
    return b""


def _codes(value: Any, version: int) -> Iterator[int]:
    if isinstance(value, list):
        for item in value:
            yield from _codes(item, version)
    elif isinstance(value, Struct):
        for field in value.__declared__:
            if version not in field.versions:
                continue
            if field.name == "error_code":
                yield getattr(value, field.name)
            elif isinstance(inner := getattr(value, field.name), list | Struct):
                yield from _codes(inner, version)
