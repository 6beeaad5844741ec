"""Stories of transactions: a command a line, below it what came of it.

    a begins                    a producer with the transactional id "x"; it remembers its producer id and epoch
      log: x Empty, producer 0 epoch 0
      a <- producer 0 epoch 0
    a adds t-0 t-1              partitions, as transactions version 2 or 1 (`old`) do

Commands (NAME is a producer; it uses what it was given last, or `epoch=N`, `producer=N`):

    NAME begins [timeout=60s] [again]       `again` names what it has (KIP-360)
    NAME adds t-0 ... [old]
    NAME commits [old] | NAME aborts [old]
    NAME verifies t-0 ...
    complete                    every marker of what is prepared is durable
    wait 10s                    time goes by
    look                        what is out of time is fenced
    expire                      silent ids are forgotten
    restart [snapshot]          the state is made again from the log, or from a snapshot
    epoch N                     the id has come this far
"""

from __future__ import annotations

from odradek.coordination.operation import Outcome
from odradek.coordination.snapshots import read_snapshot, write_snapshot
from odradek.coordination.transactions.records import Transaction, read_key, read_transaction, record
from odradek.coordination.transactions.shard import TransactionShard
from odradek.errors import KafkaError
from odradek.records.builder import NewRecord
from tests.coordination.stories import START_MS, VirtualClock

ID = "x"
WEEK_MS = 604_800_000


class Story:
    """One shard and its producers."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.log: list[NewRecord] = []
        self.prepared: list[str] = []
        self.shard = self._make()
        self.given: dict[str, tuple[int, int]] = {}
        self.next_producer_id = 0

    def _make(self) -> TransactionShard:
        return TransactionShard(self.clock, self.prepared.extend)

    def run(self, line: str) -> list[str]:
        """What comes of a command."""
        first, *words = line.split()
        if first == "complete":
            return self._do(lambda out: [self.shard.complete(ID, self.shard.transactions[ID], out)][:0])
        if first == "wait":
            self.clock.elapsed_ms += _ms(words[0])
            return []
        if first == "look":
            return [
                line
                for name, late in self.shard.out_of_time()
                for line in self._do(lambda out, n=name, t=late: [self.shard.fence(n, t.producer_id, t.epoch, out)][:0])  # type: ignore[misc]
            ]
        if first == "expire":
            steps = self.shard.expire(self.clock.now_ms(), WEEK_MS)
            return [line for outcome in steps for line in self._keep(outcome.records)]
        if first == "epoch":
            moved = self.shard.transactions[ID]._replace(epoch=int(words[0]))
            return self._keep([record(ID, moved, self.clock.now_ms())])
        if first == "restart":
            return self._restart("snapshot" in words)
        return self._producer(first, words[0], words[1:])

    def _restart(self, by_snapshot: bool) -> list[str]:
        self.prepared.clear()
        records = [(one.key or b"", one.value) for one in self.log]
        if by_snapshot:
            records = list(read_snapshot(write_snapshot(self.shard.records()(), START_MS)))
        self.shard = self._make()
        for key, value in records:
            self.shard.replay(key, value)
        self.shard.prepare()
        self.shard.loaded()
        return [f"to be completed: {' '.join(self.prepared)}"] if self.prepared else []

    def _producer(self, name: str, verb: str, words: list[str]) -> list[str]:
        options = dict(word.split("=") for word in words if "=" in word)
        partitions = [(word[:-2], int(word[-1])) for word in words if "-" in word]
        had = self.given.get(name, (-1, -1))
        who = int(options.get("producer", had[0])), int(options.get("epoch", had[1]))
        version = 0 if "old" in words else 2

        def operation(out: Outcome) -> list[str]:
            if verb == "begins":
                expected = who if "again" in words else None
                new = self.next_producer_id if self.shard.needs_producer_id(ID) else -1
                given = self.shard.init(ID, _ms(options.get("timeout", "60s")), expected, new, out)
                self.next_producer_id += new >= 0
                if given is None:
                    open_one = self.shard.transactions[ID]
                    self.shard.fence(ID, open_one.producer_id, open_one.epoch, out)
                    return [f"{name} <- has to wait"]
                self.given[name] = given
                return [f"{name} <- producer {given[0]} epoch {given[1]}"]
            if verb == "adds":
                self.shard.add_partitions(ID, *who, frozenset(partitions), version, out)
                return [f"{name} <- NONE"]
            if verb == "verifies":
                return [f"{name} <- {self.shard.verify(ID, *who, partitions)}"]
            assert verb in ("commits", "aborts"), verb
            new = self.next_producer_id if self.shard.needs_producer_id(ID) else -1
            given = self.shard.end(ID, *who, verb == "commits", version, new, out)
            self.next_producer_id += new >= 0
            self.given[name] = given
            return [f"{name} <- producer {given[0]} epoch {given[1]}"]

        try:
            return self._do(operation)
        except KafkaError as error:
            return [f"{name} <- {error.code.name}"]

    def _do(self, operation: object) -> list[str]:
        out = Outcome()
        told: list[str] = operation(out)  # type: ignore[operator]
        return self._keep(out.records) + told

    def _keep(self, records: list[NewRecord]) -> list[str]:
        lines = []
        for one in records:
            assert one.key is not None
            self.shard.replay(one.key, one.value)
            self.log.append(one)
            name = read_key(one.key)
            lines.append(f"log: {name} " + (_shown(read_transaction(one.value)) if one.value else "forgotten"))
        return lines


def _shown(one: Transaction) -> str:
    told = f"{one.state.shown}, producer {one.producer_id} epoch {one.epoch}"
    if one.partitions:
        told += ", " + " ".join(f"{topic}-{index}" for topic, index in sorted(one.partitions))
    return told if one.next_producer_id < 0 else f"{told}, next producer {one.next_producer_id}"


def _ms(text: str) -> int:
    unit = {"ms": 1, "s": 1000, "m": 60_000, "d": 86_400_000}
    digits = text.rstrip("msd")
    return int(digits) * unit[text[len(digits) :]]
