"""The bound on received and unanswered requests over all connections (`queued.max.request.bytes`).

Every byte of a request counts from its arrival until its response is handed over. Above the bound connections stop
reading; they go on when there is room. One connection may go on nevertheless, the first that was stopped with nothing
but an unfinished request: else requests that are all half here could wait for each other for ever.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol


class Reader(Protocol):
    """A connection, as far as its reading can be stopped."""

    def resume(self) -> None: ...


class RequestMemory:
    """Counts the bytes."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes if limit_bytes >= 0 else 1 << 62
        self.used_bytes = 0
        self._stopped: OrderedDict[Reader, None] = OrderedDict()
        self._exempt: Reader | None = None

    def take(self, count: int) -> None:
        self.used_bytes += count

    def give_back(self, count: int) -> None:
        self.used_bytes -= count
        assert self.used_bytes >= 0
        if self._stopped and self.used_bytes < self.limit_bytes:
            stopped, self._stopped = self._stopped, OrderedDict()
            for reader in stopped:
                reader.resume()

    def must_stop(self, reader: Reader, stuck: bool) -> bool:
        """Whether a connection must stop reading now; it is then resumed when there is room. `stuck`: all that it holds
        is an unfinished request."""
        if self.used_bytes < self.limit_bytes:
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
