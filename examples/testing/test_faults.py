"""A recipe for each fault: what a program meets once a month in production, now, on request."""

import time

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer


@pytest.fixture
def producer(odradek_broker):
    return Producer(
        {
            "bootstrap.servers": odradek_broker.bootstrap_servers,
            "enable.idempotence": True,
            "retry.backoff.ms": 10,
            "delivery.timeout.ms": 5000,
        }
    )


def values(broker, topic, count):
    """The first `count` values of a topic, and an error if there are more."""
    consumer = Consumer(
        {"bootstrap.servers": broker.bootstrap_servers, "group.id": "values", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([topic])
    found = [message.value() for message in consumer.consume(count, timeout=10)]
    assert consumer.poll(0.5) is None
    consumer.close()
    return found


def test_an_error_that_passes(odradek_broker, odradek_topic, producer):
    """Three times the leader is elsewhere: a good client tries again."""
    fault = odradek_broker.faults.refuse("Produce", "NOT_LEADER_OR_FOLLOWER", times=3)
    producer.produce(odradek_topic, b"x")
    assert producer.flush(10) == 0
    assert fault.hits == 3
    assert values(odradek_broker, odradek_topic, 1) == [b"x"]


def test_an_error_that_stays(odradek_broker, odradek_topic, producer):
    """The record is too large, whatever it is: the program must hear of it."""
    errors = []
    with odradek_broker.faults.refuse("Produce", "MESSAGE_TOO_LARGE", topic=odradek_topic):
        producer.produce(odradek_topic, b"x", on_delivery=lambda error, message: errors.append(error))
        producer.flush(10)
    assert errors[0].code() == KafkaError.MSG_SIZE_TOO_LARGE


def test_a_slow_broker(odradek_broker, odradek_topic, producer):
    """Each write takes half a second: does the program go on in the meantime?"""
    with odradek_broker.faults.delay("Produce", 0.5) as fault:
        begin = time.monotonic()
        producer.produce(odradek_topic, b"x")
        assert time.monotonic() - begin < 0.4  # it does
        assert producer.flush(10) == 0
        assert time.monotonic() - begin >= 0.5
    assert fault.hits == 1


def test_a_lost_answer(odradek_broker, odradek_topic, producer):
    """The record is written, and the connection breaks before the answer. The producer sends it again; it is
    idempotent, so that the record is there once."""
    fault = odradek_broker.faults.disconnect("Produce", after=True, times=1)
    producer.produce(odradek_topic, b"x")
    assert producer.flush(10) == 0
    assert fault.hits == 1
    assert values(odradek_broker, odradek_topic, 1) == [b"x"]


def test_a_broker_that_is_away(odradek_broker, odradek_topic, producer):
    """Nobody answers, for longer than the program is willing to wait."""
    errors = []
    with odradek_broker.faults.disconnect():
        producer.produce(odradek_topic, b"x", on_delivery=lambda error, message: errors.append(error))
        producer.flush(20)
    assert errors[0].code() == KafkaError._MSG_TIMED_OUT


def test_a_broker_that_restarts(clean_odradek_broker):
    """It comes back under the same address, empty: what is in memory does not outlive it."""
    broker = clean_odradek_broker
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "retry.backoff.ms": 10})
    producer.produce("before", b"x")
    assert producer.flush(10) == 0
    broker.stop()
    producer.produce("after", b"y")  # nobody is there; the client keeps it
    broker.start()
    assert producer.flush(10) == 0
    assert broker.topics() == ["after"]


def test_a_commit_that_fails(odradek_broker, odradek_topic, producer):
    """A consumer's commit is refused: a program that takes no notice works twice."""
    producer.produce(odradek_topic, b"x")
    producer.flush(10)
    consumer = Consumer(
        {
            "bootstrap.servers": odradek_broker.bootstrap_servers,
            "group.id": "committing",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([odradek_topic])
    message = consumer.poll(10)
    with (
        odradek_broker.faults.refuse("OffsetCommit", "REBALANCE_IN_PROGRESS"),
        pytest.raises(KafkaException) as raised,
    ):
        consumer.commit(message, asynchronous=False)
    assert raised.value.args[0].code() == KafkaError.REBALANCE_IN_PROGRESS
    consumer.commit(message, asynchronous=False)
    consumer.close()


@pytest.mark.parametrize("odradek_topic", [2], indirect=True)
def test_a_rebalance_now(odradek_broker, odradek_topic):
    """The group's partitions are taken away and given again, in the middle of the work."""
    told = []
    consumer = Consumer(
        {"bootstrap.servers": odradek_broker.bootstrap_servers, "group.id": "workers", "heartbeat.interval.ms": 100}
    )
    consumer.subscribe(
        [odradek_topic],
        on_assign=lambda consumer, partitions: told.append(("got", len(partitions))),
        on_revoke=lambda consumer, partitions: told.append(("lost", len(partitions))),
    )
    while told != [("got", 2)]:
        consumer.poll(0.1)
    odradek_broker.rebalance("workers")
    while told != [("got", 2), ("lost", 2), ("got", 2)]:
        consumer.poll(0.1)
    consumer.close()


def test_only_one_client(odradek_broker, odradek_topic):
    """One of two services has bad luck: a rule may be for one client, and for one topic."""

    def failures(client_id):
        producer = Producer(
            {
                "bootstrap.servers": odradek_broker.bootstrap_servers,
                "client.id": client_id,
                "message.timeout.ms": 2000,
            }
        )
        errors = []
        producer.produce(odradek_topic, b"x", on_delivery=lambda error, message: errors.append(error))
        assert producer.flush(10) == 0
        return [error.name() for error in errors if error is not None]

    odradek_broker.faults.disconnect("Produce", client_id="unlucky")
    assert failures("unlucky") == ["_MSG_TIMED_OUT"]
    assert failures("lucky") == []
