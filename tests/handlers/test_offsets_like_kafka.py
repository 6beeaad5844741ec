"""Offsets of groups committed, fetched and deleted, in every version and state: the answers equal Apache Kafka's.

And what both leave in `__consumer_offsets`. The order of topics and partitions in answers is not compared: Kafka's is
that of its hash tables.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from odradek.protocol.decoding import decode
from odradek.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse
from odradek.protocol.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResponse,
)
from odradek.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from odradek.protocol.records.group import GroupMetadataKey, GroupMetadataValue, OffsetCommitKey, OffsetCommitValue
from odradek.protocol.registry import BY_NAME
from odradek.records.builder import CONTROL_COMMIT, read_control_key
from tests.handlers.comparison import Plain
from tests.handlers.group_peer import GROUPS_TOPIC, TOPICS, GroupPeer, subscription
from tests.handlers.test_groups_like_kafka import second, stable
from tests.raw_client import records_of

Compare = Callable[[Callable[[GroupPeer], Plain]], Plain]
VERSIONS = {name: range(api.served.first, api.served.last + 1) for name, api in BY_NAME.items()}
BY_ID_SINCE = 10
UNKNOWN_ID = bytes(range(16))
NO_ID = bytes(16)


def both_topics(peer: GroupPeer, version: int) -> tuple[Any, Any]:
    """The topics of the tests, as this version names them."""
    ids = peer.make_topics(**TOPICS)
    return (ids["one"], ids["two"]) if version >= BY_ID_SINCE else ("one", "two")


def codes(answer: Plain) -> list[int]:
    return [partition["error_code"] for topic in answer["topics"] for partition in topic["partitions"]]


# --- OffsetCommit -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS["OffsetCommit"])
def test_commits_without_members(compare: Compare, version: int) -> None:
    name = f"simple-{version}"

    def scenario(peer: GroupPeer) -> Plain:
        one, two = both_topics(peer, version)
        unknown: Any = UNKNOWN_ID if version >= BY_ID_SINCE else "no-such-topic"
        nameless: Any = NO_ID if version >= BY_ID_SINCE else ""

        def commit(group: str, offsets: Any, *who: Any) -> Plain:
            return peer.commit(group, offsets, *who, version=version)

        return [
            commit(
                name, {one: {0: 5, 1: 6, 7: 1, -1: 1}, unknown: {0: 1}, nameless: {0: 1}, two: {0: (3, 4, "noted")}}
            ),
            peer.describe(name),
            peer.listed(prefix=name),
            peer.fetch_offsets(name, None),
            commit(name, {one: {0: 7}}, "who", 3),
            commit(name, {one: {0: 7}}, "", 0),
            commit(name, {one: {0: 8}}, "who", -1),
            commit(name, {one: {1: 9}}, "", -2),
            peer.fetch_offsets(name, None),
            commit(name, {one: {0: -1, 1: -2}}),
            peer.fetch_offsets(name, None),
            commit(name, {one: {0: (1 << 60, -5, None)}}),
            peer.fetch_offsets(name, None),
            # Nothing is left to commit: no group is made.
            commit(f"{name}-unknown", {unknown: {0: 1}, one: {9: 1}}),
            commit(f"{name}-nothing", {}),
            commit(f"{name}-no-partitions", {one: {}}),
            commit(f"{name}-generation", {one: {0: 1}}, "who", 3),
            commit(f"{name}-generation", {one: {0: 1}}, "", 0),
            peer.listed(prefix=name),
            # With a member id alone it is as without.
            commit(f"{name}-member", {one: {0: 1}}, "who"),
            peer.delete(name, f"{name}-member"),
            peer.fetch_offsets(name, None),
        ]

    compare(scenario)


@pytest.mark.parametrize("version", VERSIONS["OffsetCommit"])
def test_commits_of_members(compare: Compare, version: int) -> None:
    name = f"members-{version}"

    def scenario(peer: GroupPeer) -> Plain:
        one, _ = both_topics(peer, version)
        unknown: Any = UNKNOWN_ID if version >= BY_ID_SINCE else "no-such-topic"
        member = str(peer.join(name, version=3)["member_id"])

        def commits(generation: int) -> Plain:
            return [
                peer.commit(name, {one: {0: 1, 9: 1}, unknown: {0: 1}}, who, wanted, instance, version=version)
                for who in (member, "who", "")
                for wanted in (generation, generation - 1, generation + 1, -1)
                for instance in ((None, "i") if version >= 7 else (None,))
            ]

        seen = [commits(1), peer.sync(name, 1, member, version=4), commits(1)]
        # The generation counts more than a note that is too long.
        seen.append(peer.commit(name, {one: {0: (1, -1, "x" * 5000)}}, member, 2, version=version))
        waiting = peer.join_later(name, version=3, protocols=[("range", b"n")])
        peer.until_state(name, "PreparingRebalance")
        seen += [commits(1), peer.join(name, member), waiting.answer(), commits(2)]
        seen += [peer.sync(name, 2, member, version=4), commits(2), peer.leave(name, member, waiting_id(seen))]
        return [*seen, commits(2), peer.fetch_offsets(name, None)]

    def waiting_id(seen: list[Plain]) -> str:
        return str(seen[-2]["member_id"])

    compare(scenario)


@pytest.mark.parametrize("version", VERSIONS["OffsetCommit"])
@pytest.mark.parametrize(
    "note",
    [None, "", "x" * 4096, "x" * 4097, "\u00fc" * 4096, "\u00fc" * 4097, "\U0001f600" * 2048, "\U0001f600" * 2049],
)
def test_notes_beside_offsets(compare: Compare, version: int, note: str | None) -> None:
    name = f"notes-{version}"

    def scenario(peer: GroupPeer) -> Plain:
        one, _ = both_topics(peer, version)
        return [
            peer.commit(name, {one: {0: (1, 2, note), 1: 3}}, version=version),
            peer.fetch_offsets(name, {"one": [0, 1]}),
            peer.delete(name),
        ]

    compare(scenario)


@pytest.mark.parametrize("version", VERSIONS["OffsetCommit"])
def test_the_group_without_a_name(compare: Compare, version: int) -> None:
    def scenario(peer: GroupPeer) -> Plain:
        one, _ = both_topics(peer, version)
        return [
            peer.commit("", {one: {0: 4}}, version=version),
            peer.describe(""),
            [group for group in peer.listed()["groups"] if not group["group_id"]],
            peer.fetch_offsets("", None),
            peer.delete_offsets("", {"one": [0]}),
            peer.delete(""),
            peer.fetch_offsets("", {"one": [0]}),
        ]

    compare(scenario)


# --- OffsetFetch ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS["OffsetFetch"])
def test_offsets_are_fetched(compare: Compare, version: int) -> None:
    name = f"fetched-{version}"

    def scenario(peer: GroupPeer) -> Plain:
        one, two = both_topics(peer, version)
        unknown: Any = UNKNOWN_ID if version >= BY_ID_SINCE else "no-such-topic"
        peer.commit(name, {"one": {0: (5, 7, "noted"), 1: (6, -1, None)}, "two": {0: 8}})
        nobody = f"{name}-nobody"
        some = {one: [0, 1, 5, -1, 0], unknown: [0, 1], two: [0]}
        if version >= 8:
            nameless: Any = NO_ID if version >= BY_ID_SINCE else ""
            return [
                peer.fetch_groups(
                    (name, some),
                    (nobody, some),
                    (name, None),
                    (name, {}),
                    (name, {one: [], nameless: [0]}),
                    (nobody, None),
                    ("", {one: [0]}),
                    (name, {one: [0]}),
                    version=version,
                    require_stable=stable_only,
                )
                for stable_only in (False, True)
            ] + [peer.fetch_groups(version=version)]
        wanted = [some, {}, {one: []}, {"": [0]}] + ([None] if version >= 2 else [])
        return [
            peer.fetch_offsets(group, topics, version=version, require_stable=stable_only)
            for group in (name, nobody, "")
            for topics in wanted
            for stable_only in ((False, True) if version >= 7 else (False,))
        ]

    compare(scenario)


@pytest.mark.parametrize("version", [version for version in VERSIONS["OffsetFetch"] if version >= 9])
def test_members_of_classic_groups_need_not_say_who_they_are(compare: Compare, version: int) -> None:
    name = f"fetched-by-{version}"

    def scenario(peer: GroupPeer) -> Plain:
        one, _ = both_topics(peer, version)
        member = stable(peer, name)
        peer.commit(name, {"one": {0: 5}}, member, 1)
        return [
            peer.fetch_groups((group, topics, who, epoch), version=version)
            for group in (name, "nobody-at-all")
            for topics in ({one: [0]}, None)
            for who in (None, "", "who", member)
            for epoch in (-1, 0, 1, 2)
        ]

    compare(scenario)


# --- OffsetDelete -----------------------------------------------------------------------------------------------------


def test_offsets_are_deleted(compare: Compare) -> None:
    def scenario(peer: GroupPeer) -> Plain:
        name = "forgetful"
        peer.commit(name, {"one": {0: 5, 1: 6}, "two": {0: 7}})
        return [
            peer.delete_offsets("no-such-group", {"one": [0]}),
            peer.delete_offsets("no-such-group", {"no-such-topic": [0]}),
            peer.delete_offsets("no-such-group", {}),
            peer.delete_offsets(name, {}),
            peer.delete_offsets(name, {"one": [0, 7, 0], "no-such-topic": [0], "": [1]}),
            peer.delete_offsets(name, {"one": [0]}),
            peer.fetch_offsets(name, None),
            peer.delete_offsets(name, {"one": [1], "two": [0]}),
            peer.fetch_offsets(name, None),
        ]

    compare(scenario)


def test_offsets_that_members_need_are_not_deleted(compare: Compare) -> None:
    def scenario(peer: GroupPeer) -> Plain:
        name = "needed"
        asked = {"one": [0, 1, 9], "two": [0], "no-such-topic": [0]}
        ones, twos = [("range", subscription("one"))], [("range", subscription("two"))]
        member = str(peer.join(name, version=3, protocols=ones)["member_id"])
        seen = [peer.delete_offsets(name, asked), peer.sync(name, 1, member, version=4)]

        def commit(generation: int) -> None:
            answer = peer.commit(name, {"one": {0: 1}, "two": {0: 2}}, member, generation)
            assert codes(answer) == [0, 0]

        def deleted() -> Plain:
            return [peer.delete_offsets(name, asked), peer.fetch_offsets(name, None)]

        commit(1)
        seen.append(deleted())
        waiting = peer.join_later(name, version=3, protocols=twos)
        peer.until_state(name, "PreparingRebalance")
        commit(1)
        seen += [deleted(), peer.join(name, member, protocols=ones), answer := waiting.answer()]
        follower = str(answer["member_id"])
        seen += [deleted(), peer.sync(name, 2, member, version=4)]
        commit(2)
        seen += [deleted(), peer.leave(name, follower), deleted(), peer.join(name, member, protocols=ones)]
        seen += [peer.sync(name, 3, member, version=4), deleted()]
        commit(3)
        return [*seen, deleted(), peer.leave(name, member), deleted()]

    compare(scenario)


@pytest.mark.parametrize("data", [b"", b"garbage", b"\0\1\0\0\0\1\0\3one", subscription(), subscription("one")[:-3]])
def test_subscriptions_that_cannot_be_read(compare: Compare, data: bytes) -> None:
    name = f"unread-{len(data)}"

    def scenario(peer: GroupPeer) -> Plain:
        member = stable(peer, name, protocols=[("range", data)])
        return [
            peer.commit(name, {"one": {0: 1}, "two": {0: 2}}, member, 1),
            peer.delete_offsets(name, {"one": [0], "two": [0]}),
            peer.leave(name, member),
        ]

    compare(scenario)


@pytest.mark.parametrize("version", range(4))
def test_subscriptions_of_every_version(compare: Compare, version: int) -> None:
    name = f"subscribed-{version}"

    def scenario(peer: GroupPeer) -> Plain:
        member = stable(peer, name, protocols=[("range", subscription("one", version=version, user_data=b"x"))])
        return [peer.delete_offsets(name, {"one": [0], "two": [0]}), peer.leave(name, member)]

    compare(scenario)


def test_groups_that_do_not_consume(compare: Compare) -> None:
    def scenario(peer: GroupPeer) -> Plain:
        member = stable(peer, "connect", kind="connect", protocols=[("range", subscription("one"))])
        return [
            peer.commit("connect", {"one": {0: 1}, "two": {0: 2}}, member, 1),
            peer.delete_offsets("connect", {"two": [0], "no-such-topic": [0]}),
            peer.leave("connect", member),
            peer.delete_offsets("connect", {"two": [0], "no-such-topic": [0]}),
            peer.fetch_offsets("connect", None),
        ]

    compare(scenario)


# --- offsets go with what they belong to ------------------------------------------------------------------------------


def test_offsets_go_with_their_topic(compare: Compare) -> None:
    def scenario(peer: GroupPeer) -> Plain:
        peer.make_topics(going=1)
        peer.commit("of-a-topic", {"going": {0: 1}})
        peer.commit("of-two-topics", {"going": {0: 1}, "one": {0: 2}})
        peer.client.call(DeleteTopicsRequest(topic_names=["going"], timeout_ms=30_000), DeleteTopicsResponse, 5)
        peer.until_gone("going")
        while len(peer.fetch_offsets("of-two-topics", None)["topics"]) > 1:
            pass
        while peer.fetch_offsets("of-a-topic", None)["topics"]:
            pass
        peer.make_topics(going=1)
        return [
            peer.fetch_offsets("of-a-topic", {"going": [0]}),
            peer.fetch_offsets("of-two-topics", None),
            peer.delete("of-two-topics"),
        ]

    compare(scenario)


# --- the log of groups ------------------------------------------------------------------------------------------------


def logged(peer: GroupPeer, *groups: str) -> Plain:
    """The records of these groups in the order of their partition; one list for each batch."""
    seen: list[Plain] = []
    for partition in range(3):
        offset = 0
        while data := peer.client.fetch(GROUPS_TOPIC, offset, partition=partition).records:
            for record in records_of(data):
                offset = record.offset + 1
                key, value = bytes(record.key or b""), record.value
                if read_control_key(key) == (0, CONTROL_COMMIT):
                    continue  # the end of somebody's transaction
                kind = OffsetCommitKey if int.from_bytes(key[:2], "big") < 2 else GroupMetadataKey
                whose, _ = decode(kind, 0, key, 2)
                if whose.group not in groups:
                    continue
                entry = {"key": peer.plain(whose), "version": None, "value": None}
                if value is not None:
                    version = int.from_bytes(value[:2], "big")
                    read = OffsetCommitValue if kind is OffsetCommitKey else GroupMetadataValue
                    found = peer.plain(decode(read, version, bytes(value), 2)[0])
                    if found.get("expire_timestamp", -1) >= 0:
                        found["expire_timestamp"] -= found["commit_timestamp"]
                    for name in ("commit_timestamp", "current_state_timestamp"):
                        if name in found:
                            found[name] = abs(found[name] - record.timestamp) < 20_000
                    entry |= {"version": version, "value": found}
                seen.append(entry)
    return seen


def test_the_records_of_groups(compare: Compare) -> None:
    """Left out: Kafka's records of groups that nobody has joined yet (no protocol type, generation 0), and its
    tombstone of a group that has no record. Here a group is not kept before there is something to keep."""

    def scenario(peer: GroupPeer) -> Plain:
        member = stable(peer, "written", rebalance_ms=20_000)
        peer.commit("written", {"one": {0: (5, 3, "noted")}}, member, 1)
        peer.commit("written", {"one": {0: 6}}, member, 1, version=4, retention_ms=90_000)
        peer.commit("written", {"one": {0: (7, -1, None)}}, member, 1, version=2)
        _, joined = second(peer, "written", member)
        peer.sync("written", 2, member, {member: b"L", joined["member_id"]: b"F"}, version=4)
        peer.leave("written", member, joined["member_id"])
        peer.commit("written", {"one": {1: 8}})
        peer.delete_offsets("written", {"one": [1]})
        peer.delete("written")
        ids = [str(peer.join("written-static", instance="i")["member_id"])]
        peer.sync("written-static", 1, ids[0], {ids[0]: b"A"}, "i", version=4)
        peer.join("written-static", instance="i", session_ms=900)
        peer.join("written-static", instance="i", protocols=[("range", b"changed")])
        peer.commit("written-simple", {"one": {0: 1}})
        peer.delete("written-simple")
        names = ("written", "written-static", "written-simple")
        found = [logged(peer, name) for name in names]
        for entries in found:
            if (entries[0]["value"] or {}).get("generation") == 0:
                assert not entries.pop(0)["value"]["members"]
                assert peer.is_kafka
        if peer.is_kafka:
            assert found[2].pop()["key"] == {"group": "written-simple"}
        return found

    written, static, simple = compare(scenario)
    assert written[0]["value"]["generation"] == 1
    assert written[-1]["value"] is None
    assert len(static) == 3
    assert [entry["version"] for entry in simple] == [4, None]


def test_the_topic_of_groups(compare: Compare) -> None:
    def scenario(peer: GroupPeer) -> Plain:
        asked = DescribeConfigsResource(resource_type=2, resource_name=GROUPS_TOPIC, configuration_keys=None)
        (found,) = peer.client.call(DescribeConfigsRequest(resources=[asked]), DescribeConfigsResponse, 4).results
        topic_source = 1
        topic = MetadataRequestTopic(name=GROUPS_TOPIC)
        (described,) = peer.client.call(MetadataRequest(topics=[topic]), MetadataResponse, 12).topics
        return [
            sorted((entry.name, entry.value) for entry in found.configs if entry.config_source == topic_source),
            described.is_internal,
            len(described.partitions),
        ]

    configs, is_internal, partitions = compare(scenario)
    assert ["cleanup.policy", "compact"] in configs and is_internal and partitions == 3
