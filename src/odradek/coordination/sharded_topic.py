"""The shards of an internal topic: one for each of its partitions, from the topic's creation to the broker's stop.

Role: make the topic when it is first needed, load a shard for each partition, find the shard that has a name (by
Kafka's hash, so that the files mean the same to both), and stop the shards. What a shard holds is its state machine's
business; what is asked of it is the coordinator's.

Invariants: there are as many shards as the topic has partitions, in their order. When the number of partitions has
changed, every name may belong to another one: all shards are then made anew from their logs.
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
    """The partition that a group's or a transactional id's records are in: Java's hash of the name, as Kafka takes
    it."""
    value = 0
    for (unit,) in struct.iter_unpack(">H", name.encode("utf-16-be", "surrogatepass")):
        value = (value * 31 + unit) & 0xFFFFFFFF
    signed = value - (1 << 32) if value & 0x80000000 else value
    # Java's abs of the smallest int is itself; Kafka takes 0 for it.
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
        """`make` makes the empty state machine of a shard. `load_bytes` are read at a time from a log."""
        self.topic = topic
        self.shards: Sequence[Shard[S]] = ()
        """The shards there are now; replaced as a whole when they change."""
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
        """Whether the topic's partitions are not those that are served."""
        return [shard.partition for shard in self.shards] != self._found()

    def load(self) -> None:
        """Begins to serve the partitions that the topic has now. Those that are served already go on, unless their
        number has changed."""
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
        """Makes the topic if there is none. Raises `KafkaError`."""
        if not self.shards:
            await self._create_topic(self.topic)
            self.load()

    async def stop(self) -> None:
        """Ends the shards, with a snapshot where one is due."""
        await asyncio.gather(*(shard.stop() for shard in self.shards))

    def shard_of(self, name: str) -> Shard[S]:
        """The shard that has a name. Raises `KafkaError` while there is no topic."""
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
