"""The inner side of a member program in Python: its orders, its lines of JSON, what it owns and how far it has read.

The agreement between tests and members is in `member.py`. This part is common to the programs in Python; what a group
is, and when records come, is the client's own. Commands arrive in a thread, because reading stdin waits; a program asks
`command()` between two polls. What the clients tell may come from any thread.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
from collections.abc import Iterable
from typing import NamedTuple


class Orders(NamedTuple):
    """What a member is told at its start; the keys of its JSON argument."""

    bootstrap: str
    group: str
    topic: str
    assignor: str
    client_id: str
    session_timeout_ms: int = 6000
    instance_id: str | None = None
    auto_commit: bool = False

    @property
    def heartbeat_interval_ms(self) -> int:
        """A rebalance is noticed with a heartbeat: often enough for a quick test."""
        return max(self.session_timeout_ms // 10, 50)


# How long a poll may wait, and so how late a command may be heard.
POLL_TIMEOUT_MS = 50
MAX_RECORDS = 500
AUTO_COMMIT_INTERVAL_MS = 200


class Program:
    """The state all member programs share; `positions` holds what a commit means."""

    def __init__(self) -> None:
        self.orders = Orders(**json.loads(sys.argv[1]))
        self.owned: set[int] = set()
        self.positions: dict[int, int] = {}
        self._lock = threading.Lock()
        self._commands: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in sys.stdin:
            self._commands.put(line.strip())
        self._commands.put("leave")

    def command(self) -> str | None:
        """The next command, if there is one; the end of stdin means `leave`."""
        try:
            return self._commands.get_nowait()
        except queue.Empty:
            return None

    def next_command(self) -> str:
        """Waits for the next command."""
        return self._commands.get()

    def _say(self, event: str, **more: object) -> None:
        line = json.dumps({"event": event, **more}) + "\n"
        with self._lock:
            sys.stdout.write(line)
            sys.stdout.flush()

    def assigned(self, partitions: Iterable[int]) -> None:
        """After a rebalance: all partitions owned now."""
        self.owned = set(partitions)
        # Where a partition comes back, it is read from the committed offset: the old position is void.
        self.positions = {partition: at for partition, at in self.positions.items() if partition in self.owned}
        self._say("assigned", partitions=sorted(self.owned))

    def revoked(self, partitions: Iterable[int]) -> None:
        gone = set(partitions)
        self.owned -= gone
        for partition in gone:
            self.positions.pop(partition, None)
        self._say("revoked", partitions=sorted(gone))

    def records(self, records: Iterable[tuple[int, int, bytes | None]]) -> None:
        """Partition, offset and value of each record read."""
        read = [(partition, offset, (value or b"").decode()) for partition, offset, value in records]
        if read:
            self._say("records", records=read)
            # A client may hand out what it had fetched of a partition just taken from it: no longer for it to commit.
            self.positions.update({partition: offset + 1 for partition, offset, _ in read if partition in self.owned})

    def committed(self, offsets: dict[int, int]) -> None:
        self._say("committed", offsets=offsets)

    def left(self) -> None:
        self._say("left")

    def error(self, message: str) -> None:
        self._say("error", message=message)
