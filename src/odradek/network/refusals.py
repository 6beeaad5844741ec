"""Log lines about peers that were refused, bounded: a flood of garbage must not become a flood of log.

At most `odradek.log.refusals.per.second` lines a second; what was left out is counted, and said with the next line.
Also guesses what a peer was that sent no Kafka request, since that is nearly always a mistaken port.
"""

from __future__ import annotations

from collections.abc import Callable

from odradek.logs import get_logger

log = get_logger("odradek.network")

_HTTP = (b"GET ", b"POST", b"PUT ", b"HEAD", b"OPTI", b"DELE", b"PATC", b"CONN", b"TRAC", b"PRI ")


class Refusals:
    """The lines of one broker. `now` gives monotonic seconds."""

    def __init__(self, per_second: int, now: Callable[[], float]) -> None:
        self.per_second = per_second
        self.now = now
        self._second = 0
        self._logged = 0
        self._left_out = 0

    def say(self, event: str, peer: str, why: str) -> None:
        """Logs a line, unless there were too many in this second."""
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
    """What a peer seems to speak whose first four bytes are no request's length; "" where there is no telling."""
    if first in _HTTP:
        return "; this looks like HTTP"
    if first[:2] == b"\x16\x03":
        return "; this looks like TLS, and this listener is plain text"
    return ""
