"""A member of a group with kafka-python."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection

from kafka import ConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from kafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from kafka.errors import KafkaError, RebalanceInProgressError

from tests.clients.member_program import AUTO_COMMIT_INTERVAL_MS, MAX_RECORDS, Program

# A rebalance whose end falls together with a poll's timeout is lost (seen with 3.0.12): the member has no partitions,
# sends no heartbeats, and does not join again. With longer polls that is rare, but commands wait for them.
POLL_TIMEOUT_MS = 500
# Nothing owned for so long: the rebalance was lost; it subscribes anew. No test leaves a member without partitions.
LOST_AFTER_S = 8.0

ASSIGNORS = {
    assignor.name: assignor
    for assignor in (
        RangePartitionAssignor,
        RoundRobinPartitionAssignor,
        StickyPartitionAssignor,
        CooperativeStickyAssignor,
    )
}


class Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Told within `poll`. With the cooperative assignor it hears only of the partitions that come and go."""

    def __init__(self, program: Program, consumer: KafkaConsumer) -> None:
        self.program = program
        self.consumer = consumer

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self.program.assigned(one.partition for one in self.consumer.assignment())

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        self.program.revoked(one.partition for one in revoked)


def main() -> None:
    logging.getLogger("kafka").setLevel(logging.ERROR)
    program = Program()
    orders = program.orders
    consumer = KafkaConsumer(
        bootstrap_servers=orders.bootstrap,
        client_id=orders.client_id,
        group_id=orders.group,
        group_instance_id=orders.instance_id,
        partition_assignment_strategy=[ASSIGNORS[orders.assignor]],
        session_timeout_ms=orders.session_timeout_ms,
        heartbeat_interval_ms=orders.heartbeat_interval_ms,
        enable_auto_commit=orders.auto_commit,
        auto_commit_interval_ms=AUTO_COMMIT_INTERVAL_MS,
        auto_offset_reset="earliest",
        reconnect_backoff_max_ms=500,
        fetch_max_wait_ms=100,
        max_poll_records=MAX_RECORDS,
    )
    listener = Listener(program, consumer)
    consumer.subscribe([orders.topic], listener=listener)
    committing = False
    owning = time.monotonic()
    while True:
        if program.owned:
            owning = time.monotonic()
        elif time.monotonic() > owning + LOST_AFTER_S:
            program.error("a rebalance was lost; subscribing anew")
            consumer.unsubscribe()
            consumer.subscribe([orders.topic], listener=listener)
            owning = time.monotonic()
        command = program.command()
        if command == "leave":
            break
        committing = committing or command == "commit"
        if committing:
            offsets = dict(program.positions)
            try:
                if offsets:
                    consumer.commit(
                        {
                            TopicPartition(orders.topic, one): OffsetAndMetadata(at, "", -1)
                            for one, at in offsets.items()
                        }
                    )
                program.committed(offsets)
                committing = False
            except KafkaError as error:
                program.error(str(error))
                # A rebalance is under way: once more when it has ended.
                committing = isinstance(error, RebalanceInProgressError)
        try:
            polled = consumer.poll(POLL_TIMEOUT_MS)
        except KafkaError as error:
            program.error(str(error))
            if not error.retriable:
                raise SystemExit(1) from None
            continue
        program.records((one.partition, one.offset, one.value) for records in polled.values() for one in records)
    consumer.close(autocommit=orders.auto_commit)
    program.left()


if __name__ == "__main__":
    main()
