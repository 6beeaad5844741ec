"""kcat, the command-line client (librdkafka), as Debian ships it.

It has no administration but a listing, and its producer takes records as lines of text: no empty values beside nulls
(-Z sends the empty as null), one set of headers for all, no timestamps. Its reader prints JSON, in which a key or value
that is not text would be lost; text, nulls, headers and timestamps come out whole. Its group consumer commits by itself
only; what it can do with groups otherwise is what librdkafka does.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from tests.clients.driver import (
    DELIVERY_TIMEOUT_S,
    Acknowledged,
    ClientError,
    Driver,
    Feature,
    Progress,
    Record,
    Stored,
)

KCAT = shutil.which("kcat")
if KCAT is None and os.environ.get("CI") == "true":
    raise RuntimeError("with CI=true kcat must be installed")

SEPARATOR = "\x1f"


class KcatDriver(Driver):
    name = "kcat"
    features = frozenset({Feature.FENCED_BY_HEARTBEATS, Feature.HEADERS_IN_ORDER, Feature.STATIC_MEMBERS})
    assignors = ("range", "roundrobin", "cooperative-sticky")

    def member_command(self) -> list[str]:
        return [sys.executable, "-m", "tests.clients.member_kcat"]

    def _run(self, bootstrap: str, *arguments: str, stdin: bytes = b"") -> bytes:
        assert KCAT is not None
        command = [KCAT, "-b", bootstrap, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=DELIVERY_TIMEOUT_S)
        if done.returncode:
            raise ClientError(f"exit code {done.returncode}", done.stderr.decode())
        return done.stdout

    def produce(
        self,
        bootstrap: str,
        topic: str,
        records: Sequence[Record],
        *,
        partition: int = 0,
        codec: str = "none",
        idempotent: bool = False,
        progress: Progress | None = None,
    ) -> list[Acknowledged]:
        """Keys, values and the first record's headers; kcat does not tell what was acknowledged: the list is empty."""
        assert all(record.timestamp_ms is None and record.headers == records[0].headers for record in records)
        lines = b"".join((one.key or b"") + SEPARATOR.encode() + (one.value or b"") + b"\n" for one in records)
        headers = [f"{name}={(value or b'').decode()}" for name, value in records[0].headers]
        self._run(
            bootstrap,
            *("-P", "-t", topic, "-p", str(partition), "-K", SEPARATOR, "-Z", "-z", codec),
            *("-X", "acks=all", "-X", f"enable.idempotence={str(idempotent).lower()}"),
            *(argument for header in headers for argument in ("-H", header)),
            stdin=lines,
        )
        return []

    def read(
        self,
        bootstrap: str,
        topic: str,
        *,
        partition: int = 0,
        start: int | None = None,
        count: int,
        progress: Progress | None = None,
    ) -> list[Stored]:
        where = "beginning" if start is None else str(start)
        printed = self._run(
            bootstrap,
            *("-C", "-t", topic, "-p", str(partition), "-o", where, "-c", str(count), "-e", "-q", "-J"),
            *("-X", "check.crcs=true"),
        )
        found = []
        for line in printed.splitlines():
            one = json.loads(line)
            names, values = one.get("headers", [])[::2], one.get("headers", [])[1::2]
            headers = tuple((name, _data(value)) for name, value in zip(names, values, strict=True))
            record = Record(_data(one["key"]), _data(one["payload"]), headers, one["ts"])
            found.append(Stored(one["offset"], record))
        return found

    def watermarks(self, bootstrap: str, topic: str, partition: int = 0) -> tuple[int, int]:
        return self._query(bootstrap, topic, partition, -2), self._query(bootstrap, topic, partition, -1)

    def offset_for_time(self, bootstrap: str, topic: str, timestamp_ms: int, partition: int = 0) -> int | None:
        found = self._query(bootstrap, topic, partition, timestamp_ms)
        return None if found == -1 else found

    def _query(self, bootstrap: str, topic: str, partition: int, timestamp_ms: int) -> int:
        """kcat's -Q; it prints "topic [partition] offset N"."""
        printed = self._run(bootstrap, "-Q", "-t", f"{topic}:{partition}:{timestamp_ms}").decode()
        return int(printed.rsplit(None, 1)[-1])

    def describe_topic(self, bootstrap: str, topic: str) -> dict[int, dict[str, Any]]:
        listed = json.loads(self._run(bootstrap, "-L", "-J", "-t", topic))
        (described,) = listed["topics"]
        return {
            one["partition"]: {
                "leader": one["leader"],
                "replicas": [replica["id"] for replica in one["replicas"]],
                "isr": [replica["id"] for replica in one["isrs"]],
            }
            for one in described["partitions"]
        }

    def topics(self, bootstrap: str) -> set[str]:
        return {one["topic"] for one in json.loads(self._run(bootstrap, "-L", "-J"))["topics"]}

    def describe_cluster(self, bootstrap: str) -> dict[str, Any]:
        listed = json.loads(self._run(bootstrap, "-L", "-J"))
        return {"controller": listed["controllerid"], "nodes": {one["id"]: one["name"] for one in listed["brokers"]}}


def _data(text: str | None) -> bytes | None:
    return None if text is None else text.encode()
