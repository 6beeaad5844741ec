"""All partitions that this broker serves, by topic name and by topic id.

Role: follow the metadata (topics created and deleted, partitions added, settings changed), open and close partitions,
and run the periodic work over them. The metadata decides which partitions exist.

Invariants: a partition in the table is open, or is being opened again after a failure; when the request that creates
partitions is answered, all of them are in the table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping

from odradek.ages import Ages
from odradek.clock import Scheduler
from odradek.config.topic import LogConfig
from odradek.engines.interface import Engine, LogFailure, LogIdentity, StorageError
from odradek.logs import get_logger
from odradek.pace import Pace
from odradek.partitions.counters import PartitionsCounters, Traffic
from odradek.partitions.guard import Guard
from odradek.partitions.parked_fetches import ReadyFetches
from odradek.partitions.partition import Partition
from odradek.partitions.space import StorageSpace

log = get_logger("odradek.partitions")

# Logs opened concurrently when a broker starts; the disk work runs in the engine's threads.
OPEN_AT_ONCE = 64


class Topic:
    """A topic's partitions, by index, and the settings that all of them have."""

    __slots__ = ("config", "name", "partitions", "topic_id", "traffic")

    def __init__(self, name: str, topic_id: bytes, config: LogConfig) -> None:
        self.name = name
        self.topic_id = topic_id
        self.config = config
        self.partitions: list[Partition] = []
        self.traffic = Traffic()


async def _nobody(partition: Partition) -> None:
    """Does nothing: the default for `on_deleted`."""


class Partitions:
    """The table of partitions."""

    def __init__(
        self,
        engine: Engine,
        scheduler: Scheduler,
        space: StorageSpace | None = None,
        ages: Ages | None = None,
        guards_of: Callable[[Topic], Mapping[int, Guard]] = lambda topic: {},
        on_deleted: Callable[[Partition], Awaitable[None]] = _nobody,
    ) -> None:
        """`guards_of` returns the retention guards of a topic's partitions by index; `on_deleted` is called when
        retention has deleted segments of a partition."""
        self.engine = engine
        self.scheduler = scheduler
        self.executor = scheduler.executor
        self.ages = ages if ages is not None else Ages(scheduler.clock)
        self.space = space if space is not None else StorageSpace()
        self.space.when_used_up(self._begin_look)
        self._look: asyncio.Task[None] | None = None
        self._early_retention: asyncio.Task[None] | None = None
        self._retaining = asyncio.Lock()
        self._pace = Pace(scheduler.clock.monotonic)
        self.topics: dict[str, Topic] = {}
        self.topics_by_id: dict[bytes, Topic] = {}
        self.counters = PartitionsCounters()
        self.ready_fetches = ReadyFetches()
        self._guards_of = guards_of
        self._on_deleted = on_deleted

    def __iter__(self) -> Iterator[Partition]:
        for topic in list(self.topics.values()):
            yield from list(topic.partitions)

    def get(self, topic: str, index: int) -> Partition | None:
        """A partition by its topic's name."""
        found = self.topics.get(topic)
        if found is None or not 0 <= index < len(found.partitions):
            return None
        return found.partitions[index]

    async def add(self, name: str, topic_id: bytes, count: int, config: LogConfig) -> None:
        """Opens a topic's partitions up to `count`; those already open stay as they are."""
        topic = self.topics.get(name)
        if topic is None:
            topic = Topic(name, topic_id, config)
        indexes = iter(range(len(topic.partitions), count))
        added: list[Partition] = []

        async def open_some() -> None:
            for index in indexes:
                partition = Partition(
                    self.engine,
                    LogIdentity(name, topic_id, index),
                    config,
                    self.scheduler,
                    topic.traffic,
                    self.counters,
                    self.space,
                )
                added.append(partition)
                try:
                    await partition.open()
                except (LogFailure, StorageError, OSError) as failure:
                    partition.begin_offline(failure)
                await self._pace.give_way()

        if count - len(topic.partitions) == 1:
            await open_some()
        else:
            await asyncio.gather(*(open_some() for _ in range(min(count - len(topic.partitions), OPEN_AT_ONCE))))
        topic.partitions.extend(added)
        self.topics[name] = topic
        self.topics_by_id[topic_id] = topic

    async def remove(self, name: str) -> None:
        """Deletes a topic's partitions and their logs."""
        topic = self.topics.pop(name, None)
        if topic is None:
            return
        self.topics_by_id.pop(topic.topic_id, None)
        self.counters.deleted_traffic.add(topic.traffic)
        for partition in topic.partitions:
            try:
                await partition.delete()
            except (LogFailure, StorageError, OSError) as failure:
                # The metadata has no such topic any more: the next start removes its logs.
                log.error("log not deleted", partition=str(partition.identity), why=str(failure))
            await self._pace.give_way()

    async def configure(self, name: str, config: LogConfig) -> None:
        """Puts a topic's changed settings into force."""
        topic = self.topics.get(name)
        if topic is not None:
            topic.config = config
            for partition in topic.partitions:
                partition.configure(config)
                await self._pace.give_way()

    async def retain(self) -> None:
        """Applies retention to every partition, one after the other."""
        async with self._retaining:
            await self._retain()

    async def _retain(self) -> None:
        now_ms = self.ages.now_ms()
        for topic in list(self.topics.values()):
            guards = self._guards_of(topic)
            for partition in list(topic.partitions):
                await self._pace.give_way()
                try:
                    freed = await partition.retain(now_ms, guards.get(partition.identity.partition))
                except (LogFailure, OSError) as failure:
                    log.error("retention failed", partition=str(partition.identity), why=str(failure))
                    continue
                self.counters.retention_bytes += freed
                if freed:
                    log.info("retention deleted segments", partition=str(partition.identity), bytes=freed)
                    await self._on_deleted(partition)

    async def look_at_guards(self) -> None:
        """Applies the guards that may refuse appends: decides for each partition whether they do from now on."""
        now_ms = self.ages.now_ms()
        blocked = {identity.topic for identity in self.counters.blocked}
        for topic in list(self.topics.values()):
            await self._pace.give_way()
            config = topic.config
            if not (config.guard_groups and config.guard_on_limit == "block") and topic.name not in blocked:
                continue
            guards = self._guards_of(topic)
            for partition in list(topic.partitions):
                await self._pace.give_way()
                try:
                    await partition.look_at_guard(now_ms, guards.get(partition.identity.partition))
                except (LogFailure, OSError) as failure:
                    log.error("retention failed", partition=str(partition.identity), why=str(failure))

    async def look_at_space(self) -> None:
        """Asks the engine in a thread for the free bytes. Where they are too few, has it remove deleted files at once
        and runs retention early. Concurrent calls share one look."""
        self._begin_look()
        assert self._look is not None
        await asyncio.shield(self._look)

    def _begin_look(self) -> None:
        if self._look is None or self._look.done():
            self._look = asyncio.ensure_future(self._look_at_space())

    async def _look_at_space(self) -> None:
        space = self.space
        was_read_only = space.read_only
        space.looking()
        loop = asyncio.get_running_loop()
        _, total_bytes, usable_bytes = await loop.run_in_executor(self.executor, self.engine.usage)
        met_full = space.met_full
        space.looked(total_bytes, usable_bytes)
        if met_full or space.read_only:
            self.engine.free_now()
        if space.read_only and not was_read_only and not self._retaining.locked():
            self._early_retention = asyncio.ensure_future(self._make_room())

    async def _make_room(self) -> None:
        """Runs retention now, and has the engine remove the deleted files at once."""
        await self.retain()
        self.engine.free_now()

    async def expire_producers(self, expiration_ms: int) -> None:
        """Forgets the producers of all partitions that have not written for `expiration_ms`."""
        now_ms = self.ages.now_ms()
        for partition in list(self):
            partition.expire_producers(now_ms, expiration_ms)
            await self._pace.give_way()

    async def close(self) -> None:
        """Closes every partition, `OPEN_AT_ONCE` at a time."""
        for task in (self._look, self._early_retention):
            if task is not None:
                await asyncio.wait([task])
        gate = asyncio.Semaphore(OPEN_AT_ONCE)

        async def close_one(partition: Partition) -> None:
            async with gate:
                await partition.close()

        await asyncio.gather(*(close_one(partition) for partition in self))
