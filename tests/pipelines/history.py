"""What transactional pipelines did and what readers saw, and what of it may not be.

Role: the checker behind the campaign `transactions` and the tests of it. A pipeline moves records from the topic "in"
to a topic of its own, each to the partition it came from, and says what it does; a reader reads the outputs along with
`read_committed`; at the end somebody reads them whole. `check` compares the three:

- every input is there once, and in its order (nothing lost, nothing twice, offsets and output moved together);
- what is said to be committed is there whole, what is said to be aborted is not there, of what nobody knows the end
  there is all or nothing (no torn transaction, no aborted read);
- what was read along is what is there in the end (a committed record is for ever), from the beginning, without gaps;
- nothing was read before its transaction was about to be committed.

Without I/O. A record's value is `TAG:INPUT`, the tag being its transaction's; records of a pipeline that says nothing
about its transactions have no tag, only `INPUT`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

LOSSES_MAX = 20


class Written(NamedTuple):
    """A record of an output, as it was read."""

    partition: int
    offset: int
    value: str

    @property
    def tag(self) -> str:
        return self.value.rpartition(":")[0]

    @property
    def input(self) -> str:
        return self.value.rpartition(":")[2]


class Seen(NamedTuple):
    """A record that was read along, and when (ns of the wall clock)."""

    record: Written
    at_ns: int


@dataclass
class Transaction:
    """What a pipeline said about one of its transactions."""

    records: list[tuple[int, str]] = field(default_factory=list)
    """Partition and input of each."""
    committing_ns: int | None = None
    """When it was about to be committed (ns of the wall clock); None: it never was."""
    end: str = "unknown"
    """Or "committed", "aborted"."""


@dataclass
class History:
    """One pipeline. `inputs`: the values of "in" by partition, in order, that it has to move."""

    name: str
    inputs: Mapping[int, Sequence[str]] = field(default_factory=dict)
    tagged: bool = True
    transactions: dict[str, Transaction] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    committed_offsets: list[tuple[int, int]] = field(default_factory=list)
    """(partition, offset) of the group, each time somebody asked, in order."""
    anomalies: list[str] = field(default_factory=list)
    """Seen while it happened."""

    def told(self, line: Mapping[str, object]) -> None:
        """Takes a line of the pipeline (see `confluent.py`)."""
        event, tag = line.get("event"), line.get("tag")
        if not isinstance(tag, str):
            return
        transaction = self.transactions.setdefault(tag, Transaction())
        if event in ("committing", "aborting"):
            records, at_ns = line["records"], line["at_ns"]
            assert isinstance(records, list) and isinstance(at_ns, int)
            transaction.records = [(int(partition), str(value)) for partition, value in records]
            transaction.committing_ns = at_ns if event == "committing" else None
        elif event in ("committed", "aborted"):
            transaction.end = event

    def count(self, end: str) -> int:
        return sum(transaction.end == end for transaction in self.transactions.values())


def check(history: History, final: Sequence[Written]) -> list[str]:
    """What may not be, as sentences; `final` is the whole output under read_committed, when all is quiet."""
    losses = list(history.anomalies)
    losses += _inputs_once(history, final)
    losses += _whole_or_not_at_all(history, final)
    losses += _read_along(history, final)
    losses += _offsets_never_back(history)
    return [f"{history.name}: {loss}" for loss in losses[:LOSSES_MAX]]


def _inputs_once(history: History, final: Sequence[Written]) -> list[str]:
    losses = []
    for partition, inputs in history.inputs.items():
        moved = [record.input for record in sorted(final) if record.partition == partition]
        if moved == list(inputs):
            continue
        for value in sorted(set(inputs) - set(moved)):
            losses.append(f"input {value} of partition {partition} is not in the output")
        for value in sorted({value for value in moved if moved.count(value) > 1}):
            losses.append(f"input {value} of partition {partition} is in the output {moved.count(value)} times")
        for value in sorted(set(moved) - set(inputs)):
            losses.append(f"{value} in partition {partition} of the output is no input")
        if not losses:
            losses.append(f"partition {partition} of the output is out of order")
    strangers = {record.partition for record in final} - set(history.inputs)
    return losses + [f"there are records in partition {partition}" for partition in sorted(strangers)]


def _whole_or_not_at_all(history: History, final: Sequence[Written]) -> list[str]:
    if not history.tagged:
        return []
    there: dict[str, list[tuple[int, str]]] = {}
    for record in final:
        there.setdefault(record.tag, []).append((record.partition, record.input))
    losses = [
        f"transaction {tag} can be read, and was never to be committed"
        for tag in there
        if (said := history.transactions.get(tag)) is None or said.committing_ns is None
    ]
    for tag, transaction in history.transactions.items():
        found, written = len(there.get(tag, [])), len(transaction.records)
        if transaction.end == "aborted" and found:
            losses.append(f"transaction {tag} was aborted, and {found} of its {written} records can be read")
        elif transaction.end == "committed" and sorted(there.get(tag, [])) != sorted(transaction.records):
            losses.append(f"transaction {tag} was committed, and {found} of its {written} records can be read")
        elif found and transaction.end == "unknown" and sorted(there[tag]) != sorted(transaction.records):
            losses.append(f"transaction {tag} is torn: {found} of its {written} records can be read")
    return losses


def _read_along(history: History, final: Sequence[Written]) -> list[str]:
    losses = []
    for partition in sorted({one.record.partition for one in history.seen}):
        seen = [one.record for one in history.seen if one.record.partition == partition]
        there = sorted(record for record in final if record.partition == partition)[: len(seen)]
        for mine, theirs in zip(seen, there, strict=False):
            if mine != theirs:
                losses.append(f"{mine} was read where in the end there is {theirs}")
                break
        if len(there) < len(seen):
            losses.append(f"{len(seen)} records were read of partition {partition}, and {len(there)} are there")
    for record, at_ns in history.seen if history.tagged else ():
        said = history.transactions.get(record.tag)
        if said is not None and said.committing_ns is not None and at_ns < said.committing_ns:
            losses.append(
                f"{record} was read {said.committing_ns - at_ns} ns before its transaction was to be committed"
            )
    return losses


def _offsets_never_back(history: History) -> list[str]:
    losses = []
    for partition in sorted({partition for partition, _ in history.committed_offsets}):
        offsets = [offset for of, offset in history.committed_offsets if of == partition]
        for before, after in pairwise(offsets):
            if after < before:
                losses.append(f"the group's offset of partition {partition} went from {before} back to {after}")
    return losses
