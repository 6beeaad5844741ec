"""confluent-kafka (librdkafka)."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
)

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

# Records sent between two looks at the acknowledgements, when a test watches the progress.
STEP = 20
QUIET = {"log_level": 0}


def protocol_error(error: KafkaError) -> ClientError:
    # Codes below -1 are librdkafka's own.
    if error.code() < -1:
        return ClientError(error.name(), error.str())
    return ClientError.by_code(error.code(), error.str())


class ConfluentDriver(Driver):
    name = "confluent-kafka"
    # Its Python admin client has no DescribeLogDirs, no DescribeProducers and no OffsetDelete.
    features = frozenset(Feature) - {
        Feature.DELETE_GROUP_OFFSETS,
        Feature.DESCRIBE_LOG_DIRS,
        Feature.DESCRIBE_PRODUCERS,
    }
    assignors = ("range", "roundrobin", "cooperative-sticky")

    def __init__(self) -> None:
        self._admins: dict[str, AdminClient] = {}

    def close(self) -> None:
        self._admins.clear()

    def member_command(self) -> list[str]:
        return [sys.executable, "-m", "tests.clients.member_confluent"]

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
        producer = Producer(
            {
                **QUIET,
                "bootstrap.servers": bootstrap,
                "compression.type": codec,
                "enable.idempotence": idempotent,
                "acks": "all",
                "linger.ms": 5,
                "message.max.bytes": 20_000_000,
                "message.timeout.ms": int(DELIVERY_TIMEOUT_S * 1000),
                "reconnect.backoff.max.ms": 500,
            }
        )
        told: dict[int, Acknowledged | ClientError] = {}

        def tell(index: int) -> Any:
            def delivered(error: KafkaError | None, message: Message) -> None:
                if error is not None:
                    told[index] = protocol_error(error)
                else:
                    told[index] = Acknowledged(message.partition(), message.offset(), message.timestamp()[1])

            return delivered

        try:
            for index, record in enumerate(records):
                more = {} if record.timestamp_ms is None else {"timestamp": record.timestamp_ms}
                producer.produce(
                    topic,
                    record.value,
                    record.key,
                    partition,
                    on_delivery=tell(index),
                    headers=list(record.headers),
                    **more,
                )
                if progress and index % STEP == STEP - 1:
                    producer.flush(DELIVERY_TIMEOUT_S)
                    progress(len(told))
        except KafkaException as error:
            raise protocol_error(error.args[0]) from None
        left = producer.flush(DELIVERY_TIMEOUT_S)
        assert left == 0, f"{left} records without an answer"
        answers = [told[index] for index in range(len(records))]
        for answer in answers:
            if isinstance(answer, ClientError):
                raise answer
        return [answer for answer in answers if isinstance(answer, Acknowledged)]

    def _consumer(self, bootstrap: str) -> Consumer:
        return Consumer(
            {
                **QUIET,
                "bootstrap.servers": bootstrap,
                "group.id": "never-contacted",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest",
                "check.crcs": True,
                "reconnect.backoff.max.ms": 500,
            }
        )

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
        consumer = self._consumer(bootstrap)
        found: list[Stored] = []
        deadline = time.monotonic() + DELIVERY_TIMEOUT_S
        try:
            # -2 is librdkafka's name of the beginning.
            consumer.assign([TopicPartition(topic, partition, -2 if start is None else start)])
            while len(found) < count:
                assert time.monotonic() < deadline, f"{len(found)} of {count} records"
                for message in consumer.consume(STEP if progress else count - len(found), timeout=1.0):
                    error = message.error()
                    if error is not None:
                        if error.retriable() or error.code() in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):
                            continue
                        raise protocol_error(error)
                    found.append(self._stored(message))
                if progress:
                    progress(len(found))
            return found[:count]
        finally:
            consumer.close()

    @staticmethod
    def _stored(message: Message) -> Stored:
        offset = message.offset()
        assert offset is not None
        headers = tuple((str(name), value) for name, value in message.headers() or [])
        return Stored(offset, Record(message.key(), message.value(), headers, message.timestamp()[1]))  # type: ignore[arg-type]

    def watermarks(self, bootstrap: str, topic: str, partition: int = 0) -> tuple[int, int]:
        consumer = self._consumer(bootstrap)
        try:
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), OPERATION_TIMEOUT_S)
            return low, high
        finally:
            consumer.close()

    def offset_for_time(self, bootstrap: str, topic: str, timestamp_ms: int, partition: int = 0) -> int | None:
        consumer = self._consumer(bootstrap)
        try:
            asked = [TopicPartition(topic, partition, timestamp_ms)]
            (found,) = consumer.offsets_for_times(asked, OPERATION_TIMEOUT_S)
            # -1 is OFFSET_END: there is no such record.
            return None if found.offset == -1 else found.offset
        finally:
            consumer.close()

    def transact(self, bootstrap: str, transactional_id: str, topic: str, rounds: int) -> None:
        producer = Producer({**QUIET, "bootstrap.servers": bootstrap, "transactional.id": transactional_id})
        try:
            producer.init_transactions(OPERATION_TIMEOUT_S)
            for _ in range(rounds):
                producer.begin_transaction()
                producer.produce(topic, b"aborted", partition=0)
                producer.flush(OPERATION_TIMEOUT_S)
                producer.abort_transaction(OPERATION_TIMEOUT_S)
                producer.begin_transaction()
                producer.produce(topic, b"committed", partition=0)
                producer.commit_transaction(OPERATION_TIMEOUT_S)
        except KafkaException as error:
            raise protocol_error(error.args[0]) from None

    # --- administration ------------------------------------------------------------------------------------------

    def _admin(self, bootstrap: str) -> AdminClient:
        # Kept: an admin client that is not referenced any more takes its open calls with it.
        if bootstrap not in self._admins:
            self._admins[bootstrap] = AdminClient({**QUIET, "bootstrap.servers": bootstrap})
        return self._admins[bootstrap]

    @staticmethod
    def _wait(futures: dict[Any, Any]) -> Any:
        (future,) = futures.values()
        try:
            return future.result(OPERATION_TIMEOUT_S)
        except KafkaException as error:
            raise protocol_error(error.args[0]) from None

    def create_topic(self, bootstrap: str, topic: str, partitions: int, configs: dict[str, str] | None = None) -> None:
        new = NewTopic(topic, partitions, 1, config=configs or {})
        self._wait(self._admin(bootstrap).create_topics([new]))

    def delete_topic(self, bootstrap: str, topic: str) -> None:
        self._wait(self._admin(bootstrap).delete_topics([topic]))

    def topics(self, bootstrap: str) -> set[str]:
        return set(self._admin(bootstrap).list_topics(timeout=OPERATION_TIMEOUT_S).topics)

    def describe_topic(self, bootstrap: str, topic: str) -> dict[int, dict[str, Any]]:
        described = self._wait(self._admin(bootstrap).describe_topics(TopicCollection([topic])))
        return {
            one.id: {
                "leader": one.leader.id,
                "replicas": [node.id for node in one.replicas],
                "isr": [node.id for node in one.isr],
            }
            for one in described.partitions
        }

    def create_partitions(self, bootstrap: str, topic: str, total: int) -> None:
        self._wait(self._admin(bootstrap).create_partitions([NewPartitions(topic, total)]))

    def describe_configs(self, bootstrap: str, topic: str) -> dict[str, str | None]:
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        entries = self._wait(self._admin(bootstrap).describe_configs([resource]))
        return {name: entry.value for name, entry in entries.items()}

    def alter_config(self, bootstrap: str, topic: str, name: str, value: str) -> None:
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
        self._wait(self._admin(bootstrap).incremental_alter_configs([resource]))

    def describe_cluster(self, bootstrap: str) -> dict[str, Any]:
        described = self._admin(bootstrap).describe_cluster().result(OPERATION_TIMEOUT_S)
        return {
            "cluster_id": described.cluster_id,
            "controller": described.controller.id,
            "nodes": {node.id: f"{node.host}:{node.port}" for node in described.nodes},
        }

    def delete_records(self, bootstrap: str, topic: str, before: int, partition: int = 0) -> int:
        deleted = self._wait(self._admin(bootstrap).delete_records([TopicPartition(topic, partition, before)]))
        return int(deleted.low_watermark)

    def list_offset(self, bootstrap: str, topic: str, spec: str, partition: int = 0) -> tuple[int, int]:
        specs = {
            "earliest": OffsetSpec.earliest(),
            "latest": OffsetSpec.latest(),
            "max_timestamp": OffsetSpec.max_timestamp(),
        }
        listed = self._wait(self._admin(bootstrap).list_offsets({TopicPartition(topic, partition): specs[spec]}))
        return listed.offset, listed.timestamp

    # --- groups ----------------------------------------------------------------------------------------------------

    def list_groups(self, bootstrap: str) -> set[str]:
        listed = self._admin(bootstrap).list_consumer_groups().result(OPERATION_TIMEOUT_S)
        assert not listed.errors, listed.errors
        return {one.group_id for one in listed.valid}

    def describe_group(self, bootstrap: str, group: str) -> DescribedGroup:
        described = self._wait(self._admin(bootstrap).describe_consumer_groups([group]))
        members = tuple(
            Member(
                one.client_id,
                one.group_instance_id,
                frozenset((at.topic, at.partition) for at in one.assignment.topic_partitions),
            )
            for one in described.members
        )
        # It names states in words of its own: PREPARING_REBALANCING.
        return DescribedGroup(described.state.name.title().replace("_", ""), described.partition_assignor, members)

    def group_offsets(self, bootstrap: str, group: str, topic: str) -> dict[int, int]:
        found = self._wait(self._admin(bootstrap).list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]))
        return {one.partition: one.offset for one in found.topic_partitions if one.topic == topic}

    def alter_group_offsets(self, bootstrap: str, group: str, topic: str, offsets: dict[int, int]) -> None:
        wanted = [TopicPartition(topic, partition, at) for partition, at in offsets.items()]
        asked = [ConsumerGroupTopicPartitions(group, wanted)]
        for one in self._wait(self._admin(bootstrap).alter_consumer_group_offsets(asked)).topic_partitions:
            if one.error is not None:
                raise protocol_error(one.error)

    def delete_group(self, bootstrap: str, group: str) -> None:
        self._wait(self._admin(bootstrap).delete_consumer_groups([group]))
