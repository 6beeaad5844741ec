"""The bound on received and unanswered requests over all connections (`queued.max.request.bytes`).

Every byte of a request counts from its arrival until its response is handed over. From half of the bound on memory is
short. Then a connection that holds its share is not read until there is room; one that holds less goes on, so that
nobody who sends small requests waits for those who send large ones, or half of one. An address has as much as every
other address, a connection as much as every other of its address: together the shares are the bound's other half.

One connection may go on with more, the first that was stopped with nothing but an unfinished request: else requests
that are all half here could wait for each other for ever. It has until `odradek.request.receive.timeout.ms`.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Protocol

# A connection may always hold this much, however many there are.
SHARE_MIN_BYTES = 8192


class Reader(Protocol):
    """A connection, as far as its reading can be stopped."""

    def resume(self) -> None: ...


class RequestMemory:
    """Counts the bytes. `hosts` has the connections of each address; others keep it."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes if limit_bytes >= 0 else 1 << 62
        self.short_bytes = self.limit_bytes // 2
        """From here on memory is short."""
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
        """What one connection from there may hold while memory is short."""
        addresses, connections = max(1, len(self.hosts)), max(1, self.hosts[host])
        return max(SHARE_MIN_BYTES, self.short_bytes // addresses // connections)

    def must_stop(self, reader: Reader, host: str, held_bytes: int, stuck: bool) -> bool:
        """Whether a connection from there that holds so much must stop reading now, when memory is short; it is then
        resumed when there is room. `stuck`: all that it holds is an unfinished request."""
        if held_bytes < self.share_bytes(host):
            return False
        if stuck and self._exempt in (None, reader):
            self._exempt = reader
            return False
        self._stopped[reader] = None
        return True

    def request_complete(self, reader: Reader) -> None:
        """The connection's request is all here, or the connection is gone: another may be exempt."""
        if self._exempt is reader:
            self._exempt = None
            for other in list(self._stopped):
                # One that must still stop puts itself back, at the end.
                del self._stopped[other]
                other.resume()
                if self._exempt is not None:
                    break

    def forget(self, reader: Reader) -> None:
        self._stopped.pop(reader, None)
        self.request_complete(reader)
