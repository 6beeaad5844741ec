"""The commit of offsets, for any group: by OffsetCommit, and by TxnOffsetCommit in a producer's transaction (KIP-447).

Role: ask the group whether whoever commits may do so, and write the records. Where there is no group of that name, an
administrator or a consumer that assigns partitions by itself makes a simple one. Replay puts the offsets in their
place: at once, or when the transaction is committed.
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
    """Whether somebody may commit for a group now, as `Group.check_commit` says. Raises `KafkaError`."""
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
    """Records of commits that `check_commit` allowed, all or none. Raises `KafkaError` where its check refuses one."""
    outcome.alters = False
    if check is not None:
        commits = list(commits)
        for key, committed in commits:
            check(key, committed)
    now_ms = shard.clock.now_ms()
    records = [offset_record(key, committed, now_ms) for key, committed in commits]
    outcome.records += records
    shard.counters.offset_commits += len(records)
