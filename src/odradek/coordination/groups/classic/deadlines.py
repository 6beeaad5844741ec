"""The deadlines of classic groups: members' sessions, and the longest duration of each step of a rebalance.

Role: set and cancel them in the shard's timers. `membership.py` and `rebalance.py` act when a deadline has come.
Sans-IO.
"""

from __future__ import annotations

from odradek.clock import Clock
from odradek.coordination.groups.classic.member import Member
from odradek.coordination.timers import Timers

SESSION = "session"
"""By this time a member, or a client that was given a member id, must send its next request."""
JOIN = "join"
"""By this time all members must have joined again."""
INITIAL = "initial"
"""The end of the delay of a group's first rebalance (KIP-134)."""
SYNC = "sync"
"""By this time all joined members must have sent SyncGroup."""


class Deadlines:
    """The deadlines of one shard's classic groups."""

    def __init__(self, timers: Timers, clock: Clock) -> None:
        self._timers = timers
        self._clock = clock

    def begin(self, kind: str, group_id: str, delay_ms: int) -> None:
        """Sets a deadline of the group (JOIN, INITIAL or SYNC)."""
        self._timers.set((kind, group_id), self._clock.monotonic() + delay_ms / 1000)

    def end(self, kind: str, group_id: str) -> None:
        self._timers.cancel((kind, group_id))

    def is_set(self, kind: str, group_id: str) -> bool:
        return self._timers.deadline((kind, group_id)) is not None

    def keep_session(self, group_id: str, member: Member) -> None:
        """Renews a member's session."""
        deadline_s = self._clock.monotonic() + member.session_timeout_ms / 1000
        self._timers.set((SESSION, group_id, member.member_id), deadline_s)

    def begin_session(self, group_id: str, member_id: str, delay_ms: int) -> None:
        """Sets a session deadline for a member id with another timeout than the member's session timeout."""
        self._timers.set((SESSION, group_id, member_id), self._clock.monotonic() + delay_ms / 1000)

    def end_session(self, group_id: str, member_id: str) -> None:
        self._timers.cancel((SESSION, group_id, member_id))
