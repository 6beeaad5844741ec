"""A confluent-kafka producer with its default settings, as fast as it can: seconds until all is acknowledged.

python -m benchmarks.confluent_load PORT TOPIC COUNT VALUE_BYTES CODEC
"""

from __future__ import annotations

import sys
import time

from confluent_kafka import Producer


def main() -> None:
    port, topic, count, value_bytes, codec = sys.argv[1:]
    producer = Producer({"bootstrap.servers": f"127.0.0.1:{port}", "compression.type": codec})
    producer.produce(topic, b"first")
    assert producer.flush(30) == 0
    value = b"x" * int(value_bytes)
    began = time.perf_counter()
    for _ in range(int(count)):
        while True:
            try:
                producer.produce(topic, value)
                break
            except BufferError:
                producer.poll(0.01)
    assert producer.flush(120) == 0
    print(time.perf_counter() - began)


if __name__ == "__main__":
    main()
