"""kafka-python (3)."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import kafka.errors
from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, OffsetSpec
from kafka.errors import KafkaError

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

# It logs every lost connection as an error; the tests cut connections on purpose.
logging.getLogger("kafka").setLevel(logging.CRITICAL)


@contextmanager
def protocol_errors() -> Iterator[None]:
    try:
        yield
    except KafkaError as error:
        code = type(error).errno
        if code is not None and code >= -1:
            raise ClientError.by_code(code, str(error)) from None
        raise ClientError(type(error).__name__, str(error)) from None


class KafkaPythonDriver(Driver):
    name = "kafka-python"
    # Its producer refuses a header whose value is null, and a record with neither key nor value; its consumer reads
    # them.
    features = frozenset(Feature) - {
        Feature.FENCED_BY_HEARTBEATS,
        Feature.NEITHER_KEY_NOR_VALUE,
        Feature.NULL_HEADER_VALUES,
    }
    assignors = ("range", "roundrobin", "sticky", "cooperative-sticky")

    def member_command(self) -> list[str]:
        return [sys.executable, "-m", "tests.clients.member_kafka_python"]

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
        producer = KafkaProducer(
            bootstrap_servers=bootstrap,
            acks="all",
            compression_type=None if codec == "none" else codec,
            enable_idempotence=idempotent,
            linger_ms=5,
            max_request_size=20_000_000,
            delivery_timeout_ms=int(DELIVERY_TIMEOUT_S * 1000),
            reconnect_backoff_max_ms=500,
        )
        with protocol_errors(), closing(producer):
            answers: list[Any] = []
            size = STEP if progress else max(len(records), 1)
            for first in range(0, len(records), size):
                waiting = [
                    producer.send(topic, record.value, record.key, list(record.headers), partition, record.timestamp_ms)
                    for record in records[first : first + size]
                ]
                answers += [future.get(timeout=DELIVERY_TIMEOUT_S) for future in waiting]
                if progress:
                    progress(len(answers))
            return [Acknowledged(one.partition, one.offset, one.timestamp) for one in answers]

    def _consumer(self, bootstrap: str) -> closing[KafkaConsumer]:
        return closing(
            KafkaConsumer(
                bootstrap_servers=bootstrap,
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                check_crcs=True,
                max_partition_fetch_bytes=4_000_000,
                reconnect_backoff_max_ms=500,
            )
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
        assigned = TopicPartition(topic, partition)
        found: list[Stored] = []
        deadline = time.monotonic() + DELIVERY_TIMEOUT_S
        with protocol_errors(), self._consumer(bootstrap) as consumer:
            consumer.assign([assigned])
            if start is None:
                consumer.seek_to_beginning(assigned)
            else:
                consumer.seek(assigned, start)
            while len(found) < count:
                assert time.monotonic() < deadline, f"{len(found)} of {count} records"
                most = STEP if progress else count - len(found)
                for message in consumer.poll(timeout_ms=1000, max_records=most).get(assigned, ()):
                    headers = tuple((name, value) for name, value in message.headers)
                    record = Record(message.key, message.value, headers, message.timestamp)
                    found.append(Stored(message.offset, record))
                if progress:
                    progress(len(found))
        return found

    def watermarks(self, bootstrap: str, topic: str, partition: int = 0) -> tuple[int, int]:
        assigned = TopicPartition(topic, partition)
        with protocol_errors(), self._consumer(bootstrap) as consumer:
            return consumer.beginning_offsets([assigned])[assigned], consumer.end_offsets([assigned])[assigned]

    def offset_for_time(self, bootstrap: str, topic: str, timestamp_ms: int, partition: int = 0) -> int | None:
        assigned = TopicPartition(topic, partition)
        with protocol_errors(), self._consumer(bootstrap) as consumer:
            found = consumer.offsets_for_times({assigned: timestamp_ms})[assigned]
            return None if found is None else int(found.offset)

    def transact(self, bootstrap: str, transactional_id: str, topic: str, rounds: int) -> None:
        producer = KafkaProducer(
            bootstrap_servers=bootstrap,
            transactional_id=transactional_id,
            max_block_ms=int(OPERATION_TIMEOUT_S * 1000),
        )
        with protocol_errors(), closing(producer):
            producer.init_transactions()
            for _ in range(rounds):
                producer.begin_transaction()
                producer.send(topic, b"aborted", partition=0).get(OPERATION_TIMEOUT_S)
                producer.abort_transaction()
                producer.begin_transaction()
                producer.send(topic, b"committed", partition=0).get(OPERATION_TIMEOUT_S)
                producer.commit_transaction()

    # --- administration ------------------------------------------------------------------------------------------

    def _administer(self, bootstrap: str, call: Callable[[KafkaAdminClient], Any]) -> Any:
        with protocol_errors(), closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
            return call(admin)

    def create_topic(self, bootstrap: str, topic: str, partitions: int, configs: dict[str, str] | None = None) -> None:
        new = {topic: {"num_partitions": partitions, "replication_factor": 1, "configs": configs or {}}}
        self._administer(bootstrap, lambda admin: admin.create_topics(new))

    def delete_topic(self, bootstrap: str, topic: str) -> None:
        self._administer(bootstrap, lambda admin: admin.delete_topics([topic]))

    def topics(self, bootstrap: str) -> set[str]:
        return set(self._administer(bootstrap, lambda admin: admin.list_topics()))

    def describe_topic(self, bootstrap: str, topic: str) -> dict[int, dict[str, Any]]:
        (described,) = self._administer(bootstrap, lambda admin: admin.describe_topics([topic]))
        return {
            one["partition_index"]: {
                "leader": one["leader_id"],
                "replicas": list(one["replica_nodes"]),
                "isr": list(one["isr_nodes"]),
            }
            for one in described["partitions"]
        }

    def create_partitions(self, bootstrap: str, topic: str, total: int) -> None:
        self._administer(bootstrap, lambda admin: admin.create_partitions({topic: total}))

    def describe_configs(self, bootstrap: str, topic: str) -> dict[str, str | None]:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        described = self._administer(bootstrap, lambda admin: admin.describe_configs([resource], config_filter="all"))
        return {name: entry["value"] for name, entry in described["topic"][topic].items()}

    def alter_config(self, bootstrap: str, topic: str, name: str, value: str) -> None:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, {name: value})
        altered = self._administer(bootstrap, lambda admin: admin.alter_configs([resource], incremental=True))
        # It returns errors as text, "[Error 40] ...".
        told = altered["topic"][topic]
        if told != "OK":
            raise ClientError.by_code(int(told.removeprefix("[Error ").partition("]")[0]), told)

    def describe_cluster(self, bootstrap: str) -> dict[str, Any]:
        described = self._administer(bootstrap, lambda admin: admin.describe_cluster())
        return {
            "cluster_id": described["cluster_id"],
            "controller": described["controller_id"],
            "nodes": {node["broker_id"]: f"{node['host']}:{node['port']}" for node in described["brokers"]},
        }

    def delete_records(self, bootstrap: str, topic: str, before: int, partition: int = 0) -> int:
        asked = TopicPartition(topic, partition)
        deleted = self._administer(bootstrap, lambda admin: admin.delete_records({asked: before}))
        return int(deleted[asked]["low_watermark"])

    def log_dir_sizes(self, bootstrap: str, topic: str) -> dict[int, int]:
        described = self._administer(bootstrap, lambda admin: admin.describe_log_dirs([topic]))
        return {
            partition["partition_index"]: partition["partition_size"]
            for broker in described
            for folder in broker["log_dirs"]
            for one in folder["topics"]
            if one["name"] == topic
            for partition in one["partitions"]
        }

    def list_offset(self, bootstrap: str, topic: str, spec: str, partition: int = 0) -> tuple[int, int]:
        asked = TopicPartition(topic, partition)
        specs = {
            "earliest": OffsetSpec.EARLIEST,
            "latest": OffsetSpec.LATEST,
            "max_timestamp": OffsetSpec.MAX_TIMESTAMP,
        }
        found = self._administer(bootstrap, lambda admin: admin.list_partition_offsets({asked: specs[spec]}))[asked]
        return found.offset, found.timestamp

    def describe_producers(self, bootstrap: str, topic: str, partition: int = 0) -> list[dict[str, int]]:
        asked = TopicPartition(topic, partition)
        described = self._administer(bootstrap, lambda admin: admin.describe_producers([asked]))[asked]
        return [
            {
                "producer_id": one.producer_id,
                "producer_epoch": one.producer_epoch,
                "last_sequence": one.last_sequence,
            }
            for one in described.active_producers
        ]

    # --- groups ----------------------------------------------------------------------------------------------------

    def list_groups(self, bootstrap: str) -> set[str]:
        return {one["group_id"] for one in self._administer(bootstrap, lambda admin: admin.list_groups())}

    def describe_group(self, bootstrap: str, group: str) -> DescribedGroup:
        described = self._administer(bootstrap, lambda admin: admin.describe_groups([group]))[group]
        if described["error"] is not None:
            # As text: "[Error 69] ...".
            told = described["error"]
            raise ClientError.by_code(int(told.removeprefix("[Error ").partition("]")[0]), told)
        members = tuple(
            Member(
                one["client_id"],
                one["group_instance_id"],
                frozenset(
                    (of["topic"], partition)
                    for of in (one["member_assignment"] or {}).get("assigned_partitions", ())
                    for partition in of["partitions"]
                ),
            )
            for one in described["members"]
        )
        return DescribedGroup(described["group_state"], described["protocol_data"], members)

    def group_offsets(self, bootstrap: str, group: str, topic: str) -> dict[int, int]:
        found = self._administer(bootstrap, lambda admin: admin.list_group_offsets({group: None}))[group]
        return {at.partition: one.offset for at, one in found.items() if at.topic == topic}

    def alter_group_offsets(self, bootstrap: str, group: str, topic: str, offsets: dict[int, int]) -> None:
        wanted = {TopicPartition(topic, one): OffsetAndMetadata(at, "", -1) for one, at in offsets.items()}
        self._raise(self._administer(bootstrap, lambda admin: admin.alter_group_offsets(group, wanted)))

    def delete_group_offsets(self, bootstrap: str, group: str, topic: str, partitions: list[int]) -> None:
        wanted = [TopicPartition(topic, partition) for partition in partitions]
        self._raise(self._administer(bootstrap, lambda admin: admin.delete_group_offsets(group, wanted)))

    def delete_group(self, bootstrap: str, group: str) -> None:
        told = self._administer(bootstrap, lambda admin: admin.delete_groups([group]))[group]
        # The name of one of its exceptions, or "OK".
        if told != "OK":
            raise ClientError.by_code(getattr(kafka.errors, told).errno)

    @staticmethod
    def _raise(told: dict[TopicPartition, type[KafkaError]]) -> None:
        """Its answers for each partition are exception classes, `NoError` among them."""
        for error in told.values():
            if error.errno:
                raise ClientError.by_code(error.errno)
