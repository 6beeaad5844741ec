"""The pipeline's entries for a connection's open requests: those that have started and are not answered."""

from __future__ import annotations

from typing import Protocol

from odradek.handlers.shortcut import Begun
from odradek.network.dispatch import Route
from odradek.protocol.fields import Buffer


class OpenRequest:
    """One open request, or several (`count`) that one shortcut served together; `size` is their bytes in all."""

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
        """Whether its response is encoded in a thread: its request was large, or its handler worked in turns."""
        self.is_starting = False
        """Whether its handler has not finished yet: no other request of the connection may start."""


class Expiring(Protocol):
    """Is told when a held request times out (`Pipeline`)."""

    def expire(self, one: HeldRequest) -> None: ...


class HeldRequest(OpenRequest):
    """Requests served by a shortcut whose responses are ready but may leave only when a future completes (an append's
    flush)."""

    __slots__ = ("begun", "pipeline")

    def __init__(self, route: Route, size: int, began: float, pipeline: Expiring, begun: Begun) -> None:
        super().__init__(route, -1, size, began, begun.requests)
        self.pipeline = pipeline
        self.begun = begun

    def expire(self) -> None:
        self.pipeline.expire(self)
