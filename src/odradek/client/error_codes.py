"""What the error codes of answers mean to a client: how they are told, and which of them pass by themselves."""

from __future__ import annotations

from odradek.errors import ErrorCode

# Errors that pass by themselves, or with newer metadata.
RETRIED = frozenset(code for code in ErrorCode if code.retriable)


def sentence(code: int, message: str | None = None) -> str:
    """An error code, and the broker's own words where it sent some."""
    try:
        name = ErrorCode(code).name
    except ValueError:
        name = f"error {code}"
    return f"{message.rstrip('.')} ({name})" if message else name
