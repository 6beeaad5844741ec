"""Parses a time given on the command line: a duration before now, a date, or milliseconds since the epoch."""

from __future__ import annotations

import re
from datetime import datetime

from odradek.cli.failures import WrongUse

_SPAN = re.compile(r"-(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}

# Any number with this many digits fits in 64 bits.
_LONGEST = 18


def read_time(text: str, now_ms: int, option: str) -> int:
    """Milliseconds since the epoch of a time, which may begin with an @. `option` names the option in error texts.
    Raises `WrongUse`."""
    moment = text.removeprefix("@")
    try:
        span = _SPAN.fullmatch(moment)
        if span:
            return max(0, now_ms - int(float(span[1]) * _UNITS_MS[span[2]]))
        if moment.isdecimal() and moment.isascii() and len(moment) <= _LONGEST:
            return int(moment)
        return max(0, int(datetime.fromisoformat(moment).timestamp() * 1000))
    except (ValueError, OverflowError, OSError):
        raise WrongUse(
            f"{option} {text} is no time such as @-1h, @2026-01-31T12:00:00Z or @1760000000000 (ms)."
        ) from None
