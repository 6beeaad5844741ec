"""Classic groups, every request in every version and state: the answers equal Apache Kafka's.

Deviations are spelled out at the end. Member ids are compared by the order in which they are met.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from odradek.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from odradek.protocol.registry import BY_NAME
from tests.handlers.comparison import Plain, differences
from tests.handlers.group_peer import Brokers, GroupPeer, Pending

Compare = Callable[[Callable[[GroupPeer], Plain]], Plain]
VERSIONS = {name: range(api.served.first, api.served.last + 1) for name, api in BY_NAME.items()}
RANGE: dict[str, Any] = {"kind": "consumer", "protocol": "range"}
OTHER = [("roundrobin", b"other")]
CHANGED = [("range", b"changed")]


def stable(peer: GroupPeer, group: str, **more: Any) -> str:
    """A group of one member in generation 1; the member's id."""
    member = str(peer.join(group, version=3, **more)["member_id"])
    assert peer.sync(group, 1, member, {member: b"assigned"}, version=4)["error_code"] == 0
    return member


def second(peer: GroupPeer, group: str, first: str, **more: Any) -> tuple[Plain, Plain]:
    """A second member joins, the first joins again: what they are answered."""
    waiting = peer.join_later(group, version=3, protocols=[("range", b"n")], **more)
    peer.until_state(group, "PreparingRebalance")
    return peer.join(group, first), waiting.answer()


def pair(peer: GroupPeer, group: str) -> tuple[str, str]:
    """A group of two in generation 2, Stable; the ids of the leader and of the other."""
    leader = stable(peer, group)
    _, joined = second(peer, group, leader)
    follower = joined["member_id"]
    assert peer.sync(group, 2, leader, {leader: b"to-m", follower: b"to-n"}, version=4)["error_code"] == 0
    return leader, follower


# --- before there is a coordinator, and where it is -------------------------------------------------------------------


def test_before_there_is_a_coordinator(compare: Compare, group_brokers: Brokers) -> None:
    assert group_brokers.before is not None
    assert not (different := differences(*group_brokers.before)), "\n".join(different)
    assert group_brokers.before[1]["heartbeats"][0]["error_code"] == 16


@pytest.mark.parametrize("version", VERSIONS["FindCoordinator"])
def test_find_coordinator(compare: Compare, version: int) -> None:
    compare(lambda peer: [peer.find("group", version=version), peer.find("", version=version)])
    for kind in (3, -1, 100) if version else ():
        compare(lambda peer, kind=kind: peer.find("x", version=version, kind=kind))  # type: ignore[misc]
    if version >= 4:
        compare(lambda peer: peer.find("a", "", "b", "a", version=version))
        compare(lambda peer: peer.find(version=version))


@pytest.mark.parametrize("key", ["g", "", "g:x:0", "g:4qkAAAAAAAAAAAAAAAAAAA:x", ":4qkAAAAAAAAAAAAAAAAAAA:0"])
def test_no_coordinator_of_wrong_share_keys(compare: Compare, key: str) -> None:
    def scenario(peer: GroupPeer) -> Plain:
        (found,) = peer.find(key, kind=2)["coordinators"]
        # Only here the answer says why.
        assert bool(found.pop("error_message")) <= (not peer.is_kafka)
        return found

    assert compare(scenario)["error_code"] == 42


# --- joining ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS["JoinGroup"])
def test_joins_that_are_refused(compare: Compare, version: int) -> None:
    name = f"refused-{version}"

    def scenario(peer: GroupPeer) -> Plain:
        def join(group: str, member: str = "", **more: Any) -> Plain:
            return peer.join(group, member, version=version, **more)

        seen = [
            join(""),
            join("", session_ms=1),
            join(name, "who"),
            join(name, session_ms=499),
            join(name, session_ms=1_800_001),
            join(name, "who", session_ms=0),
            peer.describe(name),
            join(name, "who", kind=""),
            join(name, protocols=[]),
            join(name, kind=""),
        ]
        member = stable(peer, name)
        return [
            *seen,
            join(name, kind="connect"),
            join(name, protocols=OTHER),
            join(name, "who", protocols=OTHER),
            join(name, "who"),
            join(name, "who", kind=""),
            join(name, "who", protocols=[]),
            join(name, member, kind="connect"),
            peer.heartbeat(name, 1, member),
        ]

    compare(scenario)


@pytest.mark.parametrize("version", VERSIONS["JoinGroup"])
def test_the_life_of_a_group_of_one(compare: Compare, version: int) -> None:
    name = f"one-{version}"

    def scenario(peer: GroupPeer) -> Plain:
        seen = [answer := peer.join(name, version=version)]
        member = str(answer["member_id"])
        if version >= 4:
            # Whether the group is seen before anybody is in it is a matter of luck with Kafka.
            seen += [
                peer.heartbeat(name, 0, member),
                peer.heartbeat(name, -1, member),
                peer.sync(name, 0, member, **RANGE),
                peer.commit(name, {"one": {0: 1}}, member, 0),
                peer.commit(name, {"one": {0: 1}}, member),
                peer.join(name, member, version=version),
            ]
        return [
            *seen,
            peer.describe(name),
            peer.heartbeat(name, 1, member),
            peer.sync(name, 1, member, {member: b"all"}, version=min(version, 4)),
            peer.describe(name, operations=True),
            peer.listed(prefix=name),
            peer.join(name, member, version=version),
            peer.describe(name),
            peer.heartbeat(name, 1, member),
            peer.heartbeat(name, 2, member),
            peer.leave(name, member),
            peer.describe(name),
            peer.listed(prefix=name),
            peer.heartbeat(name, 2, member),
            peer.join(name, member, version=version),
            peer.join(name, version=3, kind="connect", protocols=OTHER),
            peer.describe(name),
        ]

    compare(scenario)


def test_a_member_that_has_its_id_but_has_not_joined(compare: Compare) -> None:
    """It can leave, and its id is forgotten with its group."""

    def scenario(peer: GroupPeer) -> Plain:
        ids = [str(peer.join(f"pending-{i}")["member_id"]) for i in range(2)]
        return [
            peer.leave("pending-0", ids[0]),
            peer.join("pending-0", ids[0]),
            peer.leave("pending-1", ids[1], version=0),
            peer.join("pending-1", ids[1]),
        ]

    compare(scenario)


def test_a_rebalance_waits_for_who_has_got_an_id(compare: Compare) -> None:
    def scenario(peer: GroupPeer) -> Plain:
        leader = stable(peer, "expected")
        ids = [str(peer.join("expected")["member_id"]) for _ in range(2)]
        waiting = peer.join_later("expected", leader, protocols=CHANGED)
        peer.until_state("expected", "PreparingRebalance")
        seen = [waiting.is_open(), peer.leave("expected", ids[0]), waiting.is_open()]
        return [*seen, peer.leave("expected", ids[1]), waiting.answer(), peer.describe("expected")]

    compare(scenario)


def test_rejoining(compare: Compare) -> None:
    def scenario(peer: GroupPeer) -> Plain:
        leader, follower = pair(peer, "again")
        seen = [peer.describe("again")]
        for version in VERSIONS["JoinGroup"]:
            # Nothing has changed for a follower: it is told what is.
            seen.append(peer.join("again", follower, protocols=[("range", b"n")], version=version))
        waiting = peer.join_later("again", follower, protocols=CHANGED)
        peer.until_state("again", "PreparingRebalance")
        seen += [peer.describe("again"), peer.join("again", leader), waiting.answer(), peer.describe("again")]
        # In the middle: unchanged, both are answered at once.
        seen += [peer.join("again", leader), peer.join("again", follower, protocols=CHANGED)]
        syncing = peer.sync_later("again", 3, follower, version=4)
        peer.until_state("again", "CompletingRebalance")
        assert syncing.is_open()
        waiting = peer.join_later("again", follower, protocols=[("range", b"n")])
        seen += [syncing.answer(), peer.join("again", leader), waiting.answer()]
        # Without the leader's word there is no assignment, but an empty one.
        seen += [peer.sync("again", 4, leader, {"nobody": b"x"}, version=4), peer.describe("again")]
        waiting = peer.join_later("again", leader)
        seen.append(waiting.is_open())
        peer.until_state("again", "PreparingRebalance")
        seen += [peer.join("again", follower, protocols=[("range", b"n")]), waiting.answer()]
        return seen

    compare(scenario)


def test_the_protocol_is_one_that_all_support(compare: Compare) -> None:
    votes = [[("a", b"1"), ("b", b"1"), ("c", b"1")], [("c", b"2"), ("b", b"2")], [("b", b"3"), ("c", b"3")]]

    def scenario(peer: GroupPeer) -> Plain:
        members = [stable(peer, "votes", protocols=votes[0])]
        seen: list[Plain] = []
        for i in (1, 2):
            waiting = [peer.join_later("votes", version=3, protocols=votes[i])]
            peer.until_state("votes", "PreparingRebalance")
            waiting += [peer.join_later("votes", members[k], protocols=votes[k]) for k in range(1, i)]
            while i == 2 and peer.heartbeat("votes", 2, members[1])["error_code"] == 27 and not waiting[1].is_open():
                pass
            seen += [peer.join("votes", members[0], protocols=votes[0]), *(one.answer() for one in waiting)]
            members.append(str(seen[-i]["member_id"]))
            seen.append(peer.sync("votes", i + 1, members[0], {}, version=4))
        seen.append(peer.describe("votes"))
        seen.append(peer.join("votes", protocols=[("b", b"")]))
        return seen

    compare(scenario)


def test_a_group_has_a_largest_size(compare: Compare) -> None:
    def scenario(peer: GroupPeer) -> Plain:
        leader, follower = pair(peer, "full")
        waiting = [peer.join_later("full", version=3, protocols=[("range", b"o")])]
        peer.until_state("full", "PreparingRebalance")
        waiting.append(peer.join_later("full", follower, protocols=[("range", b"n")]))
        assert waiting[1].is_open()
        seen = [peer.join("full", leader), *(one.answer() for one in waiting)]
        third = str(seen[1]["member_id"])

        def fourth() -> Plain:
            return [
                [peer.join("full", version=version) for version in VERSIONS["JoinGroup"]],
                peer.join("full", protocols=OTHER),
                peer.join("full", instance="i"),
                peer.join("full", "who"),
                peer.join("full", third, protocols=[("range", b"o")]),
            ]

        return [*seen, fourth(), peer.sync("full", 3, leader, version=4), fourth(), peer.leave("full", third)]

    def with_room(peer: GroupPeer) -> Plain:
        seen = scenario(peer)
        waiting = peer.join_later("full", version=3, protocols=[("range", b"p")])
        return [*seen, waiting.is_open()]

    compare(with_room)


# --- heartbeats and syncs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS["Heartbeat"])
def test_heartbeats(compare: Compare, version: int) -> None:
    name = f"beats-{version}"

    def scenario(peer: GroupPeer) -> Plain:
        member = stable(peer, name)

        def beats() -> Plain:
            return [
                peer.heartbeat(group, generation, who, instance, version=version)
                for group in (name, "no-such-group", "")
                for generation in (0, 1, 2, 3, -1)
                for who in (member, "who", "")
                for instance in ((None, "i") if version >= 3 else (None,))
            ]

        seen = [beats()]
        waiting = peer.join_later(name, version=3, protocols=[("range", b"n")])
        peer.until_state(name, "PreparingRebalance")
        seen += [beats(), peer.join(name, member), waiting.answer(), beats()]
        seen += [peer.sync(name, 2, member, version=4), beats(), peer.leave(name, member), beats()]
        return seen

    compare(scenario)


@pytest.mark.parametrize("version", VERSIONS["SyncGroup"])
def test_syncs(compare: Compare, version: int) -> None:
    name = f"syncs-{version}"
    protocols: list[dict[str, Any]] = [{}]
    if version >= 5:
        protocols += [
            RANGE,
            {"kind": "x", "protocol": "range"},
            {"kind": "consumer", "protocol": "x"},
            {"kind": "consumer"},
            {"protocol": "range"},
            {"kind": "", "protocol": ""},
        ]

    def scenario(peer: GroupPeer) -> Plain:
        member = stable(peer, name)

        def syncs(current: int) -> Plain:
            return [
                peer.sync(group, generation, who, {who: b"new"}, instance, version=version, **protocol)
                for group in (name, "no-such-group", "")
                for generation in (current, current + 1, -1)
                for who in (member, "who", "")
                for instance in ((None, "i") if version >= 3 else (None,))
                for protocol in protocols
            ]

        seen = [syncs(1), peer.describe(name)]
        waiting = peer.join_later(name, version=3, protocols=[("range", b"n")])
        peer.until_state(name, "PreparingRebalance")
        seen += [syncs(1), peer.join(name, member), answer := waiting.answer()]
        follower = answer["member_id"]
        waiting = peer.sync_later(name, 2, follower, version=version, **RANGE if version >= 5 else {})
        assert waiting.is_open()
        seen += [peer.heartbeat(name, 2, follower), syncs(2), waiting.answer(), peer.describe(name)]
        seen += [peer.leave(name, member, follower), syncs(2), syncs(3)]
        return seen

    compare(scenario)


def test_a_leader_gives_everyone_an_assignment(compare: Compare) -> None:
    def scenario(peer: GroupPeer) -> Plain:
        leader = stable(peer, "given")
        _, joined = second(peer, "given", leader)
        follower = joined["member_id"]
        waiting: Pending = peer.sync_later("given", 2, follower, {follower: b"a follower's wish"}, **RANGE)
        given = {leader: b"for the leader", follower: b"for the follower", "nobody": b"x"}
        return [
            waiting.is_open(),
            peer.sync("given", 2, leader, given, **RANGE),
            waiting.answer(),
            peer.sync("given", 2, follower, **RANGE),
            peer.sync("given", 2, leader, {leader: b"later"}, **RANGE),
            peer.describe("given"),
        ]

    answer = compare(scenario)
    assert answer[2]["assignment"] == b"for the follower"


# --- leaving ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS["LeaveGroup"])
def test_leaving(compare: Compare, version: int) -> None:
    name = f"leaves-{version}"

    def scenario(peer: GroupPeer) -> Plain:
        leader, follower = pair(peer, name)
        seen = [
            peer.leave("", "m", version=version),
            peer.leave("no-such-group", "m", version=version),
            peer.leave(name, "who", version=version),
            peer.leave(name, "", version=version),
            peer.describe(name),
        ]
        if version >= 3:
            seen.append(peer.leave(name, version=version))
            seen.append(peer.leave("no-such-group", "m", "n", version=version))
            strange: list[tuple[str, str | None]] = [("", "i"), ("who", "i"), ("", None), (leader, "i")]
            seen.append(peer.leave(name, *strange, follower, "who", follower, version=version))
        else:
            seen.append(peer.leave(name, follower, version=version))
        return [
            *seen,
            peer.describe(name),
            peer.heartbeat(name, 2, leader),
            peer.leave(name, leader, version=version),
            peer.describe(name),
            peer.leave(name, leader, version=version),
        ]

    compare(scenario)


# --- static members --------------------------------------------------------------------------------------------------

STATIC_VERSIONS = [version for version in VERSIONS["JoinGroup"] if version >= 5]


@pytest.mark.parametrize("version", STATIC_VERSIONS)
def test_a_static_member_comes_back(compare: Compare, version: int) -> None:
    name = f"static-{version}"

    def scenario(peer: GroupPeer) -> Plain:
        def join(member: str = "", instance: str | None = "i", **more: Any) -> Plain:
            answer = peer.join(name, member, instance=instance, version=version, **more)
            return answer

        def calls(generation: int, *members: str) -> Plain:
            """What only a certain member may do, tried by several."""
            return [
                [
                    peer.heartbeat(name, wanted, member, instance),
                    peer.sync(name, wanted, member, {}, instance, version=4),
                    peer.commit(name, {"one": {0: 1}}, member, wanted, instance),
                ]
                for member in (*members, "who", "")
                for instance in ("i", None, "other")
                for wanted in (generation, generation + 1, -1)
            ]

        seen = [answer := join(), peer.describe(name)]
        ids = [str(answer["member_id"])]
        # Before the leader has synced: the others have to join again.
        seen += [answer := join(), calls(2, *ids), peer.describe(name)]
        ids.append(str(answer["member_id"]))
        seen += [join(ids[0]), peer.leave(name, (ids[0], "i"), ("who", "i"), (ids[1], "other"))]
        seen.append(peer.sync(name, 2, ids[1], {ids[1]: b"kept"}, "i", version=4))
        # Stable: it takes up its assignment, and nobody has to join again.
        seen += [answer := join(), peer.describe(name)]
        ids.append(str(answer["member_id"]))
        seen += [calls(2, *ids), peer.describe(name)]
        seen += [answer := join(protocols=CHANGED), peer.describe(name)]
        ids.append(str(answer["member_id"]))
        seen += [join("who"), join("who", "other"), join(ids[3], "other", protocols=CHANGED)]
        seen += [join(ids[3], protocols=CHANGED), join(ids[3], None, protocols=CHANGED), peer.describe(name)]
        seen.append(join(protocols=OTHER))
        return [*seen, peer.leave(name, ("", "i"), ("", "i")), peer.describe(name), join(), peer.describe(name)]

    compare(scenario)


@pytest.mark.parametrize("version", STATIC_VERSIONS)
def test_static_members_of_a_group_come_back(compare: Compare, version: int) -> None:
    name = f"statics-{version}"
    both = [("range", b"r"), ("sticky", b"s")]

    def scenario(peer: GroupPeer) -> Plain:
        def join(instance: str, protocols: Any = both) -> Plain:
            return peer.join(name, instance=instance, version=version, protocols=protocols)

        def later(instance: str, protocols: Any = both) -> Pending:
            waiting = peer.join_later(name, instance=instance, version=version, protocols=protocols)
            peer.until_state(name, "PreparingRebalance")
            return waiting

        leader = str(peer.join(name, instance="l", protocols=both)["member_id"])

        seen: list[Plain] = []

        def together(waiting: Pending) -> str:
            """The leader joins again, too; the other's id."""
            nonlocal seen
            seen += [peer.join(name, leader, instance="l", protocols=both), answer := waiting.answer()]
            return str(answer["member_id"])

        follower = together(later("f"))
        # It comes back while it waits for its assignment: its old self learns that it is fenced.
        syncing = peer.sync_later(name, 2, follower, {}, "f", version=4)
        assert syncing.is_open()
        waiting = later("f")
        seen += [syncing.answer(), waiting.is_open()]
        follower = together(waiting)
        seen.append(peer.sync(name, 3, leader, {leader: b"L", follower: b"F"}, "l", version=4))
        # Stable, and nothing changes.
        seen += [join("f"), peer.describe(name), join("l"), peer.describe(name)]
        # The old leader's name tells a client of old that it does not lead.
        seen += [join("l", [("range", b"new"), ("sticky", b"s")]), join("f", [("range", b"new"), ("sticky", b"x")])]
        seen.append(peer.describe(name))
        leader = str(seen[-3]["member_id"])
        # Another protocol has to be chosen: a rebalance. Coming back once more fences the one that waits.
        first = later("f", [("sticky", b"only")])
        second_try = later("f", [("sticky", b"only")])
        fenced = first.answer()
        # Kafka names the id that is no more; who would read it has gone.
        fenced.pop("member_id")
        seen += [fenced, second_try.is_open()]
        follower = together(second_try)
        seen += [peer.sync(name, 4, leader, {leader: b"L", follower: b"F"}, "l", version=4), peer.describe(name)]
        seen += [peer.leave(name, ("who", "l"), ("", "f"), ("", "f")), peer.describe(name)]
        # By its id alone a static member can leave, too.
        return [*seen, peer.leave(name, leader, version=3), peer.describe(name)]

    compare(scenario)


@pytest.mark.parametrize("instance", ["", "a b", "..", "\u00fc", "n" * 1000])
def test_instances_of_any_name(compare: Compare, instance: str) -> None:
    compare(lambda peer: peer.join(f"named-{len(instance)}-{instance[:1]}", instance=instance))


# --- timeouts ---------------------------------------------------------------------------------------------------------


def test_a_silent_member_is_dropped(compare: Compare) -> None:
    def scenario(peer: GroupPeer) -> Plain:
        member = str(peer.join("silent-3", session_ms=500)["member_id"])
        stable(peer, "silent", session_ms=700)
        # The next one is silent before its sync.
        peer.join("silent-2", version=3, session_ms=700)
        for name in ("silent", "silent-2"):
            peer.until_state(name, "Empty")
        return [
            peer.describe("silent", "silent-2"),
            peer.join("silent", version=3),
            peer.join("silent-2", version=3),
            # Its time was over before theirs: its id is forgotten.
            peer.join("silent-3", member),
        ]

    compare(scenario)


def test_who_does_not_join_again_is_dropped(compare: Compare) -> None:
    def scenario(peer: GroupPeer) -> Plain:
        member = stable(peer, "absent", rebalance_ms=800)
        waiting = peer.join_later("absent", version=3, rebalance_ms=400, protocols=[("range", b"n")])
        return [waiting.answer(), peer.heartbeat("absent", 1, member), peer.describe("absent")]

    compare(scenario)


def test_a_leader_that_does_not_sync_is_dropped(compare: Compare) -> None:
    def scenario(peer: GroupPeer) -> Plain:
        leader = stable(peer, "silent-leader", rebalance_ms=700)
        waiting = peer.join_later("silent-leader", version=3, rebalance_ms=700, protocols=[("range", b"n")])
        peer.until_state("silent-leader", "PreparingRebalance")
        peer.join("silent-leader", leader, rebalance_ms=700)
        follower = str(waiting.answer()["member_id"])
        return [
            peer.sync("silent-leader", 2, follower, version=4),
            peer.heartbeat("silent-leader", 2, leader),
            peer.heartbeat("silent-leader", 2, follower),
            peer.describe("silent-leader"),
        ]

    compare(scenario)


# --- groups seen from outside -----------------------------------------------------------------------------------------


@pytest.fixture
def four(compare: Compare) -> None:
    """A group in each state."""

    def scenario(peer: GroupPeer) -> Plain:
        if peer.state("four-stable") == "Stable":
            return None
        stable(peer, "four-stable", session_ms=300_000)
        peer.join("four-completing", version=3, session_ms=300_000, rebalance_ms=300_000)
        peer.leave("four-empty", stable(peer, "four-empty"))
        member = stable(peer, "four-preparing", session_ms=300_000, rebalance_ms=300_000)
        _, joined = second(peer, "four-preparing", member, session_ms=300_000, rebalance_ms=300_000)
        peer.sync("four-preparing", 2, member, version=4)
        peer.leave("four-preparing", joined["member_id"])
        peer.commit("four-simple", {"one": {0: 1}})
        return None

    compare(scenario)


FOUR = ("four-stable", "four-completing", "four-empty", "four-preparing", "four-simple")


@pytest.mark.parametrize("version", VERSIONS["DescribeGroups"])
def test_describe_groups(compare: Compare, four: None, version: int) -> None:
    for operations in (False, True) if version >= 3 else (False,):
        found = compare(
            lambda peer, asked=operations: peer.describe(  # type: ignore[misc]
                *FOUR, "", "no-such-group", FOUR[0], version=version, operations=asked
            )
        )
        assert {group["group_state"] for group in found if group["group_id"] in FOUR} == {
            "Stable",
            "CompletingRebalance",
            "Empty",
            "PreparingRebalance",
        }
    compare(lambda peer: peer.describe(version=version))


@pytest.mark.parametrize("version", VERSIONS["ListGroups"])
def test_list_groups(compare: Compare, four: None, version: int) -> None:
    assert len(compare(lambda peer: peer.listed(prefix="four-", version=version))["groups"]) == 5
    states: list[tuple[str, ...]] = [("Stable",), ("stable",), ("EMPTY", "Stable"), ("nonsense",), ("",), ("Dead",)]
    for wanted in [*states, ("nonsense", "PreparingRebalance"), ("completingrebalance",)] if version >= 4 else []:
        compare(lambda peer, wanted=wanted: peer.listed(wanted, prefix="four-", version=version))  # type: ignore[misc]
    types: list[tuple[str, ...]] = [("classic",), ("Classic",), ("consumer",), ("share",), ("nonsense",), ("",)]
    for wanted in [*types, ("CLASSIC", "streams")] if version >= 5 else []:
        compare(
            lambda peer, wanted=wanted: peer.listed(("Empty",), wanted, prefix="four-", version=version)  # type: ignore[misc]
        )


@pytest.mark.parametrize("version", VERSIONS["DeleteGroups"])
def test_delete_groups(compare: Compare, four: None, version: int) -> None:
    name = f"deleted-{version}"

    def scenario(peer: GroupPeer) -> Plain:
        peer.leave(name, stable(peer, name))
        peer.commit(name, {"one": {0: 1, 1: 2}, "two": {0: 3}})
        return [
            peer.delete("four-stable", "four-completing", "four-preparing", "no-such-group", "", version=version),
            peer.delete(version=version),
            peer.delete(name, name, "no-such-group", version=version),
            peer.describe(name),
            peer.fetch_offsets(name, None),
            peer.delete(name, version=version),
            peer.listed(prefix=name),
        ]

    compare(scenario)


# --- what this broker does better -------------------------------------------------------------------------------------


def test_a_protocol_named_twice_is_answered(compare: Compare, group_brokers: Brokers) -> None:
    """Kafka 4.4 never answers."""
    with GroupPeer(group_brokers.port, is_kafka=False) as peer:
        answer = peer.join("named-twice", version=3, protocols=[("range", b"1"), ("range", b"2")])
        assert answer["error_code"] in (0, 23, 42)
        assert peer.client.call(HeartbeatRequest(group_id="x"), HeartbeatResponse, 4).error_code == 25


def test_an_id_given_to_a_dynamic_member_is_not_a_static_one(compare: Compare, group_brokers: Brokers) -> None:
    """Kafka 4.4 answers with UNKNOWN_SERVER_ERROR."""
    with GroupPeer(group_brokers.port, is_kafka=False) as peer:
        member = str(peer.join("turned-static")["member_id"])
        assert peer.join("turned-static", member, instance="i")["error_code"] in (0, 25)
