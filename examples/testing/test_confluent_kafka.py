"""A service that uses confluent-kafka, and its test. The service knows nothing of Odradek."""

import json

from confluent_kafka import Consumer, Producer


def add_totals(bootstrap_servers, orders, totals, count):
    """The service: reads `count` orders, and writes each customer's total after each of them."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "totals",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    producer = Producer({"bootstrap.servers": bootstrap_servers, "enable.idempotence": True})
    consumer.subscribe([orders])
    sums = {}
    while count:
        message = consumer.poll(1.0)
        if message is None:
            continue
        assert message.error() is None, message.error()
        order = json.loads(message.value())
        sums[order["customer"]] = sums.get(order["customer"], 0) + order["amount"]
        producer.produce(totals, key=order["customer"], value=str(sums[order["customer"]]))
        count -= 1
    assert producer.flush(10) == 0
    consumer.commit(asynchronous=False)
    consumer.close()


def test_totals(clean_odradek_broker):
    broker = clean_odradek_broker
    broker.create_topic("orders", partitions=3)
    broker.create_topic("totals")
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
    for customer, amount in (("ann", 5), ("bob", 7), ("ann", 10)):
        producer.produce("orders", key=customer, value=json.dumps({"customer": customer, "amount": amount}))
    assert producer.flush(10) == 0

    add_totals(broker.bootstrap_servers, "orders", "totals", count=3)

    consumer = Consumer(
        {"bootstrap.servers": broker.bootstrap_servers, "group.id": "test", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe(["totals"])
    written = [(message.key(), message.value()) for message in consumer.consume(3, timeout=10)]
    consumer.close()
    assert sorted(written) == [(b"ann", b"15"), (b"ann", b"5"), (b"bob", b"7")]
