"""What a group is to its shard, whatever its protocol, and what a type of groups brings with it.

Role: the contract between what works on any group (list, describe, delete, offsets: `shard.py`, `committing.py`) and
the folders that each know one type of group, of which `classic/` is one. KIP-848 gives the types their names: classic,
consumer, share, streams.

A type adds a folder with a `Group`, with a `GroupsOfType`, and with the `GroupType` that tells of both, and that is
listed in `types.py`. Handlers of its requests run its operations by `shard.of(ItsGroupsOfType)`. Nothing else has to
know of it.

Invariants: a name belongs to one group, so to one type, at a time. A record's type and a kind of timer belong to one
type of group. Sans-IO.
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
"""The state, of any type, of a group without members."""

CommitCheck = Callable[[OffsetKey, Committed], None]
"""Raises `KafkaError` where a member may commit, but not this offset."""


class GroupMember(NamedTuple):
    """A consumer, and which partitions of which topics it was assigned."""

    member_id: str
    client_id: str
    client_host: str
    partitions: Sequence[tuple[str, int]]


class Group(ABC):
    """One group, as far as it is like any other."""

    __slots__ = ()

    type_name: ClassVar[str]
    group_id: str
    protocol_type: str | None
    """What it is for, as ListGroups says: "consumer", "share", or whatever a classic group's members agreed upon."""

    # --- what it shows -------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def state_name(self) -> str:
        """One of its type's states."""

    @property
    @abstractmethod
    def member_count(self) -> int:
        """How many members it has."""

    def listed(self) -> ListedGroup:
        """As ListGroups tells of it."""
        return ListedGroup(
            group_id=self.group_id,
            protocol_type=self.protocol_type or "",
            group_state=self.state_name,
            group_type=self.type_name,
        )

    def describe(self) -> DescribedGroup | None:
        """As DescribeGroups tells of it; None where that is not for groups of its type, as for all but classic ones."""
        return None

    def consumers(self) -> tuple[Sequence[GroupMember], frozenset[str]] | None:
        """Its members with what each was assigned, and the topics that they read; None where there are none, or where
        they are no consumers, or where that is not to be known."""
        return None

    # --- its end -------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def is_empty(self) -> bool:
        """Whether it may be deleted: it has no members."""

    @property
    def expires(self) -> bool:
        """Whether it goes by itself when none of its offsets is left."""
        return self.is_empty

    # --- its offsets ---------------------------------------------------------------------------------------------

    @abstractmethod
    def check_commit(
        self, member_id: str, instance_id: str | None, generation: int, version: int, is_transactional: bool
    ) -> CommitCheck | None:
        """Whether somebody may commit offsets for it now, by OffsetCommit, or by TxnOffsetCommit in a transaction; and
        by what else each offset has to be checked. A member's commit is a sign of life. Raises `KafkaError`.

        `generation` is the member epoch where a type has such; negative without a member: then an administrator
        commits, or a consumer that assigns partitions by itself. `version` is the request's."""

    def check_fetch(self, member_id: str | None, member_epoch: int) -> None:  # noqa: B027
        """Whether somebody may fetch its offsets; who is no member has no id, and a negative epoch. Raises
        `KafkaError`."""

    def check_offset_delete(self) -> None:  # noqa: B027
        """Whether offsets of it can be deleted at all: those of topics that nobody reads. Raises `KafkaError`."""

    @abstractmethod
    def is_subscribed_to(self, topic: str) -> bool:
        """Whether a member reads the topic, or may do so: its offsets there are not deleted."""

    def subscribed_topics(self) -> frozenset[str]:
        """The topics that its members are known to read."""
        return frozenset()

    @abstractmethod
    def grows_old_since_ms(self, topic: str, committed: Committed) -> int | None:
        """From when on an offset of it grows old (KIP-211); None for one that stays."""


class GroupsOfType(ABC):
    """The groups of one type in one shard: what of them is durable, what is asked of them, and what they wait for.

    As with any state machine, durable state changes in `replay` only; soft state as operations go."""

    record_types: ClassVar[frozenset[int]]
    """The types of records (the number that a key begins with) that are replayed here."""
    timer_kinds: ClassVar[frozenset[str]]
    """What the keys of its timers begin with: (kind, group id, ...)."""

    @abstractmethod
    def replay(self, key: bytes, value: bytes | None) -> None:
        """Takes a record of its types into the durable state. Raises `DecodeError` for one that cannot be read."""

    @abstractmethod
    def records(self) -> Callable[[], Iterable[tuple[bytes, bytes]]]:
        """What a snapshot holds of the durable state, as `StateMachine.records` says."""

    @abstractmethod
    def prepare(self) -> None:
        """Makes the soft state, in a thread: the log has been replayed, and nobody else has the shard."""

    @abstractmethod
    def delete(self, group_id: str, outcome: Outcome) -> None:
        """The group of this name is deleted: tombstones of the records that there are of it, and the end of its
        timers. Does nothing where it has none; the shard forgets the name and the offsets."""

    @abstractmethod
    def due(self, key: tuple[str, ...], outcome: Outcome) -> None:
        """An operation: the deadline of one of its timers has come."""

    @abstractmethod
    def waiting(self) -> list[Reply]:
        """Everyone who waits for others."""

    def rebalance(self, group_id: str, outcome: Outcome) -> bool:
        """Makes the members of the group of this name join again; False where it has none of this type."""
        return False


class ShardContext(NamedTuple):
    """What the groups of one type share with the rest of their shard."""

    groups: dict[str, Group]
    """Every group of the shard by name, of all types: a type puts its own in, and takes them out again."""
    clock: Clock
    choose: random.Random
    timers: Timers
    counters: GroupCounters


class GroupType(NamedTuple):
    """How a type of groups is made known to the coordinator."""

    name: str
    states: tuple[str, ...]
    """The names of its groups' states, in the order in which metrics show them."""
    in_shard: Callable[[ShardContext], GroupsOfType]
    """Makes what a shard holds of it, empty."""
