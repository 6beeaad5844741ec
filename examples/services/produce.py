"""Writes the flights of 2013 into the topic `flights`, keyed by carrier. It knows of no service, and none of it.

python produce.py 127.0.0.1:9092 [--count 336776]
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path

from confluent_kafka import Producer

sys.path.append(str(Path(__file__).parent.parent / "flights"))
from flights import FLIGHTS, TOPIC, source


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bootstrap_server")
    parser.add_argument("--count", type=int, default=FLIGHTS)
    arguments = parser.parse_args()
    producer = Producer(
        {"bootstrap.servers": arguments.bootstrap_server, "enable.idempotence": True, "compression.type": "lz4"}
    )
    for event in itertools.islice(source(), arguments.count):
        while True:
            try:
                producer.produce(TOPIC, key=str(event["carrier"]), value=json.dumps(event))
                break
            except BufferError:  # librdkafka's queue is full: let it send
                producer.poll(0.1)
        producer.poll(0)
    if producer.flush(120):
        sys.exit("not everything could be sent")


if __name__ == "__main__":
    main()
