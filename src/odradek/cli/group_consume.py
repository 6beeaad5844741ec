"""`odradek consume --group`: reads the partitions that a group assigns, prints their records, and commits offsets.

Role: the loop around `group_member` (which partitions are assigned) and `consumer` (their records): it decides when to
send heartbeats, commit, rejoin and leave, and how the command ends.

Invariants: an offset is committed only when all records before it have been written to the output, so that no record is
lost. Records that were printed but could not be committed will be read again, and a note says so. The first SIGINT or
SIGTERM ends the reading, commits and leaves the group; a second one ends the command at once.
"""

from __future__ import annotations

import select
import signal
from collections.abc import Callable, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any

from odradek.cli.consume_filters import RecordFilter
from odradek.cli.failures import FAILED, CommandFailed, told
from odradek.cli.record_format import Line
from odradek.cli.record_lines import print_round
from odradek.client.cluster import LATEST, Client
from odradek.client.consumer import Consumer
from odradek.client.group_coordinator import NotYet
from odradek.client.group_member import GroupMember, Standing, Stopped
from odradek.clock import SystemClock

if TYPE_CHECKING:
    from odradek.records.batch import BatchHeader
    from odradek.records.iteration import Record

COMMIT_INTERVAL_S = 5.0
# A commit that found no coordinator is retried after this time.
COMMIT_RETRY_S = 1.0
# How long to wait between checks of the group while no partition is assigned.
IDLE_S = 0.25

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_clock = SystemClock()


class GroupConsumption:
    """Reads and prints the `wanted` records (None: all) until `left` records are printed (-1: no bound), the `ends` are
    reached (None: never), or a signal arrives. `begin` finds the offsets to begin at for partitions without a committed
    offset. Offsets of records that are read but not wanted are committed too."""

    def __init__(
        self,
        client: Client,
        topic: str,
        begin: Callable[[Client, str, dict[int, int]], dict[int, int]],
        line: Line,
        left: int,
        ends: Mapping[int, int] | None,
        note: Callable[[str], None],
        wanted: RecordFilter | None = None,
    ) -> None:
        self._client = client
        self._topic = topic
        self._begin = begin
        self._line = line
        self._left = left
        self._ends = ends
        self._note = note
        self._wanted = wanted
        self._signal = 0
        self._standing = Standing.STABLE
        self._consumer = Consumer(client, topic, {})
        self._printed: dict[int, int] = {}  # by partition: the offset after the last record in the output
        self._committed: dict[int, int] = {}
        self._leader_epochs: dict[int, int] = {}
        self._commit_at = 0.0

    def is_stopping(self) -> bool:
        """Whether a signal has asked the command to end."""
        return self._signal != 0

    def run(self, member: GroupMember) -> None:
        """Joins, reads and leaves. Raises `CommandFailed`, `BrokenPipeError`; `KeyboardInterrupt` or `SystemExit`
        after a signal."""
        before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        try:
            try:
                self._read(member)
            except Stopped:
                self._end(member)
            except (*FAILED, OSError):
                try:
                    self._end(member)
                except FAILED as error:
                    self._note(told(error))
                raise
            else:
                self._end(member)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self._signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self._signal:
            raise SystemExit(128 + self._signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._signal:
            raise KeyboardInterrupt
        self._signal = number

    def _read(self, member: GroupMember) -> None:
        while self._left:
            self._take_over(member, member.join())
            if self._read_generation(member):
                return
            if self._standing is Standing.REBALANCING:
                self._commit(member)
            if self._standing is Standing.EXPELLED:
                self._note("the group has gone on without this member; it joins again")
                self._note_uncommitted()

    def _take_over(self, member: GroupMember, partitions: list[int]) -> None:
        """Begins to read the partitions that the group has assigned."""
        self._standing = Standing.STABLE
        self._printed, self._committed = {}, {}
        self._commit_at = _clock.monotonic() + COMMIT_INTERVAL_S
        positions: dict[int, int] = {}
        if partitions:
            found = member.group_client.committed([(self._topic, partition) for partition in partitions])
            self._committed = {partition: committed.offset for (_, partition), committed in found.items()}
            now_ends = self._client.offsets(self._topic, dict.fromkeys(partitions, LATEST))
            for partition, offset in self._committed.items():
                if offset > now_ends[partition]:
                    raise CommandFailed(
                        f"the group's offset of {self._topic}-{partition} is {offset}, which is beyond the end, "
                        f"{now_ends[partition]}; `odradek group reset` sets another."
                    )
            new = {partition: end for partition, end in now_ends.items() if partition not in self._committed}
            positions = self._committed | (self._begin(self._client, self._topic, new) if new else {})
        ends = None if self._ends is None else {partition: self._ends.get(partition, 0) for partition in partitions}
        self._consumer = Consumer(self._client, self._topic, positions, ends, self._note)
        self._printed = self._consumer.positions
        names = ", ".join(map(str, partitions))
        what = f"reads partition{'s' * (len(partitions) > 1)} {names}" if partitions else "has no partition to read"
        self._note(f"this member {what} of {self._topic} (generation {member.generation})")

    def _read_generation(self, member: GroupMember) -> bool:
        """Reads and prints in one generation. Returns True when the command is done, False when the group changes."""
        while self._left and not self._signal:
            if self._ends is not None and self._consumer.is_done:
                return True
            if self._printed:
                self._left = print_round(self._records(), self._line, self._left, lambda: self._on_written(member))
            else:
                select.select([], [], [], IDLE_S)
                self._look_after(member)
            if self._standing is not Standing.STABLE:
                return not self._left
        return True

    def _records(self) -> Any:
        found: tuple[int, BatchHeader, Record]
        for found in self._consumer.poll():
            partition, header, record = found
            self._leader_epochs[partition] = header.leader_epoch
            if self._wanted is None or self._wanted(record):
                yield found

    def _on_written(self, member: GroupMember) -> bool:
        self._printed = self._consumer.positions
        self._look_after(member)
        return self._standing is Standing.STABLE and not self._signal

    def _look_after(self, member: GroupMember) -> None:
        """Sends a heartbeat and commits, if they are due."""
        self._standing = member.check()
        now = _clock.monotonic()
        if self._standing is not Standing.STABLE or now < self._commit_at:
            return
        try:
            self._standing = self._commit_once(member, retry=False)
            self._commit_at = now + COMMIT_INTERVAL_S
        except NotYet:
            self._commit_at = now + COMMIT_RETRY_S

    def _commit(self, member: GroupMember) -> None:
        """Commits before partitions are given up; notes which offsets could not be committed."""
        if self._commit_once(member, retry=True) is not Standing.STABLE:
            self._note_uncommitted()

    def _commit_once(self, member: GroupMember, retry: bool) -> Standing:
        new = self._uncommitted()
        standing = Standing.STABLE
        if new:
            standing = member.commit(new, self._leader_epochs, retry)
            if standing is Standing.STABLE:
                self._committed |= new
        return standing

    def _uncommitted(self) -> dict[int, int]:
        return {p: offset for p, offset in self._printed.items() if self._committed.get(p) != offset}

    def _note_uncommitted(self) -> None:
        for partition, offset in sorted(self._uncommitted().items()):
            if partition in self._committed:
                self._note(
                    f"records {self._committed[partition]} to {offset - 1} of {self._topic}-{partition} are printed, "
                    "but not committed: they will come again."
                )
        self._printed = {}

    def _end(self, member: GroupMember) -> None:
        """Commits, and leaves the group."""
        if member.is_in_generation:
            self._commit(member)
        try:
            member.leave()
        except NotYet as error:
            self._note(f"could not leave the group, which waits for the session's end: {error}")
