"""Moves records from the topic "in" to "out-NAME" in transactions that carry the group's offsets: confluent-kafka.

    python -m tests.pipelines.confluent BOOTSTRAP NAME INCARNATION SEED

NAME is also the group and the transactional id. Every record keeps its partition; its value becomes `TAG:VALUE`, where
the tag `INCARNATION-NUMBER` is the transaction's. Now and then one is aborted and done again. A line of JSON tells what
is about to be done, with its records and the time, and what was done:

    {"event": "committing" | "aborting", "tag": ..., "records": [[partition, value], ...], "at_ns": ...}
    {"event": "committed" | "aborted", "tag": ...}

It ends when it may not go on: it is to be started again. The other pipelines do the same.
"""

from __future__ import annotations

import os
import random
import sys

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from tests.pipelines.lines import BATCH_MAX, PARTITIONS, TIMEOUT_S, TRANSACTION_TIMEOUT_MS, is_to_abort, say, tell


def main(bootstrap: str, name: str, incarnation: str, seed: int) -> None:
    chance = random.Random(seed)
    # Else librdkafka forgets its only broker when that goes away, and waits for ever for the coordinator it was.
    common = {
        "bootstrap.servers": bootstrap,
        "reconnect.backoff.max.ms": 200,
        "metadata.recovery.strategy": "none",
        "log_level": 0,
    }
    consumer = Consumer(
        {
            **common,
            "group.id": name,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 50,
        }
    )
    producer = Producer({**common, "transactional.id": name, "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS})
    producer.init_transactions(TIMEOUT_S)
    partitions = [TopicPartition("in", index) for index in range(PARTITIONS)]
    number = 0
    while True:
        # Each round begins where the last committed one ended, so that an aborted one is done again.
        committed = consumer.committed(partitions, TIMEOUT_S)
        consumer.assign([TopicPartition(one.topic, one.partition, max(0, one.offset)) for one in committed])
        messages = consumer.consume(chance.randrange(1, BATCH_MAX), 0.5)
        if not messages:
            continue
        number += 1
        tag = f"{incarnation}-{number}"
        records = []
        producer.begin_transaction()
        for message in messages:
            if message.error() is not None:
                raise KafkaException(message.error())
            value, partition = message.value(), message.partition()
            assert isinstance(value, bytes) and partition is not None
            producer.produce(f"out-{name}", tag.encode() + b":" + value, partition=partition)
            records.append((partition, value.decode()))
        producer.flush(TIMEOUT_S)
        if is_to_abort(chance):
            tell("aborting", tag, records)
            producer.abort_transaction(TIMEOUT_S)
            say(event="aborted", tag=tag)
            continue
        producer.send_offsets_to_transaction(
            consumer.position(partitions), consumer.consumer_group_metadata(), TIMEOUT_S
        )
        tell("committing", tag, records)
        producer.commit_transaction(TIMEOUT_S)
        say(event="committed", tag=tag)


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
    except KafkaException as error:
        say(event="ended", error=str(error))
        # At once: a producer that is closed waits for what it could not send.
        os._exit(1)
