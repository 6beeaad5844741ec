"""What partitions count: plain ints that appends and fetches add to and nobody else changes; `insight` reads them.

By topic, never by partition: what is counted costs memory and lines for each. Records that are read are not counted:
a fetch hands out buffers and never looks how many records are in them.
"""

from __future__ import annotations

from odradek.engines.interface import LogIdentity


class Traffic:
    """What went into a topic and out of it."""

    __slots__ = ("appended_batches", "appended_bytes", "appended_records", "fetched_bytes")

    def __init__(self) -> None:
        self.appended_records = 0
        self.appended_batches = 0
        self.appended_bytes = 0
        self.fetched_bytes = 0

    def add(self, other: Traffic) -> None:
        self.appended_records += other.appended_records
        self.appended_batches += other.appended_batches
        self.appended_bytes += other.appended_bytes
        self.fetched_bytes += other.fetched_bytes


class PartitionsCounters:
    """Of all partitions together."""

    __slots__ = (
        "batches_mended",
        "batches_passed_over",
        "blocked",
        "deleted_traffic",
        "guard_refusals",
        "guarded_bytes",
        "log_failures",
        "log_reopenings",
        "offline",
        "parked_fetches",
        "retention_bytes",
    )

    def __init__(self) -> None:
        self.log_failures = 0
        """Openings of logs that a failure ended, or that failed."""
        self.log_reopenings = 0
        """Logs that came back after one."""
        self.batches_mended = 0
        """Damaged batches of which state was made all the same: what is wrong in them is known."""
        self.batches_passed_over = 0
        """Places in logs of which no state could be made, for damage."""
        self.offline: dict[LogIdentity, float] = {}
        """The partitions whose log is to be opened again, with the monotonic time in seconds since when."""
        self.parked_fetches = 0
        """Fetches that wait for data now."""
        self.guarded_bytes: dict[LogIdentity, int] = {}
        """What retention would have deleted, had it not to wait for groups."""
        self.blocked: set[LogIdentity] = set()
        """Those that refuse appends until such groups have caught up."""
        self.guard_refusals = 0
        """Batches that such partitions did not take."""
        self.retention_bytes = 0
        """Bytes that retention deleted."""
        self.deleted_traffic = Traffic()
        """Of topics that are no more: totals never go down."""
