"""A type of groups that only this file knows: what stands serves it, as it will serve those that are to come.

A *roll* is a group in which members are enrolled with the topics that they may commit for, and struck off. Each change
is a new epoch, and one record of a type of its own. Unlike a classic group all of it is durable.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from odradek.config import BrokerConfig
from odradek.coordination.groups import committing
from odradek.coordination.groups.classic.groups import ClassicGroups, classic_groups
from odradek.coordination.groups.counters import GroupCounters
from odradek.coordination.groups.group import CommitCheck, Group, GroupsOfType, GroupType, ShardContext
from odradek.coordination.groups.records import Committed, OffsetKey
from odradek.coordination.groups.shard import GroupShard
from odradek.coordination.groups.types import group_types
from odradek.coordination.operation import Outcome, Reply
from odradek.coordination.snapshots import read_snapshot, write_snapshot
from odradek.descriptors import divide
from odradek.engines.local import LocalEngine
from odradek.engines.local.disk import Disk
from odradek.errors import ErrorCode, KafkaError
from odradek.loop_scheduler import LoopScheduler
from odradek.protocol.errors import DecodeError
from odradek.protocol.messages.heartbeat import HeartbeatResponse
from odradek.records.builder import NewRecord
from odradek.server import Server
from tests.adversity.serving_on_disk import ServingOnDisk
from tests.coordination.stories import DAY_MS, SETTINGS, START_MS, VirtualClock, listed, through
from tests.handlers.group_peer import GroupPeer

ROLL_RECORD = 100
CLOSING = "roll-closing"
CLOSES_MS = 5_000


def roll_key(group_id: str) -> bytes:
    return struct.pack(">h", ROLL_RECORD) + group_id.encode()


class Roll(Group):
    type_name: ClassVar[str] = "roll"

    def __init__(self, group_id: str, epoch: int, members: dict[str, str]) -> None:
        self.group_id = group_id
        self.protocol_type = "choir"
        self.epoch = epoch
        self.members = members
        """The one topic that each may commit for."""

    @property
    def state_name(self) -> str:
        return "Open" if self.members else "Empty"

    @property
    def member_count(self) -> int:
        return len(self.members)

    @property
    def is_empty(self) -> bool:
        return not self.members

    @property
    def expires(self) -> bool:
        return False

    def check_commit(
        self, member_id: str, instance_id: str | None, generation: int, version: int, is_transactional: bool
    ) -> CommitCheck | None:
        if is_transactional:
            raise KafkaError(ErrorCode.INVALID_TXN_STATE)
        if member_id not in self.members:
            raise KafkaError(ErrorCode.UNKNOWN_MEMBER_ID)
        if generation != self.epoch:
            raise KafkaError(ErrorCode.STALE_MEMBER_EPOCH if version >= 9 else ErrorCode.UNSUPPORTED_VERSION)

        def check(key: OffsetKey, committed: Committed) -> None:
            if key.topic != self.members[member_id]:
                raise KafkaError(ErrorCode.FENCED_MEMBER_EPOCH)

        return check

    def check_fetch(self, member_id: str | None, member_epoch: int) -> None:
        if member_epoch >= 0 and member_epoch != self.epoch:
            raise KafkaError(ErrorCode.STALE_MEMBER_EPOCH)

    def is_subscribed_to(self, topic: str) -> bool:
        return topic in self.members.values()

    def subscribed_topics(self) -> frozenset[str]:
        return frozenset(self.members.values())

    def grows_old_since_ms(self, topic: str, committed: Committed) -> int | None:
        return None if self.is_subscribed_to(topic) else committed.commit_ms


class Rolls(GroupsOfType):
    record_types: ClassVar[frozenset[int]] = frozenset({ROLL_RECORD})
    timer_kinds: ClassVar[frozenset[str]] = frozenset({CLOSING})

    def __init__(self, context: ShardContext) -> None:
        self.context = context
        self.rolls: dict[str, Roll] = {}
        self.closed: dict[str, list[Reply]] = {}

    def replay(self, key: bytes, value: bytes | None) -> None:
        group_id = key[2:].decode()
        if value is None:
            self.rolls.pop(group_id, None)
            self.context.groups.pop(group_id, None)
            return
        epoch, *members = value.decode().split()
        if not epoch.isdecimal():
            raise DecodeError("an epoch that is no number")
        roll = Roll(group_id, int(epoch), dict(one.split("=") for one in members))
        self.rolls[group_id] = self.context.groups[group_id] = roll

    def records(self) -> Callable[[], Iterable[tuple[bytes, bytes]]]:
        rolls = dict(self.rolls)

        def encode() -> Iterator[tuple[bytes, bytes]]:
            for group_id, roll in rolls.items():
                members = (f"{member}={topic}" for member, topic in roll.members.items())
                yield roll_key(group_id), " ".join([str(roll.epoch), *members]).encode()

        return encode

    def prepare(self) -> None:
        for roll in self.rolls.values():
            self.keep_open(roll.group_id)

    def keep_open(self, group_id: str) -> None:
        self.context.timers.set((CLOSING, group_id), self.context.clock.monotonic() + CLOSES_MS / 1000)

    def delete(self, group_id: str, outcome: Outcome) -> None:
        if group_id in self.rolls:
            outcome.records.append(NewRecord(roll_key(group_id), None))
            self.context.timers.cancel((CLOSING, group_id))

    def due(self, key: tuple[str, ...], outcome: Outcome) -> None:
        for reply in self.closed.pop(key[1], []):
            outcome.answer(reply, HeartbeatResponse())
        self.enrol(key[1], {}, outcome)

    def waiting(self) -> list[Reply]:
        return [reply for replies in self.closed.values() for reply in replies]

    def enrol(self, group_id: str, members: dict[str, str], outcome: Outcome) -> None:
        """An operation: these are the members from now on."""
        roll = self.rolls.get(group_id)
        epoch = 1 if roll is None else roll.epoch + 1
        words = [str(epoch), *(f"{member}={topic}" for member, topic in members.items())]
        outcome.records.append(NewRecord(roll_key(group_id), " ".join(words).encode()))
        self.keep_open(group_id)

    def wait_closed(self, group_id: str, reply: Reply) -> None:
        self.closed.setdefault(group_id, []).append(reply)


ROLLS = GroupType("roll", ("Empty", "Open"), Rolls)


# --- on a broker ------------------------------------------------------------------------------------------------------


class ServingRolls(ServingOnDisk):
    """A broker that serves rolls beside all that it always serves."""

    def make_server(self) -> Server:
        scheduler = LoopScheduler(self.clock)
        engine = LocalEngine(self.config.names("log.dirs")[0], self.config, scheduler, self.disk)
        descriptors = divide(self.config, files=True, alone=False)
        return Server(self.config, engine, scheduler, descriptors, types_of_groups=with_rolls)

    def enrol(self, group_id: str, **members: str) -> None:
        def enrol(shard: GroupShard, outcome: Outcome) -> None:
            shard.of(Rolls).enrol(group_id, members, outcome)

        self.run(self.server.groups.call(group_id, enrol))


def with_rolls(config: BrokerConfig) -> Sequence[GroupType]:
    return (*group_types(config), ROLLS)


def codes(answer: dict[str, Any]) -> list[int]:
    return [one["error_code"] for topic in answer["topics"] for one in topic["partitions"]]


def offset_of(peer: GroupPeer, topic: str) -> int:
    ((found,),) = [one["partitions"] for one in peer.fetch_offsets("r", {topic: [0]})["topics"]]
    return int(found["committed_offset"])


def look_at_rolls(peer: GroupPeer) -> None:
    """What clients see of the roll `r`, at epoch 1 with one member, and of the classic group `c`."""
    roll = {"group_id": "r", "protocol_type": "choir", "group_state": "Open", "group_type": "roll"}
    classic = {"group_id": "c", "protocol_type": "", "group_state": "Empty", "group_type": "classic"}
    assert sorted(peer.listed()["groups"], key=lambda one: str(one["group_id"])) == [classic, roll]
    assert peer.listed(types=["Roll"])["groups"] == peer.listed(states=["open"])["groups"] == [roll]
    assert peer.listed(types=["classic"])["groups"] == [classic]
    (told,) = peer.describe("r", operations=True)
    assert (told["error_code"], told["group_state"], told["members"]) == (ErrorCode.GROUP_ID_NOT_FOUND, "Dead", [])
    (told,) = peer.describe("r", version=5)
    assert (told["error_code"], told["group_state"]) == (ErrorCode.NONE, "Dead")
    # As Kafka 4.4 answers members of classic groups that ask for a share group.
    assert peer.join("r")["error_code"] == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert peer.sync("r", 1, "a", kind="consumer", protocol="range")["error_code"] == ErrorCode.UNKNOWN_MEMBER_ID
    assert peer.heartbeat("r", 1, "a")["error_code"] == ErrorCode.UNKNOWN_MEMBER_ID
    assert peer.leave("r", "a")["members"][0]["error_code"] == ErrorCode.UNKNOWN_MEMBER_ID
    assert codes(peer.commit("r", {"t": {0: 9}}, "b", 1)) == [ErrorCode.UNKNOWN_MEMBER_ID]
    assert codes(peer.commit("r", {"t": {0: 9}}, "a", 0)) == [ErrorCode.STALE_MEMBER_EPOCH]
    assert codes(peer.commit("r", {"t": {0: 9}}, "a", 0, version=8)) == [ErrorCode.UNSUPPORTED_VERSION]
    assert codes(peer.commit("r", {"t": {0: 9}, "u": {0: 9}}, "a", 1)) == [ErrorCode.FENCED_MEMBER_EPOCH] * 2
    assert codes(peer.commit("r", {"t": {0: 9}})) == [ErrorCode.UNKNOWN_MEMBER_ID]
    (told,) = peer.fetch_groups(("r", {"t": [0]}, "a", 0))["groups"]
    assert told["error_code"] == ErrorCode.STALE_MEMBER_EPOCH
    (told,) = peer.fetch_groups(("r", {"t": [0]}, "a", 1))["groups"]
    assert told["error_code"] == ErrorCode.NONE
    assert offset_of(peer, "t") == 5 and offset_of(peer, "u") == -1
    assert codes(peer.delete_offsets("r", {"t": [0]})) == [ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC]
    assert peer.delete("r")[0]["error_code"] == ErrorCode.NON_EMPTY_GROUP


@pytest.mark.parametrize("snapshot", [True, False], ids=["snapshot", "log"])
def test_a_type_of_groups_is_served_like_the_others(tmp_path: Path, snapshot: bool) -> None:
    settings = {"offsets__topic__num__partitions": "1"}
    with ServingRolls(tmp_path, Disk(), **settings) as serving, GroupPeer(serving.port, is_kafka=False) as peer:
        peer.make_topics(t=1, u=1)
        peer.until_served("r")
        serving.enrol("r", a="t")
        assert codes(peer.commit("r", {"t": {0: 5}}, "a", 1)) == [ErrorCode.NONE]
        assert codes(peer.commit("c", {"u": {0: 7}})) == [ErrorCode.NONE]
        look_at_rolls(peer)
    (made,) = tmp_path.rglob("*.coordinator-snapshot")
    if not snapshot:
        made.unlink()
    with ServingRolls(tmp_path, Disk(), **settings) as serving, GroupPeer(serving.port, is_kafka=False) as peer:
        peer.until_served("r")
        look_at_rolls(peer)
        serving.enrol("r")
        assert [one["group_state"] for one in peer.listed(types=["roll"])["groups"]] == ["Empty"]
        assert [one["error_code"] for one in peer.delete("r")] == [ErrorCode.NONE]
        assert peer.listed(types=["roll"])["groups"] == [] and offset_of(peer, "t") == -1
    with ServingRolls(tmp_path, Disk(), **settings) as serving, GroupPeer(serving.port, is_kafka=False) as peer:
        peer.until_served("r")
        assert [one["group_id"] for one in peer.listed()["groups"]] == ["c"]
        assert offset_of(peer, "t") == -1


def test_who_does_not_know_a_type_keeps_its_groups_for_who_does(tmp_path: Path) -> None:
    settings = {"offsets__topic__num__partitions": "1"}
    with ServingRolls(tmp_path, Disk(), **settings) as serving, GroupPeer(serving.port, is_kafka=False) as peer:
        peer.make_topics(t=1, u=1)
        peer.until_served("r")
        serving.enrol("r", a="t")
        assert codes(peer.commit("r", {"t": {0: 5}}, "a", 1)) == [ErrorCode.NONE]
        assert codes(peer.commit("c", {"u": {0: 7}})) == [ErrorCode.NONE]
    with ServingOnDisk(tmp_path, Disk(), **settings) as other, GroupPeer(other.port, is_kafka=False) as peer:
        peer.until_served("r")
        assert {one["group_type"] for one in peer.listed()["groups"]} == {"classic"}
        assert codes(peer.commit("c", {"u": {0: 8}})) == [ErrorCode.NONE]
    with ServingRolls(tmp_path, Disk(), **settings) as serving, GroupPeer(serving.port, is_kafka=False) as peer:
        peer.until_served("r")
        look_at_rolls(peer)


# --- in a shard -------------------------------------------------------------------------------------------------------


class Parked:
    """A reply that notes its answers."""

    def __init__(self) -> None:
        self.answers: list[object] = []

    def answer(self, response: object) -> None:
        self.answers.append(response)

    def refuse(self, code: ErrorCode) -> None:
        self.answers.append(code)


class Hall:
    """A shard with classic groups and rolls, and its log."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.counters = GroupCounters()
        self.log: list[NewRecord] = []
        self.shard = self.new_shard()
        self.shard.prepare()
        self.shard.loaded()

    def new_shard(self) -> GroupShard:
        types = (classic_groups(SETTINGS), ROLLS)
        return GroupShard(types, DAY_MS, self.clock, random.Random(1), self.counters)

    def do(self, operation: Callable[[Outcome], object]) -> Outcome:
        """As the runtime does."""
        outcome = Outcome()
        operation(outcome)
        self.keep(outcome)
        return outcome

    def keep(self, outcome: Outcome) -> None:
        for record in outcome.records:
            assert record.key is not None
            self.log.append(record)
            self.shard.replay(record.key, record.value)

    def enrol(self, group_id: str, **members: str) -> None:
        self.do(lambda outcome: self.shard.of(Rolls).enrol(group_id, members, outcome))

    def commit(self, group_id: str, topic: str, member_id: str = "", epoch: int = -1) -> None:
        def commit(outcome: Outcome) -> None:
            check = committing.check_commit(self.shard, group_id, member_id, None, epoch, 9)
            commits = [(OffsetKey(group_id, topic, 0), Committed(5, -1, "", self.clock.now_ms()))]
            committing.commit(self.shard, commits, check, outcome)

        self.do(commit)


def test_a_log_and_a_snapshot_make_the_same_groups() -> None:
    hall = Hall()
    hall.enrol("r", a="t")
    hall.commit("r", "t", "a", 1)
    hall.commit("c", "u")
    replayed, restored = hall.new_shard(), hall.new_shard()
    for record in hall.log:
        replayed.replay(record.key or b"", record.value)
    for key, value in read_snapshot(write_snapshot(hall.shard.records()(), START_MS)):
        restored.replay(key, value)
    for shard in (replayed, restored):
        shard.prepare()
        shard.loaded()
        assert [(one.group_id, one.group_type) for one in listed(shard)] == [("r", "roll"), ("c", "classic")]
        assert list(shard.records()()) == list(hall.shard.records()())
        assert shard.timers.deadline((CLOSING, "r")) is not None


def test_a_types_timers_and_replies_are_its_own() -> None:
    hall = Hall()
    hall.enrol("r", a="t")
    reply = Parked()
    hall.shard.of(Rolls).wait_closed("r", reply)
    assert hall.shard.waiting() == [reply]
    hall.clock.elapsed_ms += CLOSES_MS
    (key,) = hall.shard.timers.due(hall.clock.monotonic())
    outcome = hall.do(lambda outcome: hall.shard.due(key, outcome))
    assert outcome.answers == [(reply, HeartbeatResponse())] and hall.shard.waiting() == []
    assert [one.group_state for one in listed(hall.shard)] == ["Empty"]


def test_what_is_counted_and_read_of_all_groups() -> None:
    hall = Hall()
    hall.enrol("r", a="t", b="u")
    hall.enrol("s")
    hall.commit("c", "v")
    states, members = hall.shard.census()
    assert (states["Open"], states["Empty"], members) == (1, 2, 2)
    assert hall.shard.subscribed_topics() == {"t", "u"}
    assert hall.shard.consumers("r") is None
    assert not hall.do(lambda outcome: hall.shard.rebalance("r", outcome)).records


def test_offsets_expire_by_the_types_rule_and_the_group_stays_where_it_says_so() -> None:
    hall = Hall()
    hall.enrol("r", a="t")
    hall.commit("r", "t", "a", 1)
    hall.enrol("r", a="u")
    hall.commit("r", "u", "a", 2)
    hall.enrol("r", a="u")
    hall.clock.elapsed_ms += DAY_MS
    through(hall.shard.expire(hall.clock.now_ms()), hall.keep)
    assert hall.shard.offsets.keys_of("r") == [OffsetKey("r", "u", 0)]
    hall.enrol("r")
    through(hall.shard.expire(hall.clock.now_ms()), hall.keep)
    assert "r" not in hall.shard.offsets
    assert [one.group_id for one in listed(hall.shard)] == ["r"]


def test_a_commit_in_a_transaction_is_the_groups_to_refuse() -> None:
    hall = Hall()
    hall.enrol("r", a="t")
    with pytest.raises(KafkaError) as refused:
        committing.check_commit(hall.shard, "r", "a", None, 1, 5, is_transactional=True)
    assert refused.value.code == ErrorCode.INVALID_TXN_STATE


def test_a_name_with_pending_offsets_only_gives_way_to_a_group() -> None:
    hall = Hall()
    committing.check_commit(hall.shard, "r", "", None, -1, 5, is_transactional=True)
    assert [(one.group_id, one.group_type) for one in listed(hall.shard)] == [("r", "classic")]
    hall.enrol("r", a="t")
    assert [(one.group_id, one.group_type) for one in listed(hall.shard)] == [("r", "roll")]
    assert hall.shard.of(ClassicGroups).group("r") is None


def test_two_types_do_not_share_a_record_or_a_timer() -> None:
    class Copy(Rolls):
        pass

    for others in ({"timer_kinds": frozenset({"other"})}, {"record_types": frozenset({101})}):
        kind = type("Other", (Copy,), others)
        with pytest.raises(AssertionError):
            GroupShard((ROLLS, GroupType("other", (), kind)), DAY_MS, VirtualClock(), random.Random(1))
