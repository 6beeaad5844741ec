"""A service that uses aiokafka, and its test."""

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

import odradek


async def shout(bootstrap_servers, source, target, count):
    """The service: copies `count` records in capitals."""
    async with (
        AIOKafkaConsumer(
            source, bootstrap_servers=bootstrap_servers, group_id="shout", auto_offset_reset="earliest"
        ) as consumer,
        AIOKafkaProducer(bootstrap_servers=bootstrap_servers) as producer,
    ):
        for _ in range(count):
            record = await consumer.getone()
            await producer.send_and_wait(target, record.value.upper(), key=record.key)


async def write_shout_read():
    async with odradek.Broker() as broker:  # on a loop of its own: this one stays free
        async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers) as producer:
            for word in (b"quietly", b"said"):
                await producer.send_and_wait("words", word)

        await asyncio.wait_for(shout(broker.bootstrap_servers, "words", "shouts", count=2), 30)

        async with AIOKafkaConsumer(
            "shouts", bootstrap_servers=broker.bootstrap_servers, auto_offset_reset="earliest"
        ) as consumer:
            return [(await asyncio.wait_for(consumer.getone(), 10)).value for _ in range(2)]


def test_shouts():
    assert asyncio.run(write_shout_read()) == [b"QUIETLY", b"SAID"]
