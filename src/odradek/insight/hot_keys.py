"""Counts the record keys of topics with `odradek.hot.keys.enable`, by sampling their logs.

Role: at each look, read some records of each partition from where the last look's high watermark was, and count their
keys. How keys are counted is in `top_keys`.

Invariants: hot paths are not involved: the log is read as a consumer reads it, and records are parsed in a thread. A
look reads at most `SAMPLE_BYTES` (and one batch) of a partition, and counts at most `RECORDS_A_LOOK` records, of which
`RECORDS_OF_ONE` are of one partition. If that is not enough for all partitions, the next look goes on with the others.
At most `PARTITIONS_MAX` partitions have counts. The counts of a topic are dropped when it is deleted or its setting is
turned off.
"""

from __future__ import annotations

import asyncio

from odradek.config.layers import BrokerConfig
from odradek.errors import KafkaError
from odradek.insight.top_keys import TopKeys
from odradek.logs import get_logger
from odradek.partitions.partition import Partition
from odradek.partitions.registry import Partitions
from odradek.records.batch import Buffer, InvalidBatch, checked_batches
from odradek.records.iteration import iterate

log = get_logger("odradek.insight")

SAMPLE_BYTES = 65_536
RECORDS_A_LOOK = 10_000
RECORDS_OF_ONE = 500
PARTITIONS_MAX = 1000

_Where = tuple[bytes, int]  # topic id, partition


class _Sampled:
    __slots__ = ("keys", "next_offset")

    def __init__(self, next_offset: int) -> None:
        self.keys = TopKeys()
        self.next_offset = next_offset


class HotKeys:
    """The key counts of one broker. Call `look` periodically."""

    def __init__(self, config: BrokerConfig, partitions: Partitions) -> None:
        self._config = config
        self._partitions = partitions
        self._sampled: dict[_Where, _Sampled] = {}
        self._first = 0

    def of(self, partition: Partition) -> TopKeys | None:
        """A partition's key counts; None if its topic has not enabled them."""
        found = self._sampled.get(_where(partition))
        return found.keys if found is not None else None

    async def look(self) -> None:
        """Samples the partitions of enabled topics, up to the limits of one look."""
        asking = [
            partition
            for topic in self._partitions.topics.values()
            if topic.config.hot_keys
            for partition in topic.partitions
        ][:PARTITIONS_MAX]
        wanted = {_where(partition) for partition in asking}
        for where in self._sampled.keys() - wanted:
            del self._sampled[where]
        left, first = RECORDS_A_LOOK, self._first % max(1, len(asking))
        for number in range(len(asking)):
            if left <= 0:
                break
            self._first = first + number + 1
            partition = asking[(first + number) % len(asking)]
            try:
                left -= await self._sample(partition, min(left, RECORDS_OF_ONE))
            except (KafkaError, InvalidBatch) as error:
                log.info("keys were not counted", partition=str(partition.identity), why=str(error))

    async def _sample(self, partition: Partition, records: int) -> int:
        """Counts the keys of the records right behind the last sample; returns how many records were counted."""
        if partition.opening is None:
            return 0
        offsets = partition.offsets()
        end_offset = offsets.high_watermark
        sampled = self._sampled.get(_where(partition))
        if sampled is None:
            # Counting begins at the end: earlier records are not counted.
            sampled = self._sampled[_where(partition)] = _Sampled(end_offset)
        offset, sampled.next_offset = max(sampled.next_offset, offsets.log_start_offset), end_offset
        if offset >= end_offset:
            return 0
        found = partition.read(offset, SAMPLE_BYTES, True, end_offset)
        pieces = found if isinstance(found, list) else await found
        max_bytes = self._config.integer("odradek.batch.decompressed.max.bytes")
        keys = await asyncio.get_running_loop().run_in_executor(
            self._partitions.executor, _keys, pieces, offset, records, max_bytes
        )
        for key in keys:
            sampled.keys.add(key)
        return len(keys)


def _where(partition: Partition) -> _Where:
    return partition.identity.topic_id, partition.identity.partition


def _keys(pieces: list[Buffer], offset: int, number: int, max_bytes: int) -> list[bytes | None]:
    """The keys of the first `number` records from `offset` on. Runs in a thread. Raises `InvalidBatch`."""
    found: list[bytes | None] = []
    for piece in pieces:
        for header, data in checked_batches(piece):
            if header.is_control:
                continue
            for record in iterate(header, data, max_bytes):
                if len(found) >= number:
                    return found
                if record.offset >= offset:
                    found.append(record.key)
    return found
