"""Lines of the local engine in the broker's log. structlog takes 0.1 s to import: not before there is something to
say."""

from __future__ import annotations


def warn(sentence: str, **more: str) -> None:
    """Says what a person should know."""
    import structlog

    structlog.get_logger("odradek.engine").warning(sentence, **more)
