"""The daily total: for each day, how many flights and how many miles. (aiokafka)

    python daily_total.py 127.0.0.1:9092 days.json

As the delay board does, it keeps its totals and their offsets in one file, and goes on from there.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition

TOPIC = "flights"
SAVE_EVERY = 5000


class Totals(ConsumerRebalanceListener):  # type: ignore[misc]
    """What is known, and from which offsets; a partition that is assigned goes on from there."""

    def __init__(self, path: Path, consumer: AIOKafkaConsumer) -> None:
        self.path = path
        self.consumer = consumer
        kept = json.loads(path.read_text()) if path.exists() else {"offsets": {}, "days": {}}
        self.offsets: dict[str, int] = kept["offsets"]
        self.days: dict[str, list[int]] = kept["days"]  # flights, miles

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        pass

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        for partition in assigned:
            known = self.offsets.get(str(partition.partition))
            if known is not None:
                self.consumer.seek(partition, known)

    def add(self, partition: int, offset: int, flight: dict[str, int]) -> None:
        counts = self.days.setdefault(f"{flight['year']}-{flight['month']:02}-{flight['day']:02}", [0, 0])
        counts[0] += 1
        counts[1] += flight["distance"] or 0
        self.offsets[str(partition)] = offset + 1

    def save(self) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps({"offsets": self.offsets, "days": self.days}))
        new.replace(self.path)


async def main() -> None:
    bootstrap, path = sys.argv[1], Path(sys.argv[2])
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id="daily-total",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=6000,
    )
    totals = Totals(path, consumer)
    consumer.subscribe([TOPIC], listener=totals)
    await consumer.start()
    unsaved = 0
    try:
        while not stopping.is_set():
            found = await consumer.getmany(timeout_ms=500, max_records=2000)
            for partition, records in found.items():
                for record in records:
                    totals.add(partition.partition, record.offset, json.loads(record.value))
                unsaved += len(records)
            if unsaved and (unsaved >= SAVE_EVERY or not found):
                totals.save()
                await consumer.commit({TopicPartition(TOPIC, int(i)): end for i, end in totals.offsets.items()})
                unsaved = 0
    finally:
        await consumer.stop()


if __name__ == "__main__":
    asyncio.run(main())
