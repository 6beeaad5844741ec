"""The delay board: for each airport of departure, how many flights and how late on average. (confluent-kafka)

    python delay_board.py 127.0.0.1:9092 board.json

The board and the offsets that it was made from stand in one file, replaced as a whole: after a SIGKILL it goes on from
those offsets, so that no flight counts twice and none is missed. The group's own commits follow the file; they are
what `odradek group describe delay-board` shows.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

TOPIC = "flights"
SAVE_EVERY = 2000


class Board:
    """What is known, and from which offsets."""

    def __init__(self, path: Path) -> None:
        self.path = path
        kept = json.loads(path.read_text()) if path.exists() else {"offsets": {}, "airports": {}}
        self.offsets: dict[str, int] = kept["offsets"]
        self.airports: dict[str, list[int]] = kept["airports"]  # flights, minutes of delay

    def add(self, partition: int, offset: int, flight: dict[str, object]) -> None:
        counts = self.airports.setdefault(str(flight["origin"]), [0, 0])
        counts[0] += 1
        counts[1] += int(flight["dep_delay"] or 0)  # type: ignore[call-overload]
        self.offsets[str(partition)] = offset + 1

    def save(self) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps({"offsets": self.offsets, "airports": self.airports}))
        new.replace(self.path)


def main() -> None:
    bootstrap, path = sys.argv[1], Path(sys.argv[2])
    board = Board(path)
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "delay-board",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 6000,
        }
    )

    def assigned(consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for partition in partitions:
            known = board.offsets.get(str(partition.partition))
            if known is not None:
                partition.offset = known
        consumer.assign(partitions)

    running = True

    def stop(*_: object) -> None:
        nonlocal running
        running = False

    signal.signal(signal.SIGTERM, stop)
    consumer.subscribe([TOPIC], on_assign=assigned)
    unsaved = 0
    while running:
        messages = consumer.consume(500, timeout=0.5)
        for message in messages:
            value = message.value()
            if message.error() is None and value is not None:
                board.add(message.partition() or 0, message.offset() or 0, json.loads(value))
                unsaved += 1
        if unsaved and (unsaved >= SAVE_EVERY or not messages or not running):
            board.save()
            done = [TopicPartition(TOPIC, int(index), offset) for index, offset in board.offsets.items()]
            consumer.commit(offsets=done, asynchronous=False)
            unsaved = 0
    consumer.close()


if __name__ == "__main__":
    main()
