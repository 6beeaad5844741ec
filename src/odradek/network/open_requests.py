"""Requests of a connection that have started and are not answered: what its pipeline knows of each."""

from __future__ import annotations

from typing import Protocol

from odradek.handlers.shortcut import Begun
from odradek.network.dispatch import Route
from odradek.protocol.fields import Buffer


class OpenRequest:
    """Requests (one, or some that were served alike) that have started and are not answered, of `size` bytes in all."""

    __slots__ = ("began", "close", "correlation_id", "count", "is_large", "is_starting", "pieces", "route", "size")

    def __init__(self, route: Route, correlation_id: int, size: int, began: float, count: int = 1) -> None:
        self.route = route
        self.correlation_id = correlation_id
        self.size = size
        self.began = began
        self.count = count
        self.pieces: list[Buffer] | None = None
        self.close = False
        self.is_large = False
        """Its response is encoded off the loop, as its request was decoded, or because it was carried out in turns."""
        self.is_starting = False
        """It has not been carried out yet: no other may start."""


class Expiring(Protocol):
    """Who is told that a request's time is over."""

    def expire(self, one: HeldRequest) -> None: ...


class HeldRequest(OpenRequest):
    """Those whose responses are there, and wait for something before they may leave."""

    __slots__ = ("begun", "pipeline")

    def __init__(self, route: Route, size: int, began: float, pipeline: Expiring, begun: Begun) -> None:
        super().__init__(route, -1, size, began, begun.requests)
        self.pipeline = pipeline
        self.begun = begun

    def expire(self) -> None:
        self.pipeline.expire(self)
