"""Writes, rolls and flushes that fail, in both flush modes: does a log that fails lose what it had acknowledged?

Role: a campaign (see `torture.py`), of the histories of `log_histories` with a disk that fails often and in many ways:
the n-th write, creation, opening, truncation or flush is refused (EIO, EFBIG, EMFILE, no room), writes are cut short,
all descriptors are gone for a while; between them kills, clean stops, DeleteRecords and retention. Whenever a log is
opened again, what it holds is compared with what was promised. The same seed does the same.

What must hold: after a failed write, roll or opening nothing is missing that was acknowledged, in the page cache
(`os`) or on the disk (`disk`), and nothing that was read. What a failed *flush* leaves behind the last good one is not
to be trusted, in either mode, and may go; what lies before it may not. A disk says that by an error of its own: where
the system had no descriptor left, nothing was lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import os
import random
from collections.abc import Callable, Sequence

from odradek.engines.interface import LogFailure, PartitionLog
from odradek.records.batch import Buffer
from tests.adversity.log_histories import CONFIG, NAMES, AllFacts, History, compare, kill, read_whole
from tests.adversity.memory_disk import MemoryDisk, run
from tests.adversity.recorded_disk import RecordedDisk
from tests.adversity.torture import Report

STEPS = 30
LOSSES_MAX = 20
OPENINGS_MAX = 10
FLUSHES = ("sync", "sync_folder", "syncfs")
MODES = ("disk", "os", "os")
NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)
# What is refused, where, with what.
FAILURES = (
    ("write", ".log", (errno.EIO, errno.EFBIG, errno.ENOSPC)),
    ("create", ".log", (errno.EMFILE, errno.EIO, errno.ENOSPC)),
    ("open", ".log", (errno.EMFILE, errno.EIO)),
    ("create", "", (errno.EMFILE,)),
    ("sync", ".log", (errno.EIO,)),
    ("sync", "", (errno.EIO,)),
    ("sync_folder", "", (errno.EIO, errno.EMFILE)),
    ("syncfs", "", (errno.EIO,)),
    ("rename", "", (errno.EIO,)),
)
NEEDS_DESCRIPTOR = ("create", "open", "sync_folder")


class GaveUp(Exception):
    """A log that does not open again."""


def nothing(operation: str, path: str) -> None:
    """Refuses nothing."""


class FailingDisk(RecordedDisk):
    """Also openings are refused, and a write that is refused may have been done in part."""

    def __init__(self, inner: MemoryDisk, chance: random.Random) -> None:
        super().__init__(inner)
        self.chance = chance

    def open(self, path: str, create: bool = False, writable: bool = True) -> int:
        if not create:
            self.refuse("open", path)
        return super().open(path, create, writable)

    def write_at(self, fd: int, buffers: Sequence[Buffer], position: int) -> int:
        try:
            return super().write_at(fd, buffers, position)
        except OSError as error:
            data = b"".join(buffers)
            if error.errno != errno.ENOSPC and self.chance.random() < 0.5:
                self.inner.write_at(fd, [data[: self.chance.randrange(len(data))]], position)
            raise


class FailingHistory(History):
    """A history whose facts are known at every moment, and looked at whenever a log is opened."""

    disk: FailingDisk

    def __init__(self, chance: random.Random, disk: FailingDisk) -> None:
        super().__init__(chance, disk)
        self.facts = AllFacts()
        self.mark = self.facts.apply
        self.losses: list[str] = []
        self.modes = {name: chance.choice(MODES) for name in NAMES}
        self.flush_messages = {name: chance.choice((3, 40, 1 << 62)) for name in NAMES}
        self.distrusted: set[str] = set()
        """Logs that a flush has failed of."""
        self.told: list[str] = []
        """What was refused."""

    async def open_log(self, name: str) -> None:
        identity = self.identities.get(name)
        if identity is not None:
            config = dataclasses.replace(
                CONFIG,
                segment_bytes=100_000 if name == "stock" else 1200,
                flush=self.modes[name],
                flush_messages=self.flush_messages[name],
            )
            log = self.logs[name] = await self.engine.open(identity, config)
            await self._look(name, log)
            self.show(log)
        else:
            await super().open_log(name)
            self.logs[name].configure(dataclasses.replace(self.logs[name].config, flush=self.modes[name]))

    async def _look(self, name: str, log: PartitionLog) -> None:
        facts = self.facts.of(log.identity)
        refuse, self.disk.refuse, self.beside = self.disk.refuse, nothing, 0
        losses: list[str] = []
        found = await read_whole(log, losses)
        losses += compare(facts, log.start_offset, log.end_offset, found)
        self.losses += [f"{self.modes[name]}: {loss}, after {', '.join(self.told[-3:])}" for loss in losses[:2]]
        self.disk.refuse = refuse

    async def reopen(self, name: str, log: PartitionLog) -> None:
        flushed_end = log.flushed_end  # type: ignore[attr-defined]
        await log.close()
        for _ in range(OPENINGS_MAX):
            try:
                if name in self.distrusted:
                    self._forget(log, flushed_end)
                await self.open_log(name)
                return
            except LogFailure:
                self.disk.refuse = nothing
        self.losses.append(f"{name} cannot be opened, and nothing is refused any more")
        raise GaveUp

    def _forget(self, log: PartitionLog, flushed_end: int) -> None:
        """What lies behind the last good flush is not promised any more."""
        facts = self.facts.of(log.identity)
        for offset in [one for one, batch in facts.acknowledged.items() if batch.end_offset > flushed_end]:
            del facts.acknowledged[offset]
        facts.shown = min(facts.shown, flushed_end)
        self.shown[log.identity.topic_id] = facts.shown

    # --- steps ---------------------------------------------------------------------------------------------------

    def refusing(self) -> Callable[[str, str], None]:
        """What the disk refuses in the next moments."""
        chance = self.chance
        operation, where, codes = chance.choice(FAILURES)
        code, left = chance.choice(codes), chance.randrange(4)
        without_descriptors = chance.random() < 0.2
        truncates = chance.random() < 0.7
        begun = False

        def refuse(seen: str, path: str) -> None:
            nonlocal left, begun
            if without_descriptors:
                meant, error = seen in NEEDS_DESCRIPTOR, errno.EMFILE
            elif begun and seen == "truncate" and not truncates:
                self._refused(seen, path, errno.EIO)
            else:
                meant, error = seen == operation and where in path and not begun, code
            if meant:
                left -= 1
                if left < 0:
                    begun = True
                    self._refused(seen, path, error)

        return refuse

    def _refused(self, operation: str, path: str, code: int) -> None:
        self.told.append(f"{operation} of {path or 'everything'}: {errno.errorcode[code]}")
        is_flush = operation in FLUSHES or ".log" not in path
        if is_flush and code not in NO_DESCRIPTOR:
            self.distrusted |= {name for name in NAMES if not path or f"/{name}-0" in path}
        raise OSError(code, os.strerror(code), path)

    async def fails(self) -> None:
        self.disk.refuse = self.refusing()
        for _ in range(self.chance.randrange(1, 4)):
            await self.appends()
        await self.settle()
        await asyncio.sleep(0.001)  # which is when the rounds of flushes that had begun have ended
        await self.settle()
        self.disk.refuse = nothing
        self.distrusted.clear()

    async def flushes(self) -> None:
        await self.settle()
        await self.logs[self.chance.choice(NAMES)].flush()

    async def retains(self) -> None:
        await super().retains()
        await self.settle()

    async def is_killed(self) -> None:
        await self.settle()
        self.told.append("a kill")
        await super().is_killed()

    async def stops(self) -> None:
        self.told.append("a stop")
        await super().stops()


STEPS_WEIGHED: list[tuple[int, Callable[[FailingHistory], object]]] = [
    (8, FailingHistory.appends),
    (8, FailingHistory.fails),
    (2, FailingHistory.flushes),
    (1, FailingHistory.deletes_records),
    (1, FailingHistory.retains),
    (1, FailingHistory.waits),
    (1, FailingHistory.stops),
    (1, FailingHistory.is_killed),
]


async def live(seed: int) -> tuple[int, list[str]]:
    """One history: how many operations were refused, and what was lost."""
    chance = random.Random(seed)
    history = FailingHistory(chance, FailingDisk(MemoryDisk(), chance))
    await history.start()
    steps = chance.choices([step for _, step in STEPS_WEIGHED], [weight for weight, _ in STEPS_WEIGHED], k=STEPS)
    for step in [*steps, FailingHistory.stops]:
        waiting = step(history)
        assert asyncio.iscoroutine(waiting)
        with contextlib.suppress(GaveUp):
            await waiting
        if history.losses:
            break
    await kill(history.engine, history.disk)
    return sum(": " in one for one in history.told), history.losses


def campaign(seed: int, count: int) -> Report:
    """`count` histories."""
    report = Report(0, "histories")
    refused = 0
    while report.done < count and len(report.losses) < LOSSES_MAX:
        here = seed + report.done
        try:
            some, losses = run(live(here))
        except Exception as error:  # noqa: BLE001 - whatever it is, the log does not go on
            some, losses = 0, [f"{type(error).__name__}: {error}"]
        refused += some
        report.losses += [f"seed {here}: {loss}" for loss in losses]
        report.done += 1
    report.notes.append(f"{refused} operations were refused")
    return report
