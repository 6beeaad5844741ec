"""Shared by the handlers of transactions: the error codes of fenced producers."""

from __future__ import annotations

from odradek.errors import ErrorCode


def code_for(code: ErrorCode, version: int, fenced_since: int) -> ErrorCode:
    """The error code for a request's version: versions below `fenced_since` (producers before Kafka 2.7) get
    INVALID_PRODUCER_EPOCH instead of PRODUCER_FENCED."""
    if code == ErrorCode.PRODUCER_FENCED and version < fenced_since:
        return ErrorCode.INVALID_PRODUCER_EPOCH
    return code
