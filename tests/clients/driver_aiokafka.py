"""aiokafka. Each operation runs in an event loop of its own, with clients of its own."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.protocol import ConsumerProtocol
from aiokafka.errors import KafkaError

from tests.clients.driver import (
    DELIVERY_TIMEOUT_S,
    OPERATION_TIMEOUT_S,
    Acknowledged,
    ClientError,
    DescribedGroup,
    Driver,
    Feature,
    Member,
    Progress,
    Record,
    Stored,
)

STEP = 20
T = TypeVar("T")

# It logs every lost connection as an error; the tests cut connections on purpose.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def run(operation: Callable[[], Awaitable[T]], timeout_s: float = OPERATION_TIMEOUT_S) -> T:
    async def within() -> T:
        try:
            return await asyncio.wait_for(operation(), timeout_s)
        except KafkaError as error:
            raise protocol_error(error) from None

    return asyncio.run(within())


def protocol_error(error: KafkaError) -> ClientError:
    code = getattr(type(error), "errno", None)
    if isinstance(code, int) and code >= -1:
        return ClientError.by_code(code, str(error))
    return ClientError(type(error).__name__, str(error))


class AiokafkaDriver(Driver):
    name = "aiokafka"
    # Its admin client has AlterConfigs but not the incremental kind, and no offsets, log directories or producers; it
    # looks at groups without changing them.
    # Its producer wants a key or a value.
    features = frozenset(Feature) - {
        Feature.ALTER_CONFIGS_INCREMENTALLY,
        Feature.ALTER_GROUP_OFFSETS,
        Feature.DELETE_GROUPS,
        Feature.DELETE_GROUP_OFFSETS,
        Feature.DESCRIBE_LOG_DIRS,
        Feature.DESCRIBE_PRODUCERS,
        Feature.FENCED_BY_HEARTBEATS,
        Feature.LIST_LATEST_TIME,
        Feature.LIST_OFFSETS,
        Feature.NEITHER_KEY_NOR_VALUE,
    }
    assignors = ("range", "roundrobin", "sticky")

    def member_command(self) -> list[str]:
        return [sys.executable, "-m", "tests.clients.member_aiokafka"]

    # --- records -------------------------------------------------------------------------------------------------

    def produce(
        self,
        bootstrap: str,
        topic: str,
        records: Sequence[Record],
        *,
        partition: int = 0,
        codec: str = "none",
        idempotent: bool = False,
        progress: Progress | None = None,
    ) -> list[Acknowledged]:
        async def operation() -> list[Acknowledged]:
            producer = AIOKafkaProducer(
                bootstrap_servers=bootstrap,
                acks="all",
                compression_type=None if codec == "none" else codec,
                enable_idempotence=idempotent,
                linger_ms=5,
                max_request_size=20_000_000,
                request_timeout_ms=int(DELIVERY_TIMEOUT_S * 1000),
            )
            await producer.start()
            try:
                answers: list[Any] = []
                size = STEP if progress else max(len(records), 1)
                for first in range(0, len(records), size):
                    waiting = [
                        await producer.send(
                            topic,
                            record.value,
                            record.key,
                            partition,
                            record.timestamp_ms,
                            headers=list(record.headers),
                        )
                        for record in records[first : first + size]
                    ]
                    answers += await asyncio.gather(*waiting)
                    if progress:
                        progress(len(answers))
                        # The test's thread acts while this loop turns.
                        await asyncio.sleep(0)
                # It tells each record the timestamp of its batch's first, so that there is nothing to compare.
                return [Acknowledged(one.partition, one.offset) for one in answers]
            finally:
                await producer.stop()

        return run(operation, DELIVERY_TIMEOUT_S)

    @asynccontextmanager
    async def _consumer(self, bootstrap: str, reset: str = "earliest") -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            group_id=None,
            auto_offset_reset=reset,
            check_crcs=True,
            max_partition_fetch_bytes=4_000_000,
        )
        await consumer.start()
        try:
            yield consumer
        finally:
            await consumer.stop()

    def read(
        self,
        bootstrap: str,
        topic: str,
        *,
        partition: int = 0,
        start: int | None = None,
        count: int,
        progress: Progress | None = None,
    ) -> list[Stored]:
        async def operation() -> list[Stored]:
            async with self._consumer(bootstrap) as consumer:
                assigned = TopicPartition(topic, partition)
                consumer.assign([assigned])
                if start is None:
                    await consumer.seek_to_beginning(assigned)
                else:
                    consumer.seek(assigned, start)
                found: list[Stored] = []
                while len(found) < count:
                    polled = await consumer.getmany(
                        timeout_ms=1000, max_records=STEP if progress else count - len(found)
                    )
                    for message in polled.get(assigned, ()):
                        record = Record(message.key, message.value, tuple(message.headers), message.timestamp)
                        found.append(Stored(message.offset, record))
                    if progress:
                        progress(len(found))
                return found

        return run(operation, DELIVERY_TIMEOUT_S)

    def watermarks(self, bootstrap: str, topic: str, partition: int = 0) -> tuple[int, int]:
        async def operation() -> tuple[int, int]:
            async with self._consumer(bootstrap) as consumer:
                assigned = TopicPartition(topic, partition)
                beginnings = await consumer.beginning_offsets([assigned])
                ends = await consumer.end_offsets([assigned])
                return beginnings[assigned], ends[assigned]

        return run(operation)

    def offset_for_time(self, bootstrap: str, topic: str, timestamp_ms: int, partition: int = 0) -> int | None:
        async def operation() -> int | None:
            async with self._consumer(bootstrap) as consumer:
                assigned = TopicPartition(topic, partition)
                found = (await consumer.offsets_for_times({assigned: timestamp_ms}))[assigned]
                return None if found is None else int(found.offset)

        return run(operation)

    def transact(self, bootstrap: str, transactional_id: str, topic: str, rounds: int) -> None:
        async def operation() -> None:
            producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=transactional_id)
            try:
                await producer.start()
                for _ in range(rounds):
                    await producer.begin_transaction()
                    await producer.send_and_wait(topic, b"aborted", partition=0)
                    await producer.abort_transaction()
                    await producer.begin_transaction()
                    await producer.send_and_wait(topic, b"committed", partition=0)
                    await producer.commit_transaction()
            finally:
                await producer.stop()

        run(operation)

    # --- administration ------------------------------------------------------------------------------------------

    def _administer(self, bootstrap: str, call: Callable[[AIOKafkaAdminClient], Awaitable[T]]) -> T:
        async def operation() -> T:
            admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
            await admin.start()
            try:
                return await call(admin)
            finally:
                await admin.close()

        return run(operation)

    def create_topic(self, bootstrap: str, topic: str, partitions: int, configs: dict[str, str] | None = None) -> None:
        new = NewTopic(topic, partitions, 1, topic_configs=configs)
        answer = self._administer(bootstrap, lambda admin: admin.create_topics([new]))
        _, code, message = answer.topic_errors[0][:3]
        if code:
            raise ClientError.by_code(code, message)

    def delete_topic(self, bootstrap: str, topic: str) -> None:
        answer = self._administer(bootstrap, lambda admin: admin.delete_topics([topic]))
        code = answer.topic_error_codes[0][1]
        if code:
            raise ClientError.by_code(code)

    def topics(self, bootstrap: str) -> set[str]:
        return set(self._administer(bootstrap, lambda admin: admin.list_topics()))

    def describe_topic(self, bootstrap: str, topic: str) -> dict[int, dict[str, Any]]:
        (described,) = self._administer(bootstrap, lambda admin: admin.describe_topics([topic]))
        if described["error_code"]:
            raise ClientError.by_code(described["error_code"])
        return {
            one["partition"]: {"leader": one["leader"], "replicas": list(one["replicas"]), "isr": list(one["isr"])}
            for one in described["partitions"]
        }

    def create_partitions(self, bootstrap: str, topic: str, total: int) -> None:
        self._administer(bootstrap, lambda admin: admin.create_partitions({topic: NewPartitions(total)}))

    def describe_configs(self, bootstrap: str, topic: str) -> dict[str, str | None]:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        (answer,) = self._administer(bootstrap, lambda admin: admin.describe_configs([resource]))
        code, message, _, _, entries = answer.resources[0][:5]
        if code:
            raise ClientError.by_code(code, message)
        return {entry[0]: entry[1] for entry in entries}

    def alter_config(self, bootstrap: str, topic: str, name: str, value: str) -> None:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, {name: value})
        (answer,) = self._administer(bootstrap, lambda admin: admin.alter_configs([resource]))
        code, message = answer.resources[0][:2]
        if code:
            raise ClientError.by_code(code, message)

    def describe_cluster(self, bootstrap: str) -> dict[str, Any]:
        described = self._administer(bootstrap, lambda admin: admin.describe_cluster())
        return {
            "cluster_id": described["cluster_id"],
            "controller": described["controller_id"],
            "nodes": {node["node_id"]: f"{node['host']}:{node['port']}" for node in described["brokers"]},
        }

    def delete_records(self, bootstrap: str, topic: str, before: int, partition: int = 0) -> int:
        asked = {TopicPartition(topic, partition): RecordsToDelete(before)}
        deleted = self._administer(bootstrap, lambda admin: admin.delete_records(asked))
        return int(deleted[TopicPartition(topic, partition)])

    # --- groups ----------------------------------------------------------------------------------------------------

    def list_groups(self, bootstrap: str) -> set[str]:
        return {name for name, *_ in self._administer(bootstrap, lambda admin: admin.list_consumer_groups())}

    def describe_group(self, bootstrap: str, group: str) -> DescribedGroup:
        (answer,) = self._administer(bootstrap, lambda admin: admin.describe_consumer_groups([group]))
        code, _, state, _, assignor, members = answer.groups[0][:6]
        if code:
            raise ClientError.by_code(code)
        # It leaves the assignments as they came, and asks in a version that tells no instances.
        return DescribedGroup(
            state,
            assignor,
            tuple(
                Member(client_id, None, frozenset(ConsumerProtocol.ASSIGNMENT.decode(assignment).partitions()))
                for _, client_id, _, _, assignment in members
            ),
        )

    def group_offsets(self, bootstrap: str, group: str, topic: str) -> dict[int, int]:
        found = self._administer(bootstrap, lambda admin: admin.list_consumer_group_offsets(group))
        return {at.partition: one.offset for at, one in found.items() if at.topic == topic}
