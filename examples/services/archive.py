"""The archive: every flight as a row in SQLite. (kafka-python)

    python archive.py 127.0.0.1:9092 archive.db

A row's key is where the record stands in the topic: a record that is read again after a SIGKILL, because its commit was
still to come, finds its row there and changes nothing. The rows are on disk before the offsets are committed.
"""

from __future__ import annotations

import json
import signal
import sqlite3
import sys

from kafka import KafkaConsumer

TOPIC = "flights"
TABLE = """create table if not exists flights
    (partition int, offset int, id int, carrier text, origin text, dest text, distance int,
     primary key (partition, offset)) without rowid"""


def main() -> None:
    bootstrap, path = sys.argv[1], sys.argv[2]
    archive = sqlite3.connect(path)
    archive.execute("pragma journal_mode=wal")
    archive.execute(TABLE)
    consumer = KafkaConsumer(
        TOPIC,
        bootstrap_servers=bootstrap,
        group_id="archive",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=6000,
        heartbeat_interval_ms=1000,
    )
    running = True

    def stop(*_: object) -> None:
        nonlocal running
        running = False

    signal.signal(signal.SIGTERM, stop)
    while running:
        rows = []
        for records in consumer.poll(timeout_ms=500, max_records=2000).values():
            for record in records:
                flight = json.loads(record.value)
                columns = (flight[name] for name in ("id", "carrier", "origin", "dest", "distance"))
                rows.append((record.partition, record.offset, *columns))
        if rows:
            with archive:
                archive.executemany("insert or ignore into flights values (?, ?, ?, ?, ?, ?, ?)", rows)
            consumer.commit()
    consumer.close()
    archive.close()


if __name__ == "__main__":
    main()
