"""Numbers as people read them."""

from __future__ import annotations

import pytest

from odradek.insight.wording import bytes_text, counted, in_words, rate_text, time_text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (4_100_000, "4.1 MB"),
        (612_300_000, "612 MB"),
        (999_960, "1 MB"),
        (2e18, "2000 PB"),
    ],
)
def test_bytes(size: float, text: str) -> None:
    assert bytes_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "under 1 s"),
        (1, "1 s"),
        (99.4, "99 s"),
        (180, "3 min"),
        (5_940, "99 min"),
        (6_600, "1 h 50 min"),
        (7_200, "2 h"),
        (100_000, "28 h"),
        (7 * 86_400, "7 days"),
        (1e9, "11,574 days"),
    ],
)
def test_times(seconds: float, text: str) -> None:
    assert time_text(seconds) == text


@pytest.mark.parametrize(("per_s", "text"), [(0, "0"), (0.4, "0.4"), (3.0, "3"), (1200.4, "1,200")])
def test_rates(per_s: float, text: str) -> None:
    assert rate_text(per_s) == text


def test_counts() -> None:
    assert counted(1, "record") == "1 record" and counted(12_000, "record") == "12,000 records"
    assert (in_words(2), in_words(12), in_words(13), in_words(1000)) == ("two", "twelve", "13", "1,000")
