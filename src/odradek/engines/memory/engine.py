"""The smallest engine: logs as lists of batches in memory. The reference model of the contract.

Role: implement the contract with as little code as possible, so that `tests/engines/contract.py` can compare every
other engine with it, and a broker inside a test can run without a disk.

Invariants: an append is durable when `append` returns, so that `durable_end` is always `end_offset`. Each batch is a
segment of its own. Nothing survives the engine, and `capabilities` says so; a log survives its `close`, so that opening
it again behaves as on a disk.
"""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64encode
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import uuid4

from odradek.clock import Clock, SystemClock
from odradek.config.topic import LogConfig
from odradek.engines.interface import (
    Appended,
    Capabilities,
    Engine,
    EngineCounters,
    EpochEnd,
    Found,
    LogIdentity,
    LogSegment,
    OffsetOutOfRange,
    PartitionLog,
    Refused,
    Unread,
)
from odradek.records.batch import BatchHeader, Buffer, RecordBatch
from odradek.records.iteration import max_timestamp_inside

SNAPSHOTS_KEPT = 2


@dataclass(slots=True)
class _Kept:
    """The state of a log that outlives an opening."""

    start_offset: int = 0
    end_offset: int = 0
    epoch: int = -1
    size: int = 0
    headers: list[BatchHeader] = field(default_factory=list)
    batches: list[bytes] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    """For each batch, the bytes ever appended up to its end."""
    appended: int = 0
    epochs: list[tuple[int, int]] = field(default_factory=list)
    """(epoch, start offset) of every epoch that has batches, ascending in both."""
    snapshots: dict[str, dict[int, bytes]] = field(default_factory=dict)
    appended_ms: dict[int, int] = field(default_factory=dict)
    """The append time in ms of each batch without timestamps, by base offset."""


class MemoryLog(PartitionLog):
    """A log in memory; see `PartitionLog`."""

    def __init__(self, engine: MemoryEngine, identity: LogIdentity, config: LogConfig, kept: _Kept) -> None:
        self.identity = identity
        self.config = config
        self.failed = None
        self.established = True
        self.on_roll = lambda base_offset: None
        kept.epoch += 1
        self.epoch = kept.epoch
        self.start_offset = kept.start_offset
        self.end_offset = self.durable_end = kept.end_offset
        self._engine = engine
        self._kept = kept
        self._open = True
        self._durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._durable.set_result(None)

    def append(self, batches: Sequence[RecordBatch], epoch: int, expected_end: int | None = None) -> Appended:
        self._check_open()
        if epoch != self.epoch:
            raise Refused(f"epoch {epoch} is not the log's {self.epoch}")
        if expected_end is not None and expected_end != self.end_offset:
            raise Refused(f"the log ends at {self.end_offset}, not at {expected_end}")
        kept = self._kept
        base_offset = offset = self.end_offset
        for batch in batches:
            if not kept.epochs or kept.epochs[-1][0] != epoch:
                kept.epochs.append((epoch, offset))
            if batch.header.max_timestamp < 0:
                kept.appended_ms[offset] = self._engine.clock.now_ms()
            header = batch.header._replace(base_offset=offset, leader_epoch=epoch)
            kept.headers.append(header)
            kept.batches.append(b"".join(batch.placed_at(offset, epoch)))
            kept.size += header.size
            kept.appended += header.size
            kept.ends.append(kept.appended)
            offset = header.next_offset
        self.end_offset = self.durable_end = kept.end_offset = offset
        return Appended(base_offset, offset, self._durable)

    def read(
        self, offset: int, max_bytes: int, upto: int, minimum_one: bool = True, spans: bool = False
    ) -> list[Buffer]:
        self._check_open()
        if not self.start_offset <= offset <= self.end_offset:
            raise OffsetOutOfRange(f"offset {offset} is outside {self.start_offset} to {self.end_offset}")
        kept = self._kept
        found: list[Buffer] = []
        if offset >= upto:
            return found
        for index in range(self._index_of(offset), len(kept.batches)):
            if kept.headers[index].base_offset >= upto:
                break
            batch = kept.batches[index]
            if len(batch) > max_bytes and not (minimum_one and not found):
                break
            found.append(batch)
            max_bytes -= len(batch)
        return found

    async def find_by_timestamp(self, timestamp_ms: int, upto: int, from_offset: int = 0) -> Found | None:
        kept = self._kept
        for index in range(self._index_of(max(from_offset, self.start_offset)), len(kept.headers)):
            base_offset = kept.headers[index].base_offset
            if base_offset >= upto:
                break
            max_timestamp = self._max_timestamp(index)
            if max_timestamp >= timestamp_ms:
                return Found(base_offset, max_timestamp)
        return None

    async def find_max_timestamp(self, upto: int) -> Found | None:
        found: Found | None = None
        for index, header in enumerate(self._kept.headers):
            max_timestamp = self._max_timestamp(index)
            if header.base_offset < upto and (found is None or max_timestamp > found.max_timestamp):
                found = Found(header.base_offset, max_timestamp)
        return found

    def unread_from(self, offset: int) -> Unread | None:
        kept = self._kept
        for index in range(self._index_of(max(offset, self.start_offset)), len(kept.headers)):
            header = kept.headers[index]
            if not header.is_control:
                return Unread(header.first_timestamp, kept.appended - kept.ends[index] + header.size)
        return None

    def epoch_end(self, epoch: int, upto: int) -> EpochEnd | None:
        epochs = self._kept.epochs
        index = bisect_right(epochs, epoch, key=lambda entry: entry[0])
        if not epochs or epoch < 0:
            return None
        if index == len(epochs):
            return EpochEnd(epochs[-1][0], upto)
        return EpochEnd(epochs[index - 1][0] if index else epoch, epochs[index][1])

    def last_epoch(self) -> int | None:
        return self._kept.epochs[-1][0] if self._kept.epochs else None

    async def truncate_before(self, offset: int) -> None:
        self._check_open()
        assert offset <= self.durable_end, (offset, self.durable_end)
        if offset <= self.start_offset:
            return
        kept = self._kept
        self.start_offset = kept.start_offset = offset
        self._drop(bisect_right(kept.headers, offset, key=lambda header: header.next_offset))

    def segments(self) -> list[LogSegment]:
        return [LogSegment(header.base_offset, header.next_offset, header.size) for header in self._kept.headers]

    async def newest_timestamp(self, segment: LogSegment) -> int | None:
        kept, index = self._kept, self._index_of(segment.base_offset)
        if index == len(kept.headers) or kept.headers[index].base_offset != segment.base_offset:
            return None
        max_timestamp = self._max_timestamp(index)
        return max_timestamp if max_timestamp >= 0 else kept.appended_ms[segment.base_offset]

    async def roll(self) -> None:
        self._check_open()

    async def delete_segments(self, upto: int) -> int:
        self._check_open()
        assert upto <= self.durable_end, (upto, self.durable_end)
        kept = self._kept
        count = bisect_right(kept.headers, upto, key=lambda header: header.next_offset)
        if count:
            self.start_offset = kept.start_offset = max(kept.start_offset, kept.headers[count - 1].next_offset)
        return self._drop(count)

    def size_bytes(self) -> int:
        return self._kept.size

    def configure(self, config: LogConfig) -> None:
        self.config = config

    async def flush(self) -> None:
        self._check_open()

    async def save_snapshot(self, kind: str, offset: int, data: bytes) -> None:
        self._check_open()
        snapshots = self._kept.snapshots.setdefault(kind, {})
        snapshots[offset] = bytes(data)
        for old in sorted(snapshots)[:-SNAPSHOTS_KEPT]:
            del snapshots[old]

    async def load_snapshot(self, kind: str, upto: int) -> tuple[int, bytes] | None:
        snapshots = self._kept.snapshots.get(kind, {})
        offset = max((offset for offset in snapshots if offset <= upto), default=None)
        return None if offset is None else (offset, snapshots[offset])

    async def close(self) -> None:
        if self._open:
            self._open = False
            self._engine.forget(self)

    def abandon(self) -> None:
        """Ends the opening of a deleted log."""
        self._open = False

    def _check_open(self) -> None:
        if not self._open:
            raise Refused("the log is closed")

    def _index_of(self, offset: int) -> int:
        """The index of the first batch that ends above `offset`."""
        return bisect_right(self._kept.headers, offset, key=lambda header: header.last_offset + 1)

    def _max_timestamp(self, index: int) -> int:
        """The highest timestamp in a batch, -1 where it has none."""
        kept = self._kept
        header = kept.headers[index]
        if header.contradicts_its_times:
            return max_timestamp_inside(header, kept.batches[index])
        return header.max_timestamp

    def _drop(self, count: int) -> int:
        """Drops the first `count` batches; returns their bytes."""
        kept = self._kept
        freed = sum(header.size for header in kept.headers[:count])
        for header in kept.headers[:count]:
            kept.appended_ms.pop(header.base_offset, None)
        del kept.headers[:count], kept.batches[:count], kept.ends[:count]
        kept.size -= freed
        # The leader epoch of the start offset now begins at the start offset, as in Kafka.
        started = bisect_right(kept.epochs, kept.start_offset, key=lambda entry: entry[1])
        if started:
            kept.epochs[:started] = [(kept.epochs[started - 1][0], kept.start_offset)]
        return freed


class MemoryEngine(Engine):
    """Logs in memory; see `Engine`."""

    capabilities = Capabilities(durable=False, replicated=False, files=False)

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or SystemClock()
        self.counters = EngineCounters()
        self._kept: dict[LogIdentity, _Kept] = {}
        self._logs: dict[LogIdentity, MemoryLog] = {}

    async def start(self) -> None:
        self.cluster_id = urlsafe_b64encode(uuid4().bytes).decode().rstrip("=")

    def identities(self) -> list[LogIdentity]:
        return list(self._kept)

    async def open(self, identity: LogIdentity, config: LogConfig) -> MemoryLog:
        assert identity not in self._logs, f"{identity} is open"
        opened = MemoryLog(self, identity, config, self._kept.setdefault(identity, _Kept()))
        self._logs[identity] = opened
        return opened

    def forget(self, closed: MemoryLog) -> None:
        """Called by a log when it is closed."""
        del self._logs[closed.identity]

    async def delete(self, identity: LogIdentity) -> None:
        opened = self._logs.pop(identity, None)
        if opened is not None:
            opened.abandon()
        self._kept.pop(identity, None)

    def unflushed_bytes(self) -> int:
        return 0

    async def room(self) -> None:
        pass

    def usage(self) -> tuple[str, int, int]:
        return "memory", -1, -1

    async def stop(self) -> None:
        for opened in list(self._logs.values()):
            await opened.close()
