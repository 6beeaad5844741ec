"""The shortest test there is."""

from confluent_kafka import Producer


def test_a_record_is_written(odradek_broker, odradek_topic):
    producer = Producer({"bootstrap.servers": odradek_broker.bootstrap_servers})
    producer.produce(odradek_topic, b"hello")
    assert producer.flush(10) == 0
