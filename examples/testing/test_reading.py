"""A record in, and out again."""

from confluent_kafka import Consumer, Producer


def test_what_is_written_can_be_read(odradek_broker, odradek_topic):
    client = {"bootstrap.servers": odradek_broker.bootstrap_servers}
    producer = Producer(client)
    producer.produce(odradek_topic, b"hello")
    assert producer.flush(10) == 0
    consumer = Consumer({**client, "group.id": "readers", "auto.offset.reset": "earliest"})
    consumer.subscribe([odradek_topic])
    assert consumer.poll(10).value() == b"hello"
    consumer.close()
