"""Reads the topic "in" and writes what it reads to "out", in transactions that carry its offsets; aborts every fifth.

    python transactional_pipeline.py BOOTSTRAP

After each commit a line says how many records have been committed in all. It ends when it may not go on: it is to be
started again.
"""

# ruff: noqa: T201 - a program: its lines are its result

from __future__ import annotations

import json
import os
import sys

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

BATCH = 50
TIMEOUT_S = 20
PARTITIONS = 2


def main(bootstrap: str) -> None:
    # Else librdkafka forgets its only broker when that goes away, and waits for ever for the coordinator it was.
    common = {
        "bootstrap.servers": bootstrap,
        "reconnect.backoff.max.ms": 200,
        "metadata.recovery.strategy": "none",
    }
    consumer = Consumer(
        {
            **common,
            "group.id": "pipeline",
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
        }
    )
    producer = Producer({**common, "transactional.id": "pipeline", "transaction.timeout.ms": 10_000})
    producer.init_transactions(TIMEOUT_S)
    partitions = [TopicPartition("in", index) for index in range(PARTITIONS)]
    number = 0
    while True:
        # Each round begins where the last committed one ended, so that an aborted one is done again.
        committed = consumer.committed(partitions, TIMEOUT_S)
        print(json.dumps({"committed": sum(max(0, one.offset) for one in committed)}), flush=True)
        consumer.assign([TopicPartition(one.topic, one.partition, max(0, one.offset)) for one in committed])
        messages = consumer.consume(BATCH, 1.0)
        if not messages:
            continue
        producer.begin_transaction()
        for message in messages:
            if message.error() is not None:
                raise KafkaException(message.error())
            producer.produce("out", message.value(), partition=message.partition())
        number += 1
        if number % 5 == 0:
            producer.flush(TIMEOUT_S)
            producer.abort_transaction(TIMEOUT_S)
            continue
        producer.send_offsets_to_transaction(
            consumer.position(partitions), consumer.consumer_group_metadata(), TIMEOUT_S
        )
        producer.commit_transaction(TIMEOUT_S)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except KafkaException as error:
        print(error, file=sys.stderr, flush=True)
        # At once: a producer that is closed waits for what it could not send.
        os._exit(1)
