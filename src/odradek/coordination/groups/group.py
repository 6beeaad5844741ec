"""The interface of a group of any type, and what each type of groups must provide.

Role: the contract between code that works on any group (list, describe, delete, offsets: `shard.py`, `committing.py`)
and the folders that implement one type of group each, such as `classic/`. The types have the names of KIP-848: classic,
consumer, share, streams.

To add a type, add a folder with subclasses of `Group` and `GroupsOfType` and a `GroupType` that names both, and list
the `GroupType` in `types.py`. Handlers of the type's requests run its operations through `shard.of(ItsGroupsOfType)`.
No other code changes.

Invariants: at any time a name belongs to one group, and so to one type. Each record type and each kind of timer belongs
to one type of group. Sans-IO.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, NamedTuple

from odradek.clock import Clock
from odradek.coordination.groups.counters import GroupCounters
from odradek.coordination.groups.records import Committed, OffsetKey
from odradek.coordination.operation import Outcome, Reply
from odradek.coordination.timers import Timers
from odradek.protocol.messages.describe_groups import DescribedGroup
from odradek.protocol.messages.list_groups import ListedGroup

CLASSIC_TYPE = "classic"
EMPTY_STATE = "Empty"
"""The state of a group without members, the same for all types."""

CommitCheck = Callable[[OffsetKey, Committed], None]
"""A check of one offset of a commit that is otherwise allowed; raises `KafkaError` if this offset is refused."""


class GroupMember(NamedTuple):
    """A consumer and its assigned partitions, as (topic, partition)."""

    member_id: str
    client_id: str
    client_host: str
    partitions: Sequence[tuple[str, int]]


class Group(ABC):
    """One group, of any type."""

    __slots__ = ()

    type_name: ClassVar[str]
    group_id: str
    protocol_type: str | None
    """The protocol type in ListGroups: "consumer", "share", or the one that a classic group's members sent."""

    # --- description ---------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def state_name(self) -> str:
        """The name of the group's state."""

    @property
    @abstractmethod
    def member_count(self) -> int:
        """The number of members."""

    def listed(self) -> ListedGroup:
        """The group's entry in a ListGroups response."""
        return ListedGroup(
            group_id=self.group_id,
            protocol_type=self.protocol_type or "",
            group_state=self.state_name,
            group_type=self.type_name,
        )

    def describe(self) -> DescribedGroup | None:
        """The group in a DescribeGroups response; None for a type that DescribeGroups does not describe, which is any
        but classic."""
        return None

    def consumers(self) -> tuple[Sequence[GroupMember], frozenset[str]] | None:
        """The members with their assignments, and the topics that they subscribe to. None if there are no members, if
        they are not consumers, or if their subscriptions cannot be read."""
        return None

    # --- deletion ------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def is_empty(self) -> bool:
        """Whether the group has no members, and so may be deleted."""

    @property
    def expires(self) -> bool:
        """Whether the group is deleted when its last offset has expired."""
        return self.is_empty

    # --- offsets -------------------------------------------------------------------------------------------------

    @abstractmethod
    def check_commit(
        self, member_id: str, instance_id: str | None, generation: int, version: int, is_transactional: bool
    ) -> CommitCheck | None:
        """Checks that a client may commit offsets now, by OffsetCommit or (`is_transactional`) by TxnOffsetCommit.
        Returns a further check for each offset, or None. A member's commit renews its session. Raises `KafkaError`.

        `generation` is the member epoch for types that have one. It is negative for a client that is no member: an
        administrator, or a consumer that assigns partitions by itself. `version` is the request's."""

    def check_fetch(self, member_id: str | None, member_epoch: int) -> None:  # noqa: B027
        """Checks that a client may fetch the group's offsets. A client that is no member has no id and a negative
        epoch. Raises `KafkaError` if it may not."""

    def check_offset_delete(self) -> None:  # noqa: B027
        """Checks that the group allows OffsetDelete, for topics that no member reads. Raises `KafkaError` if not."""

    @abstractmethod
    def is_subscribed_to(self, topic: str) -> bool:
        """Whether a member reads the topic or may read it. If so, OffsetDelete keeps the group's offsets there."""

    def subscribed_topics(self) -> frozenset[str]:
        """The topics that the members are known to read."""
        return frozenset()

    @abstractmethod
    def grows_old_since_ms(self, topic: str, committed: Committed) -> int | None:
        """The time from which an offset's retention is counted (KIP-211), in ms; None if it does not expire now."""


class GroupsOfType(ABC):
    """The groups of one type in one shard, with their durable state, operations and timers.

    As in any state machine, durable state changes in `replay` only; operations change soft state directly."""

    record_types: ClassVar[frozenset[int]]
    """The record types (the number that a key begins with) that `replay` takes."""
    timer_kinds: ClassVar[frozenset[str]]
    """The first elements of this type's timer keys, which are (kind, group id, ...)."""

    @abstractmethod
    def replay(self, key: bytes, value: bytes | None) -> None:
        """Applies a record of `record_types` to the durable state. Raises `DecodeError` for one that cannot be read."""

    @abstractmethod
    def records(self) -> Callable[[], Iterable[tuple[bytes, bytes]]]:
        """Copies this type's durable state for a snapshot, as `StateMachine.records` does."""

    @abstractmethod
    def prepare(self) -> None:
        """Makes the soft state, in a thread: the log has been replayed, and nobody else has the shard."""

    @abstractmethod
    def delete(self, group_id: str, outcome: Outcome) -> None:
        """Adds tombstones for the group's records to the outcome and cancels its timers. Does nothing if this type has
        no such group. The shard removes the name and the offsets."""

    @abstractmethod
    def due(self, key: tuple[str, ...], outcome: Outcome) -> None:
        """An operation: runs what the timer `key` was set for, when its deadline has come."""

    @abstractmethod
    def waiting(self) -> list[Reply]:
        """The replies of requests that wait for other members."""

    def rebalance(self, group_id: str, outcome: Outcome) -> bool:
        """Makes the group's members join again; returns False if this type has no such group with members."""
        return False


class ShardContext(NamedTuple):
    """What the groups of one type share with the rest of their shard."""

    groups: dict[str, Group]
    """Every group of the shard by name, of all types. Each type adds and removes its own groups."""
    clock: Clock
    choose: random.Random
    timers: Timers
    counters: GroupCounters


class GroupType(NamedTuple):
    """A type of groups, as the coordinator needs it."""

    name: str
    states: tuple[str, ...]
    """The names of the states of its groups, in the order in which metrics show them."""
    in_shard: Callable[[ShardContext], GroupsOfType]
    """Makes the empty `GroupsOfType` of a shard."""
