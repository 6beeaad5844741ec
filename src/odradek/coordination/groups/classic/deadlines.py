"""The deadlines of classic groups: members' sessions, and how long a rebalance may take in each of its steps.

Role: name them for the shard's timers. What follows when one has come is `membership.py`'s and `rebalance.py`'s.
Sans-IO.
"""

from __future__ import annotations

from odradek.clock import Clock
from odradek.coordination.groups.classic.member import Member
from odradek.coordination.timers import Timers

SESSION = "session"
"""Until a member, or somebody who was given a member id, is heard of."""
JOIN = "join"
"""Until all members have joined again."""
INITIAL = "initial"
"""Until the first rebalance of a group begins (KIP-134)."""
SYNC = "sync"
"""Until all who have joined have synced, too."""


class Deadlines:
    """Those of one shard's classic groups."""

    def __init__(self, timers: Timers, clock: Clock) -> None:
        self._timers = timers
        self._clock = clock

    def begin(self, kind: str, group_id: str, delay_ms: int) -> None:
        """One of the group's own."""
        self._timers.set((kind, group_id), self._clock.monotonic() + delay_ms / 1000)

    def end(self, kind: str, group_id: str) -> None:
        self._timers.cancel((kind, group_id))

    def is_set(self, kind: str, group_id: str) -> bool:
        return self._timers.deadline((kind, group_id)) is not None

    def keep_session(self, group_id: str, member: Member) -> None:
        """The member was heard of."""
        deadline_s = self._clock.monotonic() + member.session_timeout_ms / 1000
        self._timers.set((SESSION, group_id, member.member_id), deadline_s)

    def begin_session(self, group_id: str, member_id: str, delay_ms: int) -> None:
        """Somebody is expected to be heard of within this time, whatever the session's own is."""
        self._timers.set((SESSION, group_id, member_id), self._clock.monotonic() + delay_ms / 1000)

    def end_session(self, group_id: str, member_id: str) -> None:
        self._timers.cancel((SESSION, group_id, member_id))
