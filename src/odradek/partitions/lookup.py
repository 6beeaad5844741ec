"""Finds records by timestamp: the engine finds the batch, and this module reads its records.

Records are read in a thread: batches may be large and compressed. A batch whose records are malformed, which the
produce path does not check, is skipped, and the search goes on after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from odradek.engines.interface import PartitionLog, Unknown
from odradek.logs import get_logger
from odradek.partitions.partition import Partition
from odradek.records.batch import NO_TIMESTAMP, BatchHeader, Buffer, InvalidBatch, check_stored, split_batches
from odradek.records.iteration import first_at_or_after, max_timestamp_record

log = get_logger("odradek.partition")

# The most batches read for one request: damaged ones are few, and many made by an attacker must not take for ever.
MAX_BATCHES_TRIED = 100
_SEARCH = Callable[[BatchHeader, bytes], tuple[int, int] | None]


class FoundRecord(NamedTuple):
    """A record's offset, its timestamp in ms, and the leader epoch of its batch."""

    offset: int
    timestamp_ms: int
    leader_epoch: int


def epoch_at(partition: Partition, offset: int) -> int:
    """The leader epoch of the batch at `offset`; the log's current one at the log's end."""
    opened = partition.opened()
    if offset >= opened.end_offset:
        return opened.epoch
    # The smallest epoch that ends above the offset; epochs are few.
    epoch = opened.last_epoch()
    while epoch is not None and epoch > 0:
        earlier = opened.epoch_end(epoch - 1, opened.end_offset)
        if earlier is None or earlier.end_offset <= offset:
            break
        epoch = earlier.epoch
    return opened.epoch if epoch is None else epoch


async def find_by_timestamp(partition: Partition, timestamp_ms: int) -> FoundRecord | None:
    """The first readable record with a timestamp at or above `timestamp_ms`. Raises `KafkaError`, `LogFailure`."""
    opened = partition.opened()
    upto = opened.durable_end
    from_offset = opened.start_offset
    for _ in range(MAX_BATCHES_TRIED):
        found = await opened.find_by_timestamp(timestamp_ms, upto, from_offset)
        if found is None:
            return None

        def search(header: BatchHeader, data: bytes) -> tuple[int, int] | None:
            max_bytes = partition.config.decompressed_max_bytes
            return first_at_or_after(header, data, timestamp_ms, opened.start_offset, max_bytes)

        header, record = await _search(partition, opened, found.base_offset, search)
        if record is not None:
            return FoundRecord(record[0], record[1], header.leader_epoch)
        from_offset = header.next_offset
    return None


async def find_max_timestamp(partition: Partition) -> FoundRecord | None:
    """The first record with the highest timestamp; where no record has one, the first record, as in Kafka. Raises
    `KafkaError`, `LogFailure`."""
    opened = partition.opened()
    upto = opened.durable_end
    found = await opened.find_max_timestamp(upto)
    if found is None:
        return None

    def search(header: BatchHeader, data: bytes) -> tuple[int, int] | None:
        return max_timestamp_record(header, data, partition.config.decompressed_max_bytes)

    header, record = await _search(partition, opened, found.base_offset, search)
    if record is None:
        # The batch is damaged: answer from its header.
        return FoundRecord(header.last_offset, header.max_timestamp, header.leader_epoch)
    if record[1] < NO_TIMESTAMP:
        return None
    return FoundRecord(record[0], record[1], header.leader_epoch)


async def _search(
    partition: Partition, opened: PartitionLog, offset: int, search: _SEARCH
) -> tuple[BatchHeader, tuple[int, int] | None]:
    buffers = partition.read(max(offset, opened.start_offset), 1, True)
    if not isinstance(buffers, list):
        buffers = await buffers

    def run(pieces: list[Buffer]) -> tuple[BatchHeader, tuple[int, int] | None]:
        found = next(split_batches(b"".join(pieces)), None)
        if found is None:
            raise Unknown(f"no whole batch is at offset {offset}")
        header, data = found
        try:
            check_stored(header, data)
            return header, search(header, bytes(data))
        except InvalidBatch as error:
            log.warning(
                "a batch cannot be read", partition=str(partition.identity), offset=header.base_offset, why=str(error)
            )
            return header, None

    return await asyncio.get_running_loop().run_in_executor(partition.executor, run, buffers)
