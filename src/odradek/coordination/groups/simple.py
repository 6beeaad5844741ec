"""A simple group: a name with committed offsets and without members. (Kafka's term; its type is classic.)

Role: represent a name that has committed or pending offsets but no group of any type. Consumers that assign partitions
by themselves commit to such groups, and so do administrators.

Invariants: a simple group has no record in the log and no state but its name. A JoinGroup replaces it by a classic
group.
"""

from __future__ import annotations

from typing import ClassVar

from odradek.coordination.groups.group import CLASSIC_TYPE, EMPTY_STATE, CommitCheck, Group
from odradek.coordination.groups.records import Committed
from odradek.errors import ErrorCode, KafkaError
from odradek.protocol.messages.describe_groups import DescribedGroup


class SimpleGroup(Group):
    """A group that only has offsets."""

    __slots__ = ("group_id", "protocol_type")
    type_name: ClassVar[str] = CLASSIC_TYPE

    def __init__(self, group_id: str) -> None:
        self.group_id = group_id
        self.protocol_type = None

    @property
    def state_name(self) -> str:
        return EMPTY_STATE

    @property
    def member_count(self) -> int:
        return 0

    @property
    def is_empty(self) -> bool:
        return True

    def describe(self) -> DescribedGroup:
        return DescribedGroup(group_id=self.group_id, group_state=EMPTY_STATE)

    def check_commit(
        self, member_id: str, instance_id: str | None, generation: int, version: int, is_transactional: bool
    ) -> CommitCheck | None:
        if generation >= 0:
            raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID)
        return None

    def is_subscribed_to(self, topic: str) -> bool:
        return False

    def grows_old_since_ms(self, topic: str, committed: Committed) -> int | None:
        return committed.commit_ms
