"""A client in another language: one process a session, told by lines of JSON, and one for each member of a group.

The lines are `tests/java/Clients.java`'s: {"op": ..., "bootstrap": ..., ...} in, {"result": ...} or {"error": name,
"message": text} out, {"progress": count} before it where asked; bytes travel as base64.
"""

from __future__ import annotations

import base64
import json
import select
import subprocess
import threading
from collections.abc import Sequence
from typing import Any

from tests.clients.driver import (
    DELIVERY_TIMEOUT_S,
    Acknowledged,
    ClientError,
    DescribedGroup,
    Driver,
    Member,
    Progress,
    Record,
    Stored,
)

# The other side gives up sooner; this is for a process that hangs, or has yet to start.
ANSWER_TIMEOUT_S = DELIVERY_TIMEOUT_S + 60.0


def _text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


class ProcessDriver(Driver):
    """The operations, passed on to a process; what it is started by, its subclass knows."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""
        self._one_at_a_time = threading.Lock()

    def command(self) -> list[str]:
        """Starts the process that is told what to do."""
        raise NotImplementedError

    def environment(self) -> dict[str, str] | None:
        """What the processes find in their environment; None: the test's own."""
        return None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                env=self.environment(),
            )
        return self._process

    def close(self) -> None:
        if self._process is not None:
            assert self._process.stdin is not None and self._process.stdout is not None
            self._process.stdin.close()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process.stdout.close()
            self._process = None

    def _line(self, process: subprocess.Popen[bytes]) -> bytes:
        assert process.stdout is not None
        # Not `select`, which knows no descriptor above 1023.
        ready = select.poll()
        ready.register(process.stdout, select.POLLIN)
        while b"\n" not in self._unread:
            assert ready.poll(ANSWER_TIMEOUT_S * 1000), f"{self.name}'s process does not answer"
            piece = process.stdout.read(1 << 20)
            assert piece, f"{self.name}'s process ended: {process.wait()}"
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _ask(self, operation: str, bootstrap: str, *, progress: Progress | None = None, **more: Any) -> Any:
        asked = {"op": operation, "bootstrap": bootstrap, "watched": progress is not None, **more}
        with self._one_at_a_time:
            process = self._started()
            assert process.stdin is not None
            data = memoryview(json.dumps(asked).encode() + b"\n")
            while data:
                data = data[process.stdin.write(data) :]
            while True:
                answer = json.loads(self._line(process))
                if "progress" in answer:
                    assert progress is not None
                    progress(answer["progress"])
                elif "error" in answer:
                    raise ClientError(answer["error"], answer["message"])
                else:
                    return answer["result"]

    # --- records -------------------------------------------------------------------------------------------------

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
        told = self._ask(
            "produce",
            bootstrap,
            progress=progress,
            topic=topic,
            partition=partition,
            codec=codec,
            idempotent=idempotent,
            records=[
                {
                    "key": _text(record.key),
                    "value": _text(record.value),
                    "headers": [[name, _text(value)] for name, value in record.headers],
                    "timestamp": record.timestamp_ms,
                }
                for record in records
            ],
        )
        return [Acknowledged(*one) for one in told]

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
        found = self._ask(
            "read", bootstrap, progress=progress, topic=topic, partition=partition, start=start, count=count
        )
        return [
            Stored(
                one["offset"],
                Record(
                    _bytes(one["key"]),
                    _bytes(one["value"]),
                    tuple((name, _bytes(value)) for name, value in one["headers"]),
                    one["timestamp"],
                ),
            )
            for one in found
        ]

    def watermarks(self, bootstrap: str, topic: str, partition: int = 0) -> tuple[int, int]:
        low, high = self._ask("watermarks", bootstrap, topic=topic, partition=partition)
        return low, high

    def offset_for_time(self, bootstrap: str, topic: str, timestamp_ms: int, partition: int = 0) -> int | None:
        found = self._ask("offset_for_time", bootstrap, topic=topic, partition=partition, timestamp=timestamp_ms)
        return None if found is None else int(found)

    def transact(self, bootstrap: str, transactional_id: str, topic: str, rounds: int) -> None:
        self._ask("transact", bootstrap, transactional_id=transactional_id, topic=topic, total=rounds)

    # --- administration ------------------------------------------------------------------------------------------

    def create_topic(self, bootstrap: str, topic: str, partitions: int, configs: dict[str, str] | None = None) -> None:
        self._ask("create_topic", bootstrap, topic=topic, partitions=partitions, configs=configs or {})

    def delete_topic(self, bootstrap: str, topic: str) -> None:
        self._ask("delete_topic", bootstrap, topic=topic)

    def topics(self, bootstrap: str) -> set[str]:
        return set(self._ask("topics", bootstrap))

    def describe_topic(self, bootstrap: str, topic: str) -> dict[int, dict[str, Any]]:
        return {int(index): one for index, one in self._ask("describe_topic", bootstrap, topic=topic).items()}

    def create_partitions(self, bootstrap: str, topic: str, total: int) -> None:
        self._ask("create_partitions", bootstrap, topic=topic, total=total)

    def describe_configs(self, bootstrap: str, topic: str) -> dict[str, str | None]:
        return dict(self._ask("describe_configs", bootstrap, topic=topic))

    def alter_config(self, bootstrap: str, topic: str, name: str, value: str) -> None:
        self._ask("alter_config", bootstrap, topic=topic, name=name, value=value)

    def describe_cluster(self, bootstrap: str) -> dict[str, Any]:
        described = dict(self._ask("describe_cluster", bootstrap))
        return {**described, "nodes": {int(number): at for number, at in described["nodes"].items()}}

    def delete_records(self, bootstrap: str, topic: str, before: int, partition: int = 0) -> int:
        return int(self._ask("delete_records", bootstrap, topic=topic, before=before, partition=partition))

    def log_dir_sizes(self, bootstrap: str, topic: str) -> dict[int, int]:
        return {int(index): size for index, size in self._ask("log_dir_sizes", bootstrap, topic=topic).items()}

    def list_offset(self, bootstrap: str, topic: str, spec: str, partition: int = 0) -> tuple[int, int]:
        offset, timestamp = self._ask("list_offset", bootstrap, topic=topic, spec=spec, partition=partition)
        return offset, timestamp

    def describe_producers(self, bootstrap: str, topic: str, partition: int = 0) -> list[dict[str, int]]:
        return list(self._ask("describe_producers", bootstrap, topic=topic, partition=partition))

    # --- groups ----------------------------------------------------------------------------------------------------

    def list_groups(self, bootstrap: str) -> set[str]:
        return set(self._ask("list_groups", bootstrap))

    def describe_group(self, bootstrap: str, group: str) -> DescribedGroup:
        told = self._ask("describe_group", bootstrap, group=group)
        members = tuple(
            Member(one["client_id"], one["instance_id"], frozenset((topic, at) for topic, at in one["partitions"]))
            for one in told["members"]
        )
        return DescribedGroup(told["state"], told["assignor"], members)

    def group_offsets(self, bootstrap: str, group: str, topic: str) -> dict[int, int]:
        told = self._ask("group_offsets", bootstrap, group=group, topic=topic)
        return {int(partition): at for partition, at in told.items()}

    def alter_group_offsets(self, bootstrap: str, group: str, topic: str, offsets: dict[int, int]) -> None:
        self._ask("alter_group_offsets", bootstrap, group=group, topic=topic, offsets=offsets)

    def delete_group_offsets(self, bootstrap: str, group: str, topic: str, partitions: list[int]) -> None:
        self._ask("delete_group_offsets", bootstrap, group=group, topic=topic, partitions=partitions)

    def delete_group(self, bootstrap: str, group: str) -> None:
        self._ask("delete_group", bootstrap, group=group)
