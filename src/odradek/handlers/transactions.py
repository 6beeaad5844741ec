"""What the handlers of transactions share."""

from __future__ import annotations

from odradek.errors import ErrorCode


def code_for(code: ErrorCode, version: int, fenced_since: int) -> ErrorCode:
    """The error as a producer of that version knows it: older than Kafka 2.7, it does not know that it can be fenced by
    name."""
    if code == ErrorCode.PRODUCER_FENCED and version < fenced_since:
        return ErrorCode.INVALID_PRODUCER_EPOCH
    return code
