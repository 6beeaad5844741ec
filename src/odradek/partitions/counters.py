"""The counters of appends, fetches, failures and deletions: plain ints, which `insight` reads.

Traffic is counted by topic, not by partition: each counter costs memory and a line in the metrics. Fetched records are
not counted: a fetch returns buffers and does not read how many records they hold.
"""

from __future__ import annotations

from odradek.engines.interface import LogIdentity


class Traffic:
    """What was appended to a topic and fetched from it."""

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
    """The counters of all partitions together."""

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
        """How often an open log failed, or a log could not be opened when its partition was added."""
        self.log_reopenings = 0
        """How often a log was opened again after a failure."""
        self.batches_mended = 0
        """Damaged batches that a replay could use all the same, because it knew what was damaged."""
        self.batches_passed_over = 0
        """Damaged places in logs that a replay had to skip."""
        self.offline: dict[LogIdentity, float] = {}
        """The partitions whose log is offline, each with the monotonic time in seconds at which it failed."""
        self.parked_fetches = 0
        """Number of fetches that wait for data now."""
        self.guarded_bytes: dict[LogIdentity, int] = {}
        """Bytes by partition that retention would have deleted without the retention guard."""
        self.blocked: set[LogIdentity] = set()
        """The partitions that refuse appends because their guard is at its limits."""
        self.guard_refusals = 0
        """Batches that these partitions have refused."""
        self.retention_bytes = 0
        """Bytes that retention deleted."""
        self.deleted_traffic = Traffic()
        """The traffic of deleted topics, so that totals never go down."""
