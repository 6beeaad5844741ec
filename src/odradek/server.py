"""The composition root: makes a broker from its settings, starts it and stops it, each in a fixed order.

This is the only file that names a concrete engine (`compose`). A start opens storage, metadata, partitions and sockets,
in this order, so that the first client finds all data. A stop is the reverse: it refuses new requests, answers those
that have started, and closes partitions and storage. The HTTP port, if configured, opens first and closes last, because
it reports the progress of the others.
"""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from odradek.ages import Ages
from odradek.clock import Clock, Scheduler
from odradek.config.layers import BrokerConfig
from odradek.config.setting import InvalidSetting
from odradek.coordination.groups.coordinator import GroupCoordinator
from odradek.coordination.groups.group import GroupType
from odradek.coordination.groups.types import group_types
from odradek.coordination.retention_guard import RetentionGuards
from odradek.coordination.transactions.coordinator import TransactionCoordinator
from odradek.descriptors import Descriptors, divide
from odradek.engines.interface import Engine, LogIdentity, StorageError, is_one_id
from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import BrokerParts
from odradek.handlers.deadlines import Deadlines
from odradek.handlers.fetch_sessions import FetchSessions
from odradek.handlers.table import HANDLERS
from odradek.handlers.turns import Turns
from odradek.handlers.unread_responses import UnreadResponses
from odradek.internal_topics import OFFSETS_TOPIC, TRANSACTIONS_TOPIC
from odradek.logs import get_logger
from odradek.loop_scheduler import LoopScheduler
from odradek.metadata.changes import Change, create_topics, default_topic
from odradek.metadata.image import Delta, MetadataImage
from odradek.metadata.metadata import Metadata
from odradek.network.dispatch import Dispatch, FaultRules
from odradek.network.listener import Listeners
from odradek.network.refusals import Refusals
from odradek.network.request_memory import RequestMemory
from odradek.network.shared import ConnectionLimits, SharedByConnections
from odradek.partitions.partition import Partition
from odradek.partitions.registry import Partitions
from odradek.partitions.space import StorageSpace

if TYPE_CHECKING:
    from odradek.insight.events_topic import EventsTopic
    from odradek.insight.http import HttpPort
    from odradek.insight.loop_delay import LoopDelay
    from odradek.insight.watching import Watching

log = get_logger("odradek.server")

# How long a stop waits for requests that are being handled.
STOP_GRACE_S = 10.0


def parse_endpoint(setting: str, text: str) -> tuple[str, str, int]:
    """Splits "NAME://host:port" into (name, host, port). An empty host means all addresses. Raises `InvalidSetting`."""
    name, separator, address = text.partition("://")
    read = _address(address)
    if not separator or read is None:
        raise InvalidSetting(setting, text, "expected NAME://HOST:PORT")
    return name.upper(), *read


def _address(text: str) -> tuple[str, int] | None:
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        return None
    return host.strip("[]"), int(port)


class CannotListen(OSError):
    """The broker cannot listen on an address; the message says why and what to do."""

    def __init__(self, setting: str, host: str, port: int, error: OSError) -> None:
        shown = f"{f'[{host}]' if ':' in host else host}:{port}"
        why = {
            errno.EADDRINUSE: "another program listens there: stop it, or choose another port",
            errno.EADDRNOTAVAIL: "this machine does not have that address",
            errno.EACCES: "this user may not use that port: choose one above 1023",
        }.get(error.errno or 0, (error.strerror or str(error)).lower())
        super().__init__(f"cannot listen on {shown} ({setting}): {why}")


def _is_known(identity: LogIdentity, image: MetadataImage) -> bool:
    """Whether the metadata has the partition of a log; if not, the log is deleted. If the log's topic id is missing or
    damaged, the topic's name decides."""
    if identity.topic_id in image.topics_by_id:
        return True
    topic = image.topics.get(identity.topic)
    if topic is None or identity.partition not in topic.partition_records:
        return False
    return identity.topic_id == bytes(16) or is_one_id(identity.topic_id, topic.id)


def compose(
    config: BrokerConfig,
    *,
    memory: bool = False,
    faults: FaultRules | None = None,
    clock: Clock | None = None,
    alone: bool = False,
) -> Server:
    """A broker on the running event loop, with its data in `log.dirs` or, with `memory`, in memory. `alone`: the
    process only runs this broker. Raises `InvalidSetting`."""
    scheduler = LoopScheduler(clock)
    descriptors = divide(config, files=not memory, alone=alone)
    engine = _engine(config, memory, scheduler, descriptors)
    return Server(config, engine, scheduler, descriptors, faults=faults)


def _engine(config: BrokerConfig, memory: bool, scheduler: Scheduler, descriptors: Descriptors) -> Engine:
    # Only the engine that is used is imported, which makes the start quicker.
    if memory:
        from odradek.engines.memory.engine import MemoryEngine

        return MemoryEngine(scheduler.clock)
    from odradek.engines.local.engine import LocalEngine

    directories = config.names("log.dirs")
    if len(directories) != 1:
        raise InvalidSetting("log.dirs", ",".join(directories), "exactly one data directory is supported")
    return LocalEngine(directories[0], config, scheduler, node_id=config.integer("node.id"), descriptors=descriptors)


class Server:
    """One broker. `start` once, `stop` once."""

    def __init__(
        self,
        config: BrokerConfig,
        engine: Engine,
        scheduler: Scheduler,
        descriptors: Descriptors,
        *,
        faults: FaultRules | None = None,
        choose: random.Random | None = None,
        types_of_groups: Callable[[BrokerConfig], Sequence[GroupType]] = group_types,
    ) -> None:
        """To be called on the broker's event loop. `stop` shuts down the executor of `scheduler`. `descriptors`: the
        file descriptors that the broker may use. `faults`: rules of faults to inject. `types_of_groups`: the types of
        groups that the broker serves."""
        choose = choose or random.SystemRandom()
        self.config = config
        self.engine = engine
        self.scheduler = scheduler
        self.clock = scheduler.clock
        self.bound: dict[str, tuple[str, int]] = {}
        """The bound host and port of each listener, by the listener's name, once started."""
        self.http_bound: tuple[str, int] | None = None
        """The bound host and port of the HTTP port, if there is one."""
        self.not_ready: str | None = "The broker has not started."
        """The reason why clients are not served, as a sentence; None while they are."""
        self.descriptors = descriptors
        space = StorageSpace(config, self.clock.monotonic)
        self.ages = Ages(self.clock, config)
        guards = RetentionGuards(lambda: self.groups)
        self.partitions = Partitions(engine, scheduler, space, self.ages, guards.of, self._retention_deleted)
        self.metadata = Metadata(engine, config, self.clock, choose)
        self.groups = GroupCoordinator(
            config, scheduler, choose, self.partitions, self._create_topic, self.ages, types_of_groups(config)
        )
        self.transactions = TransactionCoordinator(
            config, scheduler, self.partitions, self._create_topic, self.metadata.next_producer_id, self.ages
        )
        self.deadlines = Deadlines(scheduler)
        self._advertised: dict[str, tuple[str, int]] = {}
        """The host and port of each listener that clients are told, by the listener's name, once it is bound."""
        broker = BrokerParts(
            config=config,
            clock=self.clock,
            scheduler=scheduler,
            engine=engine,
            metadata=self.metadata,
            partitions=self.partitions,
            groups=self.groups,
            transactions=self.transactions,
            fetch_sessions=FetchSessions(
                config.integer("max.incremental.fetch.session.cache.slots"),
                config.integer("odradek.fetch.session.eviction.ms") / 1000,
                choose,
            ),
            deadlines=self.deadlines,
            turns=Turns(self.clock.monotonic),
            unread_responses=UnreadResponses(config.integer("odradek.queued.max.response.bytes")),
            advertised=self._advertised,
            node_id=config.integer("node.id"),
        )
        dispatch = Dispatch(broker, HANDLERS, config.integer("odradek.request.max.elements"), faults)
        memory = RequestMemory(config.integer("queued.max.request.bytes"))
        refusals = Refusals(config.integer("odradek.log.refusals.per.second"), self.clock.monotonic)
        shared = SharedByConnections(dispatch, engine, memory, ConnectionLimits(config), refusals)
        self.listeners = Listeners(shared, lambda: config, descriptors.connections)
        self._periodic: list[asyncio.Task[None]] = []
        self._stopped = False
        # Parts of `insight`, which is imported on first use so that the start is quicker.
        self._http: HttpPort | None = None
        self.watching: Watching | None = None
        """The lags of groups; None until they are first computed."""
        self._events_topic: EventsTopic | None = None
        self._loop_delay: LoopDelay | None = None

    # --- start ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Returns when clients can connect. Raises `StorageError`, `InvalidSetting` or `CannotListen`, after stopping
        the parts that were started."""
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        await self._start_http()
        self.not_ready = "The storage is being opened."
        await self.engine.start()
        self.not_ready = "The metadata are being read."
        await self.metadata.open()
        self.not_ready = "The partitions are being opened."
        await self._open_partitions()
        await self.partitions.look_at_space()
        self.groups.load()
        self.transactions.load()
        self.metadata.subscribe(self._metadata_changed)
        endpoints = [parse_endpoint("listeners", text) for text in self.config.names("listeners")]
        for name, host, port in endpoints:
            try:
                self.bound[name] = await self.listeners.listen(name, host, port)
            except OSError as error:
                raise CannotListen("listeners", host, port, error) from None
        self._advertised.update(self._told(endpoints))
        await self.metadata.register_broker((name, *address) for name, address in self._advertised.items())
        self._every("odradek.disk.check.interval.ms", self.partitions.look_at_space)
        self._every("log.retention.check.interval.ms", self.partitions.retain)
        self._every("odradek.retention.guard.interval.ms", self.partitions.look_at_guards)
        self._every("offsets.retention.check.interval.ms", self.groups.expire)
        self._every("transaction.abort.timed.out.transaction.cleanup.interval.ms", self.transactions.abort_out_of_time)
        self._every("transaction.remove.expired.transaction.cleanup.interval.ms", self.transactions.expire)
        self._every("producer.id.expiration.check.interval.ms", self._expire_producers)
        self._every("odradek.metadata.maintenance.interval.ms", self.metadata.maintain)
        self._every("odradek.insight.interval.ms", self._look_at_lags)
        if self._http is not None:
            self._watch()  # its imports are loaded already
        self.not_ready = None

    async def _start_http(self) -> None:
        text = self.config.text("odradek.http.listen")
        if not text:
            return
        address = _address(text)
        if address is None:
            raise InvalidSetting("odradek.http.listen", text, "expected HOST:PORT")
        # Imported here, so that a broker without the HTTP port does not import its libraries.
        from odradek.insight.gathering import Gathering
        from odradek.insight.http import HttpPort
        from odradek.insight.loop_delay import LoopDelay

        self._loop_delay = LoopDelay(self.scheduler)
        self._loop_delay.start()
        gathering = Gathering(
            self.engine,
            self.partitions,
            self._loop_delay.durations,
            self.config.integer("odradek.metrics.topics.max"),
            self.config.integer("odradek.metrics.groups.max"),
            network=self.listeners.shared,
            groups=self.groups,
            watching=lambda: self.watching,
        )
        http = HttpPort(self.scheduler, gathering, lambda: self.watching, lambda: self.not_ready, self.descriptors.http)
        try:
            self.http_bound = await http.start(*address)
        except OSError as error:
            raise CannotListen("odradek.http.listen", *address, error) from None
        self._http = http

    def _told(self, endpoints: list[tuple[str, str, int]]) -> dict[str, tuple[str, int]]:
        told = {name: (host or "127.0.0.1", self.bound[name][1]) for name, host, _ in endpoints}
        for text in self.config.names("advertised.listeners"):
            name, host, port = parse_endpoint("advertised.listeners", text)
            if name in told:
                told[name] = (host, port or self.bound[name][1])
        return told

    async def _open_partitions(self) -> None:
        metadata, image = self.metadata, self.metadata.image
        for identity in self.engine.identities():
            if metadata.is_own(identity) or _is_known(identity, image):
                continue
            if metadata.is_new:
                raise StorageError(
                    f"the data directory has a log of {identity}, but no metadata that knows it: "
                    "bring the metadata log back, or use another directory"
                )
            # The broker stopped before it had deleted the log of a deleted topic.
            await self.engine.delete(identity)
            log.warning("log of a deleted topic removed", partition=str(identity))
        for topic in image.topics.values():
            await self.partitions.add(topic.name, topic.id, topic.partition_count, metadata.log_config(topic.name))

    async def _metadata_changed(self, delta: Delta) -> None:
        """Applies a change of the metadata to partitions and coordinators, before its request is answered."""
        for name in delta.deleted:
            await self.partitions.remove(name)
        for topic in (*delta.created.values(), *delta.enlarged.values()):
            config = self.metadata.log_config(topic.name)
            await self.partitions.add(topic.name, topic.id, topic.partition_count, config)
        for name in delta.configured:
            await self.partitions.configure(name, self.metadata.log_config(name))
        if OFFSETS_TOPIC in delta.deleted or OFFSETS_TOPIC in delta.enlarged:
            self.groups.load()
        if TRANSACTIONS_TOPIC in delta.deleted or TRANSACTIONS_TOPIC in delta.enlarged:
            self.transactions.load()
        if delta.deleted:
            await self.groups.topics_deleted(frozenset(delta.deleted))

    async def _create_topic(self, name: str) -> None:
        """Creates an internal topic unless it exists. Raises `KafkaError`."""
        policy = self.metadata.policy

        def create(image: MetadataImage) -> Change:
            return create_topics(image, [default_topic(name, policy)], policy)

        (outcome,) = await self.metadata.change(create)
        if outcome.error not in (ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS):
            raise KafkaError(outcome.error, outcome.message or "")

    # --- periodic work -------------------------------------------------------------------------------------------

    def _every(self, setting: str, work: Callable[[], Awaitable[None]]) -> None:
        async def repeat() -> None:
            while True:
                await self.scheduler.sleep(self.config.integer(setting) / 1000)
                try:
                    await work()
                except Exception as error:  # the next period tries again
                    log.error("periodic work failed", setting=setting, exc_info=error)

        self._periodic.append(asyncio.ensure_future(repeat()))

    async def _look_at_lags(self) -> None:
        await self._watch().look()

    async def _retention_deleted(self, partition: Partition) -> None:
        if self.groups.has_begun:
            await self._watch().look_at_deleted(partition)

    def _watch(self) -> Watching:
        if self.watching is None:
            # Imported on first use, so that the start is quicker.
            from odradek.insight.events_topic import EventsTopic
            from odradek.insight.watching import Watching

            self.watching = Watching(self.config, self.clock, self.ages, self.partitions, self.groups)
            if self.config.flag("odradek.events.topic.enable"):
                self._events_topic = EventsTopic(self.scheduler, self.partitions, self._create_topic)
                self.watching.on_event.append(self._events_topic.tell)
        return self.watching

    async def _expire_producers(self) -> None:
        await self.partitions.expire_producers(self.config.integer("producer.id.expiration.ms"))

    # --- stop ----------------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Answers the requests that have started, closes every log cleanly, and frees all resources. Idempotent."""
        if self._stopped:
            return
        self._stopped = True
        self.not_ready = "The broker stops."
        for task in self._periodic:
            task.cancel()
        await asyncio.gather(*self._periodic, return_exceptions=True)
        if self._events_topic is not None:
            await self._events_topic.stop()
        await self.listeners.close(STOP_GRACE_S)
        self.deadlines.close()
        await self.transactions.stop()
        await self.groups.stop()
        # A change of the metadata that is under way ends first: it may be opening partitions.
        await self.metadata.close()
        await self.partitions.close()
        await self.engine.stop()
        self.scheduler.executor.shutdown(wait=True)
        if self._http is not None:
            await self._http.stop()
        if self._loop_delay is not None:
            self._loop_delay.stop()
