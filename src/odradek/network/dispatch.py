"""From a request's API key and version to what decodes, handles and encodes it.

Role: turn `protocol/registry.py` and the handlers' table into routes, compiled on first use. What is not in the table
is not served: an unknown API closes the connection, a version of ApiVersions that is not known is answered in version
0 (KIP-511), any other unknown version closes the connection, as in Kafka.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from odradek.handlers import api_versions
from odradek.handlers.context import Broker, Handler, RequestContext
from odradek.network.counters import ApiCounters
from odradek.protocol.compiler import DecodeError, decoder
from odradek.protocol.fields import Buffer, Message
from odradek.protocol.framing import API_VERSIONS_KEY, encode_response, read_request_header
from odradek.protocol.registry import BY_KEY

PRODUCE_KEY = 0
# Fetch, JoinGroup and SyncGroup: their answers may wait long for something that others do.
PARKED_KEYS = frozenset({1, 11, 14})


class Route(NamedTuple):
    """How requests of one API in one version are served."""

    name: str
    api_key: int
    api_version: int
    flexible: bool
    decode: Callable[..., tuple[Any, int]]
    handle: Handler
    counters: ApiCounters


class NotServed(Exception):
    """A request that cannot be answered: its API or version is not served. The connection is closed."""


class Dispatch:
    """The routes of one broker."""

    def __init__(self, broker: Broker, handlers: Mapping[int, Handler], max_elements: int) -> None:
        missing = set(BY_KEY) ^ set(handlers)
        assert not missing, f"APIs announced without a handler, or handled and not announced: {sorted(missing)}"
        self.broker = broker
        self.handlers = handlers
        self.max_elements = max_elements
        self._routes: dict[tuple[int, int], Route] = {}
        self.counters: dict[int, ApiCounters] = {}
        """Of the APIs that were asked for since the start."""

    def route(self, api_key: int, api_version: int) -> Route:
        """The route of an API's version. Raises `NotServed`."""
        route = self._routes.get((api_key, api_version))
        if route is None:
            api = BY_KEY.get(api_key)
            if api is None:
                raise NotServed(f"API key {api_key} is not served")
            if api_version not in api.served:
                raise NotServed(f"{api.name} is served in versions {api.served}, not {api_version}")
            request = api.request
            route = Route(
                api.name,
                api_key,
                api_version,
                api_version in request.flexible_versions,
                decoder(request, api_version),
                self.handlers[api_key],
                self.count(api_key),
            )
            self._routes[api_key, api_version] = route
        return route

    def count(self, api_key: int) -> ApiCounters:
        """The counters of a served API."""
        counters = self.counters.get(api_key)
        if counters is None:
            counters = self.counters[api_key] = ApiCounters(BY_KEY[api_key].response)
        return counters

    def count_unknown_api_versions(self) -> None:
        """A request that has no route, because its version is not known."""
        counters = self.count(API_VERSIONS_KEY)
        counters.requests += 1
        counters.count_errors(api_versions.unsupported(), counters.errors)

    def read(
        self, route: Route, frame: bytes | bytearray, listener: str, client_host: str
    ) -> tuple[Message, RequestContext]:
        """Decodes a request. Raises `DecodeError`, which names the API."""
        try:
            header = read_request_header(frame, route.flexible)
            request, _ = route.decode(frame, header.body_position, self.max_elements)
        except (DecodeError, IndexError, struct.error, UnicodeDecodeError) as error:
            raise DecodeError(f"{route.name} version {route.api_version}: {error}") from None
        return request, RequestContext(self.broker, listener, client_host, header.client_id, route.api_version)


def is_unknown_api_versions(api_key: int, api_version: int) -> bool:
    """Whether a request is ApiVersions in a version that is not served."""
    return api_key == API_VERSIONS_KEY and api_version not in BY_KEY[API_VERSIONS_KEY].served


def answer_unknown_api_versions(correlation_id: int) -> list[Buffer]:
    """The response to it, in version 0."""
    return encode_response(api_versions.unsupported(), 0, correlation_id)
