"""The contract between the broker and whatever keeps its logs. Everything above is written against this page.

A `PartitionLog` is an append-only sequence of record batches with offsets. One broker serves it at a time, under a
leader epoch that the engine owns. The contract is made to fit a log on local disk, one in memory, and one in object
storage with an index in a database:

- **Offsets are fixed early, durability is awaited.** `append` gives offsets at once; `durable` tells when they may
  be acknowledged and read.
- **Nobody reads what a crash can take back.** `durable_end` is the high watermark's source. With `odradek.flush=os`
  an engine counts a written batch as durable: the user's bargain, made by a setting.
- **A failure is never smoothed over.** After a failed append or flush the log is `failed`: every open `durable`
  fails, later appends fail, and whoever holds state derived from the log drops it and opens the log again, at its
  durable end and under a higher epoch.
- **No disk wait on the event loop.** What may wait is awaitable, or says in its docstring that it blocks and belongs
  into a thread.

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
    """The storage failed under a log; what the outcome of an append was is said by the subclass."""


class Refused(LogFailure):
    """Nothing was written: the epoch is old, or the log does not end where the caller expected."""


class Unknown(LogFailure):
    """The batches may or may not have been kept (a failed write or flush). Treat them as lost until a reopened log
    shows them."""


class DamagedBatch(Unknown):
    """No batch can be read at an offset, because the storage has damaged it. `data` are the bytes that stand where it
    should be, as many as were asked for: for who can make something of them."""

    def __init__(self, message: str, data: bytes = b"") -> None:
        super().__init__(message)
        self.data = data


class StorageFull(LogFailure):
    """Nothing was written: there is no room. The log stays usable; try again when there is."""


class OffsetOutOfRange(Exception):
    """A read below the start or above the end of the log."""


class LogIdentity(NamedTuple):
    """What a log is called. `topic_id` is 16 bytes and outlives a name that is used again."""

    topic: str
    topic_id: bytes
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


def is_one_id(one: bytes, other: bytes) -> bool:
    """Whether two topic ids are the same but for a byte that a disk may have damaged: random ones differ in some sixty
    bits."""
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count() <= 8


class Appended(NamedTuple):
    """What an append gives at once: the first batch's base offset, the log's end after the last, and the future
    that resolves (to None) when all of it is durable, or fails with a `LogFailure`. Appends that share a flush share
    the future, and nobody can cancel it for the others: who is cancelled while awaiting it learns so when it is done.
    It is already done where the engine needs no flush."""

    base_offset: int
    end_offset: int
    durable: asyncio.Future[None]


class EpochEnd(NamedTuple):
    """The largest leader epoch not above the one asked for that the log has, and the offset where it ends."""

    epoch: int
    end_offset: int


class AbortedTransaction(NamedTuple):
    """An aborted transaction: whose, the offset of its first record, and that of its marker."""

    producer_id: int
    first_offset: int
    last_offset: int


# From here on a span is cheaper than a copy.
SPAN_MIN_BYTES = 65_536


class FileSpan:
    """Bytes of a file that were all in the system's memory a moment ago, for who takes them from there to a socket
    (`sendfile`): they need not be copied into the process and out again. Only who asks for them gets any.

    Has a length like a buffer, and a descriptor of its own, closed with it, so that it may outlive the log's."""

    __slots__ = ("_fd", "_open", "_position", "_size")

    def __init__(self, fd: int, position: int, size: int, open_spans: set[int] | None = None) -> None:
        """Takes the descriptor over; `open_spans` has it for as long as it is open."""
        self._fd = fd
        self._position = position
        self._size = size
        self._open = open_spans if open_spans is not None else set()
        self._open.add(fd)

    def __len__(self) -> int:
        return self._size

    def __del__(self) -> None:
        self._open.discard(self._fd)  # before another gets the number
        os.close(self._fd)

    def send(self, socket_fd: int) -> int:
        """Sends what the socket takes now; how many bytes that was. Raises `OSError`."""
        try:
            return os.sendfile(socket_fd, self._fd, self._position, self._size)
        except BlockingIOError:
            return 0

    def read(self, start: int = 0) -> bytes:
        """The bytes from `start` on. May block where memory has lost them meanwhile. Raises `OSError`."""
        data = os.pread(self._fd, self._size - start, self._position + start)
        if len(data) < self._size - start:
            raise OSError("a file is shorter than it was")
        return data


class Found(NamedTuple):
    """Where to look for a record: the base offset of its batch, and that batch's max timestamp."""

    base_offset: int
    max_timestamp: int


class Unread(NamedTuple):
    """What lies before a reader: the timestamp of its first batch of records (of the first of them, as the header says;
    -1 where it has none), and the bytes of all batches from that one on."""

    timestamp_ms: int
    size_bytes: int


class LogSegment(NamedTuple):
    """A part of a log that holds batches, and is deleted as a whole."""

    base_offset: int
    end_offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Capabilities:
    """How engines differ, declared instead of silently different."""

    durable: bool
    """What was acknowledged survives the process."""
    replicated: bool
    """Replication factors above 1 mean something."""
    files: bool
    """The log is files in a directory that DescribeLogDirs can name."""


class EngineCounters:
    """What an engine has done since it was made, in plain ints; `insight` reads them. Zero where an engine has nothing
    of the kind."""

    __slots__ = ("damages", "flush_durations", "flush_failures", "flushed_bytes")

    def __init__(self) -> None:
        self.flush_durations = Durations()
        """Of group commits, from their beginning until the loop heard of their end."""
        self.flush_failures = 0
        """Group commits after which at least one log was not flushed."""
        self.flushed_bytes = 0
        """Bytes whose durability waited for a group commit and that are durable now."""
        self.damages = 0
        """Places where logs were found damaged, or to lack what they once had."""


class PartitionLog(ABC):
    """One open log. All methods without `async`, and not said to block, return at once and are called on the event
    loop only."""

    identity: LogIdentity
    config: LogConfig
    """Effective settings; replaced as a whole by `configure`."""
    epoch: int
    """The leader epoch under which this opening appends: higher than that of every batch in the log."""
    start_offset: int
    end_offset: int
    """The next append's base offset."""
    durable_end: int
    """Everything before is durable; start_offset <= durable_end <= end_offset."""
    failed: LogFailure | None
    """Set once by the failure that ended this opening."""
    established: bool
    """Whether `epoch` itself is durable. Until then (the first append of an opening) no append may be answered
    before its `durable`, whatever its acks: else an epoch could be used twice."""
    on_roll: Callable[[int], None]
    """Set by who opened the log; called with the base offset of each new segment behind another, before anything is
    appended to it: a snapshot of producer state is due (Kafka writes one at every roll). Engines that keep no such
    segments never call it."""

    @abstractmethod
    def append(self, batches: Sequence[RecordBatch], epoch: int, expected_end: int | None = None) -> Appended:
        """Adds batches at the end, giving them offsets and the leader epoch `epoch`.

        Raises `Refused` where `epoch` is not the log's, or `expected_end` is given and is not `end_offset`;
        `StorageFull` or `Unknown` where the write failed; the earlier failure where the log has `failed`.
        Rolls segments as the settings say. A batch is never split. Max timestamps are true here; in a log that is
        opened they may be unset or too low, and a header that contradicts itself is believed by neither lookups nor
        retention."""

    @abstractmethod
    def read(
        self, offset: int, max_bytes: int, upto: int, minimum_one: bool = True, spans: bool = False
    ) -> list[Buffer] | Awaitable[list[Buffer]]:
        """Buffers of consecutive batches: the first contains `offset` (and may begin before it); none begins at or
        above `upto`. At most `max_bytes`, but with `minimum_one` the first batch comes whole, whatever its size. The
        last batch may be cut short, as Kafka's are; the first never is. Empty where there is nothing between `offset`
        and `upto`, or no room for the first batch.

        With `spans` a `FileSpan` may stand where a buffer would, where that is cheaper.

        Returns a list where the bytes are at hand, else an awaitable. Raises `OffsetOutOfRange` where `offset` is
        below `start_offset` or above `end_offset` (the awaitable also where it was deleted meanwhile), and
        `LogFailure` where the storage cannot give what it has (`DamagedBatch` where that is damaged); that does not end
        the opening."""

    def read_aborted(self) -> list[AbortedTransaction]:
        """The aborted transactions that are noted beside the log, for other brokers or by them. Blocks. Engines without
        such files have none."""
        return []

    async def save_aborted(self, aborted: Sequence[AbortedTransaction]) -> None:
        """Notes beside the log, for other brokers, all of its aborted transactions, in the order of their markers.
        Raises `OSError`. Engines without such files do nothing."""
        return

    @abstractmethod
    async def find_by_timestamp(self, timestamp_ms: int, upto: int, from_offset: int = 0) -> Found | None:
        """The first batch below `upto` that ends above both the start and `from_offset`, and whose max timestamp is
        at or above `timestamp_ms`."""

    @abstractmethod
    async def find_max_timestamp(self, upto: int) -> Found | None:
        """The batch below `upto` with the highest max timestamp (the first of equals)."""

    @abstractmethod
    def unread_from(self, offset: int) -> Unread | Awaitable[Unread | None] | None:
        """What lies before a reader at `offset`; None where nothing does, or nothing but the ends of transactions. At
        once where it is in memory."""

    @abstractmethod
    def epoch_end(self, epoch: int, upto: int) -> EpochEnd | None:
        """For OffsetForLeaderEpoch (KIP-320): the largest epoch <= `epoch` that has batches and where it ends (at
        the next epoch's start, or `upto` for the last). An epoch older than all ended where the first begins, as in
        Kafka. None for a negative epoch, or where the log has no batches."""

    @abstractmethod
    def last_epoch(self) -> int | None:
        """The epoch of the last batch, None while the log has none."""

    @abstractmethod
    async def truncate_before(self, offset: int) -> None:
        """Makes `offset` the start (DeleteRecords); durable when it returns. Whole segments below are deleted, in the
        background. `offset` <= durable_end. Does nothing below the start."""

    @abstractmethod
    def segments(self) -> list[LogSegment]:
        """The segments that hold batches, the oldest first, as they are now: appends go on in the last one, or behind
        it."""

    @abstractmethod
    async def newest_timestamp(self, segment: LogSegment) -> int | None:
        """The highest timestamp of a segment's records (of all that it holds by now); when the last was appended where
        none of them has one. None where it was deleted meanwhile. May wait for the storage."""

    @abstractmethod
    async def roll(self) -> None:
        """Ends the last segment: what is appended from now on goes into a new one, which is there for certain when this
        returns. Does nothing where there is nothing to end."""

    @abstractmethod
    async def delete_segments(self, upto: int) -> int:
        """Deletes the segments that end at or below `upto`, but for the one that appends go into (`roll` ends it);
        returns how many bytes went. The start is where the first that is left begins, and nothing else need be kept of
        it: they cannot come back when this returns. `upto` <= durable_end."""

    @abstractmethod
    def size_bytes(self) -> int:
        """Bytes of batches held, from the first segment's start on."""

    @abstractmethod
    def configure(self, config: LogConfig) -> None:
        """Puts changed settings into force."""

    @abstractmethod
    async def flush(self) -> None:
        """Returns when all that was appended before is on the storage, whatever `odradek.flush` says."""

    @abstractmethod
    async def save_snapshot(self, kind: str, offset: int, data: bytes) -> None:
        """Keeps `data` as the state of `kind` ("producer", "coordinator", "metadata") made from every record below
        `offset`; durable when it returns. Older ones of the kind may go: the newest two are kept."""

    @abstractmethod
    async def load_snapshot(self, kind: str, upto: int) -> tuple[int, bytes] | None:
        """The newest snapshot of `kind` with an offset at or below `upto`: (offset, data). The data is as saved, or
        as damaged since: the caller checks it."""

    @abstractmethod
    async def close(self) -> None:
        """Flushes, marks the log as cleanly closed, and gives back files. Idempotent."""


class Engine(ABC):
    """A place where logs are kept."""

    capabilities: Capabilities
    cluster_id: str
    """The cluster this place belongs to, known after `start`: 16 random bytes in Kafka's base64."""
    counters: EngineCounters

    @abstractmethod
    async def start(self) -> None:
        """Takes the place into possession (locks it) and learns what is there. Raises `StorageError` in words a
        person can act on."""

    @abstractmethod
    def identities(self) -> list[LogIdentity]:
        """The logs found at `start`, with their topic ids."""

    @abstractmethod
    async def open(self, identity: LogIdentity, config: LogConfig) -> PartitionLog:
        """Opens a log, or makes one that takes up storage from its first append on. After an unclean stop it is
        recovered first. One opening at a time; after `close` or a failure it can be opened again."""

    @abstractmethod
    async def delete(self, identity: LogIdentity) -> None:
        """Deletes a log, open or not. When it returns the log cannot come back, also after a crash; its bytes go in
        the background."""

    @abstractmethod
    def unflushed_bytes(self) -> int:
        """Bytes appended and not yet durable, over all logs: `odradek.unflushed.max.bytes` bounds it."""

    def has_room(self) -> bool:
        """Whether producers may go on: `unflushed_bytes` is below its bound, and so is all else that only a flush gives
        back. Engines without such bounds always have."""
        return True

    @abstractmethod
    async def room(self) -> None:
        """Returns when the engine has room."""

    @abstractmethod
    def usage(self) -> tuple[str, int, int]:
        """The place's path, its total bytes and its usable bytes (-1 where unknown). May block: a hot
        path asks in a thread."""

    def free_now(self) -> None:
        """Storage is short: what was deleted, and is kept for a while, goes now. Engines without such a delay do
        nothing."""
        return

    @abstractmethod
    async def stop(self) -> None:
        """Closes every log, and marks the stop as clean. Idempotent."""


class StorageError(Exception):
    """The storage cannot be used at all: locked by another broker, another cluster's, or broken."""
