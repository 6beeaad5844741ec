"""Commits offsets for a group of any type: by OffsetCommit, and by TxnOffsetCommit in a transaction (KIP-447).

Role: ask the group whether the client may commit, and add the records to the outcome. If no group has the name, the
commit of an administrator or of a consumer that assigns partitions by itself makes a simple group. Replay applies the
offsets: at once, or when the transaction is committed.
"""

from __future__ import annotations

from collections.abc import Iterable

from odradek.coordination.groups.group import CommitCheck
from odradek.coordination.groups.records import Committed, OffsetKey, offset_record
from odradek.coordination.groups.shard import GroupShard
from odradek.coordination.operation import Outcome
from odradek.errors import ErrorCode, KafkaError


def check_commit(
    shard: GroupShard,
    group_id: str,
    member_id: str,
    instance_id: str | None,
    generation: int,
    version: int,
    is_transactional: bool = False,
) -> CommitCheck | None:
    """Checks that a client may commit for a group now; returns what `Group.check_commit` returns. Raises `KafkaError`
    if it may not."""
    group = shard.groups.get(group_id)
    if group is not None:
        return group.check_commit(member_id, instance_id, generation, version, is_transactional)
    if generation >= 0:
        is_known = group_id in shard.offsets
        raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID if is_known else ErrorCode.GROUP_ID_NOT_FOUND)
    if is_transactional:
        shard.begin_simple(group_id)
    return None


def commit(
    shard: GroupShard, commits: Iterable[tuple[OffsetKey, Committed]], check: CommitCheck | None, outcome: Outcome
) -> None:
    """Adds the records of all `commits` to the outcome. Raises `KafkaError` and adds none if `check`, which
    `check_commit` returned, refuses one of them."""
    outcome.alters = False
    if check is not None:
        commits = list(commits)
        for key, committed in commits:
            check(key, committed)
    now_ms = shard.clock.now_ms()
    records = [offset_record(key, committed, now_ms) for key, committed in commits]
    outcome.records += records
    shard.counters.offset_commits += len(records)
