"""The route map, thought of much later: how often each route was flown, from the first flight on. (confluent-kafka)

    python route_map.py 127.0.0.1:9092

A group that is new reads all that the topic has; it prints its map when it has caught up, and commits nothing.
"""

from __future__ import annotations

import json
import sys
from collections import Counter

from confluent_kafka import Consumer, KafkaError

TOPIC = "flights"


def main() -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": sys.argv[1],
            "group.id": "route-map",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    consumer.subscribe([TOPIC])
    routes: Counter[str] = Counter()
    at_end: set[int] = set()
    while not at_end or len(at_end) < len(consumer.assignment()):
        for message in consumer.consume(500, timeout=1.0):
            error, value = message.error(), message.value()
            if error is not None and error.code() == KafkaError._PARTITION_EOF:
                at_end.add(message.partition() or 0)
            elif error is None and value is not None:
                flight = json.loads(value)
                routes[f"{flight['origin']}-{flight['dest']}"] += 1
    consumer.close()
    print(json.dumps(routes))


if __name__ == "__main__":
    main()
