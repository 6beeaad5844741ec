"""The error messages of responses that refuse a whole request (`refused`, see `context.py`)."""

from __future__ import annotations

from odradek.errors import ErrorCode


def sentence(code: ErrorCode) -> str | None:
    """The error message for a code. As in Kafka, UNKNOWN_SERVER_ERROR has none, so that internal causes are not
    revealed."""
    return None if code == ErrorCode.UNKNOWN_SERVER_ERROR else code.meaning
