"""Numbers as text, for the sentences about lag and balance.

Role: one way to write counts, bytes, times and rates. Pure.

Invariants: sizes, times and rates are short and rounded to two or three digits: 4.1 MB, 3 min. Units of bytes are
powers of ten, as disks and networks are sold.
"""

from __future__ import annotations

WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_BYTES = ("B", "kB", "MB", "GB", "TB", "PB")
# From these values on the larger unit is used. Below `_MINUTES_UPTO_H` hours, minutes are written too.
_MINUTES_FROM_S = 100
_HOURS_FROM_MIN = 100
_MINUTES_UPTO_H = 10
_DAYS_FROM_H = 48


def in_words(count: int) -> str:
    """`two` for 2, up to twelve; digits above."""
    return WORDS[count] if 0 <= count < len(WORDS) else f"{count:,}"


def counted(count: int, noun: str) -> str:
    """`1 record`, `12,000 records`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def bytes_text(size: float) -> str:
    """`4.1 MB`."""
    unit = 0
    while round(size, 1) >= 1000 and unit < len(_BYTES) - 1:
        size /= 1000
        unit += 1
    exact = f"{size:.0f}" if unit == 0 or size >= 100 else f"{size:.1f}".removesuffix(".0")
    return f"{exact} {_BYTES[unit]}"


def time_text(seconds: float) -> str:
    """`45 s`, `20 min`, `1 h 50 min`, `30 h`, `7 days`."""
    if seconds < 1:
        return "under 1 s"
    if round(seconds) < _MINUTES_FROM_S:
        return f"{round(seconds)} s"
    minutes = round(seconds / 60)
    if minutes < _HOURS_FROM_MIN:
        return f"{minutes} min"
    if minutes < _MINUTES_UPTO_H * 60:
        return f"{minutes // 60} h {minutes % 60} min".removesuffix(" 0 min")
    hours = round(seconds / 3600)
    if hours < _DAYS_FROM_H:
        return f"{hours} h"
    return f"{round(seconds / 86_400):,} days"


def rate_text(per_s: float) -> str:
    """`1,200`, `0.4`: a rate without its unit."""
    return f"{per_s:,.0f}" if per_s >= 10 else f"{per_s:.1f}".removesuffix(".0")
