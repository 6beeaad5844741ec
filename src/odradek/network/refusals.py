"""Log lines about refused peers, at a bounded rate, so that a flood of garbage does not flood the log.

At most `odradek.log.refusals.per.second` lines are logged per second; the next line says how many were left out. This
module also guesses the protocol of a peer that sent no Kafka request, which is nearly always due to a wrong port.
"""

from __future__ import annotations

from collections.abc import Callable

from odradek.logs import get_logger

log = get_logger("odradek.network")

_HTTP = (b"GET ", b"POST", b"PUT ", b"HEAD", b"OPTI", b"DELE", b"PATC", b"CONN", b"TRAC", b"PRI ")


class Refusals:
    """The refusal lines of one broker. `now` returns monotonic seconds."""

    def __init__(self, per_second: int, now: Callable[[], float]) -> None:
        self.per_second = per_second
        self.now = now
        self._second = 0
        self._logged = 0
        self._left_out = 0

    def say(self, event: str, peer: str, why: str) -> None:
        """Logs a line, unless this second's limit is reached."""
        second = int(self.now())
        if second != self._second:
            self._second, self._logged = second, 0
        if self._logged >= self.per_second:
            self._left_out += 1
            return
        self._logged += 1
        left_out, self._left_out = self._left_out, 0
        if left_out:
            log.warning(event, peer=peer, why=why, lines_left_out_before=left_out)
        else:
            log.warning(event, peer=peer, why=why)


def guess(first: bytes) -> str:
    """A guess of the peer's protocol from its first four bytes, which are no valid request length; "" if unknown."""
    if first in _HTTP:
        return "; this looks like HTTP"
    if first[:2] == b"\x16\x03":
        return "; this looks like TLS, and this listener is plain text"
    return ""
