"""Offsets in transactions: what counts when, beside ordinary commits, deletions and other producers."""

from __future__ import annotations

import random
from typing import TypeVar

import pytest

from odradek.coordination.groups import committing
from odradek.coordination.groups.classic.groups import classic_groups
from odradek.coordination.groups.classic.settings import ClassicSettings
from odradek.coordination.groups.pending_offsets import PendingOffsets
from odradek.coordination.groups.records import Committed, OffsetKey, offset_record
from odradek.coordination.groups.shard import GroupShard
from odradek.coordination.operation import InSteps, Outcome
from odradek.errors import ErrorCode
from tests.coordination.stories import through
from tests.partitions.test_partition import StillClock

T = TypeVar("T")
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
    assert pending.keys_of("g") == {A} and set(pending.groups()) == {"g", "h"}
    pending.forget([A])
    assert dict(pending.end(2, committed=True)) == {}
    assert dict(pending.end(1, committed=True)) == {OTHER: at(6)}


# --- in a shard -------------------------------------------------------------------------------------------------------

SETTINGS = ClassicSettings(500, 10_000, 0, 1_000, 10)
RETENTION_MS = 1_000
PRODUCER = 7


def shard() -> GroupShard:
    machine = GroupShard([classic_groups(SETTINGS)], RETENTION_MS, StillClock(), random.Random(1))
    machine.loaded()
    return machine


def commit(machine: GroupShard, key: OffsetKey, committed: Committed, producer_id: int | None = None) -> None:
    record = offset_record(key, committed, committed.commit_ms)
    assert record.key is not None
    if producer_id is None:
        machine.replay(record.key, record.value)
    else:
        committing.check_commit(machine, key.group_id, "", None, -1, 0, is_transactional=True)
        machine.replay_transactional(producer_id, record.key, record.value)


def replay(machine: GroupShard, steps: InSteps[T]) -> T:
    """Carries out an operation in steps."""

    def keep(outcome: Outcome) -> None:
        for record in outcome.records:
            assert record.key is not None
            machine.replay(record.key, record.value)

    return through(steps, keep)


def test_an_old_offset_that_expires_does_not_take_the_pending_one() -> None:
    machine = shard()
    commit(machine, A, at(5))
    commit(machine, A, Committed(9, -1, "", 50_000), PRODUCER)
    replay(machine, machine.expire(50_001))
    machine.end_transaction(PRODUCER, True)
    found = machine.offsets.get("g", "t", 0)
    assert found is not None and found.offset == 9


@pytest.mark.parametrize("committed", [True, False])
def test_a_group_that_only_has_pending_offsets_is_kept(committed: bool) -> None:
    machine = shard()
    commit(machine, A, at(5), PRODUCER)
    for outcome in machine.expire(10**9):
        assert not outcome.records
    described = machine.describe("g")
    assert described is not None and described.group_state == "Empty"
    machine.end_transaction(PRODUCER, committed)
    assert machine.describe("g") is not None
    replay(machine, machine.expire(10**9))
    assert machine.describe("g") is None


def test_deleting_an_offset_deletes_what_is_pending_of_it() -> None:
    machine = shard()
    commit(machine, A, at(5), PRODUCER)
    assert replay(machine, machine.delete_offsets("g", [("t", 0)])) == [ErrorCode.NONE]
    machine.end_transaction(PRODUCER, True)
    assert machine.offsets.get("g", "t", 0) is None
