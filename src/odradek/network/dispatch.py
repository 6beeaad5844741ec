"""Dispatch: from a request's API key and version to its decoder and handler.

Role: turn `protocol/registry.py` and the table of handlers into routes, each compiled on its first use. As in Kafka, an
API that is not served closes the connection, and so does a version that is not served, unless the table declares a
response to unknown versions (ApiVersions does, KIP-511).
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from odradek.handlers.context import Answer, BrokerParts, Handler, RequestContext, Steps
from odradek.handlers.served import Served
from odradek.handlers.shortcut import MakeShortcut
from odradek.network.counters import ApiCounters
from odradek.network.frames import LENGTH_BYTES
from odradek.protocol.decoding import decoder
from odradek.protocol.errors import DecodeError, TooManyElements
from odradek.protocol.fields import Message
from odradek.protocol.framing import read_request_header
from odradek.protocol.registry import BY_KEY


class Route(NamedTuple):
    """How requests of one API in one version are served; the flags are those of `Served`."""

    name: str
    api_key: int
    api_version: int
    flexible: bool
    decode: Callable[..., tuple[Any, int]]
    handle: Handler
    counters: ApiCounters
    shortcut: MakeShortcut | None
    starts_early: bool
    appends: bool
    waits_for_others: bool


class NotServed(Exception):
    """Raised for a request whose API or version is not served. It is not answered; the connection is closed."""


class LargeRequest(Exception):
    """Raised for a request with too many array elements to be decoded on the event loop."""


class UnknownVersion(Exception):
    """Raised for a request in a version that is not served, with the response to send, in version 0."""

    def __init__(self, response: Message) -> None:
        super().__init__(response)
        self.response = response


class FaultRules(Protocol):
    """Faults that a test asks a broker to inject (`faults.py`)."""

    @property
    def rules(self) -> Sequence[object]:
        """The rules in force."""

    def handle(
        self, api: str, handler: Handler, request: Any, context: RequestContext
    ) -> Answer | Awaitable[Answer] | Steps:
        """Called instead of the handler while there are rules."""


class Dispatch:
    """The routes of one broker."""

    def __init__(
        self, broker: BrokerParts, handlers: Mapping[int, Served], max_elements: int, faults: FaultRules | None = None
    ) -> None:
        missing = set(BY_KEY) ^ set(handlers)
        assert not missing, f"APIs announced without a handler, or handled and not announced: {sorted(missing)}"
        self.broker = broker
        self.handlers = handlers
        self.max_elements = max_elements
        self.faults = faults
        self._routes: dict[tuple[int, int], Route] = {}
        self.counters: dict[int, ApiCounters] = {}
        """The counters of every API that was requested since the start, by API key."""

    def route(self, api_key: int, api_version: int) -> Route:
        """The route of an API in one version. Raises `NotServed`, or `UnknownVersion` after counting the request."""
        route = self._routes.get((api_key, api_version))
        if route is None:
            api = BY_KEY.get(api_key)
            if api is None:
                raise NotServed(f"API key {api_key} is not served")
            served = self.handlers[api_key]
            if api_version not in api.served:
                if served.unknown_version is not None:
                    raise UnknownVersion(self._count_unknown(api_key, served.unknown_version()))
                raise NotServed(f"{api.name} is served in versions {api.served}, not {api_version}")
            request = api.request
            route = Route(
                api.name,
                api_key,
                api_version,
                api_version in request.flexible_versions,
                decoder(request, api_version),
                served.handle,
                self.count(api_key),
                served.shortcut,
                served.starts_early,
                served.appends,
                served.waits_for_others,
            )
            self._routes[api_key, api_version] = route
        return route

    def count(self, api_key: int) -> ApiCounters:
        """The counters of a served API."""
        counters = self.counters.get(api_key)
        if counters is None:
            counters = self.counters[api_key] = ApiCounters(BY_KEY[api_key].response)
        return counters

    def _count_unknown(self, api_key: int, response: Message) -> Message:
        """Counts a request in an unknown version, which has no route to count it; returns `response`."""
        counters = self.count(api_key)
        counters.requests += 1
        counters.count_errors(response, counters.errors)
        return response

    def read(
        self, route: Route, frame: bytes | bytearray, listener: str, client_host: str, max_elements: int
    ) -> tuple[Message, RequestContext]:
        """Decodes a request. Raises `LargeRequest` if it has more than `max_elements` array elements and that is below
        the broker's own limit (`self.max_elements`), else `DecodeError`, whose text names the API."""
        try:
            header = read_request_header(frame, route.flexible, LENGTH_BYTES)
            request, _ = route.decode(frame, header.body_position, max_elements)
        except TooManyElements as error:
            if max_elements < self.max_elements:
                raise LargeRequest from None
            raise DecodeError(f"{route.name} version {route.api_version}: {error}") from None
        except (DecodeError, IndexError, struct.error, UnicodeDecodeError) as error:
            raise DecodeError(f"{route.name} version {route.api_version}: {error}") from None
        return request, RequestContext(self.broker, listener, client_host, header.client_id, route.api_version)
