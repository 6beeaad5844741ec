"""The state of each log of a data directory: found at the start, and kept while the log is open and between openings.

Role: reconcile Kafka's checkpoints and the flushed offsets at the start; collect from open logs how far they are
flushed, write that to the flushed offsets at most every `WRITE_EVERY_S`, and produce the checkpoints' contents.

Invariants: a recovery point lies at or below what a flush has covered. An entry with a checksum takes precedence over
a number in a text file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from odradek.clock import Scheduler, Timer
from odradek.config.topic import LogConfig
from odradek.engines.interface import LogIdentity
from odradek.engines.local import checkpoints
from odradek.engines.local.cut import Cut
from odradek.engines.local.data_directory import UNKNOWN_TOPIC_ID, Found
from odradek.engines.local.flushed_offsets import FLUSHED_OFFSETS, Flushed, FlushedOffsets
from odradek.engines.local.log import LocalLog
from odradek.logs import get_logger
from odradek.topic_partition import TopicPartition

warn = get_logger("odradek.engine").warning

# The flushed offsets are written at most this often: written after each flush, they took 8 % of the instructions of a
# request that waits for it. A kill loses at most the flushes of this time from the file.
WRITE_EVERY_S = 0.1
# Logs whose flushed ends are taken over, and written, in one turn of the loop: 2 to 4 ms.
LOGS_AT_ONCE = 500


@dataclass(slots=True)
class LogState:
    """The state of one log, open or not."""

    identity: LogIdentity
    folder: str
    has_files: bool
    clean: bool
    named: bool = False
    """Whether the folder has `partition.metadata`, and with it the topic id."""
    recovery_point: int = 0
    start_offset: int = 0
    is_vouched: bool = False
    """Whether `recovery_point` and `start_offset` are certain, not only read from a text file."""
    saved_start: int = 0
    """The start offset that is durable."""
    first_offset: int = 0
    """The base offset of the first segment."""
    epochs_crc: int | None = None
    """The checksum of the leader epoch checkpoint, where it is known."""
    high_watermark: int = 0
    highest_epoch: int = -1
    cut: Cut | None = None
    config: LogConfig | None = None


class LogStates:
    """The logs of one engine between a start and a stop. Used on the event loop."""

    def __init__(self, scheduler: Scheduler, flushed: FlushedOffsets) -> None:
        self.all: dict[TopicPartition, LogState] = {}
        self.open: dict[TopicPartition, LocalLog] = {}
        """The open logs; a failed log stays here until it is closed."""
        self.timer: Timer | None = None
        """The timer of the next write of the flushed offsets, where one is due."""
        self._scheduler = scheduler
        self._clock = scheduler.clock
        self._flushed = flushed
        self._flushed_logs: set[LocalLog] = set()
        self._written_at = -WRITE_EVERY_S
        self._is_written = True

    def learn(self, found: Found, path: str) -> None:
        """Makes the states of the logs that a start has found in the directory at `path`."""
        for key, topic_id in found.topics.items():
            state = self.all[key] = LogState(
                identity=LogIdentity(key[0], topic_id, key[1]),
                folder=f"{path}/{key[0]}-{key[1]}",
                has_files=True,
                clean=found.clean,
                named=topic_id != UNKNOWN_TOPIC_ID,
                recovery_point=found.recovery_points.get(key, 0),
                start_offset=found.start_offsets.get(key, 0),
                high_watermark=found.high_watermarks.get(key, 0),
            )
            flushed = found.flushed.get((topic_id, key[1]))
            if flushed is not None:
                found.notes += compare(state, flushed)
        if found.topics and not found.clean:
            found.notes.append("the last stop was not clean: logs are checked as they are opened")
        for note in found.notes:
            warn(note, path=path)

    # --- called by logs ------------------------------------------------------------------------------------------

    def on_made(self, log: LocalLog) -> None:
        state = self.all[log.identity.topic, log.identity.partition]
        state.has_files = True
        state.first_offset = log.end_offset

    def on_failed(self, log: LocalLog, cut: Cut | None) -> None:
        key = (log.identity.topic, log.identity.partition)
        if self.open.get(key) is log:
            self.all[key].cut = cut

    def on_closed(self, log: LocalLog) -> None:
        key = (log.identity.topic, log.identity.partition)
        if self.open.get(key) is log:
            del self.open[key]
        state = self.all.get(key)
        if state is not None:
            # A failed log with files is not clean until it has been opened again, which truncates it.
            state.clean = log.failed is None or (state.cut is None and not state.has_files)
            state.named = log.named
            state.recovery_point = log.flushed_end
            state.high_watermark = log.durable_end
            state.config = log.config
            state.epochs_crc = log.epochs.written_crc
            self.note_flushed(state)

    # --- flushed offsets -----------------------------------------------------------------------------------------

    def note_flushed(self, state: LogState) -> None:
        """Updates a log's slot in the flushed offsets from its state."""
        if state.has_files:
            key = (state.identity.topic_id, state.identity.partition)
            entry = Flushed(
                state.recovery_point,
                state.start_offset,
                state.first_offset,
                state.highest_epoch,
                state.epochs_crc or 0,
            )
            self._flushed.note(key, entry)

    def write_soon(self, logs: Iterable[LocalLog]) -> None:
        """Has the flushed ends of these logs written, at once or `WRITE_EVERY_S` after the last write."""
        self._flushed_logs.update(logs)
        if self.timer is None:
            wait_s = self._written_at + WRITE_EVERY_S - self._clock.monotonic()
            if wait_s > 0:
                self.timer = self._scheduler.call_later(wait_s, self._write_some)
            else:
                self._write_some()

    def _write_some(self) -> None:
        """Writes the flushed offsets of some logs, and those of the others in the next turns."""
        self.write_flushed(LOGS_AT_ONCE)
        if self._flushed_logs:
            self.timer = self._scheduler.call_later(0, self._write_some)

    def forget_unknown(self) -> None:
        """Frees the slots of logs that do not exist."""
        self._flushed.keep({(one.identity.topic_id, one.identity.partition) for one in self.all.values()})

    def take_flushed(self, most: int | None = None) -> None:
        """Notes the flushed ends of logs that were flushed since the last call, of `most` where it is given."""
        logs = self._flushed_logs
        if most is None or len(logs) <= most:
            self._flushed_logs = set()
        else:
            logs = {logs.pop() for _ in range(most)}
        for log in logs:
            key = (log.identity.topic, log.identity.partition)
            if self.open.get(key) is log:
                state = self.all[key]
                state.recovery_point, state.epochs_crc = log.flushed_end, log.epochs.written_crc
                self.note_flushed(state)

    def write_flushed(self, most: int | None = None) -> None:
        """Writes the flushed offsets now, of at most `most` logs where it is given, into the page cache only."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self._written_at = self._clock.monotonic()
        self.take_flushed(most)
        try:
            self._flushed.write()
        except OSError as error:
            if self._is_written:
                warn(f"{FLUSHED_OFFSETS} is not written: after a crash more is checked", why=str(error))
            self._is_written = False
        else:
            self._is_written = True

    # --- checkpoints ---------------------------------------------------------------------------------------------

    async def checkpoint_offsets(self) -> dict[str, dict[TopicPartition, int]]:
        """The offsets that the checkpoints are to contain, by file name."""
        for _ in range(0, len(self._flushed_logs), LOGS_AT_ONCE):
            self.take_flushed(LOGS_AT_ONCE)
            await asyncio.sleep(0)
        self.take_flushed()  # the checkpoints must not claim more than the flushed offsets
        recovery_points: dict[TopicPartition, int] = {}
        start_offsets: dict[TopicPartition, int] = {}
        high_watermarks: dict[TopicPartition, int] = {}
        for key, state in self.all.items():
            if not state.has_files:
                continue
            log = self.open.get(key)
            recovery_points[key] = log.flushed_end if log is not None else state.recovery_point
            high_watermarks[key] = log.durable_end if log is not None else state.high_watermark
            if state.start_offset > 0:
                start_offsets[key] = state.start_offset
        return {
            checkpoints.RECOVERY_POINTS: recovery_points,
            checkpoints.LOG_STARTS: start_offsets,
            checkpoints.HIGH_WATERMARKS: high_watermarks,
        }

    def note_first(self, log: LocalLog, offset: int) -> Callable[[], None]:
        """Notes that the segments below `offset` are about to be deleted. Returns a function that makes this durable;
        call it in a thread."""
        state = self.all[log.identity.topic, log.identity.partition]
        state.first_offset = offset
        self.note_flushed(state)
        self.write_flushed()
        return self._flushed.sync

    async def save_start(self, write_checkpoints: Callable[[], Awaitable[None]], log: LocalLog, offset: int) -> None:
        """Makes a log's start offset durable. Raises `OSError`."""
        state = self.all[log.identity.topic, log.identity.partition]
        state.start_offset = max(state.start_offset, offset)
        self.note_flushed(state)
        try:
            await write_checkpoints()
        except OSError:
            if state.start_offset == offset:  # else a concurrent call has set a higher one
                state.start_offset = state.saved_start
                self.note_flushed(state)
            raise
        state.saved_start = max(state.saved_start, offset)


def compare(state: LogState, flushed: Flushed) -> list[str]:
    """Updates the state from the log's slot in the flushed offsets. The text files may contradict the slot because they
    are damaged, or because another broker (Apache Kafka) has used this directory since, which moves the recovery point
    on. Returns warnings."""
    notes: list[str] = []
    is_older = state.recovery_point > flushed.end_offset
    if is_older or (state.clean and state.recovery_point != flushed.end_offset):
        notes.append(
            f"{checkpoints.RECOVERY_POINTS} says {state.recovery_point} of {state.identity}, "
            f"{FLUSHED_OFFSETS} {flushed.end_offset}: the first is damaged, or others wrote this directory"
        )
    if state.start_offset != flushed.start_offset:
        believed = state.start_offset if is_older else flushed.start_offset
        notes.append(
            f"{checkpoints.LOG_STARTS} says {state.start_offset} of {state.identity}, {FLUSHED_OFFSETS} "
            f"{flushed.start_offset}: {believed} is believed"
        )
        state.start_offset = believed
    state.recovery_point = flushed.end_offset
    state.is_vouched = not is_older
    state.first_offset = flushed.first_offset
    state.highest_epoch = max(state.highest_epoch, flushed.epoch)
    state.epochs_crc = flushed.epochs_crc
    return notes
