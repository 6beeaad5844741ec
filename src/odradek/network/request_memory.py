"""The bound on received and unanswered requests over all connections (`queued.max.request.bytes`).

Every byte of a request counts from its arrival until its response is handed to the connection. Memory is short when
half of the bound is used. From then on a connection that holds its share or more is not read until there is room, while
one that holds less goes on: clients with small requests do not wait for clients with large or unfinished ones. The
shares divide the other half of the bound equally among the client addresses, then among each address's connections.

One connection is exempt and may exceed its share: the first one stopped that holds nothing but an unfinished request.
Without it, several half-received requests could wait for each other for ever. It has to complete within
`odradek.request.receive.timeout.ms`.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Protocol

# A connection's share is at least this much, however many connections there are.
SHARE_MIN_BYTES = 8192


class Reader(Protocol):
    """A connection whose reading can be stopped and resumed."""

    def resume(self) -> None: ...


class RequestMemory:
    """Counts the bytes. `hosts` has the number of connections of each address; `Listeners` maintains it."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes if limit_bytes >= 0 else 1 << 62
        self.short_bytes = self.limit_bytes // 2
        """Memory is short when `used_bytes` reaches this."""
        self.used_bytes = 0
        self.hosts: Counter[str] = Counter()
        self._stopped: OrderedDict[Reader, None] = OrderedDict()
        self._exempt: Reader | None = None

    def take(self, count: int) -> None:
        self.used_bytes += count

    def give_back(self, count: int) -> None:
        self.used_bytes -= count
        assert self.used_bytes >= 0
        if self._stopped and self.used_bytes < self.short_bytes:
            stopped, self._stopped = self._stopped, OrderedDict()
            for reader in stopped:
                reader.resume()

    def share_bytes(self, host: str) -> int:
        """How many bytes one connection from `host` may hold while memory is short."""
        addresses, connections = max(1, len(self.hosts)), max(1, self.hosts[host])
        return max(SHARE_MIN_BYTES, self.short_bytes // addresses // connections)

    def must_stop(self, reader: Reader, host: str, held_bytes: int, stuck: bool) -> bool:
        """Whether a connection from `host` that holds `held_bytes` must stop reading while memory is short. If so, its
        `resume` is called when there is room. `stuck` says that it holds nothing but an unfinished request."""
        if held_bytes < self.share_bytes(host):
            return False
        if stuck and self._exempt in (None, reader):
            self._exempt = reader
            return False
        self._stopped[reader] = None
        return True

    def request_complete(self, reader: Reader) -> None:
        """Ends the exemption of a connection whose request is complete or which is gone, and offers it to the others
        that were stopped."""
        if self._exempt is reader:
            self._exempt = None
            for other in list(self._stopped):
                # A connection that must still stop adds itself again, at the end.
                del self._stopped[other]
                other.resume()
                if self._exempt is not None:
                    break

    def forget(self, reader: Reader) -> None:
        self._stopped.pop(reader, None)
        self.request_complete(reader)
