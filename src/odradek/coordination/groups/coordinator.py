"""The group coordinator: runs operations on the shard of `__consumer_offsets` that has the group.

Role: give the shards their settings, hand each operation to the right shard, and delete offsets when they expire or
their topic is deleted. Handlers read the requests, the shard has the rules of groups, and `coordination.sharded_topic`
creates, loads and stops the shards.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import TypeVar

from odradek.ages import Ages
from odradek.clock import Scheduler
from odradek.config.layers import BrokerConfig
from odradek.coordination.groups.counters import GroupCounters
from odradek.coordination.groups.group import GroupType
from odradek.coordination.groups.shard import GroupShard
from odradek.coordination.operation import InSteps, Outcome, Reply
from odradek.coordination.replies import FutureReply, Untold
from odradek.coordination.runtime import Shard
from odradek.coordination.sharded_topic import ShardedTopic
from odradek.errors import ErrorCode, KafkaError
from odradek.internal_topics import OFFSETS_TOPIC
from odradek.partitions.registry import Partitions
from odradek.protocol.fields import Message

T = TypeVar("T")


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
        types: Sequence[GroupType],
    ) -> None:
        self.partitions = partitions
        self.ages = ages
        self.counters = GroupCounters()
        self.has_begun = False
        """Whether loading has started; before, no group is known."""
        number = config.integer
        self.states = tuple(dict.fromkeys(state for one in types for state in one.states))
        """The names of all states of all types of groups."""
        self._deleting: set[str] = set()
        """The groups that are being deleted."""
        offsets_retention_ms = number("offsets.retention.minutes") * 60_000
        self._topic = ShardedTopic(
            OFFSETS_TOPIC,
            lambda: GroupShard(types, offsets_retention_ms, scheduler.clock, choose, self.counters),
            partitions,
            create_topic,
            scheduler,
            number("odradek.coordinator.snapshot.min.records"),
            number("offsets.load.buffer.size"),
        )

    # --- life ----------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Loads a shard for each present partition of `__consumer_offsets`."""
        self.has_begun = True
        self._topic.load()

    async def ready(self) -> None:
        """Creates `__consumer_offsets` if it does not exist. Raises `KafkaError`."""
        await self._topic.ready()

    async def stop(self) -> None:
        """Stops the shards; each saves a snapshot if it has new records."""
        await self._topic.stop()

    async def topics_deleted(self, names: frozenset[str]) -> None:
        """Forgets the offsets of topics that are no more."""
        await self._topic.on_every_shard(lambda shard: shard.forget_topics(names.__contains__))

    async def expire(self) -> None:
        """Deletes offsets that have expired (`offsets.retention.minutes`), and those of topics that were deleted while
        the shard was loading."""

        now_ms = self.ages.now_ms()

        def expire(shard: GroupShard) -> InSteps[None]:
            yield from shard.expire(now_ms)
            yield from shard.forget_topics(lambda topic: topic not in self.partitions.topics)

        await self._topic.on_every_shard(expire)

    # --- read by insight -----------------------------------------------------------------------------------------

    def shards(self) -> Sequence[Shard[GroupShard]]:
        """The current shards, to be read only."""
        return self._topic.shards

    # --- called by handlers --------------------------------------------------------------------------------------

    def _shard_of(self, group_id: str) -> Shard[GroupShard]:
        """Raises `KafkaError`, a retriable one while the group is being deleted."""
        if group_id in self._deleting:
            raise KafkaError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)
        return self._topic.shard_of(group_id)

    def active(self, group_id: str) -> GroupShard:
        """The state machine that has a group, for callers that change no durable state. Raises `KafkaError`."""
        return self._shard_of(group_id).active()

    def ask(
        self,
        group_id: str,
        operation: Callable[[GroupShard, Reply, Outcome], None],
        refusal: Callable[[ErrorCode], Message],
    ) -> Awaitable[Message]:
        """Runs an operation that answers through its reply; returns the future response. `refusal` makes the response
        for an error code."""
        try:
            shard = self._shard_of(group_id)
        except KafkaError as error:
            reply = FutureReply(refusal)
            reply.refuse(error.code)
            return reply.future
        return shard.ask(operation, refusal)

    async def call(self, group_id: str, operation: Callable[[GroupShard, Outcome], T]) -> T:
        """Runs an operation at once; returns its result when everything it saw and appended is durable. Raises
        `KafkaError`."""
        return await self._shard_of(group_id).call(operation)

    def start(self, group_id: str, operation: Callable[[GroupShard, Outcome], T]) -> Untold[T]:
        """`call`, for who waits for several together."""
        return self._shard_of(group_id).start(operation)

    def steps(self, group_id: str, operation: Callable[[GroupShard], InSteps[T]]) -> Generator[None, None, Untold[T]]:
        """`start`, for an operation in steps: whoever runs it gives way between them. Raises `KafkaError`."""
        return (yield from self._shard_of(group_id).steps(operation))

    def delete(self, group_id: str) -> Generator[None, None, Untold[ErrorCode]]:
        """Deletes a group without members and its offsets, in steps. Between them other operations on the group are
        refused with an error that clients retry. Raises `KafkaError`."""
        shard = self._shard_of(group_id)
        self._deleting.add(group_id)
        try:
            return (yield from shard.steps(lambda machine: machine.delete(group_id)))
        finally:
            self._deleting.discard(group_id)

    async def rebalance(self, group_id: str) -> bool:
        """Makes a group's members join again; returns False if it has none. Raises `KafkaError`."""
        return await self.call(group_id, lambda shard, outcome: shard.rebalance(group_id, outcome))
