"""Durations: every bucket, and what is on a bound."""

from __future__ import annotations

import pytest

from odradek.durations import BOUNDS_S, Durations


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0.0, 0), *((bound, i) for i, bound in enumerate(BOUNDS_S)), (9.0, 10)]
)
def test_a_duration_is_in_the_lowest_bucket_that_holds_it(seconds: float, bucket: int) -> None:
    durations = Durations()
    durations.add(seconds)
    assert durations.buckets[bucket] == 1 and durations.count == 1 and durations.sum_s == seconds


def test_there_is_a_handful_of_buckets_in_order() -> None:
    assert list(BOUNDS_S) == sorted(set(BOUNDS_S)) and len(BOUNDS_S) <= 12
