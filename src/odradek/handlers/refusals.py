"""What handlers say when they refuse a whole request (`refused`, see `context.py`)."""

from __future__ import annotations

from odradek.errors import ErrorCode


def sentence(code: ErrorCode) -> str | None:
    """What stands beside the code. As in Kafka, nothing beside UNKNOWN_SERVER_ERROR: its cause is the broker's own
    affair."""
    return None if code == ErrorCode.UNKNOWN_SERVER_ERROR else code.meaning
