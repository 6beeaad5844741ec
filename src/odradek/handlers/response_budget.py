"""The bound on one response, counted while it is built (`odradek.response.max.bytes`).

A small request can ask for a large response, such as all settings of the broker or all members of a group, and may name
each thousands of times. A handler counts the bytes that it is about to add to its response. An item for which there is
no room is refused in its own entry, if that has an error field, or else the whole request is refused.

Invariant: after the first refused item all later items are refused, so that a client may take the first error as the
end of the answer.

Bytes are estimates: the API version is ignored, and the few bytes of lengths are rounded.
"""

from __future__ import annotations

from struct import calcsize

from odradek.config.layers import BrokerConfig
from odradek.errors import ErrorCode, KafkaError
from odradek.protocol.fields import FORMATS, Struct, resolve_fields

# Average bytes of an encoded length.
LENGTH_BYTES = 2
SETTING = "odradek.response.max.bytes"
_WIDTHS = {kind: calcsize(f">{letter}") for kind, letter in FORMATS.items()}


class ResponseBudget:
    """The bytes of one response."""

    def __init__(self, config: BrokerConfig) -> None:
        self.max_bytes = config.integer(SETTING)
        self.used_bytes = 0
        self.is_over = False
        """Whether an item has been refused."""

    def take(self, count: int) -> bool:
        """Counts `count` more bytes and returns True if the response has room for them; else refuses them."""
        if self.is_over or self.used_bytes + count > self.max_bytes:
            self.is_over = True
            return False
        self.used_bytes += count
        return True

    @property
    def message(self) -> str:
        """The error message of refused items."""
        return f"The response would be longer than {SETTING} ({self.max_bytes}) allows: ask for less in one request"

    def refusal(self) -> KafkaError:
        """The error of refused items."""
        return KafkaError(ErrorCode.INVALID_REQUEST, self.message)


def estimated_bytes(structure: Struct) -> int:
    """The estimated bytes of a structure in a response. Estimating takes about as long as encoding, so a structure that
    is in a response many times should be estimated once."""
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
