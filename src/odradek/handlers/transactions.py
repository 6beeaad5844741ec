"""What the handlers of transactions share."""

from __future__ import annotations

from odradek.errors import ErrorCode


def for_old_producers(code: ErrorCode) -> ErrorCode:
    """Producers older than Kafka 2.7 do not know that they can be fenced by name."""
    return ErrorCode.INVALID_PRODUCER_EPOCH if code == ErrorCode.PRODUCER_FENCED else code
