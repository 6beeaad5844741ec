"""The sketch of keys: bounded, never too low, and right about keys that come often."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odradek.insight.top_keys import FORGET_AT, KEY_MAX_BYTES, KEYS_MAX, RecordKey, TopKeys


def counted(keys: list[RecordKey]) -> TopKeys:
    sketch = TopKeys()
    for key in keys:
        sketch.add(key)
    return sketch


def test_few_keys_are_counted_exactly() -> None:
    sketch = counted([b"a"] * 6 + [b"b"] * 3 + [None])
    assert sketch.total == 10
    assert sketch.top(2) == [(b"a", 0.6, 0.6), (b"b", 0.3, 0.3)]
    assert sketch.top(9)[2] == (None, 0.1, 0.1)
    assert TopKeys().top(3) == []


@given(
    st.lists(st.integers(0, 300), max_size=2000),
    st.integers(0, 5),
)
def test_bounds_hold_for_any_stream(numbers: list[int], often: int) -> None:
    # One key comes again and again among the others.
    keys: list[RecordKey] = [key for number in numbers for key in (b"%d" % number, *([b"often"] * often))]
    sketch, truth = counted(keys), Counter(keys)
    top = sketch.top(10_000)
    assert len(top) <= KEYS_MAX and sketch.total == len(keys)
    for one in top:
        share = truth[one.key] / len(keys)
        assert one.share_at_least - 1e-9 <= share <= one.share_at_most + 1e-9
        assert one.share_at_most - one.share_at_least <= 1 / KEYS_MAX + 1e-9
    # No key with a greater share than that is missing.
    assert {key for key, count in truth.items() if count > len(keys) / KEYS_MAX} <= {one.key for one in top}


def test_long_keys_are_cut_and_still_told_apart() -> None:
    one, other = b"x" * 1000 + b"1", b"x" * 1000 + b"2"
    top = counted([one, one, other]).top(2)
    assert [share.share_at_most for share in top] == [pytest.approx(2 / 3), pytest.approx(1 / 3)]
    assert all(share.key is not None and len(share.key) == KEY_MAX_BYTES for share in top)
    assert counted([b"y" * KEY_MAX_BYTES]).top(1)[0].key == b"y" * KEY_MAX_BYTES


def test_what_was_long_ago_counts_less() -> None:
    sketch = counted([b"old"] * (FORGET_AT - 1))
    for _ in range(3):
        for _ in range(FORGET_AT // 2):
            sketch.add(b"new")
        assert sketch.total < FORGET_AT
    assert sketch.top(1)[0].key == b"new" and sketch.top(1)[0].share_at_least > 0.8
