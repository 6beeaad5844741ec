"""A program that uses kafka-python, and its test."""

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition


def newest_by_key(bootstrap_servers, topic):
    """The program: reads a topic to its present end and keeps each key's newest value."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest")
    partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
    consumer.assign(partitions)
    ends = consumer.end_offsets(partitions)
    newest = {}
    while any(consumer.position(partition) < end for partition, end in ends.items()):
        for records in consumer.poll(1000).values():
            newest.update((record.key, record.value) for record in records)
    consumer.close()
    return newest


@pytest.mark.parametrize("odradek_topic", [3], indirect=True)  # a topic with three partitions
def test_newest_by_key(odradek_broker, odradek_topic):
    producer = KafkaProducer(bootstrap_servers=odradek_broker.bootstrap_servers)
    for number in range(30):
        producer.send(odradek_topic, key=b"key-%d" % (number % 10), value=b"%d" % number)
    producer.flush(10)
    producer.close()

    newest = newest_by_key(odradek_broker.bootstrap_servers, odradek_topic)

    assert newest == {b"key-%d" % number: b"%d" % (20 + number) for number in range(10)}
