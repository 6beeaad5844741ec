"""Transactions in every version and state: answers, logs and what consumers see equal Apache Kafka's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import pytest

from odradek.patterns import has_re2
from odradek.protocol.registry import BY_NAME
from tests.handlers.comparison import Plain, differences, numbered
from tests.handlers.group_peer import Brokers
from tests.handlers.txn_peer import NOW_MS, TxnPeer, without_producer_ids

Compare = Callable[[Callable[[TxnPeer], Plain]], Plain]
VERSIONS = {name: range(api.served.first, api.served.last + 1) for name, api in BY_NAME.items()}
OLD_PRODUCE, NEW_PRODUCE = 11, 12
OLD_END, NEW_END = 4, 5


@pytest.fixture
def compare(group_brokers: Brokers) -> Iterator[Compare]:
    """Runs a scenario against Kafka and against this broker; equal results are returned."""
    with (
        TxnPeer(group_brokers.kafka_port, is_kafka=True) as kafka,
        TxnPeer(group_brokers.port, is_kafka=False) as here,
    ):

        def run(scenario: Callable[[TxnPeer], Plain]) -> Plain:
            theirs = numbered(without_producer_ids(scenario(kafka), {}))
            ours = numbered(without_producer_ids(scenario(here), {}))
            assert not (different := differences(theirs, ours)), "\n".join(different)
            return ours

        yield run


# --- producers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS["InitProducerId"])
def test_producers_begin(compare: Compare, version: int) -> None:
    name = f"begins-{version}"

    def scenario(peer: TxnPeer) -> Plain:
        peer.until_found(name)
        first = peer.init(name, version=version)
        answers = [first, peer.init(name, version=version), peer.init("", version=version)]
        answers += [peer.init(name, timeout_ms=timeout_ms, version=version) for timeout_ms in (0, -1, 900_001, 900_000)]
        if version >= 3:
            own = first["producer_id"]
            # What it had (KIP-360), asked again, older, another's, half of it.
            for expected in ((own, 2), (own, 2), (own, 0), (own + 1000, 3), (own, -1), (-1, 3), (own, 4), (own, 3)):
                answers.append(peer.init(name, expected=expected, version=version))
            answers.append(peer.init(f"{name}-unknown", expected=(own, 2), version=version))
        answers.append(peer.init(name, version=version))
        return answers

    compare(scenario)


@pytest.mark.parametrize("commit", [True, False])
@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_transactions_of_the_first_version(compare: Compare, version: int, commit: bool) -> None:
    name = f"first-{version}-{commit}"

    def scenario(peer: TxnPeer) -> Plain:
        peer.make_topics(**{name: 2})
        pid, epoch = producer = peer.begin(name)
        answers = [
            {"producer_id": pid, "epoch": epoch},
            peer.end(name, producer, commit, version),
            peer.write(name, producer, 0, name, OLD_PRODUCE),  # before its partition is added
            peer.add(name, producer, {name: [0, 7], "no-such-topic": [0]}, version),
            peer.add(name, (pid + 1000, epoch), {name: [0]}, version),
            peer.add(name, (pid, epoch + 1), {name: [0]}, version),
            peer.add(f"{name}-unknown", producer, {name: [0]}, version),
            peer.add("", producer, {name: [0]}, version),
            peer.add(name, producer, {name: [0]}, version),
            peer.add(name, producer, {name: [0]}, version),
            peer.described(name),
            peer.write(name, producer, 0, name, OLD_PRODUCE),
            peer.write(name, producer, 0, name, OLD_PRODUCE),  # a repetition
            peer.write(name, producer, 1, name, 3),
            peer.write(name, producer, 3, name, OLD_PRODUCE),  # a gap
            peer.write(name, producer, 2, None, OLD_PRODUCE),
            peer.write(name, producer, 2, name, OLD_PRODUCE, transactional=False),
            peer.write(name, producer, 0, name, OLD_PRODUCE, partition=1),
            peer.producers(name),
            peer.read(name, True),
            peer.read(name, False),
            peer.latest(name, True),
            peer.latest(name, False),
            peer.latest(name, True, timestamp=NOW_MS),
            peer.end(name, (pid + 1000, epoch), commit, version),
            peer.end(name, (pid, epoch + 1), commit, version),
            peer.end(f"{name}-unknown", producer, commit, version),
            peer.end("", producer, commit, version),
            peer.end(name, producer, commit, version),
        ]
        peer.until_stable(name, 3)
        peer.until_described(name, "CompleteCommit" if commit else "CompleteAbort")
        answers += [
            peer.end(name, producer, commit, version),
            peer.end(name, producer, not commit, version),
            peer.described(name),
            peer.read(name, True),
            peer.read(name, True, offset=2),
            peer.read(name, False),
            peer.producers(name),
            peer.add(name, producer, {name: [0]}, version),
            peer.write(name, producer, 2, name, OLD_PRODUCE),
            peer.end(name, producer, not commit, version),
        ]
        peer.until_stable(name, 5)
        answers += [peer.read(name, True), peer.latest(name, True), peer.latest(name, False)]
        return answers

    compare(scenario)


@pytest.mark.parametrize("commit", [True, False])
@pytest.mark.parametrize("version", [12, 13])
def test_transactions_of_the_second_version(compare: Compare, version: int, commit: bool) -> None:
    name = f"second-{version}-{commit}"

    def scenario(peer: TxnPeer) -> Plain:
        peer.make_topics(**{name: 2})
        pid, epoch = producer = peer.begin(name)
        answers = [
            peer.end(name, producer, True, NEW_END),  # nothing was written
            peer.write(name, (pid, epoch + 1), 0, name, version),
            peer.write(name, (pid + 1000, epoch), 0, name, version),
            peer.write(name, producer, 0, f"{name}-unknown", version),
            peer.write(name, producer, 0, None, version),
            peer.write(name, producer, 0, name, version),
            peer.write(name, producer, 1, name, version),
            peer.write(name, producer, 1, name, version),
            peer.described(name),
            peer.producers(name),
            peer.read(name, True),
            peer.end(name, (pid, epoch + 1), commit, NEW_END),
            peer.end(name, (pid + 1000, epoch), commit, NEW_END),
            peer.end(name, producer, commit, NEW_END),
        ]
        peer.until_described(name, "CompleteCommit" if commit else "CompleteAbort")
        peer.until_stable(name, 3)
        answers += [
            peer.end(name, producer, commit, NEW_END),  # the answer was lost
            peer.end(name, producer, not commit, NEW_END),
            peer.write(name, producer, 2, name, version),  # late
            peer.described(name),
            peer.producers(name),
            peer.read(name, True),
            peer.read(name, False),
        ]
        raised = pid, epoch + 1
        answers += [
            peer.write(name, raised, 3, name, version),  # sequences begin anew
            peer.write(name, raised, 0, name, version),
            peer.end(name, producer, commit, NEW_END),  # late: it must not hit this one
            peer.end(name, raised, not commit, NEW_END),
        ]
        peer.until_stable(name, 5)
        peer.until_described(name, "CompleteAbort" if commit else "CompleteCommit")
        again = pid, epoch + 2
        answers += [
            peer.read(name, True),
            peer.end(name, again, False, NEW_END),  # nothing was written
            peer.until_described(name, "CompleteAbort"),
            peer.end(name, again, False, NEW_END),
            peer.end(name, (pid, epoch + 3), True, NEW_END),
            peer.described(name),
        ]
        return answers

    compare(scenario)


@pytest.mark.parametrize("again", [OLD_END, NEW_END])
@pytest.mark.parametrize("version", [OLD_END, NEW_END])
def test_an_end_behind_one_that_is_being_completed(compare: Compare, version: int, again: int) -> None:
    """Either way, by the epoch the producer had, and the one that it has from the first: what it comes to is what a
    complete transaction makes of it."""

    def scenario(peer: TxnPeer) -> Plain:
        topic = f"behind-{version}-{again}"
        peer.make_topics(**{topic: 40})
        answers: list[Plain] = []
        for first, second in product((True, False), repeat=2):
            for risen in (0, 1):
                name = f"{topic}-{first}-{second}-{risen}"
                pid, epoch = producer = peer.begin(name)
                answers += [
                    peer.add(name, producer, {topic: range(40)}),
                    peer.end_twice(name, producer, (first, version), (pid, epoch + risen), (second, again)),
                ]
                is_commit = first if answers[-1][1]["error_code"] else second
                answers.append(peer.until_described(name, "CompleteCommit" if is_commit else "CompleteAbort"))
                answers[-1]["transaction_start_time_ms"] = 0
        return answers

    compare(scenario)


def test_who_begins_fences_who_had_begun(compare: Compare) -> None:
    def scenario(peer: TxnPeer) -> Plain:
        peer.make_topics(fenced=2)
        old = peer.begin("fenced")
        answers = [peer.write("fenced", old, 0, "fenced", NEW_PRODUCE)]
        new = peer.begin("fenced")
        peer.until_stable("fenced", 2)
        answers += [
            {"producer_id": new[0], "epochs": new[1] - old[1]},
            peer.described("fenced"),
            peer.write("fenced", old, 1, "fenced", NEW_PRODUCE),
            peer.write("fenced", old, 1, "fenced", OLD_PRODUCE),
            peer.add("fenced", old, {"fenced": [0]}),
            peer.add("fenced", old, {"fenced": [0]}, version=1),
            peer.end("fenced", old, True, OLD_END),
            peer.end("fenced", old, True, 1),
            peer.end("fenced", old, True, NEW_END),
            peer.init("fenced", expected=old),
            peer.init("fenced", expected=old, version=3),
            peer.read("fenced", True),
            peer.write("fenced", new, 0, "fenced", NEW_PRODUCE),
        ]
        return answers

    compare(scenario)


@pytest.mark.parametrize("version", [4, 5])
def test_brokers_add_and_verify_for_producers(compare: Compare, version: int) -> None:
    name = f"verified-{version}"

    def scenario(peer: TxnPeer) -> Plain:
        peer.make_topics(**{name: 2})
        pid, epoch = producer = peer.begin(name)

        def ask(verify_only: bool, who: tuple[int, int] = producer, partitions: tuple[int, ...] = (0,)) -> Plain:
            return peer.add_as_broker(name, who, {name: partitions}, verify_only, version)

        return [
            ask(True),
            ask(False),
            ask(True),
            ask(True, partitions=(0, 1)),
            ask(True, (pid, epoch + 1)),
            ask(True, (pid + 1000, epoch)),
            ask(False, (pid, epoch + 1)),
            ask(False, partitions=(1, 9)),
            peer.described(name),
        ]

    compare(scenario)


# --- offsets in transactions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("commit", [True, False])
@pytest.mark.parametrize("version", VERSIONS["TxnOffsetCommit"])
def test_offsets_in_transactions(compare: Compare, version: int, commit: bool) -> None:
    name = f"offsets-{version}-{commit}"

    def scenario(peer: TxnPeer) -> Plain:
        ids = peer.make_topics(**{name: 2})
        topic: str | bytes = ids[name] if version >= 6 else name
        unknown: str | bytes = bytes(range(16)) if version >= 6 else "no-such-topic"
        peer.until_served(name)
        producer = peer.begin(name)
        pid, epoch = producer
        end_version = NEW_END if version >= 5 else OLD_END

        def write(offset: int, who: tuple[int, int] = producer, **more: object) -> Plain:
            return peer.commit_in(name, who, name, {topic: {0: offset}}, version=version, **more)  # type: ignore[arg-type]

        answers: list[Plain] = [peer.commit(name, {name: {0: 5}}, version=9)]
        if version < 5:
            answers += [write(7), peer.add_offsets(name, producer, name, min(version, 3))]
        answers += [
            write(10),
            peer.commit_in(name, producer, name, {topic: {1: 3, 7: 1}, unknown: {0: 1}}, version=version),
            peer.commit_in(name, producer, name, {topic: {}}, version=version),
            peer.fetch_offsets(name, None),
            peer.fetch_offsets(name, None, require_stable=True),
            write(10, (pid, epoch + 1)),
            write(10, (pid + 1000, epoch)),
        ]
        if version >= 3:
            answers += [write(11, generation=3), write(11, member="who", generation=-1), write(11, instance="x")]
        answers += [peer.end(name, producer, commit, end_version)]
        peer.until_described(name, "CompleteCommit" if commit else "CompleteAbort")
        answers += [
            peer.fetch_offsets(name, None, require_stable=True),
            write(12),
            peer.fetch_offsets(name, None, require_stable=True),
            peer.described(name),
        ]
        return answers

    compare(scenario)


@pytest.mark.parametrize("version", range(3, VERSIONS["TxnOffsetCommit"].stop))
def test_offsets_of_a_group_that_does_not_exist(compare: Compare, version: int) -> None:
    """A member of an unknown group is told so from version 6 on."""
    name = f"nobody-{version}"
    members: list[tuple[int, str, str | None]] = [
        (3, "who", None),
        (3, "", None),
        (0, "who", "instance"),
        (-1, "who", None),
        (-1, "", "instance"),
        (-1, "", None),
    ]

    def scenario(peer: TxnPeer) -> Plain:
        ids = peer.make_topics(**{name: 1})
        topic: str | bytes = ids[name] if version >= 6 else name
        producer = peer.begin(name)
        answers = []
        for number, (generation, member, instance) in enumerate(members):
            group = f"{name}-{number}"
            peer.until_served(group)
            if version < 5:
                peer.add_offsets(name, producer, group)
            more = {"member": member, "generation": generation, "instance": instance, "version": version}
            answers.append(peer.commit_in(name, producer, group, {topic: {0: 1}}, **more))  # type: ignore[arg-type]
        peer.end(name, producer, False, OLD_END)
        return answers

    answers = compare(scenario)
    codes = [answer["topics"][0]["partitions"][0]["error_code"] for answer in answers]
    assert codes == [69 if version >= 6 else 22] * 3 + [0] * 3


@pytest.mark.parametrize("version", VERSIONS["AddOffsetsToTxn"])
def test_groups_are_added(compare: Compare, version: int) -> None:
    name = f"added-{version}"

    def scenario(peer: TxnPeer) -> Plain:
        peer.until_served(name)
        pid, epoch = producer = peer.begin(name)
        return [
            peer.add_offsets(name, producer, name, version),
            peer.add_offsets(name, (pid, epoch + 1), name, version),
            peer.add_offsets(name, (pid + 1000, epoch), name, version),
            peer.add_offsets("", producer, name, version),
            peer.add_offsets(f"{name}-unknown", producer, name, version),
            peer.described(name),
        ]

    compare(scenario)


def test_an_ordinary_commit_between(compare: Compare) -> None:
    """It came later than the one in the transaction, and stays."""

    def scenario(peer: TxnPeer) -> Plain:
        peer.make_topics(between=2)
        peer.until_served("between")
        producer = peer.begin("between")
        answers = [
            peer.commit_in("between", producer, "between", {"between": {0: 10, 1: 10}}),
            peer.commit("between", {"between": {0: 20}}),
            peer.end("between", producer, True, NEW_END),
        ]
        peer.until_described("between", "CompleteCommit")
        return [*answers, peer.fetch_offsets("between", None, require_stable=True)]

    compare(scenario)


# --- administrators ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS["ListTransactions"])
def test_transactions_are_listed(compare: Compare, version: int) -> None:
    prefix = f"listed-{version}-"

    def scenario(peer: TxnPeer) -> Plain:
        peer.make_topics(listed=2)
        peer.begin(f"{prefix}empty")
        pid, _ = ongoing = peer.begin(f"{prefix}ongoing")
        peer.write("listed", ongoing, 0, f"{prefix}ongoing", NEW_PRODUCE)
        filters: list[dict[str, object]] = [
            {},
            {"state_filters": ["Ongoing"]},
            {"state_filters": ["Empty", "Nonsense"]},
            {"state_filters": ["Nonsense"]},
            {"producer_id_filters": [pid]},
            {"producer_id_filters": [pid], "state_filters": ["Empty"]},
        ]
        if version >= 1:
            filters += [{"duration_filter": 0}, {"duration_filter": 100_000_000}]
        if version >= 2:
            patterns = (f"{prefix}.*", "listed", f"{prefix}(empty|other)", "(", "")
            filters += [{"transactional_id_pattern": pattern} for pattern in patterns]
        answers = [peer.all(prefix, version, **one) for one in filters]
        peer.end(f"{prefix}ongoing", ongoing, False, NEW_END)
        return answers

    compare(scenario)


@pytest.mark.skipif(not has_re2(), reason="needs google-re2")
def test_patterns_are_those_of_re2(compare: Compare) -> None:
    patterns = [
        *("a" * 60, "a+", "a*" * 20 + "b", "a*" * 20, "(a*)*b", "a{60}", "a{61}", "a{1000}", "a{1001}", "a{60,}"),
        *("(" * 3000, ")", "[", "[a", "(?=a)a", "(?!b)a*", r"(a)\1*", "a*+", "(?i)A*", "(?P<n>a)*", "(?<n>a)*"),
        *(r"\Aa*\z", r"a*\Z", "^a*$", r"\Qa\Ea*", r"aaaa-\pL", "aaaa-.", r"aaaa-\w", "aaaa-[^x]", "[[:alpha:]]*"),
        *("a{99999999999999999999}", "a{,60}", "(?:a{30}){2}", "|a*", "a**", "a*?"),
    ]

    def scenario(peer: TxnPeer) -> Plain:
        peer.begin("a" * 60)
        peer.begin("aaaa-é")
        return [[pattern, peer.all("aaaa", 2, transactional_id_pattern=pattern)] for pattern in patterns]

    compare(scenario)


def test_transactions_are_described(compare: Compare) -> None:
    def scenario(peer: TxnPeer) -> Plain:
        peer.begin("described")
        return peer.described("described", "no-such-id", "")

    compare(scenario)


@pytest.mark.parametrize("commit", [True, False])
@pytest.mark.parametrize("version", VERSIONS["WriteTxnMarkers"])
def test_markers_are_written(compare: Compare, version: int, commit: bool) -> None:
    name = f"marked-{version}-{commit}"

    def scenario(peer: TxnPeer) -> Plain:
        peer.make_topics(**{name: 2})
        pid, epoch = producer = peer.begin(name)
        answers = [
            peer.write(name, producer, 0, name, NEW_PRODUCE),
            peer.mark((pid, epoch), "no-such-topic", commit, 0, version),
            peer.mark((pid, epoch), name, commit, 0, version, partition=9),
            peer.mark((pid, epoch), name, commit, 5, version),
        ]
        peer.until_stable(name, 2)
        answers += [
            peer.read(name, True),
            peer.producers(name),
            peer.mark((pid, epoch), name, commit, 4, version),  # an older coordinator's
            peer.read(name, False),
        ]
        return answers

    compare(scenario)
