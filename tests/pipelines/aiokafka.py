"""The same as `confluent.py` with aiokafka, which commits offsets by the group's name alone."""

from __future__ import annotations

import asyncio
import os
import random
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from tests.pipelines.lines import BATCH_MAX, PARTITIONS, TIMEOUT_S, TRANSACTION_TIMEOUT_MS, is_to_abort, say, tell


async def main(bootstrap: str, name: str, incarnation: str, seed: int) -> None:
    chance = random.Random(seed)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=name,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        fetch_max_wait_ms=50,
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, transactional_id=name, transaction_timeout_ms=TRANSACTION_TIMEOUT_MS
    )
    await consumer.start()
    await producer.start()
    partitions = [TopicPartition("in", index) for index in range(PARTITIONS)]
    consumer.assign(partitions)
    number = 0
    while True:
        for partition in partitions:
            consumer.seek(partition, await consumer.committed(partition) or 0)
        found = await consumer.getmany(timeout_ms=500, max_records=chance.randrange(1, BATCH_MAX))
        messages = [message for of_partition in found.values() for message in of_partition]
        if not messages:
            continue
        number += 1
        tag = f"{incarnation}-{number}"
        records = [(message.partition, message.value.decode()) for message in messages]
        await producer.begin_transaction()
        sent = [
            await producer.send(f"out-{name}", tag.encode() + b":" + message.value, partition=message.partition)
            for message in messages
        ]
        for one in sent:
            await asyncio.wait_for(one, TIMEOUT_S)
        if is_to_abort(chance):
            tell("aborting", tag, records)
            await asyncio.wait_for(producer.abort_transaction(), TIMEOUT_S)
            say(event="aborted", tag=tag)
            continue
        ends = {partition: of_partition[-1].offset + 1 for partition, of_partition in found.items() if of_partition}
        await asyncio.wait_for(producer.send_offsets_to_transaction(ends, name), TIMEOUT_S)
        tell("committing", tag, records)
        await asyncio.wait_for(producer.commit_transaction(), TIMEOUT_S)
        say(event="committed", tag=tag)


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
    except (KafkaError, TimeoutError, asyncio.CancelledError) as error:
        say(event="ended", error=repr(error))
        os._exit(1)
