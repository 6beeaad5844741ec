"""The shards of an internal topic: one for each of its partitions, from the topic's creation to the broker's stop.

Role: create the topic when it is first needed, load a shard for each partition, find the shard of a group id or
transactional id (by Kafka's hash, so that Kafka finds the records in the same partition), and stop the shards. The
state machine decides what a shard holds; the coordinator decides which operations run on it.

Invariants: there is one shard per partition, in the order of the partitions. When the number of partitions changes,
any name may hash to another partition, so all shards are loaded again from their logs.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from odradek.clock import Scheduler
from odradek.coordination.operation import InSteps, StateMachine
from odradek.coordination.replies import Untold, settled
from odradek.coordination.runtime import Shard
from odradek.errors import ErrorCode, KafkaError
from odradek.logs import get_logger
from odradek.partitions.partition import Partition
from odradek.partitions.registry import Partitions

log = get_logger("odradek.coordination")

S = TypeVar("S", bound=StateMachine)


def partition_of(name: str, partitions: int) -> int:
    """The partition that holds the records of a group id or transactional id: Java's `hashCode` of the name, modulo
    the number of partitions, as in Kafka."""
    value = 0
    for (unit,) in struct.iter_unpack(">H", name.encode("utf-16-be", "surrogatepass")):
        value = (value * 31 + unit) & 0xFFFFFFFF
    signed = value - (1 << 32) if value & 0x80000000 else value
    # Java's abs of the smallest int is negative; Kafka uses 0 in its place.
    return (0 if signed == -(1 << 31) else abs(signed)) % partitions


class ShardedTopic(Generic[S]):
    """The shards of one internal topic."""

    def __init__(
        self,
        topic: str,
        make: Callable[[], S],
        partitions: Partitions,
        create_topic: Callable[[str], Awaitable[None]],
        scheduler: Scheduler,
        snapshot_min_records: int,
        load_bytes: int,
    ) -> None:
        """`make` returns the empty state machine of a shard. A log is read in pieces of `load_bytes`."""
        self.topic = topic
        self.shards: Sequence[Shard[S]] = ()
        """The current shards; the whole sequence is replaced when they change."""
        self._make = make
        self._partitions = partitions
        self._create_topic = create_topic
        self._scheduler = scheduler
        self._snapshot_min_records = snapshot_min_records
        self._load_bytes = load_bytes

    def _found(self) -> list[Partition]:
        topic = self._partitions.topics.get(self.topic)
        return [] if topic is None else topic.partitions

    def has_changed(self) -> bool:
        """Whether the topic's partitions differ from those of the shards."""
        return [shard.partition for shard in self.shards] != self._found()

    def load(self) -> None:
        """Loads a shard for each partition that the topic has now. Does nothing if the shards have these partitions
        already; otherwise closes all of them first."""
        if not self.has_changed():
            return
        for shard in self.shards:
            shard.close()
        self.shards = [
            Shard(partition, self._make, self._scheduler, self._snapshot_min_records, self._load_bytes)
            for partition in self._found()
        ]
        for shard in self.shards:
            shard.load()

    async def ready(self) -> None:
        """Creates the topic if it does not exist. Raises `KafkaError`."""
        if not self.shards:
            await self._create_topic(self.topic)
            self.load()

    async def stop(self) -> None:
        """Stops the shards; each saves a snapshot if it has new records."""
        await asyncio.gather(*(shard.stop() for shard in self.shards))

    def shard_of(self, name: str) -> Shard[S]:
        """The shard of a group id or transactional id. Raises `KafkaError` while the topic does not exist."""
        shards = self.shards
        if not shards:
            raise KafkaError(ErrorCode.NOT_COORDINATOR)
        return shards[partition_of(name, len(shards))]

    async def on_every_shard(self, operation: Callable[[S], InSteps[None]]) -> None:
        """Runs an operation in steps on one shard after the other, and gives way between any two. A shard that is being
        loaded, or whose disk fails, is passed over: for work that is done now and then, and is due again."""
        for shard in self.shards:
            try:
                await _run(shard, operation)
            except KafkaError as error:
                log.info("a shard was passed over", partition=str(shard.partition.identity), why=str(error))


async def _run(shard: Shard[S], operation: Callable[[S], InSteps[None]]) -> None:
    """Returns when all of it is durable. Raises `KafkaError`."""
    steps = shard.steps(operation)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            made: Untold[None] = end.value
            break
        await asyncio.sleep(0)
    await settled((made,))
    if made.is_lost:
        raise KafkaError(ErrorCode.NOT_COORDINATOR)
