"""The contract between the broker and its storage engines. All code above the engines is written against this module.

A `PartitionLog` is an append-only sequence of record batches with offsets. One broker serves it at a time, under a
leader epoch that the engine owns. The contract is made to fit a log on local disk, one in memory, and one in object
storage with an index in a database:

- **Offsets are fixed early, durability is awaited.** `append` gives offsets at once; `durable` tells when they may
  be acknowledged and read.
- **Consumers read only what a crash cannot take back.** The high watermark is `durable_end`. With `odradek.flush=os`
  an engine counts a written batch as durable: the user accepts this risk with that setting.
- **A failure ends the opening.** After a failed append or flush the log is `failed`: every pending `durable` fails and
  later appends fail. The owner of state derived from the log drops that state and opens the log again, at its durable
  end and under a higher leader epoch.
- **The event loop never waits for the disk.** A method that may wait is awaitable, or its docstring says that it blocks
  and must run in a thread.

`tests/engines/contract.py` says the same in code; a new behaviour of an engine starts there.
"""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from odradek.config.topic import LogConfig
from odradek.durations import Durations
from odradek.records.batch import Buffer, RecordBatch


class LogFailure(Exception):
    """The storage of a log failed. The subclass says whether the batches of an append were written."""


class Refused(LogFailure):
    """Nothing was written: the leader epoch is old, or the log does not end where the caller expected."""


class Unknown(LogFailure):
    """A write or flush failed, and the batches may or may not be stored. Treat them as lost unless the log has them
    when it is opened again."""


class DamagedBatch(Unknown):
    """The batch at an offset cannot be read because its stored bytes are damaged. `data` holds the bytes found in its
    place, at most as many as were asked for: a caller may be able to repair them."""

    def __init__(self, message: str, data: bytes = b"") -> None:
        super().__init__(message)
        self.data = data


class StorageFull(LogFailure):
    """Nothing was written because the storage is full. The log stays usable: append again when there is room."""


class OffsetOutOfRange(Exception):
    """A read begins below the log start offset or above the log's end."""


class LogIdentity(NamedTuple):
    """The topic and partition of a log. `topic_id` (16 bytes) tells a topic from an earlier one of the same name."""

    topic: str
    topic_id: bytes
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


def is_one_id(one: bytes, other: bytes) -> bool:
    """Whether two topic ids differ in at most eight bits, as where the disk damaged one byte. Two random ids differ in
    about sixty."""
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count() <= 8


class Appended(NamedTuple):
    """The result of an append: the first batch's base offset, the log's end offset after the last batch, and a future
    that resolves to None when all batches are durable, or fails with a `LogFailure`. Appends that share a flush share
    the future, so it cannot be cancelled: a task that is cancelled while awaiting it is interrupted only when the
    future is done. The future is already done where the engine needs no flush."""

    base_offset: int
    end_offset: int
    durable: asyncio.Future[None]


class EpochEnd(NamedTuple):
    """The largest leader epoch in the log that is not above the one asked for, and the offset where it ends."""

    epoch: int
    end_offset: int


class AbortedTransaction(NamedTuple):
    """An aborted transaction: its producer id, the offset of its first record, and the offset of its marker."""

    producer_id: int
    first_offset: int
    last_offset: int


# From this size on, `sendfile` from a span is cheaper than copying the bytes.
SPAN_MIN_BYTES = 65_536


class FileSpan:
    """A range of a file whose bytes were all in the page cache a moment ago. `send` passes them to a socket with
    `sendfile`, without a copy through the process. `PartitionLog.read` returns spans only if asked for them.

    A span has a length like a buffer. It owns a duplicate descriptor, closed with it, so that it may outlive the log's
    own."""

    __slots__ = ("_fd", "_open", "_position", "_size")

    def __init__(self, fd: int, position: int, size: int, open_spans: set[int] | None = None) -> None:
        """Takes ownership of the descriptor, and keeps it in `open_spans` while it is open."""
        self._fd = fd
        self._position = position
        self._size = size
        self._open = open_spans if open_spans is not None else set()
        self._open.add(fd)

    def __len__(self) -> int:
        return self._size

    def __del__(self) -> None:
        self._open.discard(self._fd)  # before the closed descriptor's number can be used again
        os.close(self._fd)

    def send(self, socket_fd: int) -> int:
        """Sends as much as the socket takes now; returns how many bytes. Raises `OSError`."""
        try:
            return os.sendfile(socket_fd, self._fd, self._position, self._size)
        except BlockingIOError:
            return 0

    def read(self, start: int = 0) -> bytes:
        """The bytes from `start` on. Blocks where they are no longer in the page cache. Raises `OSError`."""
        data = os.pread(self._fd, self._size - start, self._position + start)
        if len(data) < self._size - start:
            raise OSError("a file is shorter than it was")
        return data


class Found(NamedTuple):
    """The batch that holds the record sought: its base offset and its max timestamp."""

    base_offset: int
    max_timestamp: int


class Unread(NamedTuple):
    """What a consumer has not read yet: the first timestamp of the first batch that is not a control batch (as its
    header says; -1 where it has none), and the bytes of all batches from that one on."""

    timestamp_ms: int
    size_bytes: int


class LogSegment(NamedTuple):
    """A segment of a log. It holds batches and is deleted as a whole."""

    base_offset: int
    end_offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine offers. Callers ask here instead of assuming it."""

    durable: bool
    """Acknowledged records survive the end of the process."""
    replicated: bool
    """The engine replicates, so that replication factors above 1 have an effect."""
    files: bool
    """Logs are files in a directory that DescribeLogDirs can name."""


class EngineCounters:
    """Plain counters of an engine since it was made; `insight` reads them. A counter that does not apply to an engine
    stays zero."""

    __slots__ = ("damages", "flush_durations", "flush_failures", "flushed_bytes")

    def __init__(self) -> None:
        self.flush_durations = Durations()
        """Durations of group commits, from their beginning until the event loop was told of their end."""
        self.flush_failures = 0
        """Group commits that failed for at least one log."""
        self.flushed_bytes = 0
        """Bytes of appends that group commits have made durable."""
        self.damages = 0
        """How often a log was found damaged, or without records that had been flushed."""


class PartitionLog(ABC):
    """One open log. Methods that are not `async` return at once and are called on the event loop only, except those
    whose docstring says that they block."""

    identity: LogIdentity
    config: LogConfig
    """Effective settings; replaced as a whole by `configure`."""
    epoch: int
    """The leader epoch under which this opening appends: higher than that of every batch from before the opening."""
    start_offset: int
    end_offset: int
    """The base offset of the next append."""
    durable_end: int
    """All records below this offset are durable; start_offset <= durable_end <= end_offset."""
    failed: LogFailure | None
    """The failure that ended this opening; set once."""
    established: bool
    """Whether `epoch` itself is durable, which it becomes with the first append of an opening. Until then an append may
    not be answered before its `durable` resolves, whatever its acks: else an epoch could be used twice after a
    crash."""
    on_roll: Callable[[int], None]
    """Set by the code that opened the log. Called at every roll with the base offset of the new segment, before
    anything is appended to it: a snapshot of producer state is then due, as in Kafka. Engines that do not roll segments
    never call it."""

    @abstractmethod
    def append(self, batches: Sequence[RecordBatch], epoch: int, expected_end: int | None = None) -> Appended:
        """Appends batches, and gives them offsets and the leader epoch `epoch`.

        Raises `Refused` where `epoch` is not the log's, or `expected_end` is given and is not `end_offset`;
        `StorageFull` or `Unknown` where the write failed; the earlier failure where the log has `failed`.
        Rolls segments as the settings say. A batch is never split. The caller passes batches with correct max
        timestamps. In batches that the log already had, the max timestamp may be unset or too low: lookups and
        retention do not trust a header that contradicts itself."""

    @abstractmethod
    def read(
        self, offset: int, max_bytes: int, upto: int, minimum_one: bool = True, spans: bool = False
    ) -> list[Buffer] | Awaitable[list[Buffer]]:
        """Reads consecutive batches: the first contains `offset` (and may begin before it); none begins at or above
        `upto`. Returns at most `max_bytes`, but with `minimum_one` the first batch is returned whole, whatever its
        size. The last batch may be cut short, as in Kafka; the first never is. The result is empty where there are no
        batches between `offset` and `upto`, or the first one does not fit.

        With `spans` the list may hold a `FileSpan` in place of a buffer, where that is cheaper.

        Returns a list where the bytes are in memory, else an awaitable. Raises `OffsetOutOfRange` where `offset` is
        below `start_offset` or above `end_offset` (the awaitable also where it was deleted meanwhile), and
        `LogFailure` where the storage cannot read the batches (`DamagedBatch` where they are damaged). A failed read
        does not end the opening."""

    def read_aborted(self) -> list[AbortedTransaction]:
        """The aborted transactions in Kafka's index files beside the log, which this broker or another one has written.
        Blocks. Engines without such files return none."""
        return []

    async def save_aborted(self, aborted: Sequence[AbortedTransaction]) -> None:
        """Writes all aborted transactions of the log, given in the order of their markers, to Kafka's index files, for
        other brokers that open this directory. Raises `OSError`. Engines without such files do nothing."""
        return

    @abstractmethod
    async def find_by_timestamp(self, timestamp_ms: int, upto: int, from_offset: int = 0) -> Found | None:
        """The first batch below `upto` that ends above both the log start offset and `from_offset`, and whose max
        timestamp is at or above `timestamp_ms`."""

    @abstractmethod
    async def find_max_timestamp(self, upto: int) -> Found | None:
        """The batch below `upto` with the highest max timestamp (the first of equals)."""

    @abstractmethod
    def unread_from(self, offset: int) -> Unread | Awaitable[Unread | None] | None:
        """What a consumer at `offset` has not read yet; None where there is nothing, or only control batches. Returns
        an awaitable only where the answer is not in memory."""

    @abstractmethod
    def epoch_end(self, epoch: int, upto: int) -> EpochEnd | None:
        """For OffsetForLeaderEpoch (KIP-320): the largest leader epoch <= `epoch` that has batches, and its end (the
        next epoch's start offset, or `upto` for the last). An epoch older than all in the log ends where the first one
        begins, as in Kafka. None for a negative epoch, or where the log has no batches."""

    @abstractmethod
    def last_epoch(self) -> int | None:
        """The leader epoch of the last batch, None while the log has no batches."""

    @abstractmethod
    async def truncate_before(self, offset: int) -> None:
        """Makes `offset` the log start offset (DeleteRecords); durable when it returns. Segments that end at or below
        it are deleted in the background. `offset` <= durable_end. Does nothing where `offset` is below the start."""

    @abstractmethod
    def segments(self) -> list[LogSegment]:
        """The segments that hold batches, the oldest first, as they are now. Later appends go to the last of them or to
        a new one."""

    @abstractmethod
    async def newest_timestamp(self, segment: LogSegment) -> int | None:
        """The highest timestamp of a segment's records, those appended since `segments` included; where no record has a
        timestamp, the time of the last append. None where the segment was deleted meanwhile. May wait for the
        storage."""

    @abstractmethod
    async def roll(self) -> None:
        """Rolls the log: later appends go to a new segment, which exists durably when this returns. Does nothing where
        the active segment is empty."""

    @abstractmethod
    async def delete_segments(self, upto: int) -> int:
        """Deletes the segments that end at or below `upto`, except the active one (see `roll`); returns the deleted
        bytes. The log start offset moves to the base offset of the first segment left. When this returns, a crash
        cannot bring the segments back, so the start offset need not be stored. `upto` <= durable_end."""

    @abstractmethod
    def size_bytes(self) -> int:
        """Bytes of all batches held, those below the log start offset in the first segment included."""

    @abstractmethod
    def configure(self, config: LogConfig) -> None:
        """Puts changed settings into force."""

    @abstractmethod
    async def flush(self) -> None:
        """Returns when all earlier appends are on the storage, whatever `odradek.flush` says."""

    @abstractmethod
    async def save_snapshot(self, kind: str, offset: int, data: bytes) -> None:
        """Stores `data` as the snapshot of `kind` ("producer", "coordinator", "metadata") of all records below
        `offset`; durable when it returns. Older snapshots of the kind may be deleted: the newest two are kept."""

    @abstractmethod
    async def load_snapshot(self, kind: str, upto: int) -> tuple[int, bytes] | None:
        """The newest snapshot of `kind` with an offset at or below `upto`: (offset, data). The storage may have damaged
        the data: the caller checks it."""

    @abstractmethod
    async def close(self) -> None:
        """Flushes the log, marks it as cleanly closed, and closes its files. Idempotent."""


class Engine(ABC):
    """A storage of logs."""

    capabilities: Capabilities
    cluster_id: str
    """The id of the cluster that the storage belongs to, known after `start`: 16 random bytes in Kafka's base64."""
    counters: EngineCounters

    @abstractmethod
    async def start(self) -> None:
        """Locks the storage and finds the logs in it. Raises `StorageError`, whose text tells the user what to do."""

    @abstractmethod
    def identities(self) -> list[LogIdentity]:
        """The logs found at `start`, with their topic ids."""

    @abstractmethod
    async def open(self, identity: LogIdentity, config: LogConfig) -> PartitionLog:
        """Opens a log, or creates one, which takes up storage from its first append on. After an unclean stop the log
        is recovered first. A log has one opening at a time; after `close` or a failure it can be opened again."""

    @abstractmethod
    async def delete(self, identity: LogIdentity) -> None:
        """Deletes a log, open or not. When this returns, the log cannot come back, even after a crash; its files are
        removed in the background."""

    @abstractmethod
    def unflushed_bytes(self) -> int:
        """Bytes appended and not yet durable, over all logs: `odradek.unflushed.max.bytes` bounds it."""

    def has_room(self) -> bool:
        """Whether producers may append: `unflushed_bytes` and every other resource that only a flush frees are below
        their bounds. True for engines without such bounds."""
        return True

    @abstractmethod
    async def room(self) -> None:
        """Returns when `has_room` is true."""

    @abstractmethod
    def usage(self) -> tuple[str, int, int]:
        """The storage's path, its total bytes and its usable bytes (-1 where unknown). May block: ask in a thread where
        that matters."""

    def free_now(self) -> None:
        """Removes now the files of deleted logs and segments that wait for `file.delete.delay.ms`, because storage is
        short. Engines without such a delay do nothing."""
        return

    @abstractmethod
    async def stop(self) -> None:
        """Closes every log and marks the stop as clean. Idempotent."""


class StorageError(Exception):
    """The storage cannot be used at all: another broker has locked it, it belongs to another cluster, or it is
    broken."""
