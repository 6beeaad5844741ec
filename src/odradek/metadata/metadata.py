"""The broker's metadata: a log, the image replayed from it, and changes made one after the other.

Role: open the metadata log (snapshot, then replay), run changes, notify the listeners, and save snapshots so that the
log can be truncated. `changes.py` and `config_changes.py` decide which changes are valid.

Invariants:
- One change is one batch, appended on the condition that the log ends at the image's offset (so that, on an engine
  that several brokers share, a change made from an old image is refused and made again).
- The image changes only by replay, and only when the batch is durable: a crash cannot undo what the image shows.
- A change of many topics gives way while it is computed and while it is replayed. All records of one topic, or of
  another resource, are replayed at once: no other task sees some of them without the others.
- A change returns to its caller after all listeners have followed it.
- After a failure, before the next change, the log is opened again and its records beyond the image are replayed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Generator, Iterable
from typing import TypeVar

from odradek.clock import Clock
from odradek.config.bounds import INT_MAX
from odradek.config.layers import BrokerConfig
from odradek.config.topic import LogConfig
from odradek.engines.interface import Engine, LogFailure, LogIdentity, PartitionLog, Refused, StorageError
from odradek.errors import ErrorCode, KafkaError
from odradek.internal_topics import METADATA_TOPIC
from odradek.logs import get_logger
from odradek.metadata.changes import Policy
from odradek.metadata.image import (
    BROKER_RESOURCE,
    METADATA_VERSION_FEATURE,
    Delta,
    MetadataImage,
    MetadataRecord,
    record_of,
)
from odradek.metadata.snapshots import batch_in_steps, read_snapshot, records_of, snapshot_batches
from odradek.pace import Pace
from odradek.protocol.errors import DecodeError
from odradek.protocol.records.metadata import (
    BrokerEndpoint,
    FeatureLevelRecord,
    ProducerIdsRecord,
    RegisterBrokerRecord,
)
from odradek.records.batch import BatchHeader, Buffer, InvalidBatch
from odradek.replay.batches import replay_sound
from odradek.replay.snapshots import newest_sound

log = get_logger("odradek.metadata")

TOPIC_ID = (1).to_bytes(16, "big")
METADATA_VERSION = 33  # of Apache Kafka 4.4
PRODUCER_ID_BLOCK = 1000
READ_BYTES = 1_048_576
SEGMENT_MIN_BYTES = 1_048_576
# How often at most a change is made again from a newer image because another broker has appended first.
CHANGE_ATTEMPTS = 10
# The features that this broker serves, with their ranges of levels.
SERVED_FEATURES: dict[str, tuple[int, int]] = {"transaction.version": (0, 2)}

R = TypeVar("R")
Worked = tuple[list[MetadataRecord], R]
Operation = Callable[[MetadataImage], Worked[R] | Generator[None, None, Worked[R]]]
Listener = Callable[[Delta], Awaitable[None]]


class Metadata:
    """The metadata of one broker."""

    def __init__(self, engine: Engine, config: BrokerConfig, clock: Clock, choose: random.Random) -> None:
        self.engine = engine
        self.config = config
        self.clock = clock
        self.choose = choose
        self.policy = Policy(config, config.integer("node.id"), engine.capabilities.replicated, choose)
        """The settings and facts that checks of changes depend on."""
        self.image = MetadataImage()
        self.is_new = False
        """Whether this start found neither records nor a snapshot."""
        self.identity = LogIdentity(METADATA_TOPIC, TOPIC_ID, 0)
        self._log: PartitionLog | None = None
        self._lock = asyncio.Lock()
        self._pace = Pace(clock.monotonic)
        self._untold = Delta()
        """The effects of records that were replayed after a failure and that the listeners have not been told yet."""
        self._listeners: list[Listener] = []
        self._snapshot_offset = 0
        self._snapshot_s = 0.0
        self._bytes_since_snapshot = 0
        self._producer_ids = range(0)
        self._closed = False

    # --- opening -------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Opens the log and makes the image. Raises `StorageError` if the log cannot be read."""
        try:
            self._log = opened = await self.engine.open(self.identity, self._log_config())
            await self._load(opened)
        except (LogFailure, OSError) as failure:
            raise StorageError(f"the metadata log, {self.identity}, cannot be opened: {failure}") from failure
        # A folder that Apache Kafka formatted has a snapshot before its first record.
        self.is_new = opened.end_offset == 0 and not self.image.features
        if self.is_new:
            level = record_of(FeatureLevelRecord(name=METADATA_VERSION_FEATURE, feature_level=METADATA_VERSION))
            await self.change(lambda image: ([level], None))
        missing = [
            record_of(FeatureLevelRecord(name=name, feature_level=highest))
            for name, (_, highest) in SERVED_FEATURES.items()
            if name not in self.image.features
        ]
        if missing:
            await self.change(lambda image: (missing, None))
        self._follow_broker_configs()

    async def _load(self, opened: PartitionLog) -> None:
        found = await newest_sound(
            opened, "metadata", opened.end_offset, lambda offset, data: read_snapshot(data, offset)
        )
        if found is not None:
            self._snapshot_offset, self.image = found
        if self.image.offset < opened.start_offset:
            raise StorageError(
                f"the metadata log begins at offset {opened.start_offset}, and no snapshot reaches that far: "
                "its snapshots are lost or damaged"
            )
        self._snapshot_s = self.clock.monotonic()
        await self._catch_up(opened, Delta())

    async def _catch_up(self, opened: PartitionLog, delta: Delta) -> None:
        """Replays the log's records from the image's offset on. Raises `StorageError`, which names the place of the
        damage."""
        image = self.image

        def take(header: BatchHeader, batch: Buffer) -> None:
            for record in records_of(header, batch):
                image.replay(record, delta)
            image.offset = header.next_offset
            self._bytes_since_snapshot += header.size

        try:
            await replay_sound(opened, image.offset, READ_BYTES, take)
        except (DecodeError, InvalidBatch, KeyError) as error:
            raise self._damaged(str(error) if isinstance(error, ValueError) else repr(error)) from error
        except LogFailure as failure:
            raise self._damaged(str(failure)) from failure

    def _damaged(self, why: str) -> StorageError:
        where = f"the metadata log, {self.identity}"
        if self.engine.capabilities.files:
            where += f" in {self.engine.usage()[0]}"
        return StorageError(
            f"{where}, cannot be read at offset {self.image.offset} ({why}): bring that folder back from a backup; "
            "`odradek log dump` shows what is damaged"
        )

    def _log_config(self) -> LogConfig:
        # A segment is as large as the records between two snapshots, so that a snapshot lets whole files be deleted.
        between = self.config.integer("metadata.log.max.record.bytes.between.snapshots")
        segment_bytes = min(max(between, SEGMENT_MIN_BYTES), INT_MAX)
        return LogConfig(flush="disk", retention_ms=-1, retention_bytes=-1, segment_bytes=segment_bytes)

    def is_own(self, identity: LogIdentity) -> bool:
        """Whether this is the identity of the metadata log."""
        return identity.topic == METADATA_TOPIC

    # --- reading -------------------------------------------------------------------------------------------------

    @property
    def cluster_id(self) -> str:
        return self.engine.cluster_id

    @property
    def finalized_features(self) -> dict[str, int]:
        """The levels of the features that this broker serves, by name."""
        return {name: level for name, level in self.image.features.items() if name in SERVED_FEATURES}

    @property
    def finalized_features_epoch(self) -> int:
        return self.image.features_offset

    def log_config(self, topic: str) -> LogConfig:
        """A topic's effective settings."""
        return LogConfig.of(self.config, self.image.topic_config(topic))

    def _broker_config(self, name: str) -> dict[str, str]:
        return self.image.configs.get((BROKER_RESOURCE, name), {})

    def _follow_broker_configs(self) -> None:
        own = self._broker_config(str(self.config.integer("node.id")))
        for error in self.config.set_dynamic(self._broker_config(""), own):
            log.warning("setting of the metadata log ignored", why=str(error))

    # --- changing ------------------------------------------------------------------------------------------------

    def subscribe(self, listener: Listener) -> None:
        """Has each change await `listener` before it returns to its caller."""
        self._listeners.append(listener)

    async def change(self, operation: Operation[R]) -> R:
        """Runs `operation(image) -> (records, result)`, or a generator that returns these; returns the result when the
        records are durable and all listeners have followed, or at once if there are no records. Raises `KafkaError`.

        A change runs to its end even if the caller is cancelled."""
        return await asyncio.shield(asyncio.ensure_future(self._change(operation)))

    async def _change(self, operation: Operation[R]) -> R:
        async with self._lock:
            for _ in range(CHANGE_ATTEMPTS):
                opened = await self._opened()
                worked = operation(self.image)
                records, result = await self._pace.walk(worked) if isinstance(worked, Generator) else worked
                if not records:
                    return result
                batch = await self._pace.walk(batch_in_steps(records, self.clock.now_ms()))
                try:
                    appended = opened.append((batch,), opened.epoch, self.image.offset)
                    await appended.durable
                except Refused as refused:
                    log.info("metadata change made again", why=str(refused))
                    await self._drop(opened)
                    continue
                except LogFailure as failure:
                    log.error("metadata change failed", why=str(failure))
                    await self._drop(opened)
                    raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, f"the metadata log failed: {failure}") from failure
                delta = Delta()
                await self._pace.walk(self._replay(records, delta))
                self.image.offset = appended.end_offset
                self._bytes_since_snapshot += batch.size
                await self._tell(delta)
                await self._snapshot_if_due(opened)
                return result
            raise KafkaError(ErrorCode.REQUEST_TIMED_OUT, "other changes of the metadata kept coming first")

    def _replay(self, records: list[MetadataRecord], delta: Delta) -> Generator[None, None, None]:
        """Yields between what the records say of one resource and of another."""
        before = None
        for record in records:
            resource = self.image.resource_of(record)
            if resource != before:
                yield
            before = resource
            self.image.replay(record, delta)

    async def _opened(self) -> PartitionLog:
        """The open log. After a failure, opens it again and replays the records that the image lacks. Raises
        `KafkaError`."""
        if self._closed:
            raise KafkaError(ErrorCode.BROKER_NOT_AVAILABLE, "the broker is stopping")
        if self._log is None:
            opened = None
            try:
                opened = await self.engine.open(self.identity, self._log_config())
                await self._catch_up(opened, self._untold)
            except (LogFailure, StorageError, OSError) as failure:
                log.error("the metadata log is offline", why=str(failure))
                if opened is not None:
                    await self._drop(opened)
                raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, f"the metadata log is offline: {failure}") from failure
            self._log = opened
            delta, self._untold = self._untold, Delta()
            await self._tell(delta)
        return self._log

    async def _drop(self, opened: PartitionLog) -> None:
        self._log = None
        try:
            await opened.close()
        except LogFailure as failure:
            log.warning("metadata log not closed cleanly", why=str(failure))

    async def _tell(self, delta: Delta) -> None:
        if delta.broker_configs:
            self._follow_broker_configs()
            # A topic's effective setting may come from the broker's.
            delta.configured.update(self.image.topics)
        for listener in self._listeners:
            try:
                await listener(delta)
            except (LogFailure, StorageError, OSError) as failure:
                # The change is durable and cannot be undone. The next start deletes a file that could not be deleted
                # now; a partition tries again to open a log that could not be opened.
                log.error("a listener failed to follow a change of the metadata", why=str(failure))

    # --- snapshots -----------------------------------------------------------------------------------------------

    async def maintain(self) -> None:
        """Saves a snapshot if one is due; to be called periodically."""
        async with self._lock:
            if self._log is not None and not self._closed:
                await self._snapshot_if_due(self._log)

    async def _snapshot_if_due(self, opened: PartitionLog) -> None:
        if self.image.offset <= self._snapshot_offset or self.image.open_transaction:
            return
        interval_ms = self.config.integer("metadata.log.max.snapshot.interval.ms")
        large = self._bytes_since_snapshot >= self.config.integer("metadata.log.max.record.bytes.between.snapshots")
        old = 0 < interval_ms <= (self.clock.monotonic() - self._snapshot_s) * 1000
        if not (large or old):
            return
        offset = self.image.offset
        batches = []
        # The lock is held, so nothing changes the image while other tasks run between the batches.
        for batch in snapshot_batches(self.image, opened.epoch, self.clock.now_ms()):
            batches.append(batch)
            await asyncio.sleep(0)
        try:
            await opened.save_snapshot("metadata", offset, b"".join(batches))
            # Records after the previous snapshot stay, so that the metadata survives damage to the new one.
            await opened.truncate_before(self._snapshot_offset)
        except (LogFailure, OSError) as failure:
            log.error("metadata snapshot not saved", why=str(failure))
            return
        self._snapshot_offset = offset
        self._snapshot_s = self.clock.monotonic()
        self._bytes_since_snapshot = 0

    # --- records of the broker itself ----------------------------------------------------------------------------

    async def register_broker(self, endpoints: Iterable[tuple[str, str, int]]) -> None:
        """Writes this broker's listeners (name, host, port) unless the image has them already. Raises `KafkaError`."""
        node_id = self.config.integer("node.id")
        told = [BrokerEndpoint(name=name, host=host, port=port) for name, host, port in endpoints]

        def register(image: MetadataImage) -> tuple[list[MetadataRecord], None]:
            known = image.brokers.get(node_id)
            if known is not None and known.end_points == told:
                return [], None
            incarnation_id = self.choose.getrandbits(128).to_bytes(16, "big")
            broker = RegisterBrokerRecord(
                broker_id=node_id,
                incarnation_id=incarnation_id,
                broker_epoch=image.offset,
                end_points=told,
                rack=None,
                fenced=False,
            )
            return [record_of(broker)], None

        await self.change(register)

    async def next_producer_id(self) -> int:
        """A producer id that was never given out before. Raises `KafkaError`."""
        while not self._producer_ids:
            await self._reserve_producer_ids()
        first = self._producer_ids[0]
        self._producer_ids = self._producer_ids[1:]
        return first

    async def _reserve_producer_ids(self) -> None:
        def reserve(image: MetadataImage) -> tuple[list[MetadataRecord], range]:
            block = range(image.next_producer_id, image.next_producer_id + PRODUCER_ID_BLOCK)
            record = ProducerIdsRecord(
                broker_id=self.config.integer("node.id"), broker_epoch=image.offset, next_producer_id=block.stop
            )
            return [record_of(record)], block

        block = await self.change(reserve)
        if not self._producer_ids:
            self._producer_ids = block

    async def close(self) -> None:
        """Waits for a change that is being made, then closes the log. Idempotent."""
        async with self._lock:
            self._closed = True
            if self._log is not None:
                await self._drop(self._log)
