"""How much work something is, in lines of the broker that run: it depends neither on the machine nor on its load."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import odradek

SOURCE = str(Path(odradek.__file__).parent)


class Work:
    """What has run so far."""

    def __init__(self) -> None:
        self.lines = 0


@contextmanager
def counted() -> Iterator[Work]:
    """Counts the lines that this thread runs in functions that are called meanwhile."""
    work = Work()

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(SOURCE):
            return None
        if event == "line":
            work.lines += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield work
    finally:
        sys.settrace(before)
