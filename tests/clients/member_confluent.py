"""A member of a group with confluent-kafka (librdkafka)."""

from __future__ import annotations

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from tests.clients.member_program import AUTO_COMMIT_INTERVAL_MS, MAX_RECORDS, POLL_TIMEOUT_MS, Program


def main() -> None:
    program = Program()
    orders = program.orders
    settings = {
        "log_level": 0,
        "bootstrap.servers": orders.bootstrap,
        "client.id": orders.client_id,
        "group.id": orders.group,
        "partition.assignment.strategy": orders.assignor,
        "session.timeout.ms": orders.session_timeout_ms,
        "heartbeat.interval.ms": orders.heartbeat_interval_ms,
        "enable.auto.commit": orders.auto_commit,
        "auto.commit.interval.ms": AUTO_COMMIT_INTERVAL_MS,
        "auto.offset.reset": "earliest",
        "reconnect.backoff.max.ms": 500,
        "fetch.wait.max.ms": 100,
        "error_cb": lambda error: program.error(str(error)),
    }
    if orders.instance_id is not None:
        settings["group.instance.id"] = orders.instance_id
    consumer = Consumer(settings)
    cooperative = orders.assignor == "cooperative-sticky"

    def assigned(_: Consumer, partitions: list[TopicPartition]) -> None:
        new = {one.partition for one in partitions}
        if cooperative:
            consumer.incremental_assign(partitions)
            program.assigned(program.owned | new)
        else:
            consumer.assign(partitions)
            program.assigned(new)

    def revoked(_: Consumer, partitions: list[TopicPartition]) -> None:
        if cooperative:
            consumer.incremental_unassign(partitions)
        else:
            consumer.unassign()
        program.revoked(one.partition for one in partitions)

    def records(messages: list[Message]) -> None:
        for message in messages:
            error = message.error()
            if error is not None:
                program.error(str(error))
                if error.fatal():
                    raise SystemExit(1)
        program.records(
            (message.partition(), message.offset(), message.value())  # type: ignore[misc]
            for message in messages
            if message.error() is None
        )

    consumer.subscribe([orders.topic], on_assign=assigned, on_revoke=revoked, on_lost=revoked)
    committing = False
    while True:
        command = program.command()
        if command == "leave":
            break
        committing = committing or command == "commit"
        if committing:
            wanted = [TopicPartition(orders.topic, partition, at) for partition, at in program.positions.items()]
            try:
                if wanted:
                    consumer.commit(offsets=wanted, asynchronous=False)
                program.committed({one.partition: one.offset for one in wanted})
                committing = False
            except KafkaException as error:
                program.error(str(error))
                # A rebalance is under way: once more when it has ended.
                committing = error.args[0].code() == KafkaError.REBALANCE_IN_PROGRESS
        records(consumer.consume(MAX_RECORDS, timeout=POLL_TIMEOUT_MS / 1000))
    consumer.close()
    program.left()


if __name__ == "__main__":
    main()
