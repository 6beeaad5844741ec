"""Stories of classic groups: a command a line, below it what came of it.

    a joins                      a client; it remembers the member id and the generation it was given
      a <- MEMBER_ID_REQUIRED    an answer, now or to an earlier command
      log: group g ...           a record appended
      g: Empty, ...              the group, when it has changed

Commands (NAME is a client, or NAME@GROUP for a group other than "g"):

    NAME joins [instance=I] [protocols=range,roundrobin] [type=consumer] [topics=t,u] [session=10s] [rebalance=60s]
               [version=9] [as=MEMBER] [anew]       with the id it has; `as` with another's, `anew` with none
    NAME syncs [MEMBER=t-0,t-1 ...] [generation=N] [instance=I] [protocol=P]
    NAME heartbeats [generation=N] [instance=I]
    NAME leaves [instance=I] [version=5]            by the instance id alone, with `instance`
    NAME commits t-0=5 ... [generation=N] [alone]   `alone` as an administrator: no member, no generation
    NAME fetches t-0 ...
    wait 10s              time goes by; timers act when they are due
    restart [snapshot]    the state is made again from the log, or from a snapshot and what follows it
    delete [GROUP]        DeleteGroups
    forget t-0 ...        OffsetDelete
    topic t is deleted
    expire                what offsets.retention.minutes (a day, here) no longer keeps goes
    settings NAME=VALUE...    at the beginning: other settings of the coordinator
    show

Member ids are told by the client's name, a second id of the same client as NAME', and so on.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, TypeVar

from odradek.coordination.groups import committing
from odradek.coordination.groups.classic.consumer_protocol import assigned_partitions
from odradek.coordination.groups.classic.groups import ClassicGroups, classic_groups
from odradek.coordination.groups.classic.membership import join_refused
from odradek.coordination.groups.classic.records import read_group, read_group_key
from odradek.coordination.groups.classic.settings import ClassicSettings
from odradek.coordination.groups.records import Committed, OffsetKey, read_committed, read_offset_key
from odradek.coordination.groups.shard import GroupShard
from odradek.coordination.operation import InSteps, Outcome
from odradek.coordination.snapshots import read_snapshot, write_snapshot
from odradek.errors import ErrorCode, KafkaError
from odradek.protocol.encoding import encode
from odradek.protocol.fields import Message
from odradek.protocol.messages.heartbeat import HeartbeatRequest
from odradek.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse
from odradek.protocol.messages.leave_group import MemberIdentity
from odradek.protocol.messages.list_groups import ListedGroup
from odradek.protocol.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse
from odradek.protocol.records import consumer_assignment, consumer_subscription
from odradek.records.builder import NewRecord

START_MS = 1_700_000_000_000
T = TypeVar("T")
DAY_MS = 86_400_000
VERSION = 9
SETTINGS = ClassicSettings(
    min_session_timeout_ms=6000,
    max_session_timeout_ms=1_800_000,
    initial_rebalance_delay_ms=0,
    new_member_join_timeout_ms=300_000,
    max_size=1000,
)


def listed(shard: GroupShard) -> list[ListedGroup]:
    """Every group, as ListGroups tells of it."""
    return [one for group_id in shard.names() if (one := shard.listed(group_id)) is not None]


def through(steps: InSteps[T], keep: Callable[[Outcome], object]) -> T:
    """Carries out an operation in steps, as the runtime does; `keep` appends and replays each."""
    while True:
        try:
            keep(next(steps))
        except StopIteration as end:
            returned: T = end.value
            return returned


class VirtualClock:
    """Time that a story moves."""

    def __init__(self) -> None:
        self.elapsed_ms = 0

    def now_ms(self) -> int:
        return START_MS + self.elapsed_ms

    def monotonic(self) -> float:
        return self.elapsed_ms / 1000

    ageing = monotonic


class Client:
    """What a client remembers."""

    def __init__(self) -> None:
        self.member_id = ""
        self.generation = -1
        self.instance_id: str | None = None
        self.joined: dict[str, Any] = {}


class StoryReply:
    def __init__(self, story: Story, name: str, refusal: Callable[[ErrorCode], Message]) -> None:
        self.story = story
        self.name = name
        self.refusal = refusal
        self.answers = 0
        story.replies.append(self)

    def answer(self, response: Message) -> None:
        self.answers += 1
        assert self.answers == 1, f"{self.name} is answered twice"
        self.story.told(self.name, response)

    def refuse(self, code: ErrorCode) -> None:
        self.answer(self.refusal(code))


def seconds_ms(text: str) -> int:
    units = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": DAY_MS}
    number = text.rstrip("msdh")
    return int(number) * units[text[len(number) :]]


def partition(text: str) -> tuple[str, int]:
    topic, _, index = text.rpartition("-")
    return topic, int(index)


class Story:
    """One story's world: a shard, its log, its clients and the time."""

    def __init__(self) -> None:
        self.settings = SETTINGS
        self.offsets_retention_ms = DAY_MS
        self.clock = VirtualClock()
        self.choose = random.Random(1)
        self.log: list[NewRecord] = []
        self.clients: dict[str, Client] = {}
        self.aliases: dict[str, str] = {"": "nobody"}
        self.trace: list[str] = []
        self.replies: list[StoryReply] = []
        """All that were ever asked for."""
        self.shown: dict[str, str] = {}
        self.shard = self.new_shard()

    def new_shard(self) -> GroupShard:
        return GroupShard([classic_groups(self.settings)], self.offsets_retention_ms, self.clock, self.choose)

    @property
    def classic(self) -> ClassicGroups:
        return self.shard.of(ClassicGroups)

    # --- telling -------------------------------------------------------------------------------------------------

    def alias(self, member_id: str, owner: str | None = None) -> str:
        if member_id not in self.aliases:
            # Somebody whose own answer is still to come.
            name = owner or next(
                member.client_id.partition("@")[0]
                for one in listed(self.shard)
                for member in self.classic.group(one.group_id).members.values()  # type: ignore[union-attr]
                if member.member_id == member_id
            )
            while name in self.aliases.values():
                name += "'"
            self.aliases[member_id] = name
        return self.aliases[member_id]

    def told(self, name: str, response: Message) -> None:
        client = self.clients[name]
        if isinstance(response, JoinGroupResponse):
            words = [ErrorCode(response.error_code).name] if response.error_code else []
            if response.error_code in (ErrorCode.NONE, ErrorCode.MEMBER_ID_REQUIRED):
                client.member_id = response.member_id
                self.alias(response.member_id, name.partition("@")[0])
            if not response.error_code:
                client.generation = response.generation_id
                # A reply that a member got under another's name tells no more than this.
                words += [f"generation {response.generation_id}", f"{response.protocol_name}"]
                words.append(f"leader {self.alias(response.leader)}")
                if self.alias(response.member_id) != name.partition("@")[0]:
                    words.append(f"as {self.alias(response.member_id)}")
                if response.members:
                    words.append("members " + " ".join(self.alias(one.member_id) for one in response.members))
                if response.skip_assignment:
                    words.append("skip assignment")
            self.trace.append(f"{name} <- " + ("joined: " if not response.error_code else "") + ", ".join(words))
        elif isinstance(response, SyncGroupResponse):
            if response.error_code:
                self.trace.append(f"{name} <- {ErrorCode(response.error_code).name}")
            else:
                self.trace.append(f"{name} <- synced: {self.assignment(bytes(response.assignment))}")
        else:
            raise AssertionError(response)

    def assignment(self, data: bytes) -> str:
        assigned = assigned_partitions(data)
        if not data or assigned is None:
            return "nothing"
        return " ".join(f"{topic}-{index}" for topic, indexes in assigned.items() for index in indexes) or "nothing"

    def describe(self, group_id: str) -> str:
        group = self.shard.describe(group_id)
        if group is None:
            return "gone"
        live = self.classic.group(group_id)
        words = [group.group_state]
        if live is not None:
            words.append(f"generation {live.generation}")
            members = [
                self.alias(one.member_id)
                + ("*" if one.member_id == live.leader_id else "")
                + (" joining" if one.join_reply else "")
                + (" syncing" if one.sync_reply else "")
                for one in live.members.values()
            ]
            if members:
                words.append("members " + ", ".join(members))
            if live.pending_joins:
                words.append("expected " + ", ".join(sorted(self.alias(one) for one in live.pending_joins)))
        return ", ".join(words)

    def record(self, record: NewRecord) -> str:
        assert record.key is not None
        key = read_offset_key(record.key)
        if key is not None:
            where = f"log: {key.group_id} {key.topic}-{key.partition}"
            return f"{where} = {read_committed(record.key, record.value).offset}" if record.value else f"{where} gone"
        group_id = read_group_key(record.key)
        assert group_id is not None
        if record.value is None:
            return f"log: group {group_id} gone"
        value = read_group(record.value)
        members = " ".join(
            f"{self.alias(one.member_id)}:{self.assignment(bytes(one.assignment)).replace(' ', '+')}"
            for one in value.members
        )
        return f"log: group {group_id} generation {value.generation}" + (f", {members}" if members else ", empty")

    # --- doing ---------------------------------------------------------------------------------------------------

    def run(self, command: str) -> list[str]:
        """What a command leads to."""
        self.trace = []
        words = command.split()
        if words[0] in ("wait", "restart", "delete", "forget", "topic", "expire", "settings", "show"):
            getattr(self, f"do_{words[0]}")(words[1:])
        else:
            name, verb = words[0], words[1]
            client = self.clients.setdefault(name, Client())
            self.do_client(name, name.partition("@")[2] or "g", client, verb, words[2:])
        self.show_changes()
        return self.trace

    def show_changes(self) -> None:
        groups = {one.group_id for one in listed(self.shard)}
        for group_id in sorted(groups | self.shown.keys()):
            now = self.describe(group_id)
            if self.shown.get(group_id) != now:
                self.shown[group_id] = now
                self.trace.append(f"{group_id}: {now}")
            if group_id not in groups:
                del self.shown[group_id]

    def carry_out(self, operation: Callable[[Outcome], None]) -> None:
        """As the runtime does."""
        outcome = Outcome()
        operation(outcome)
        self.keep(outcome)

    def keep(self, outcome: Outcome) -> None:
        """Records appended and replayed, then the answers."""
        answers = []
        for reply, response in outcome.answers:
            answers.append((reply, response))
        for record in outcome.records:
            assert record.key is not None
            self.log.append(record)
            self.shard.replay(record.key, record.value)
        told_before = len(self.trace)
        for reply, response in answers:
            if isinstance(response, ErrorCode):
                reply.refuse(response)
            else:
                reply.answer(response)
        # After the answers, which name members that are new.
        self.trace[told_before:told_before] = [self.record(record) for record in outcome.records]

    def do_client(self, name: str, group_id: str, client: Client, verb: str, words: list[str]) -> None:
        options = dict(word.split("=", 1) for word in words if "=" in word)
        flags = [word for word in words if "=" not in word]
        generation = int(options.pop("generation", client.generation))
        asked = len(self.replies)
        try:
            if verb == "joins":
                self.join(name, group_id, client, options, flags)
            elif verb == "syncs":
                self.sync(name, group_id, client, generation, options)
            elif verb == "heartbeats":
                request = HeartbeatRequest(
                    group_id=group_id,
                    generation_id=generation,
                    member_id=client.member_id,
                    group_instance_id=options.get("instance"),
                )
                answer = self.classic.heartbeat(request)
                self.trace.append(f"{name} <- {ErrorCode(answer.error_code).name}")
            elif verb == "leaves":
                instance_id = options.get("instance")
                member_id = "" if instance_id is not None else client.member_id
                leaving = MemberIdentity(member_id=member_id, group_instance_id=instance_id)
                codes: list[int] = []

                def leave(outcome: Outcome) -> None:
                    codes.extend(one.error_code for one in self.classic.leave(group_id, [leaving], outcome))

                self.carry_out(leave)
                self.trace.append(f"{name} <- {ErrorCode(codes[0]).name}")
            elif verb == "commits":
                alone = "alone" in flags
                member_id, generation = ("", -1) if alone else (client.member_id, generation)
                commits = [
                    (OffsetKey(group_id, *partition(what)), Committed(int(offset), -1, "", self.clock.now_ms()))
                    for what, offset in options.items()
                ]

                def commit(outcome: Outcome) -> None:
                    check = committing.check_commit(self.shard, group_id, member_id, None, generation, VERSION)
                    committing.commit(self.shard, commits, check, outcome)

                self.carry_out(commit)
                self.trace.append(f"{name} <- NONE")
            elif verb == "fetches":
                found = [(what, self.shard.offsets.get(group_id, *partition(what))) for what in flags]
                told = " ".join(f"{what}={'nothing' if one is None else one.offset}" for what, one in found)
                self.trace.append(f"{name} <- {told}")
            else:
                raise AssertionError(f"no client can {verb}")
        except KafkaError as error:
            self.trace.append(f"{name} <- {error.code.name}")
            # The runtime answers with it.
            for reply in self.replies[asked:]:
                reply.answers += 1
                assert reply.answers == 1, f"{name} is answered twice"

    def join(self, name: str, group_id: str, client: Client, options: dict[str, str], flags: list[str]) -> None:
        if "instance" in options:
            client.instance_id = options["instance"]
        client.joined.update(options)
        said = client.joined
        subscription = consumer_subscription.ConsumerProtocolSubscription(topics=said.get("topics", "t").split(","))
        metadata = b"\0\0" + encode(subscription, 0)
        member_id = client.member_id
        if "as" in options:
            whose = said.pop("as")
            member_id = next(one for one, alias in self.aliases.items() if alias == whose)
        if "anew" in flags:
            member_id = ""
        request = JoinGroupRequest(
            group_id=group_id,
            session_timeout_ms=seconds_ms(said.get("session", "10s")),
            rebalance_timeout_ms=seconds_ms(said.get("rebalance", "60s")),
            member_id=member_id,
            group_instance_id=client.instance_id,
            protocol_type=said.get("type", "consumer"),
            protocols=[
                JoinGroupRequestProtocol(name=one, metadata=metadata)
                for one in said.get("protocols", "range").split(",")
            ],
        )
        version = int(said.get("version", "9"))
        reply = StoryReply(self, name, lambda code: join_refused(code, member_id, version))

        def join(outcome: Outcome) -> None:
            self.classic.join(reply, request, version, (name, "/127.0.0.1"), outcome)

        self.carry_out(join)

    def sync(self, name: str, group_id: str, client: Client, generation: int, options: dict[str, str]) -> None:
        ids = {alias: member_id for member_id, alias in self.aliases.items()}
        instance_id, protocol = options.pop("instance", None), options.pop("protocol", None)
        assignments = []
        for alias, partitions in options.items():
            topics: dict[str, list[int]] = {}
            for one in partitions.split(","):
                topics.setdefault(partition(one)[0], []).append(partition(one)[1])
            told = consumer_assignment.ConsumerProtocolAssignment(
                assigned_partitions=[
                    consumer_assignment.TopicPartition(topic=topic, partitions=indexes)
                    for topic, indexes in topics.items()
                ]
            )
            assignments.append(SyncGroupRequestAssignment(member_id=ids[alias], assignment=b"\0\0" + encode(told, 0)))
        request = SyncGroupRequest(
            group_id=group_id,
            generation_id=generation,
            member_id=client.member_id,
            group_instance_id=instance_id,
            protocol_name=protocol,
            assignments=assignments,
        )
        reply = StoryReply(self, name, lambda code: SyncGroupResponse(error_code=code))
        self.carry_out(lambda outcome: self.classic.sync(reply, request, outcome))

    # --- what the world does -------------------------------------------------------------------------------------

    def do_wait(self, words: list[str]) -> None:
        end_ms = self.clock.elapsed_ms + seconds_ms(words[0])
        while (at := self.shard.timers.next()) is not None and round(at * 1000) <= end_ms:
            self.clock.elapsed_ms = max(self.clock.elapsed_ms, round(at * 1000))
            for key in self.shard.timers.due(self.clock.monotonic()):
                self.carry_out(lambda outcome, key=key: self.shard.due(key, outcome))  # type: ignore[misc]
        self.clock.elapsed_ms = end_ms

    def do_restart(self, words: list[str]) -> None:
        for reply in self.shard.waiting():
            reply.refuse(ErrorCode.NOT_COORDINATOR)
        if "snapshot" in words:
            data = write_snapshot(self.shard.records()(), self.clock.now_ms())
            records = list(read_snapshot(data))
        else:
            records = [(record.key or b"", record.value) for record in self.log]
        self.shard = self.new_shard()
        for key, value in records:
            self.shard.replay(key, value)
        self.shard.prepare()
        self.shard.loaded()

    def do_delete(self, words: list[str]) -> None:
        code = through(self.shard.delete(words[0] if words else "g"), self.keep)
        self.trace.append(code.name)

    def do_forget(self, words: list[str]) -> None:
        try:
            codes = through(self.shard.delete_offsets("g", [partition(one) for one in words]), self.keep)
        except KafkaError as error:
            codes = [error.code]
        self.trace.append(" ".join(code.name for code in codes))

    def do_topic(self, words: list[str]) -> None:
        through(self.shard.forget_topics(words[0].__eq__), self.keep)

    def do_expire(self, words: list[str]) -> None:
        through(self.shard.expire(self.clock.now_ms()), self.keep)

    def do_settings(self, words: list[str]) -> None:
        changes = {name: int(value) for name, value in (one.split("=") for one in words)}
        self.offsets_retention_ms = changes.pop("offsets_retention_ms", self.offsets_retention_ms)
        self.settings = self.settings._replace(**changes)
        self.shard = self.new_shard()

    def do_show(self, words: list[str]) -> None:
        self.shown.clear()
