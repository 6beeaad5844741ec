"""What a retention guard holds, weighed against its limits: segments whose ends, sizes and ages are known."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from odradek.partitions.guard import Guard, hold
from odradek.partitions.retention import Expendable

# Three segments of 100 bytes and ten records each; they are overdue by 30, 20 and 10 ms.
SEGMENTS = [Expendable(10, 100, 30), Expendable(20, 100, 20), Expendable(30, 100, 10)]
END = 35


def guard(offset: int, max_bytes: int = -1, max_ms: int = -1, blocks: bool = False) -> Guard:
    return Guard(offset, "slow", max_bytes, max_ms, blocks)


def test_what_is_read_may_go() -> None:
    assert hold(guard(30), SEGMENTS, END) == (30, 0, "")
    assert hold(guard(END), SEGMENTS, END) == (END, 0, "")
    assert hold(guard(END + 100), SEGMENTS, END) == (END, 0, "")


def test_what_is_not_read_stays() -> None:
    # A segment is held for its last record.
    assert hold(guard(19), SEGMENTS, END) == (19, 200, "")
    assert hold(guard(0), SEGMENTS, END) == (0, 300, "")
    assert hold(guard(0), [], END) == (0, 0, "")


def test_beyond_the_limit_of_bytes_the_oldest_goes() -> None:
    assert hold(guard(0, max_bytes=300), SEGMENTS, END) == (0, 300, "")
    assert hold(guard(0, max_bytes=299), SEGMENTS, END) == (10, 200, "")
    assert hold(guard(0, max_bytes=100), SEGMENTS, END) == (20, 100, "")
    assert hold(guard(0, max_bytes=0), SEGMENTS, END) == (30, 0, "")


def test_beyond_the_limit_of_time_the_oldest_goes() -> None:
    assert hold(guard(0, max_ms=30), SEGMENTS, END) == (0, 300, "")
    assert hold(guard(0, max_ms=29), SEGMENTS, END) == (10, 200, "")
    assert hold(guard(15, max_ms=15), SEGMENTS, END) == (20, 100, "")


def test_who_blocks_loses_nothing_and_says_why() -> None:
    upto, size_bytes, refusal = hold(guard(5, max_bytes=299, blocks=True), SEGMENTS, END)
    assert (upto, size_bytes) == (5, 300)
    assert refusal == (
        "retention waits for group slow, which is at offset 5, and has reached odradek.retention.guard.max.bytes"
    )
    assert hold(guard(5, max_ms=29, blocks=True), SEGMENTS, END).refusal.endswith("odradek.retention.guard.max.ms")
    assert hold(guard(5, max_bytes=300, max_ms=30, blocks=True), SEGMENTS, END).refusal == ""
    assert hold(guard(30, max_bytes=0, max_ms=0, blocks=True), SEGMENTS, END).refusal == ""


@given(
    sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9), st.integers(0, 9)), max_size=6),
    offset=st.integers(0, 60),
    max_bytes=st.integers(-1, 30),
    max_ms=st.integers(-1, 10),
    blocks=st.booleans(),
)
def test_limits_hold_and_no_more_goes_than_they_ask_for(
    sizes: list[tuple[int, int, int]], offset: int, max_bytes: int, max_ms: int, blocks: bool
) -> None:
    segments, end = [], 0
    for records, size_bytes, overdue_ms in sizes:
        end += records
        segments.append(Expendable(end, size_bytes, overdue_ms))
    upto, held_bytes, refusal = hold(guard(offset, max_bytes, max_ms, blocks), segments, end)
    kept = [one for one in segments if one.end_offset > upto]
    assert held_bytes == sum(one.size_bytes for one in kept)
    if blocks:
        assert upto == min(offset, end)
    over = bool(kept) and (0 <= max_bytes < held_bytes or 0 <= max_ms < kept[0].overdue_ms)
    assert over == bool(refusal)
    lost = [one for one in segments if offset < one.end_offset <= upto]
    if lost:
        # Without the last of them it would not have been enough.
        assert 0 <= max_bytes < held_bytes + lost[-1].size_bytes or 0 <= max_ms < lost[-1].overdue_ms
