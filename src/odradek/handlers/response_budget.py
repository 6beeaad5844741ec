"""The bound on one response, counted while it is built (`odradek.response.max.bytes`).

A few bytes of a request can ask for many of a response: all settings of the broker, all members of a group; and a
request may name them thousands of times. A handler counts what it is about to put into its response; what the bound has
no room for is refused beside its own name, where the response has an error field, or with the whole request.

Invariant: once something was refused, everything behind it is, so that a client that takes the errors for the end of
the answer has missed nothing.

Bytes are estimates: the version is not looked at, and the few bytes of lengths are rounded.
"""

from __future__ import annotations

from struct import calcsize

from odradek.config.layers import BrokerConfig
from odradek.errors import ErrorCode, KafkaError
from odradek.protocol.fields import FORMATS, Struct, resolve_fields

# Of a length, on the average.
LENGTH_BYTES = 2
SETTING = "odradek.response.max.bytes"
_WIDTHS = {kind: calcsize(f">{letter}") for kind, letter in FORMATS.items()}


class ResponseBudget:
    """The bytes of one response."""

    def __init__(self, config: BrokerConfig) -> None:
        self.max_bytes = config.integer(SETTING)
        self.used_bytes = 0
        self.is_over = False
        """Something was refused."""

    def take(self, count: int) -> bool:
        """Whether the response has room for so many bytes more; they are counted if it has."""
        if self.is_over or self.used_bytes + count > self.max_bytes:
            self.is_over = True
            return False
        self.used_bytes += count
        return True

    @property
    def message(self) -> str:
        """What is said to a client of what was refused."""
        return f"The response would be longer than {SETTING} ({self.max_bytes}) allows: ask for less in one request"

    def refusal(self) -> KafkaError:
        """The error of what was refused."""
        return KafkaError(ErrorCode.INVALID_REQUEST, self.message)


def estimated_bytes(structure: Struct) -> int:
    """About how many bytes a structure has in a response. Takes about as long as encoding it: what stands in a response
    many times is estimated once."""
    size = 0
    for field in resolve_fields(type(structure)):
        value = getattr(structure, field.name)
        if not field.is_array:
            size += _WIDTHS.get(field.element) or _size_of(value)
        elif field.element in _WIDTHS:
            size += LENGTH_BYTES + _WIDTHS[field.element] * len(value or ())
        else:
            size += LENGTH_BYTES + sum(map(_size_of, value or ()))
    return size


def _size_of(value: object) -> int:
    if isinstance(value, Struct):
        return estimated_bytes(value)
    if isinstance(value, str):
        return LENGTH_BYTES + (len(value) if value.isascii() else len(value.encode()))
    return LENGTH_BYTES + (len(value) if isinstance(value, bytes | bytearray | memoryview) else 0)
