"""Balance: groups whose skew is known, and what they are told."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odradek.insight.balance import ADVICE_MAX, Balance, Load, balance_of
from odradek.topic_partition import TopicPartition


def partitions(topic: str, count: int) -> list[TopicPartition]:
    return [(topic, index) for index in range(count)]


def dealt(all_partitions: list[TopicPartition], members: int) -> dict[str, list[TopicPartition]]:
    """One after the other, as the round robin assignor does."""
    return {f"c-{n}": all_partitions[n::members] for n in range(members)}


def ranges(topics: dict[str, int], members: int) -> dict[str, list[TopicPartition]]:
    """As the range assignor does: by topic, the first members have one more."""
    assignment: dict[str, list[TopicPartition]] = {f"c-{n}": [] for n in range(members)}
    for topic, count in topics.items():
        at = 0
        for n in range(members):
            width = count // members + (n < count % members)
            assignment[f"c-{n}"] += [(topic, index) for index in range(at, at + width)]
            at += width
    return assignment


def silent(all_partitions: list[TopicPartition]) -> dict[TopicPartition, Load]:
    return dict.fromkeys(all_partitions, Load())


def even(all_partitions: list[TopicPartition]) -> dict[TopicPartition, Load]:
    return dict.fromkeys(all_partitions, Load(1000, 100_000))


def of_bytes(topic: str, *bytes_per_s: float) -> dict[TopicPartition, Load]:
    return {(topic, index): Load(100, size) for index, size in enumerate(bytes_per_s)}


def test_an_even_group_has_sums_and_no_advice() -> None:
    orders = partitions("orders", 12)
    balance = balance_of(dealt(orders, 4), even(orders))
    assert [(m.member_id, m.partitions, m.records_per_s, m.bytes_per_s) for m in balance.members] == [
        (f"c-{n}", 3, 3000, 300_000) for n in range(4)
    ]
    assert (balance.partition_skew, balance.record_skew, balance.byte_skew) == (1, 1, 1)
    assert (balance.partitions, balance.unassigned, balance.advice) == (12, (), ())


def test_nothing_at_all() -> None:
    assert balance_of({}, {}) == Balance((), 0, (), None, None, None, ())
    assert balance_of({"c-0": []}, {}).advice == ()


def test_no_members() -> None:
    balance = balance_of({}, silent(partitions("orders", 12)))
    assert balance.partition_skew is None and balance.byte_skew is None
    assert balance.advice == ("no members: nobody reads 12 partitions",)


def test_one_member_is_even_whatever_it_carries() -> None:
    loads = of_bytes("orders", 1_000_000, 0, 0, 10)
    balance = balance_of(dealt(list(loads), 1), loads)
    assert (balance.partition_skew, balance.byte_skew, balance.advice) == (1, 1, ())


@pytest.mark.parametrize("loads_of", [silent, even])
@pytest.mark.parametrize(
    ("count", "members", "advice"),
    [
        (12, 5, "12 partitions over 5 members: two carry 3; 4 or 6 members would be even"),
        (12, 7, "12 partitions over 7 members: five carry 2; 6 or 12 members would be even"),
        (5, 4, "5 partitions over 4 members: one carries 2; 5 members would be even"),
        (3, 2, "3 partitions over 2 members: one carries 2; 3 members would be even"),
        (40, 27, "40 partitions over 27 members: 13 carry 2; 20 or 40 members would be even"),
        (13, 5, "13 partitions over 5 members: three carry 3; 15 partitions would be even, but keys would move"),
        (5, 2, "5 partitions over 2 members: one carries 3; 6 partitions would be even, but keys would move"),
    ],
)
def test_numbers_that_do_not_divide(
    loads_of: Callable[[list[TopicPartition]], dict[TopicPartition, Load]], count: int, members: int, advice: str
) -> None:
    orders = partitions("orders", count)
    assert balance_of(dealt(orders, members), loads_of(orders)).advice == (advice,)


@pytest.mark.parametrize(("count", "members"), [(12, 4), (12, 12), (100, 9), (10_000, 7), (1, 1)])
def test_numbers_that_divide_or_nearly(count: int, members: int) -> None:
    orders = partitions("orders", count)
    assert balance_of(dealt(orders, members), even(orders)).advice == ()


def test_uneven_numbers_of_even_loads_are_fine() -> None:
    # 2, 1 and 1 partitions: but each member carries 100 records and 200 kB a second.
    loads = {
        ("orders", 0): Load(50, 100_000),
        ("orders", 1): Load(100, 200_000),
        ("orders", 2): Load(100, 200_000),
        ("orders", 3): Load(50, 100_000),
    }
    assert balance_of(dealt(list(loads), 3), loads).advice == ()


@pytest.mark.parametrize(
    ("members", "advice"),
    [
        (7, "7 members for 4 partitions: three have nothing to do"),
        (5, "5 members for 4 partitions: one has nothing to do"),
        (30, "30 members for 4 partitions: 26 have nothing to do"),
    ],
)
def test_more_members_than_partitions(members: int, advice: str) -> None:
    orders = partitions("orders", 4)
    balance = balance_of(dealt(orders, members), even(orders))
    assert balance.advice == (advice,)
    assert balance.partition_skew == pytest.approx(members / 4)


def test_more_members_than_the_one_partition() -> None:
    assert balance_of(dealt([("orders", 0)], 2), even([("orders", 0)])).advice == (
        "2 members for 1 partition: one has nothing to do",
    )


def test_a_hot_partition() -> None:
    loads = of_bytes("orders", 13_000, 13_000, 13_000, 61_000)
    balance = balance_of(dealt(list(loads), 2), loads)
    # c-1 has 13 and 61 of 100, where 50 would be the mean.
    assert balance.byte_skew == pytest.approx(74 / 50)
    assert balance.record_skew == 1
    assert balance.advice == (
        "partition 3 of orders carries 61% of the bytes: more members will not help, its keys must be spread",
    )


def test_a_hot_topic_of_one_partition() -> None:
    loads = {**of_bytes("orders", 10_000, 10_000, 10_000), **of_bytes("audit", 90_000)}
    assert balance_of(dealt(list(loads), 4), loads).advice == (
        "partition 0 of audit carries 75% of the bytes: more members will not help, its topic needs more partitions",
    )


def test_a_partition_hot_by_records() -> None:
    loads = {("orders", n): Load(9000 if n == 1 else 100, 50_000) for n in range(4)}
    assert balance_of(dealt(list(loads), 4), loads).advice == (
        "partition 1 of orders carries 97% of the records: more members will not help, its keys must be spread",
    )


def test_many_hot_partitions_are_not_all_named() -> None:
    loads = of_bytes("orders", *(100_000.0,) * 6, *(100.0,) * 34)
    advice = balance_of(dealt(list(loads), 20), loads).advice
    assert len(advice) == 3
    assert advice[0].startswith("partition 0 of orders carries 17% of the bytes")
    assert advice[2].endswith("its keys must be spread; so it is with three more")


def test_a_hot_partition_of_next_to_nothing_is_not_worth_a_word() -> None:
    loads = {("orders", n): Load(0.5 if n == 1 else 0, 200 if n == 1 else 0) for n in range(4)}
    balance = balance_of(dealt(list(loads), 2), loads)
    assert balance.advice == () and balance.byte_skew == 2


def test_busy_partitions_with_one_member() -> None:
    loads = of_bytes("orders", *(30_000, 1_000, 1_000, 1_000) * 4)
    advice = balance_of(dealt(list(loads), 4), loads).advice
    # c-0 has partitions 0, 4, 8 and 12: 120 of 132, none of them more than 30.
    assert advice == ("member c-0 carries 91% of the bytes with 4 of 16 partitions: the busy ones are together",)


def test_partitions_that_nobody_has() -> None:
    orders = partitions("orders", 6)
    assignment = {"c-0": orders[:2], "c-1": orders[2:4]}
    balance = balance_of(assignment, even(orders))
    assert balance.unassigned == (("orders", 4), ("orders", 5)) and balance.partitions == 6
    assert balance.advice == ("partition 4 of orders and one more are read by nobody",)
    assert balance_of({**assignment, "c-2": orders[4:5], "c-3": []}, even(orders)).advice[0] == (
        "partition 5 of orders is read by nobody"
    )


def test_a_group_that_rebalances() -> None:
    assert balance_of({"c-0": [], "c-1": []}, silent(partitions("orders", 3))).advice == (
        "3 partitions: assigned to nobody, as while a group rebalances",
    )


def test_several_topics_dealt_out_together() -> None:
    both = partitions("orders", 12) + partitions("payments", 6)
    assert balance_of(dealt(both, 5), even(both)).advice == (
        "18 partitions of two topics over 5 members: three carry 4; 3 or 6 members would be even",
    )
    both = partitions("orders", 12) + partitions("payments", 7)
    # 4 where 3.8 is the mean.
    assert balance_of(dealt(both, 5), even(both)).advice == ()
    both = partitions("orders", 12) + partitions("payments", 5)
    assert balance_of(dealt(both, 5), even(both)).advice == ("17 partitions of two topics over 5 members: two carry 4",)


def test_several_topics_dealt_out_one_by_one() -> None:
    topics = {"a": 5, "b": 5, "c": 5}
    assignment = ranges(topics, 4)
    assert [len(own) for own in assignment.values()] == [6, 3, 3, 3]
    advice = balance_of(assignment, even([one for own in assignment.values() for one in own])).advice
    assert advice == (
        "15 partitions of three topics over 4 members: one carries 6, three carry 3; an assignor that sees all "
        "topics at once (cooperative-sticky) would give 3 or 4 each; 5 members would be even with any",
    )


def test_several_topics_that_leave_members_idle() -> None:
    assignment = ranges({"a": 4, "b": 4, "c": 4}, 6)
    advice = balance_of(assignment, {}).advice
    assert advice == (
        "12 partitions of three topics over 6 members: four carry 3, two have nothing to do; an assignor that sees all "
        "topics at once (cooperative-sticky) would give 2 each; 4 members would be even with any",
    )


def test_one_topic_dealt_out_unevenly() -> None:
    orders = partitions("orders", 8)
    assert balance_of({"c-0": orders[:6], "c-1": orders[6:]}, even(orders)).advice == (
        "8 partitions over 2 members: one carries 6, one carries 2; 4 each would be even",
    )


def test_ten_thousand_partitions() -> None:
    loads = {("orders", n): Load(n % 7, n % 11 * 100) for n in range(10_000)}
    balance = balance_of(dealt(list(loads), 64), loads)
    assert balance.partitions == 10_000 and len(balance.members) == 64 and len(balance.advice) <= ADVICE_MAX
    assert sum(member.bytes_per_s for member in balance.members) == sum(load.bytes_per_s for load in loads.values())


@given(
    assigned=st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), max_size=12), max_size=12),
    loads=st.dictionaries(
        st.tuples(st.sampled_from("abc"), st.integers(0, 9)),
        st.builds(Load, st.floats(0, 1e9), st.floats(0, 1e9)),
        max_size=30,
    ),
)
def test_whatever_is_assigned(assigned: list[list[TopicPartition]], loads: dict[TopicPartition, Load]) -> None:
    balance = balance_of({f"c-{n}": own for n, own in enumerate(assigned)}, loads)
    for skew in (balance.partition_skew, balance.record_skew, balance.byte_skew):
        assert skew is None or 1 - 1e-9 <= skew <= len(assigned) + 1e-9
    assert len(balance.advice) <= ADVICE_MAX and all("\n" not in line for line in balance.advice)


@given(each=st.integers(1, 20), members=st.integers(1, 20))
def test_what_divides_evenly_needs_no_advice(each: int, members: int) -> None:
    orders = partitions("orders", each * members)
    assert balance_of(dealt(orders, members), even(orders)).advice == ()
