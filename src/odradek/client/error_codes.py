"""Error codes in responses: the text that a client shows for them, and which of them are retried."""

from __future__ import annotations

from odradek.errors import ErrorCode

# Errors that may not recur, possibly after new metadata.
RETRIED = frozenset(code for code in ErrorCode if code.retriable)


def sentence(code: int, message: str | None = None) -> str:
    """The name of an error code, after the broker's message if it sent one."""
    try:
        name = ErrorCode(code).name
    except ValueError:
        name = f"error {code}"
    return f"{message.rstrip('.')} ({name})" if message else name
