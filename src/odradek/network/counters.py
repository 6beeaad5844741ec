"""What the network counts: plain ints that connections add to and nobody else changes.

Role: counters of connections, and for each API of its requests, errors and durations; `insight` reads them. They cost
a produce request about 0.4 us in all, most of it the two readings of the clock.

Errors are counted from the responses, whoever made them, by a function compiled from the response's declaration: it
looks at each `error_code` there is and does something only where one is not zero.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

from odradek.durations import BOUNDS_S, Durations
from odradek.protocol.fields import Message, Struct, resolve_fields

CountErrors = Callable[[Any, MutableMapping[int, int]], None]
ERROR_FIELD = "error_code"


class ConnectionCounters:
    """Of all listeners."""

    __slots__ = (
        "idle_closed",
        "late_closed",
        "malformed",
        "opened",
        "refused_above_maximum",
        "refused_above_maximum_per_ip",
        "refused_for_descriptors",
        "unread_closed",
    )

    def __init__(self) -> None:
        self.opened = 0
        """Accepted, those refused afterwards included."""
        self.refused_above_maximum = 0
        self.refused_above_maximum_per_ip = 0
        self.refused_for_descriptors = 0
        self.idle_closed = 0
        self.late_closed = 0
        """Closed because a large request did not come whole in time."""
        self.unread_closed = 0
        """Closed because their peers took too little of what they had asked for."""
        self.malformed = 0
        """Closed because of what their peers sent."""


class ApiCounters:
    """Of one API, in all its versions."""

    __slots__ = ("count_errors", "durations", "errors", "requests")

    def __init__(self, response: type[Message]) -> None:
        self.requests = 0
        """Requests begun."""
        self.durations = Durations()
        """From the beginning of each request to when its response was ready to leave."""
        self.errors: dict[int, int] = {}
        """By error code, every one in a response by itself."""
        self.count_errors = error_counter(response)

    def took(self, seconds: float, count: int) -> None:
        """So many requests had their responses after so long."""
        durations = self.durations
        durations.sum_s += seconds * count
        durations.buckets[bisect_left(BOUNDS_S, seconds)] += count


def _source(struct: type[Struct], name: str, depth: int) -> Iterator[str]:
    """Lines that count the errors in the structure called `name`; none where it can have no error."""
    indent = "    " * depth
    for field in resolve_fields(struct):
        place = f"{name}.{field.name}"
        if field.name == ERROR_FIELD:
            yield f"{indent}if {place}: errors[int({place})] = errors.get(int({place}), 0) + 1"
        elif field.struct is not None:
            inner = f"{name}_".replace(".", "_") if field.is_array else place
            lines = list(_source(field.struct, inner, depth + 1))
            if lines:
                yield f"{indent}for {inner} in {place} or ():" if field.is_array else f"{indent}if {place} is not None:"
                yield from lines


def error_counter(response: type[Message]) -> CountErrors:
    """A function that adds the error codes of a response to counts. (0.15 us for a Produce of one partition, where
    closures that walk the fields take three times as long.)"""
    lines = ["def count_errors(r, errors):", *_source(response, "r", 1), "    return"]
    made: dict[str, CountErrors] = {}
    exec("\n".join(lines), {}, made)
    return made["count_errors"]
