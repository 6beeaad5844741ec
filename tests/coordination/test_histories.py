"""Random histories in the words of the stories, against what must always hold and a model of the committed offsets."""

from __future__ import annotations

import functools
import random
from collections import Counter
from collections.abc import Callable

import pytest

from odradek.coordination.groups.classic.group import ClassicGroup, GroupState
from odradek.coordination.snapshots import read_snapshot, write_snapshot
from tests.coordination.stories import DAY_MS, START_MS, Story

SEEDS = range(60)
STEPS = 120
CLIENTS = ("a", "b", "c", "d", "a@h", "b@h")
PARTITIONS = ("t-0", "t-1", "u-0")
# Of joining, syncing, heartbeats, leaving and commits, by what a client was told last.
WEIGHTS = {"joined": [5, 80, 5, 2, 8], "synced": [15, 5, 25, 5, 50]}


class History(Story):
    """A story that nobody wrote: its commands are chosen, its offsets kept in a model."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.chance = chance
        self.committed: dict[tuple[str, str], int] = {}
        """By group and partition: what the last commit that was acknowledged said."""
        self.commit_ms: dict[tuple[str, str], int] = {}
        self.generations: dict[str, int] = {}
        self.commands: list[str] = []
        self.outcomes: Counter[str] = Counter()
        self.offset = 0
        self.last: dict[str, str] = {}
        """By client: whether it was told of its join or its part last."""

    def next_command(self) -> str:
        chance = self.chance
        roll = chance.random()
        if roll < 0.04:
            return chance.choice(["restart", "restart snapshot"])
        if roll < 0.14:
            return f"wait {chance.choice(['500ms', '3s', '3s', '8s', '11s', '61s'])}"
        if roll < 0.15:
            return f"wait {chance.choice(['1h', '5h', '25h'])}"
        if roll < 0.16:
            return "expire"
        if roll < 0.18:
            return chance.choice(["delete", "delete h", "forget t-0 u-0", "topic u is deleted"])
        name = chance.choice(CLIENTS)
        # A client asks one thing at a time.
        if any(reply.name == name and not reply.answers for reply in self.replies):
            return "wait 500ms"
        weights = WEIGHTS.get(self.last.get(name, ""), [60, 5, 10, 5, 20])
        verb = chance.choices(["joins", "syncs", "heartbeats", "leaves", "commits"], weights)[0]
        match verb:
            case "joins":
                words = []
                if name in ("c", "d"):
                    words.append(f"instance={chance.choice('xxxy')}")
                if chance.random() < 0.1:
                    words.append(f"protocols={chance.choice(['range,sticky', 'sticky', 'range'])}")
                if chance.random() < 0.1:
                    words.append(chance.choice(["anew", "version=3"]))
                return " ".join([name, verb, *words])
            case "syncs":
                owners = [alias for alias in self.aliases.values() if alias != "nobody"]
                assigned = {chance.choice(owners): one for one in PARTITIONS} if owners else {}
                late = ["generation=0"] if chance.random() < 0.05 else []
                return " ".join([name, verb, *(f"{who}={what}" for who, what in assigned.items()), *late])
            case "commits":
                self.offset += 1
                chosen = chance.sample(PARTITIONS, chance.randint(1, 2))
                how = chance.choice([[], [], ["alone"], ["generation=0"]])
                return " ".join([name, verb, *(f"{one}={self.offset}" for one in chosen), *how])
            case _:
                return f"{name} {verb}"

    def step(self) -> None:
        command = self.next_command()
        self.commands.append(command)
        trace = self.run(command)
        words = command.split()
        if words[0] == "restart":
            # A generation that had no leader's word yet is in no log: it counts from what is.
            self.generations.clear()
        if words[0] in self.clients:
            self.outcomes[f"{words[1]} well"] += f"{words[0]} <- NONE" in trace
        else:
            self.outcomes[words[0]] += 1
        for name, client in self.clients.items():
            # As clients do when they are told so; now and then one insists.
            if f"{name} <- UNKNOWN_MEMBER_ID" in trace and self.chance.random() < 0.8:
                client.member_id = ""
        for line in trace:
            name, _, what = line.partition(" <- ")
            if what.startswith(("joined: ", "synced: ")):
                self.last[name] = what[:6]
                self.outcomes[what[:6]] += 1
            elif what.isupper() and what not in ("NONE", "REBALANCE_IN_PROGRESS"):
                self.last.pop(name, None)
        self.follow(command, trace)
        self.check()

    # --- the model -----------------------------------------------------------------------------------------------

    def follow(self, command: str, trace: list[str]) -> None:
        """What the command's answer means for the offsets."""
        words = command.split()
        if len(words) > 1 and words[1] == "commits" and f"{words[0]} <- NONE" in trace:
            group_id = words[0].partition("@")[2] or "g"
            for word in words[2:]:
                if "-" in word and not word.startswith("generation"):
                    what, _, offset = word.partition("=")
                    self.committed[group_id, what] = int(offset)
                    self.commit_ms[group_id, what] = self.clock.elapsed_ms
        elif words[0] == "delete" and "NONE" in trace:
            self.forget(lambda group_id, what: group_id == (words[1] if len(words) > 1 else "g"))
        elif words[0] == "forget":
            codes = next((line.split() for line in trace if line.split()[0].isupper()), [])
            for what, code in zip(words[1:], codes, strict=False):
                if code == "NONE":
                    self.forget(functools.partial(lambda gone, *key: key == gone, ("g", what)))
        elif words[0] == "topic":
            self.forget(lambda group_id, what: what.startswith("u-"))
        elif words[0] == "expire":
            # What is old enough may go, and nothing else: whether it must depends on the group's own story.
            for key, at_ms in list(self.commit_ms.items()):
                if self.clock.elapsed_ms - at_ms >= DAY_MS and self.found(*key) is None:
                    del self.committed[key], self.commit_ms[key]

    def forget(self, which: Callable[[str, str], bool]) -> None:
        for key in [key for key in self.committed if which(*key)]:
            del self.committed[key], self.commit_ms[key]

    def found(self, group_id: str, what: str) -> int | None:
        topic, _, index = what.rpartition("-")
        committed = self.shard.offsets.get(group_id, topic, int(index))
        return None if committed is None else committed.offset

    # --- what must hold ------------------------------------------------------------------------------------------

    def check(self) -> None:
        for group_id in ("g", "h"):
            for what in PARTITIONS:
                assert self.found(group_id, what) == self.committed.get((group_id, what)), (group_id, what)
            group = self.classic.group(group_id)
            if group is None:
                self.generations.pop(group_id, None)
                continue
            assert group.generation >= self.generations.get(group_id, 0), "a generation fell"
            self.generations[group_id] = group.generation
            self.check_group(group)

    def check_group(self, group: ClassicGroup) -> None:
        supported: Counter[str] = Counter()
        for member_id, member in group.members.items():
            assert member.member_id == member_id
            supported.update(member.protocols.keys())
            session = self.shard.timers.deadline(("session", group.group_id, member_id))
            waits = member.join_reply is not None or member.sync_reply is not None
            assert waits or session is not None, f"nobody would miss {member_id}"
        assert +group.supported == supported
        instances = {one.instance_id: one.member_id for one in group.members.values() if one.instance_id is not None}
        assert group.static_members == instances
        assert len(instances) == sum(one.instance_id is not None for one in group.members.values())
        assert not group.pending_joins & group.members.keys()
        assert group.pending_syncs <= group.members.keys()
        assert group.leader_id in group.members or not group.members
        assert bool(group.members) or group.state is GroupState.EMPTY or bool(group.pending_joins)
        if group.state is GroupState.STABLE:
            assert all(one.join_reply is None and one.sync_reply is None for one in group.members.values())
        if group.state is GroupState.PREPARING_REBALANCE:
            kinds = ("join", "initial")
            assert any(self.shard.timers.deadline((kind, group.group_id)) is not None for kind in kinds)

    def check_restarts_agree(self) -> None:
        """The log and a snapshot make the same state."""
        replayed = self.new_shard()
        for record in self.log:
            assert record.key is not None
            replayed.replay(record.key, record.value)
        snapshot = self.new_shard()
        for key, value in read_snapshot(write_snapshot(self.shard.records()(), START_MS)):
            snapshot.replay(key, value)
        assert sorted(replayed.records()()) == sorted(snapshot.records()()) == sorted(self.shard.records()())

    def fall_silent(self) -> None:
        """Everyone goes without a word: in the end nobody waits, and the groups are empty."""
        self.run("wait 5h")
        assert not self.shard.waiting()
        assert all(reply.answers == 1 for reply in self.replies)
        for group_id in ("g", "h"):
            group = self.classic.group(group_id)
            assert group is None or (group.state is GroupState.EMPTY and not group.pending_joins), group_id
        assert self.shard.timers.next() is None
        self.check()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_history(seed: int) -> None:
    history = History(random.Random(seed))
    try:
        for _ in range(STEPS):
            history.step()
        history.check_restarts_agree()
        history.fall_silent()
    except Exception as error:
        error.add_note("\n".join([f"seed {seed}, after:", *history.commands[-40:]]))
        raise


def test_the_histories_do_something() -> None:
    """A history in which everything is refused would prove nothing."""
    outcomes: Counter[str] = Counter()
    stable = 0
    for seed in list(SEEDS)[:20]:
        history = History(random.Random(seed))
        for _ in range(STEPS):
            history.step()
            stable += any(
                group is not None and group.state is GroupState.STABLE
                for group in (history.classic.group("g"), history.classic.group("h"))
            )
        outcomes += history.outcomes
    ended = ("commits well", "heartbeats well", "leaves well", "restart", "expire", "joined", "synced")
    assert min(outcomes[one] for one in ended) > 10, outcomes
    assert stable > 200
