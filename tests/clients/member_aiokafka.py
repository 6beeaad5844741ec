"""A member of a group with aiokafka."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import CommitFailedError, KafkaError, RebalanceInProgressError

from tests.clients.member_program import AUTO_COMMIT_INTERVAL_MS, MAX_RECORDS, POLL_TIMEOUT_MS, Program

ASSIGNORS = {
    assignor.name: assignor
    for assignor in (RangePartitionAssignor, RoundRobinPartitionAssignor, StickyPartitionAssignor)
}


class Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Told in the client's own task, in the same event loop."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self.program.assigned(one.partition for one in assigned)

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        if revoked:
            self.program.revoked(one.partition for one in revoked)


async def run() -> None:
    program = Program()
    orders = program.orders
    consumer = AIOKafkaConsumer(
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
        fetch_max_wait_ms=100,
    )
    consumer.subscribe([orders.topic], listener=Listener(program))
    await consumer.start()
    committing = False
    while True:
        command = program.command()
        if command == "leave":
            break
        committing = committing or command == "commit"
        if committing:
            offsets = dict(program.positions)
            try:
                if offsets:
                    await consumer.commit({TopicPartition(orders.topic, one): at for one, at in offsets.items()})
                program.committed(offsets)
                committing = False
            except (KafkaError, ValueError) as error:
                program.error(repr(error))
                # A rebalance is under way: once more when it has ended.
                committing = isinstance(error, RebalanceInProgressError | CommitFailedError)
        try:
            polled = await consumer.getmany(timeout_ms=POLL_TIMEOUT_MS, max_records=MAX_RECORDS)
        except KafkaError as error:
            program.error(repr(error))
            if not error.retriable:
                raise SystemExit(1) from None
            continue
        program.records((one.partition, one.offset, one.value) for records in polled.values() for one in records)
    await consumer.stop()
    program.left()


if __name__ == "__main__":
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    asyncio.run(run())
