"""Replays a log's batches into state: `Replay` skips damaged batches, `replay_sound` stops at the first.

Role: read a log from an offset on, check every batch's checksum, and pass the sound batches to a function, in the order
of the log. Coordinators and producer states are loaded by `Replay`, so that one damaged batch does not make the rest of
the log unusable. The metadata is loaded by `replay_sound`: a broker does not start with incomplete metadata.

Invariants:
- Only batches whose checksum is right are replayed. `Replay` repairs a batch in which one bit has flipped
  (`records/mending`); it skips a batch that cannot be repaired, and reports it to `pass_over`.
- Damage never ends a `Replay` nor makes it loop: it continues at the next sound batch.
- A failure of the storage (an error of the operating system) is not damage: it is raised, and the caller tries again.
- Every damage is counted, and logged with partition and offset (the first `SAID_MAX` one by one).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import NamedTuple, Protocol

from odradek.engines.interface import DamagedBatch, PartitionLog
from odradek.logs import get_logger
from odradek.records.batch import (
    HEADER_BYTES,
    BatchHeader,
    Buffer,
    CorruptBatch,
    InvalidBatch,
    check_stored,
    checked_batches,
    read_header,
)
from odradek.records.mending import mended, next_sound

log = get_logger("odradek.replay")

# How many damages of one replay are logged one by one.
SAID_MAX = 20
Take = Callable[[BatchHeader, Buffer], None]
"""Applies a sound batch to the state. May raise `InvalidBatch`."""
PassOver = Callable[[BatchHeader], None]
"""Is called with the header of a damaged batch that is skipped; any field of it may be wrong."""


def nothing(header: BatchHeader) -> None:
    """A `PassOver` that does nothing, for states that need not know which batches were skipped."""


class DamageCounters(Protocol):
    """The counters of damaged batches, over all replays."""

    batches_mended: int
    batches_passed_over: int


async def replay_sound(opened: PartitionLog, offset: int, read_bytes: int, take: Take) -> None:
    """Calls `take` with every batch from `offset` up to the durable end, on the event loop. Raises `InvalidBatch` at
    the first batch that is damaged or does not begin where the one before it ends (the checksum does not cover the base
    offset), and `LogFailure`."""
    while offset < opened.durable_end:
        buffers = opened.read(offset, read_bytes, opened.durable_end)
        if not isinstance(buffers, list):
            buffers = await buffers
        before = offset
        for header, batch in checked_batches(b"".join(buffers)):
            if not header.base_offset <= offset < header.next_offset:
                raise CorruptBatch(f"a batch there says that its offset is {header.base_offset}")
            take(header, batch)
            offset = header.next_offset
        if offset == before:
            raise CorruptBatch("no whole batch is there")


class _Reached(NamedTuple):
    """The offset up to which some bytes were replayed."""

    offset: int
    problem: str
    """What is wrong at `offset` if the rest of the bytes holds no sound batch; otherwise empty."""


class Replay:
    """One replay of one log. `state` is the name of the replayed state, for log lines. `take` and `pass_over` run in
    `executor`."""

    def __init__(
        self,
        opened: PartitionLog,
        state: str,
        executor: Executor,
        counters: DamageCounters,
        read_bytes: int,
        take: Take,
        pass_over: PassOver = nothing,
    ) -> None:
        self.opened = opened
        self.state = state
        self.executor = executor
        self.counters = counters
        self.read_bytes = read_bytes
        self.take = take
        self.pass_over = pass_over
        self.damages = 0
        self._last: BatchHeader | None = None

    async def run(self, offset: int, upto: int) -> None:
        """Replays the batches from `offset` to `upto`; the first one may begin before `offset`. Raises `LogFailure`
        and `OffsetOutOfRange`."""
        loop = asyncio.get_running_loop()
        while offset < upto:
            data = await self._read(offset, self.read_bytes, upto)
            reached = await loop.run_in_executor(self.executor, self._replay, data, offset, upto)
            if not reached.problem and reached.offset > offset:
                offset = reached.offset
                continue
            behind = await self._readable_behind(reached.offset, upto)
            problem = reached.problem or "no batch can be read there"
            self._say(reached.offset, f"{problem}: it is passed over up to offset {behind}", is_whole=False)
            offset = behind
        if self.damages > SAID_MAX:
            log.error(
                "more of a log is damaged",
                partition=str(self.opened.identity),
                state=self.state,
                more=self.damages - SAID_MAX,
            )

    async def _read(self, offset: int, max_bytes: int, upto: int) -> bytes:
        """Bytes of the log from the batch at `offset` on, damaged or not."""
        try:
            buffers = self.opened.read(offset, max_bytes, upto)
            if not isinstance(buffers, list):
                buffers = await buffers
        except DamagedBatch as damage:
            return damage.data
        return b"".join(buffers)

    def _replay(self, data: bytes, offset: int, upto: int) -> _Reached:
        """Replays the batches in `data`. Runs in a thread of the executor."""
        view = memoryview(data)
        position = 0
        following: BatchHeader | None = None
        while len(view) - position >= HEADER_BYTES:
            header = read_header(view, position) if following is None else following
            if position and header.size >= HEADER_BYTES and position + header.size > len(view):
                break  # the read has cut the batch, or its length is wrong: the next read begins with it
            piece: Buffer = view[position : position + header.size]
            problem = _problem(header, piece)
            if problem:
                found = mended(view[position:])
                if found is None:
                    if len(piece) == header.size:
                        self.pass_over(header)
                    behind = next_sound(view, position + 1, offset, upto)
                    if behind is None:
                        return _Reached(offset, problem)
                    resumed = read_header(view, behind).base_offset
                    self._say(offset, f"{problem}: it is passed over up to offset {resumed}", is_whole=False)
                    position, offset, following = behind, resumed, None
                    continue
                header, piece = found
                self._say(offset, f"{problem}: one bit has flipped, and is turned back in what is replayed", True)
            end = position + header.size
            following = read_header(view, end) if len(view) - end >= HEADER_BYTES else None
            if position and following is None and header.base_offset > offset:
                break  # the next read shows the following batch, which decides whether the offset is wrong
            if header == self._last:
                return _Reached(header.next_offset, "")  # the same batch again: the gap before it is real
            self._last = header
            if _is_misplaced(header, offset, following, upto):
                self._say(offset, f"the batch there says that its offset is {header.base_offset}", is_whole=True)
                header = header._replace(base_offset=offset)
            try:
                self.take(header, piece)
            except InvalidBatch as error:
                self._say(offset, f"the batch there cannot be read, and is passed over: {error}", is_whole=False)
            # A gap (compaction makes them) is accepted only once the batch after it has been seen.
            is_gap = header.base_offset > offset and following is None
            offset = min(offset + header.last_offset_delta + 1 if is_gap else header.next_offset, upto)
            position = end
        return _Reached(offset, "")

    async def _readable_behind(self, offset: int, upto: int) -> int:
        """The first offset after a damage at which the log returns a sound batch; `upto` if there is none. The log
        finds batches by its index: this probes offsets at doubling distances, then bisects between the last two."""
        nearest, bad, step = upto, offset, 1
        while True:
            probe = min(offset + step, upto - 1)
            base_offset = await self._sound_at(probe, upto)
            if base_offset is not None and base_offset <= probe:
                break
            if base_offset is not None:
                nearest = min(nearest, base_offset)
            if probe == upto - 1:
                return nearest
            bad, step = probe, step * 2
        good = probe
        while good - bad > 1:
            middle = (good + bad) // 2
            base_offset = await self._sound_at(middle, upto)
            if base_offset is not None and base_offset <= middle:
                good = middle
            else:
                bad = middle
        return good

    async def _sound_at(self, offset: int, upto: int) -> int | None:
        """The base offset of the batch that the log returns at `offset`; None if that batch is damaged."""
        data = memoryview(await self._read(offset, 1, upto))  # one batch
        if len(data) < HEADER_BYTES:
            return None
        header = read_header(data)
        if _problem(header, data[: max(0, header.size)]) or header.next_offset <= offset:
            return None
        return header.base_offset

    def _say(self, offset: int, what: str, is_whole: bool) -> None:
        self.damages += 1
        if is_whole:
            self.counters.batches_mended += 1
        else:
            self.counters.batches_passed_over += 1
        if self.damages <= SAID_MAX:
            say = log.warning if is_whole else log.error
            say("a log is damaged", partition=str(self.opened.identity), state=self.state, offset=offset, what=what)


def _is_misplaced(header: BatchHeader, offset: int, following: BatchHeader | None, upto: int) -> bool:
    """Whether the base offset of the batch found at `offset` is wrong: its neighbours or the log's end rule it out.
    The checksum does not cover the base offset."""
    if header.next_offset > upto or header.next_offset <= offset:
        return True
    return header.base_offset > offset and following is not None and following.base_offset < header.next_offset


def _problem(header: BatchHeader, piece: Buffer) -> str:
    """What is wrong with a batch; empty if it is sound."""
    if len(piece) < HEADER_BYTES or len(piece) != header.size:
        return f"the batch at offset {header.base_offset} has an impossible length, {header.size} bytes"
    try:
        check_stored(header, piece)
    except CorruptBatch as error:
        return str(error)
    if header.last_offset_delta < 0:
        return f"the batch at offset {header.base_offset} ends before it begins"
    return ""
