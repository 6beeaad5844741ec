"""The coordinator of groups: which shard serves a group, and the shards' lives.

Role: find a group's partition of `__consumer_offsets` (by Kafka's hash, so that the files mean the same to both), make
the topic when it is first needed, load, unload and maintain the shards. Requests are the handlers', a group's rules
the shard's.
"""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from odradek.ages import Ages
from odradek.clock import Scheduler
from odradek.config.layers import BrokerConfig
from odradek.coordination.groups.counters import GroupCounters
from odradek.coordination.groups.membership import GroupSettings
from odradek.coordination.groups.shard import GroupShard
from odradek.coordination.operation import Outcome, Reply
from odradek.coordination.runtime import FutureReply, Shard
from odradek.errors import ErrorCode, KafkaError
from odradek.internal_topics import OFFSETS_TOPIC
from odradek.logs import get_logger
from odradek.partitions.registry import Partitions
from odradek.protocol.fields import Message

log = get_logger("odradek.groups")

T = TypeVar("T")


def partition_of(group_id: str, partitions: int) -> int:
    """The partition that a group's records are in: Java's hash of the name, as Kafka takes it."""
    value = 0
    for (unit,) in struct.iter_unpack(">H", group_id.encode("utf-16-be", "surrogatepass")):
        value = (value * 31 + unit) & 0xFFFFFFFF
    signed = value - (1 << 32) if value & 0x80000000 else value
    # Java's abs of the smallest int is itself; Kafka takes 0 for it.
    return (0 if signed == -(1 << 31) else abs(signed)) % partitions


class GroupCoordinator:
    """The groups of one broker."""

    def __init__(
        self,
        config: BrokerConfig,
        scheduler: Scheduler,
        choose: random.Random,
        partitions: Partitions,
        create_topic: Callable[[str], Awaitable[None]],
        ages: Ages,
    ) -> None:
        self.config = config
        self.scheduler = scheduler
        self.choose = choose
        self.partitions = partitions
        self._create_topic = create_topic
        self.ages = ages
        self.counters = GroupCounters()
        self.has_begun = False
        """Whether it has begun to load groups; before, nothing is known of any."""
        self._shards: list[Shard[GroupShard]] = []

    def _settings(self) -> GroupSettings:
        number = self.config.integer
        return GroupSettings(
            min_session_timeout_ms=number("group.min.session.timeout.ms"),
            max_session_timeout_ms=number("group.max.session.timeout.ms"),
            initial_rebalance_delay_ms=number("group.initial.rebalance.delay.ms"),
            new_member_join_timeout_ms=number("odradek.group.new.member.join.timeout.ms"),
            max_size=number("group.max.size"),
            offset_metadata_max_bytes=number("offset.metadata.max.bytes"),
            offsets_retention_ms=number("offsets.retention.minutes") * 60_000,
        )

    # --- life ----------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Begins to serve the partitions of the offsets topic that there are now; those it serves already go on,
        unless their number has changed: then every group may belong to another."""
        self.has_begun = True
        topic = self.partitions.topics.get(OFFSETS_TOPIC)
        found = [] if topic is None else topic.partitions
        if [shard.partition for shard in self._shards] == found:
            return
        for shard in self._shards:
            shard.close()
        settings = self._settings()
        self._shards = [
            Shard(
                partition,
                lambda: GroupShard(settings, self.scheduler.clock, self.choose, self.counters),
                self.scheduler,
                self.config.integer("odradek.coordinator.snapshot.min.records"),
                self.config.integer("offsets.load.buffer.size"),
            )
            for partition in found
        ]
        for shard in self._shards:
            shard.load()

    async def topics_deleted(self, names: frozenset[str]) -> None:
        """Forgets the offsets of topics that are no more."""
        await self._on_every_shard(lambda shard, outcome: shard.forget_topics(names, outcome))

    async def expire(self) -> None:
        """Forgets what `offsets.retention.minutes` no longer keeps, and offsets of topics deleted while their shard was
        not there to forget them."""

        now_ms = self.ages.now_ms()

        def expire(shard: GroupShard, outcome: Outcome) -> None:
            shard.expire(outcome, now_ms)
            shard.forget_topics(shard.offsets.topics() - self.partitions.topics.keys(), outcome)

        await self._on_every_shard(expire)

    async def _on_every_shard(self, operation: Callable[[GroupShard, Outcome], None]) -> None:
        for shard in list(self._shards):
            try:
                await shard.call(operation)
            except KafkaError as error:
                # It is being loaded, or its disk fails. What is to go stays until the next time.
                log.info("a shard of groups was passed over", partition=str(shard.partition.identity), why=str(error))

    async def stop(self) -> None:
        """Ends the shards, with a snapshot where one is due."""
        await asyncio.gather(*(shard.stop() for shard in self._shards))

    # --- what insight reads --------------------------------------------------------------------------------------

    def shards(self) -> Sequence[Shard[GroupShard]]:
        """The shards there are now, to look at."""
        return self._shards

    # --- what handlers ask ---------------------------------------------------------------------------------------

    async def ready(self) -> None:
        """Makes the offsets topic if there is none. Raises `KafkaError`."""
        if not self._shards:
            await self._create_topic(OFFSETS_TOPIC)
            self.load()

    def _shard(self, group_id: str) -> Shard[GroupShard]:
        if not self._shards:
            raise KafkaError(ErrorCode.NOT_COORDINATOR)
        return self._shards[partition_of(group_id, len(self._shards))]

    def active(self, group_id: str) -> GroupShard:
        """The state machine that has a group, for what changes no durable state. Raises `KafkaError`."""
        return self._shard(group_id).active()

    def ask(
        self,
        group_id: str,
        operation: Callable[[GroupShard, Reply, Outcome], None],
        refusal: Callable[[ErrorCode], Message],
    ) -> Awaitable[Message]:
        """Runs an operation that answers through its reply; `refusal` makes the response of an error."""
        try:
            shard = self._shard(group_id)
        except KafkaError as error:
            reply = FutureReply(refusal)
            reply.refuse(error.code)
            return reply.future
        return shard.ask(operation, refusal)

    async def call(self, group_id: str, operation: Callable[[GroupShard, Outcome], T]) -> T:
        """Runs an operation at once; its result, when all it saw and appended is durable. Raises `KafkaError`."""
        return await self._shard(group_id).call(operation)

    async def rebalance(self, group_id: str) -> bool:
        """Makes a group's members join again; False where there are none. Raises `KafkaError`."""
        return await self.call(group_id, lambda shard, outcome: shard.rebalance(group_id, outcome))

    async def on_active_shards(self, operation: Callable[[GroupShard, Outcome], T]) -> list[T]:
        """Runs an operation on every shard. Raises `KafkaError` where one is being loaded."""
        return list(await asyncio.gather(*(shard.call(operation) for shard in self._shards)))
