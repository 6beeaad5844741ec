"""What a local engine goes through before the power is cut, what was promised until then, and whether it was kept.

Role: `record` runs a history by seed on a recorded disk in memory: appends of different sizes to several logs at once,
idempotent or not, segments that roll, retention, DeleteRecords, topics deleted and made again, snapshots, flushes that
fail and logs opened again after it, a disk without room, checkpoints, clean stops and kills. `Facts` is what its marks
say: what was attempted, and what was promised. `check` opens an engine on a state that a power cut left, and says what
is not as promised.

Promises: every acknowledged record is there with its bytes and at its offset, and so is whatever a consumer could have
read (below a high watermark); nothing is there that nobody appended; no record is there before which one of the same
opening is missing; an epoch that was used for something acknowledged or for something that is still there is not used
again; a start that was moved, a log that was deleted, stay so; a snapshot that was saved is there; recovery done again
finds the same; and the log goes on.
"""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from odradek.config import BrokerConfig, LogConfig
from odradek.engines.interface import LogFailure, LogIdentity, PartitionLog, StorageFull
from odradek.engines.local import Disk, LocalEngine
from odradek.loop_scheduler import LoopScheduler
from odradek.records.batch import InvalidBatch, check_batch, split_batches
from odradek.records.builder import NewRecord, build_batch
from tests.adversity.memory_disk import MemoryDisk, VirtualClock, contents, virtual_loop
from tests.adversity.recorded_disk import RecordedDisk, Recording, failing
from tests.batches import joined
from tests.engines.contract import retain

DATA = "/data"
SETTINGS = {"log.flush.offset.checkpoint.interval.ms": "40", "odradek.flush.syncfs.files": "12"}
CONFIG = LogConfig(
    segment_bytes=1200,
    index_interval_bytes=150,
    file_delete_delay_ms=20,
    retention_bytes=3000,
    retention_ms=-1,
)
NAMES = ("orders", "payments", "stock")
READ_BYTES = 1 << 20
SNAPSHOT_KINDS = ("producer", "coordinator", "metadata")
_OFFSET = struct.Struct(">q")


# --- marks ------------------------------------------------------------------------------------------------------------


class Attempted(NamedTuple):
    """A batch was given to a log: its bytes as placed there."""

    log: LogIdentity
    base_offset: int
    end_offset: int
    data: bytes
    epoch: int


class Acknowledged(NamedTuple):
    log: LogIdentity
    base_offset: int
    end_offset: int
    data: bytes
    epoch: int


class Shown(NamedTuple):
    """A high watermark: records below it were read."""

    log: LogIdentity
    offset: int


class MayStart(NamedTuple):
    """Records below `offset` are being deleted."""

    log: LogIdentity
    offset: int


class Starts(NamedTuple):
    """Records below `offset` are deleted."""

    log: LogIdentity
    offset: int


class Deleting(NamedTuple):
    log: LogIdentity


class Deleted(NamedTuple):
    log: LogIdentity


class Saving(NamedTuple):
    log: LogIdentity
    kind: str
    offset: int
    data: bytes


class Saved(NamedTuple):
    log: LogIdentity
    kind: str
    offset: int


@dataclass
class Facts:
    """What the marks up to a point say of one log."""

    identity: LogIdentity
    attempted: dict[int, list[Attempted]] = field(default_factory=dict)
    by_epoch: dict[int, set[int]] = field(default_factory=dict)
    """The offsets at which batches of an opening began."""
    acknowledged: dict[int, Acknowledged] = field(default_factory=dict)
    established: int = -1
    """The highest epoch of something acknowledged."""
    shown: int = 0
    start: int = 0
    may_start: int = 0
    deleting: bool = False
    deleted: bool = False
    saving: dict[tuple[str, int], list[bytes]] = field(default_factory=dict)
    saved: dict[str, int] = field(default_factory=dict)


class AllFacts:
    """What the marks up to a point say, by topic id."""

    def __init__(self) -> None:
        self.logs: dict[bytes, Facts] = {}

    def of(self, identity: LogIdentity) -> Facts:
        return self.logs.setdefault(identity.topic_id, Facts(identity))

    def apply(self, mark: Any) -> None:
        facts = self.of(mark.log)
        match mark:
            case Attempted():
                facts.attempted.setdefault(mark.base_offset, []).append(mark)
                facts.by_epoch.setdefault(mark.epoch, set()).add(mark.base_offset)
            case Acknowledged():
                facts.acknowledged[mark.base_offset] = mark
                facts.established = max(facts.established, mark.epoch)
            case Shown():
                facts.shown = max(facts.shown, mark.offset)
            case MayStart():
                facts.may_start = max(facts.may_start, mark.offset)
            case Starts():
                facts.start = max(facts.start, mark.offset)
            case Deleting():
                facts.deleting = True
            case Deleted():
                facts.deleted = True
            case Saving():
                facts.saving.setdefault((mark.kind, mark.offset), []).append(mark.data)
            case Saved():
                facts.saved[mark.kind] = max(facts.saved.get(mark.kind, -1), mark.offset)


# --- histories --------------------------------------------------------------------------------------------------------


class History:
    """One engine on a recorded disk, and what is done to it."""

    def __init__(self, chance: random.Random, disk: RecordedDisk) -> None:
        self.chance = chance
        self.disk = disk
        self.mark = disk.recording.mark
        self.clock = VirtualClock(virtual_loop())
        self.engine: LocalEngine
        self.logs: dict[str, PartitionLog] = {}
        self.identities: dict[str, LogIdentity] = {}
        self.shown: dict[bytes, int] = {}
        self.content = 0
        self.open: list[asyncio.Future[None]] = []
        self.beside = 0
        """How many appends may still be made while a thread works."""

    def inner(self) -> MemoryDisk:
        assert isinstance(self.disk.inner, MemoryDisk)
        return self.disk.inner

    async def start(self) -> None:
        self.beside = 0
        self.inner().interleave = self.meanwhile
        self.engine = LocalEngine(
            DATA,
            BrokerConfig(SETTINGS),
            LoopScheduler(self.clock),
            self.disk,
            cluster_id="AAAAAAAAAAAAAAAAAAAAAA",
            entropy=self.chance.randbytes,
        )
        await self.engine.start()
        for name in NAMES:
            await self.open_log(name)

    async def open_log(self, name: str) -> None:
        identity = self.identities.get(name)
        if identity is None:
            identity = self.identities[name] = LogIdentity(name, self.chance.randbytes(16), 0)
        config = CONFIG
        if name == "stock":
            config = dataclasses.replace(CONFIG, segment_bytes=100_000)
        log = self.logs[name] = await self.engine.open(identity, config)
        self.show(log)

    def show(self, log: PartitionLog) -> None:
        if log.durable_end > self.shown.get(log.identity.topic_id, 0):
            self.shown[log.identity.topic_id] = log.durable_end
            self.mark(Shown(log.identity, log.durable_end))

    def meanwhile(self) -> None:
        """What the loop does beside a thread."""
        if self.beside and self.chance.random() < 0.2:
            self.beside -= 1
            log = self.logs[self.chance.choice(NAMES)]
            if log.failed is None:
                try:
                    self.append(log)
                except LogFailure:
                    return

    def append(self, log: PartitionLog) -> None:
        """One batch of its own content; what becomes of it is marked."""
        chance = self.chance
        records = []
        for _ in range(chance.choice((1, 1, 2, 5))):
            self.content += 1
            size = chance.choice((0, 10, 40, 150, 700))
            records.append(NewRecord(None, _OFFSET.pack(self.content) + chance.randbytes(size), 1000 + self.content))
        batch = build_batch(records)
        base_offset, end_offset, identity, epoch = log.end_offset, log.end_offset, log.identity, log.epoch
        data = joined(batch.placed_at(base_offset, epoch))
        end_offset = base_offset + batch.header.last_offset_delta + 1
        self.mark(Attempted(identity, base_offset, end_offset, data, epoch))
        appended = log.append([batch], epoch)
        assert appended[:2] == (base_offset, end_offset)
        durable = appended.durable

        def done(future: asyncio.Future[None]) -> None:
            if future.exception() is None:
                self.mark(Acknowledged(identity, base_offset, end_offset, data, epoch))
                self.show(log)

        if durable.done():  # by its write: to be kept from now on
            done(durable)
        else:
            durable.add_done_callback(done)
        self.open.append(durable)

    async def settle(self) -> None:
        """Waits for what was appended, and opens again what has failed."""
        while self.open:
            waiting, self.open = self.open, []
            await asyncio.wait(set(waiting))
        await asyncio.sleep(0)
        for name, log in list(self.logs.items()):
            if log.failed is not None:
                await self.reopen(name, log)

    async def reopen(self, name: str, log: PartitionLog) -> None:
        await log.close()
        while True:
            try:
                await self.open_log(name)
            except LogFailure:
                self.disk.refuse = lambda operation, path: None
                continue
            return

    # --- steps ---------------------------------------------------------------------------------------------------

    async def appends(self) -> None:
        self.beside = self.chance.randrange(4)
        for _ in range(self.chance.randrange(1, 6)):
            log = self.logs[self.chance.choice(NAMES)]
            try:
                self.append(log)
            except LogFailure:
                break
            if self.chance.random() < 0.4:
                await asyncio.sleep(0)
        if self.chance.random() < 0.8:
            await self.settle()

    async def fails(self) -> None:
        """Something goes wrong on the disk in the next moments."""
        operation, code, where = self.chance.choice(
            (
                ("sync", errno.EIO, ".log"),
                ("sync", errno.EIO, ""),
                ("write", errno.EIO, ".log"),
                ("write", errno.ENOSPC, ".log"),
                ("create", errno.EIO, ".log"),
                ("rename", errno.EIO, ""),
                ("sync_folder", errno.EIO, ""),
                ("syncfs", errno.EIO, ""),
            )
        )
        self.disk.refuse = failing(operation, where, code, self.chance.randrange(3))
        await self.appends()
        await self.settle()
        self.disk.refuse = lambda operation, path: None

    async def deletes_records(self) -> None:
        await self.settle()
        log = self.logs[self.chance.choice(NAMES)]
        offset = self.chance.randint(log.start_offset, log.durable_end)
        self.mark(MayStart(log.identity, offset))
        try:
            await log.truncate_before(offset)
        except LogFailure:
            return
        self.mark(Starts(log.identity, log.start_offset))

    async def retains(self) -> None:
        await self.settle()
        log = self.logs[self.chance.choice(NAMES)]
        self.mark(MayStart(log.identity, log.durable_end))
        self.beside = self.chance.randrange(3)
        try:
            await retain(log, self.clock.now_ms(), log.durable_end)
        except LogFailure:
            return
        self.mark(Starts(log.identity, log.start_offset))

    async def deletes_a_log(self) -> None:
        await self.settle()
        name = self.chance.choice(NAMES)
        identity = self.identities[name]
        self.beside = 0
        self.mark(Deleting(identity))
        try:
            await self.engine.delete(identity)
        except LogFailure:
            await self.reopen(name, self.logs[name])
            await self.engine.delete(identity)
        self.mark(Deleted(identity))
        del self.identities[name]
        await self.open_log(name)

    async def saves_a_snapshot(self) -> None:
        await self.settle()
        log = self.logs[self.chance.choice(NAMES)]
        kind = self.chance.choice(SNAPSHOT_KINDS)
        offset = log.durable_end
        data = self.chance.randbytes(self.chance.choice((0, 30, 900)))
        self.mark(Saving(log.identity, kind, offset, data))
        self.beside = self.chance.randrange(3)
        try:
            await log.save_snapshot(kind, offset, data)
        except LogFailure:
            return
        self.mark(Saved(log.identity, kind, offset))

    async def waits(self) -> None:
        """Checkpoints are written, deleted files go."""
        self.beside = self.chance.randrange(2)
        await asyncio.sleep(self.chance.choice((0.01, 0.05, 0.1)))

    async def stops(self) -> None:
        await self.settle()
        self.beside = 0
        await self.engine.stop()
        await self.start()

    async def is_killed(self) -> None:
        """The process goes, the machine does not: what was written is in the page cache."""
        await kill(self.engine, self.disk)
        self.open = []
        await self.start()


def forget_timers(engine: LocalEngine) -> None:
    """Of an engine that is gone: its loop goes on."""
    assert engine._shared is not None
    for timer in (*engine._shared.deletions._waiting, engine._checkpoints._timer, engine._states.timer):
        if timer is not None:
            timer.cancel()


async def kill(engine: LocalEngine, disk: RecordedDisk) -> None:
    """Ends an engine as SIGKILL would; what it wrote stays."""
    assert isinstance(disk.inner, MemoryDisk)
    disk.inner.dead = True
    disk.inner.interleave = lambda: None
    forget_timers(engine)
    for file in disk.inner._open.values():
        file.locked = False
    disk.inner = MemoryDisk(disk.inner.root)
    disk.refuse = lambda operation, path: None
    await asyncio.sleep(0)


STEPS: list[tuple[int, Callable[[History], Any]]] = [
    (10, History.appends),
    (2, History.fails),
    (2, History.deletes_records),
    (2, History.retains),
    (1, History.deletes_a_log),
    (2, History.saves_a_snapshot),
    (2, History.waits),
    (1, History.stops),
    (1, History.is_killed),
]


async def record(seed: int, steps: int, disk: RecordedDisk) -> Recording:
    """A history of so many steps."""
    chance = random.Random(seed)
    history = History(chance, disk)
    await history.start()
    weights = [weight for weight, _ in STEPS]
    for _ in range(steps):
        (_, step), *_ = chance.choices(STEPS, weights)
        await step(history)
    await history.settle()
    await kill(history.engine, disk)
    return disk.recording


# --- check ------------------------------------------------------------------------------------------------------------

Batches = list[tuple[int, int, bytes]]
"""(base offset, end offset, bytes)."""


def engine_on(disk: Disk, entropy: Callable[[int], bytes]) -> LocalEngine:
    return LocalEngine(DATA, BrokerConfig(SETTINGS), LoopScheduler(VirtualClock(virtual_loop())), disk, entropy=entropy)


async def read_whole(log: PartitionLog, losses: list[str]) -> Batches:
    """All that a log serves, checked by CRC."""
    found: Batches = []
    offset = log.start_offset
    while offset < log.durable_end:
        got = log.read(offset, READ_BYTES, log.durable_end)
        data = joined(got if isinstance(got, list) else await got)
        some = list(split_batches(data))
        if not some or sum(header.size for header, _ in some) != len(data):
            losses.append(f"{log.identity}: no whole batches at offset {offset}, the log goes to {log.durable_end}")
            return found
        for header, batch in some:
            try:
                check_batch(batch)
            except InvalidBatch as error:
                losses.append(f"{log.identity}: the batch at offset {header.base_offset} is broken: {error}")
            found.append((header.base_offset, header.next_offset, bytes(batch)))
        if found[-1][1] <= offset:
            losses.append(f"{log.identity}: reading at offset {offset} gives nothing further")
            return found
        offset = found[-1][1]
    return found


def compare(facts: Facts, start: int, end: int, found: Batches) -> list[str]:
    """What is not as the facts say, in a log with this start, end and content."""
    losses: list[str] = []
    name = facts.identity
    if start < facts.start:
        losses.append(f"{name}: begins at {start}, though all below {facts.start} was deleted")
    if start > max(facts.may_start, facts.start):
        losses.append(f"{name}: begins at {start}, nobody deleted more than {max(facts.may_start, facts.start)}")
    if end < facts.shown:
        losses.append(f"{name}: ends at {end}, though the high watermark was {facts.shown}")
    there = {base_offset: data for base_offset, _, data in found}
    following = None
    for base_offset, end_offset, data in found:
        if not any(attempt.data == data for attempt in facts.attempted.get(base_offset, ())):
            losses.append(f"{name}: nobody appended what is at offset {base_offset}")
        if following is not None and base_offset != following:
            losses.append(f"{name}: offsets {following} to {base_offset} are missing in the middle")
        following = end_offset
    if found and following != end:
        losses.append(f"{name}: ends at {end}, but the last batch at {following}")
    for base_offset, acknowledged in facts.acknowledged.items():
        if acknowledged.end_offset > start and there.get(base_offset) != acknowledged.data:
            what = "is missing" if base_offset not in there else "is another"
            losses.append(f"{name}: the acknowledged batch at offset {base_offset} {what}")
    return losses


async def check_log(engine: LocalEngine, facts: Facts, losses: list[str]) -> tuple[PartitionLog, Batches]:
    log = await engine.open(facts.identity, CONFIG)
    found = await read_whole(log, losses)
    losses += compare(facts, log.start_offset, log.end_offset, found)
    if log.durable_end != log.end_offset:
        losses.append(f"{log.identity}: opened with a durable end of {log.durable_end}, an end of {log.end_offset}")
    used = max([facts.established, *(int.from_bytes(data[12:16], "big") for _, _, data in found)])
    if log.epoch <= used:
        losses.append(f"{log.identity}: epoch {log.epoch} again, {used} was used")
    for kind in SNAPSHOT_KINDS:
        kept = await log.load_snapshot(kind, log.end_offset)
        if kept is None:
            if facts.saved.get(kind, -1) >= 0:
                losses.append(f"{log.identity}: the {kind} snapshot at {facts.saved[kind]} is missing")
        elif kept[1] not in facts.saving.get((kind, kept[0]), ()) or kept[0] < facts.saved.get(kind, -1):
            losses.append(f"{log.identity}: the {kind} snapshot at {kept[0]} is another than was saved")
    return log, found


def expected(facts: AllFacts) -> list[Facts]:
    """The logs that must be there; those that may be."""
    return [one for one in facts.logs.values() if not one.deleting]


async def check(disk: Disk, facts: AllFacts, chance: random.Random, goes_on: bool = True) -> list[str]:
    """Opens an engine on what a power cut left; what is not as the facts say. Afterwards the disk has what recovery
    made of it, and if `goes_on` what was appended then."""
    losses: list[str] = []
    engine = engine_on(disk, chance.randbytes)
    await engine.start()
    for identity in engine.identities():
        known = facts.logs.get(identity.topic_id)
        if identity.topic_id == bytes(16):
            # Without a name it holds nothing that was promised, and belongs to whom the metadata say.
            owner = next((one for one in expected(facts) if one.identity.topic == identity.topic), None)
            if owner is None:
                await engine.delete(identity)
        elif known is None:
            losses.append(f"{identity}: a log that nobody made")
        elif known.deleted:
            losses.append(f"{identity}: deleted, and there again")
        elif known.deleting:
            await engine.delete(identity)
    recovered: dict[bytes, Batches] = {}
    opened: list[PartitionLog] = []
    for one in expected(facts):
        log, found = await check_log(engine, one, losses)
        recovered[one.identity.topic_id] = found
        opened.append(log)
    if goes_on:
        for log in opened:
            batch = build_batch([NewRecord(None, b"added", 1)])
            base_offset = log.end_offset
            data = joined(batch.placed_at(base_offset, log.epoch))
            await log.append([batch], log.epoch).durable
            recovered[log.identity.topic_id].append((base_offset, base_offset + 1, data))
        await engine.stop()
    else:
        # As SIGKILL would.
        forget_timers(engine)
        engine._disk.close(engine._directory.lock_fd)
    again = engine_on(disk, chance.randbytes)
    await again.start()
    for one in expected(facts):
        log = await again.open(one.identity, CONFIG)
        found = await read_whole(log, losses)
        before = [batch for batch in recovered[one.identity.topic_id] if batch[1] > log.start_offset]
        if found != before:
            losses.append(
                f"{one.identity}: opened again it holds something else: {_shape(found)}, was {_shape(before)}"
            )
    await again.stop()
    return losses


def _shape(batches: Batches) -> str:
    return f"{len(batches)} batches from {batches[0][0]} to {batches[-1][1]}" if batches else "nothing"


def listing(disk: MemoryDisk) -> str:
    """What the disk holds, for a person."""
    return "\n".join(f"{path} {len(data)}" for path, data in sorted(contents(disk.root).items()))


__all__ = ["AllFacts", "StorageFull", "check", "listing", "record"]
