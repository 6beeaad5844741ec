"""A member of a group as the tests see it: a program of its own, whatever its client.

Every client has a *member program*, which joins one consumer group with the client's own group consumer and speaks
lines of JSON, so that tests treat all clients alike and may kill one with SIGKILL. It starts as `COMMAND '<json>'` with

    {"bootstrap": "...", "group": "...", "topic": "...", "assignor": "range|roundrobin|sticky|cooperative-sticky",
     "client_id": "...", "session_timeout_ms": 6000, "instance_id": null|"...", "auto_commit": false}

and begins at the earliest offset where none is committed. It prints one object a line, flushed at once:

    {"event": "assigned", "partitions": [...]}    after every rebalance: all partitions it owns now, sorted
    {"event": "revoked", "partitions": [...]}     optional
    {"event": "records", "records": [[partition, offset, "value as text"], ...]}
    {"event": "committed", "offsets": {"0": 12}}  after `commit`: a synchronous commit of what has been read
    {"event": "left"}                             after `leave`, just before it ends with exit code 0
    {"event": "error", "message": "..."}          what the client reports; fatal ones end the program with exit code 1

and takes commands from stdin, a word a line: `commit`, and `leave` (leaves the group cleanly; commits only with
`auto_commit`). The end of stdin means `leave`. It keeps polling all the time.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent.parent
WAIT_S = 45.0
END_TIMEOUT_S = 15.0


class Read(NamedTuple):
    """One record as a member read it."""

    partition: int
    offset: int
    value: str


class GroupMember:
    """One running member. All members of a group share `changed`: a test can wait for several of them at once."""

    def __init__(self, command: Sequence[str], orders: dict[str, Any], changed: threading.Condition) -> None:
        self.name: str = orders["client_id"]
        self.owned: set[int] = set()
        self.rebalances = 0
        """How often something was assigned or revoked."""
        self.received: list[Read] = []
        self.errors: list[str] = []
        self.commits: list[dict[int, int]] = []
        self.exit_code: int | None = None
        self._left = False
        self._changed = changed
        self._stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            [*command, json.dumps(orders)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            cwd=ROOT,
            # A program may be a wrapper around its client: a kill must reach both.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    @classmethod
    def start(
        cls, command: Sequence[str], orders: dict[str, Any], changed: threading.Condition | None = None
    ) -> GroupMember:
        return cls(command, orders, changed or threading.Condition())

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            with self._changed:
                match told["event"]:
                    case "assigned":
                        self.owned = set(told["partitions"])
                        self.rebalances += 1
                    case "revoked":
                        self.owned = self.owned - set(told["partitions"])
                        self.rebalances += 1
                    case "records":
                        self.received += [Read(*one) for one in told["records"]]
                    case "committed":
                        self.commits.append({int(partition): at for partition, at in told["offsets"].items()})
                    case "left":
                        self._left = True
                    case "error":
                        self.errors.append(told["message"])
                    case other:
                        raise AssertionError(f"{self.name} says {other}")
                self._changed.notify_all()
        code = self._process.wait()
        with self._changed:
            self.exit_code = code
            self.owned = set()
            self._changed.notify_all()

    def __str__(self) -> str:
        self._stderr.seek(0)
        lines = self._stderr.read().splitlines()[-20:]
        told = [f"owns {sorted(self.owned)}", f"{len(self.received)} records", f"exit code {self.exit_code}"]
        return "\n  ".join([f"{self.name}: {', '.join(told)}", *self.errors[-10:], *lines])

    # --- waiting ---------------------------------------------------------------------------------------------------

    def wait(self, what: str, condition: Callable[[], bool], timeout_s: float = WAIT_S) -> None:
        """Waits until it is so; fails at once when the program has ended meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: condition() or self.exit_code is not None, timeout_s)
            assert condition(), f"not {what}: {self}"

    def wait_assigned(self, wanted: int | Callable[[set[int]], bool], timeout_s: float = WAIT_S) -> set[int]:
        """Waits until it owns so many partitions, or such."""
        if isinstance(wanted, int):
            self.wait(f"{wanted} partitions", lambda: len(self.owned) == wanted, timeout_s)
        else:
            self.wait("assigned", lambda: wanted(self.owned), timeout_s)
        return self.owned

    def wait_received(self, count: int, timeout_s: float = WAIT_S) -> None:
        self.wait(f"{count} records", lambda: len(self.received) >= count, timeout_s)

    # --- commands --------------------------------------------------------------------------------------------------

    def tell(self, command: str) -> None:
        """Says a command, and waits for nothing."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def commit(self, timeout_s: float = WAIT_S) -> dict[int, int]:
        """Commits what it has read; the offsets."""
        before = len(self.commits)
        self.tell("commit")
        self.wait("committed", lambda: len(self.commits) > before, timeout_s)
        return self.commits[-1]

    def leave(self) -> None:
        """Leaves the group cleanly; returns when the program has ended."""
        self.tell("leave")
        with self._changed:
            self._changed.wait_for(lambda: self.exit_code is not None, WAIT_S)
            assert self.exit_code == 0 and self._left, f"has not left: {self}"

    def kill(self) -> None:
        """Ends the program as a crash would."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(END_TIMEOUT_S)

    def close(self) -> None:
        """Ends it by whatever means; for the end of a test."""
        assert self._process.stdin is not None and self._process.stdout is not None
        if self._process.poll() is None:
            self.kill()
        self._reader.join(END_TIMEOUT_S)
        self._process.stdin.close()
        self._process.stdout.close()
        self._stderr.close()
