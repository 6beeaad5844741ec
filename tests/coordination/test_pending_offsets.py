"""Offsets in transactions: what counts when, beside ordinary commits, deletions and other producers."""

from __future__ import annotations

from odradek.coordination.groups.pending_offsets import PendingOffsets
from odradek.coordination.groups.records import Committed, OffsetKey

A, B = OffsetKey("g", "t", 0), OffsetKey("g", "t", 1)
OTHER = OffsetKey("h", "u", 0)


def at(offset: int) -> Committed:
    return Committed(offset, -1, "", 0)


def test_what_was_committed_counts_and_what_was_aborted_does_not() -> None:
    pending = PendingOffsets()
    pending.take(1, A, at(5))
    pending.take(2, A, at(6))
    pending.take(1, B, at(7))
    assert pending.keys_of("g") == {A, B} and pending.keys_of("h") == set()
    assert dict(pending.end(2, committed=False)) == {}
    assert dict(pending.end(1, committed=True)) == {A: at(5), B: at(7)}
    assert len(pending) == 0 and dict(pending.end(1, committed=True)) == {}


def test_the_later_commit_stays_whatever_ends_when() -> None:
    pending = PendingOffsets()
    pending.take(1, A, at(5))
    pending.take(1, B, at(5))
    pending.note_commit(A)
    pending.take(2, B, at(8))
    assert dict(pending.end(2, committed=True)) == {B: at(8)}
    assert dict(pending.end(1, committed=True)) == {}


def test_a_commit_before_does_not_matter() -> None:
    pending = PendingOffsets()
    pending.take(1, B, at(1))
    pending.note_commit(A)
    pending.take(1, A, at(5))
    assert dict(pending.end(1, committed=True)) == {A: at(5), B: at(1)}


def test_what_is_deleted_is_not_pending_any_more() -> None:
    pending = PendingOffsets()
    pending.take(1, A, at(5))
    pending.take(1, OTHER, at(6))
    pending.take(2, A, None)
    assert pending.keys_of_topics(frozenset({"t"})) == {A}
    pending.forget([A])
    assert dict(pending.end(2, committed=True)) == {}
    assert dict(pending.end(1, committed=True)) == {OTHER: at(6)}
