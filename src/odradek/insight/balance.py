"""How evenly a group's partitions and their traffic are spread over its members, and how to spread them more evenly.

Role: sums for each member, the skew between members, and advice in plain sentences. Pure: the assignment and the rates
of the partitions (from `append_history`) are arguments.

Usage, with a group's assignment of all topics that it reads:

    balance = balance_of(
        {"consumer-1": [("orders", 0), ("orders", 1)], "consumer-2": [("orders", 2)]},
        {("orders", 0): Load(records_per_s=40, bytes_per_s=4_000), ("orders", 1): Load(10, 900), ("orders", 2): Load()},
    )
    for line in balance.advice:
        print(line)

The loads should contain every partition of those topics, so that unassigned partitions are found. A partition without a
load counts as having no traffic.

Invariants: advice is given only about differences that matter: a skew of at least `UNEVEN`, and traffic above the
`QUIET` thresholds. Advice about the numbers of partitions is given only if the traffic is not even nevertheless. There
are at most `ADVICE_MAX` sentences, the most important first. Whether a member keeps up is the concern of `lag`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from math import gcd
from typing import NamedTuple, Protocol

from odradek.insight.wording import counted, in_words
from odradek.topic_partition import TopicPartition

# From this skew (the largest member's number of partitions over the mean) on, advice is given.
UNEVEN = 1.1
# The same for the traffic of members, which varies more.
UNEVEN_LOAD = 1.5
# A partition with this many times a member's fair share of the traffic overloads any member that it is assigned to.
HOT = 1.2
# Below these rates of a group no advice about traffic is given.
QUIET_RECORDS_PER_S = 1.0
QUIET_BYTES_PER_S = 1000.0
# At most this many hot partitions are named.
HOT_TOLD = 3
ADVICE_MAX = 3 + HOT_TOLD
# Another number of members is suggested only within this factor: going from five members to one is no useful advice.
NEAR = 2


class Load(NamedTuple):
    """The append rates of one partition."""

    records_per_s: float = 0.0
    bytes_per_s: float = 0.0


class HotKey(NamedTuple):
    """The most frequent key of a partition's records, if it is frequent enough to matter."""

    name: str
    """`the key acme`, or `no key`."""
    share: float


class MemberLoad(NamedTuple):
    """The partitions of one member and their traffic."""

    member_id: str
    partitions: int
    records_per_s: float
    bytes_per_s: float


class _Carries(Protocol):
    @property
    def records_per_s(self) -> float: ...
    @property
    def bytes_per_s(self) -> float: ...


def _bytes(one: _Carries) -> float:
    return one.bytes_per_s


def _records(one: _Carries) -> float:
    return one.records_per_s


_MEASURES: tuple[tuple[str, float, Callable[[_Carries], float]], ...] = (
    ("bytes", QUIET_BYTES_PER_S, _bytes),
    ("records", QUIET_RECORDS_PER_S, _records),
)


@dataclass(frozen=True, slots=True)
class Balance:
    """How a group's partitions and traffic are spread over its members. A skew is the largest member's value over the
    mean: 1 is even. It is None if the mean is 0 or there are no members."""

    members: tuple[MemberLoad, ...]
    partitions: int
    unassigned: tuple[TopicPartition, ...]
    partition_skew: float | None
    record_skew: float | None
    byte_skew: float | None
    advice: tuple[str, ...]


def balance_of(
    assignment: Mapping[str, Collection[TopicPartition]],
    loads: Mapping[TopicPartition, Load],
    hot_key: Callable[[TopicPartition], HotKey | None] = lambda partition: None,
) -> Balance:
    """The balance of one group. `assignment` has its members' partitions by member id, `loads` the traffic of every
    partition of its topics. `hot_key` returns the key that makes a partition hot, or None."""
    nothing = Load()
    members: list[MemberLoad] = []
    assigned: set[TopicPartition] = set()
    for member_id, partitions in assignment.items():
        assigned.update(partitions)
        carried = [loads.get(partition, nothing) for partition in partitions]
        members.append(
            MemberLoad(
                member_id,
                len(carried),
                sum(load.records_per_s for load in carried),
                sum(load.bytes_per_s for load in carried),
            )
        )
    group = _Group(
        members,
        {**dict.fromkeys(assigned, nothing), **loads},
        tuple(sorted(partition for partition in loads if partition not in assigned)),
        hot_key,
    )
    return Balance(
        tuple(members),
        len(group.loads),
        group.unassigned,
        _skew([member.partitions for member in members]),
        _skew([member.records_per_s for member in members]),
        _skew([member.bytes_per_s for member in members]),
        tuple(group.advice()),
    )


def _skew(carried: Collection[float]) -> float | None:
    total = sum(carried)
    return max(carried) * len(carried) / total if total > 0 else None


class _Group(NamedTuple):
    """The facts that advice is made from."""

    members: list[MemberLoad]
    loads: dict[TopicPartition, Load]
    unassigned: tuple[TopicPartition, ...]
    hot_key: Callable[[TopicPartition], HotKey | None]

    def advice(self) -> list[str]:
        if not self.loads:
            return []
        if not self.members:
            return [f"no members: nobody reads {counted(len(self.loads), 'partition')}"]
        if len(self.unassigned) == len(self.loads):
            return [f"{counted(len(self.loads), 'partition')}: assigned to nobody, as while a group rebalances"]
        hot = self._hot_partitions()
        return [*self._nobodys(), *self._idle(), *hot, *([] if hot else self._busy_member()), *self._uneven_counts()]

    # --- unassigned partitions and idle members ----------------------------------------------------------------------

    def _nobodys(self) -> list[str]:
        if not self.unassigned:
            return []
        first = _name(self.unassigned[0])
        others = len(self.unassigned) - 1
        return [f"{first} and {in_words(others)} more are read by nobody" if others else f"{first} is read by nobody"]

    def _idle(self) -> list[str]:
        """Advice if there are more members than partitions. (Idle members otherwise are found by `_uneven_counts`.)"""
        if len(self.members) <= len(self.loads):
            return []
        idle = sum(member.partitions == 0 for member in self.members)
        what = f"{len(self.members):,} members for {counted(len(self.loads), 'partition')}"
        return [f"{what}: {in_words(idle)} {'has' if idle == 1 else 'have'} nothing to do"]

    # --- by traffic --------------------------------------------------------------------------------------------------

    def _hot_partitions(self) -> list[str]:
        """Partitions with more traffic than a member's fair share: no assignment of whole partitions can be even."""
        at_work = min(len(self.members), len(self.loads))
        if at_work < 2:
            return []
        for what, quiet, of in _MEASURES:
            total = sum(of(load) for load in self.loads.values())
            if total < quiet:
                continue
            hot = [(of(load), partition) for partition, load in self.loads.items() if of(load) * at_work > HOT * total]
            if hot:
                hot.sort(key=lambda carried: (-carried[0], carried[1]))
                topics = Counter(topic for topic, _ in self.loads)
                told = [
                    self._hot_sentence(partition, carried / total, what, topics[partition[0]] == 1)
                    for carried, partition in hot[:HOT_TOLD]
                ]
                if len(hot) > HOT_TOLD:
                    told[-1] += f"; so it is with {in_words(len(hot) - HOT_TOLD)} more"
                return told
        return []

    def _hot_sentence(self, partition: TopicPartition, share: float, what: str, alone: bool) -> str:
        cure = "its topic needs more partitions" if alone else "its keys must be spread"
        key = self.hot_key(partition)
        keyed = "" if key is None else f", {key.share:.0%} of its records have {key.name}"
        return f"{_name(partition)} carries {share:.0%} of the {what}{keyed}: more members will not help, {cure}"

    def _busy_member(self) -> list[str]:
        """A member with much more traffic than others that its number of partitions does not explain."""
        by_count = _skew([member.partitions for member in self.members]) or 1.0
        for what, quiet, of in _MEASURES:
            carried = [(of(member), member) for member in self.members]
            total = sum(amount for amount, _ in carried)
            skew = _skew([amount for amount, _ in carried])
            if skew is None or total < quiet or skew < UNEVEN_LOAD or skew < by_count * HOT:
                continue
            amount, member = max(carried, key=lambda one: one[0])
            return [
                f"member {member.member_id} carries {amount / total:.0%} of the {what} with {member.partitions:,} of "
                f"{counted(len(self.loads), 'partition')}: the busy ones are together"
            ]
        return []

    # --- by number of partitions -------------------------------------------------------------------------------------

    def _loads_are_even(self) -> bool:
        """Whether the members' traffic is even, and high enough to tell."""
        for _, quiet, of in _MEASURES:
            carried = [of(member) for member in self.members]
            if sum(carried) < quiet or (_skew(carried) or 1.0) >= UNEVEN:
                return False
        return True

    def _uneven_counts(self) -> list[str]:
        members, partitions = len(self.members), len(self.loads)
        counts = [member.partitions for member in self.members]
        largest, smallest = max(counts), min(counts)
        if members > partitions or largest * members < UNEVEN * sum(counts) or self._loads_are_even():
            return []
        topics = Counter(topic for topic, _ in self.loads)
        of_topics = f" of {in_words(len(topics))} topics" if len(topics) > 1 else ""
        what = f"{counted(partitions, 'partition')}{of_topics} over {counted(members, 'member')}"
        at_most = counts.count(largest)
        most = f"{in_words(at_most)} {'carries' if at_most == 1 else 'carry'} {largest:,}"
        if largest - smallest <= 1:
            return [f"{what}: {most}{_even_numbers(members, partitions, len(topics))}"]
        at_least = counts.count(smallest)
        if smallest:
            least = f"{in_words(at_least)} {'carries' if at_least == 1 else 'carry'} {smallest:,}"
        else:
            least = f"{in_words(at_least)} {'has' if at_least == 1 else 'have'} nothing to do"
        low, high = partitions // members, -(-partitions // members)
        each = f"{low:,} each" if low == high else f"{low:,} or {high:,} each"
        if len(topics) == 1:
            return [f"{what}: {most}, {least}; {each} would be even"]
        # The range assignor assigns each topic separately, always beginning with the same members.
        even = _divisors_near(members, gcd(*topics.values()))
        or_members = f"; {_either(even)} would be even with any" if even else ""
        return [
            f"{what}: {most}, {least}; an assignor that sees all topics at once (cooperative-sticky) would give "
            f"{each}{or_members}"
        ]


def _name(partition: TopicPartition) -> str:
    return f"partition {partition[1]} of {partition[0]}"


def _divisors_near(members: int, partitions: int) -> list[int]:
    """The nearest smaller and the nearest larger number of members that divides the partitions evenly, except 1."""
    smaller = next((n for n in range(members - 1, max(1, (members - 1) // NEAR), -1) if partitions % n == 0), 0)
    larger = next((n for n in range(members + 1, min(members * NEAR, partitions) + 1) if partitions % n == 0), 0)
    return [n for n in (smaller, larger) if n]


def _even_numbers(members: int, partitions: int, topics: int) -> str:
    near = _divisors_near(members, partitions)
    if near:
        return f"; {_either(near)} would be even"
    if topics > 1:
        return ""
    return f"; {-(-partitions // members) * members:,} partitions would be even, but keys would move"


def _either(numbers: list[int]) -> str:
    return f"{' or '.join(f'{n:,}' for n in numbers)} members"
