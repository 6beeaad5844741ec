"""Moves the log start offset of a partition: by retention, as far as the guard allows, and by DeleteRecords.

Role: apply the policy (`retention`) and the guard (`guard`) to one partition, and keep the reason why appends are
refused while a guard is at its limits. The producer state is saved before records are deleted
(`Opening.keeping_producers`).

Invariants: nothing above the high watermark is deleted; the log of a deleted or closed partition is not touched.
"""

from __future__ import annotations

from odradek.engines.interface import LogFailure, LogIdentity
from odradek.errors import ErrorCode, KafkaError
from odradek.logs import get_logger
from odradek.partitions import retention
from odradek.partitions.counters import PartitionsCounters
from odradek.partitions.guard import NOT_HELD, Guard, Held, hold
from odradek.partitions.opening import Opening

log = get_logger("odradek.partition")


class LogStart:
    """The log start offset of one partition, through all openings of its log."""

    __slots__ = ("_counters", "_identity", "_is_deleted", "refusal")

    def __init__(self, identity: LogIdentity, counters: PartitionsCounters) -> None:
        self._identity = identity
        self._counters = counters
        self._is_deleted = False
        self.refusal = ""
        """Why the retention guard refuses appends; empty while it does not."""

    async def retain(self, opening: Opening, now_ms: int, guard: Guard | None) -> int:
        """Deletes the segments that retention does not keep and the guard does not hold; returns their bytes."""
        upto = await self.look_at_guard(opening, now_ms, guard)
        if upto is None or opening.is_over:
            return 0
        expendable = await retention.expendable(opening.log, now_ms, upto)
        if not expendable:
            return 0
        upto = expendable[-1].end_offset
        async with opening.keeping_producers(upto):
            return await retention.delete(opening.log, upto)

    async def look_at_guard(self, opening: Opening, now_ms: int, guard: Guard | None) -> int | None:
        """Applies the guard: from now on appends are refused if it blocks and is at its limits, and else accepted.
        Returns the offset up to which retention may delete; None where the topic's cleanup policy does not delete."""
        opened = opening.log
        if "delete" not in opened.config.cleanup_policy:
            self.hold(NOT_HELD)
            return None
        held = Held(opened.durable_end, 0, "")
        if guard is not None:
            held = hold(guard, await retention.expendable(opened, now_ms, held.upto), held.upto)
        if not self._is_deleted:
            self.hold(held)
        return held.upto

    def hold(self, held: Held) -> None:
        """Applies the effect of a guard: updates the counters, and refuses or accepts appends."""
        identity, counters = self._identity, self._counters
        if held.size_bytes:
            counters.guarded_bytes[identity] = held.size_bytes
        else:
            counters.guarded_bytes.pop(identity, None)
        if held.refusal:
            counters.blocked.add(identity)
        else:
            counters.blocked.discard(identity)
        if held.refusal and not self.refusal:
            log.warning("appends are refused", partition=str(identity), why=held.refusal)
        elif self.refusal and not held.refusal:
            log.info("appends are taken again", partition=str(identity))
        self.refusal = held.refusal

    async def delete_records(self, opening: Opening, offset: int) -> int:
        """Moves the log start offset to `offset` (-1: the high watermark); returns the new one. Raises `KafkaError`."""
        opened = opening.log
        cleanup_policy = opened.config.cleanup_policy
        if "compact" in cleanup_policy and "delete" not in cleanup_policy:
            raise KafkaError(ErrorCode.POLICY_VIOLATION, "a topic that is only compacted keeps its records")
        high_watermark = opened.durable_end
        if offset == -1:
            offset = high_watermark
        if offset < 0 or offset > high_watermark:
            raise KafkaError(
                ErrorCode.OFFSET_OUT_OF_RANGE, f"offset {offset} is above the high watermark {high_watermark}"
            )
        try:
            async with opening.keeping_producers(offset):
                await opened.truncate_before(offset)
        except (LogFailure, OSError) as failure:
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, str(failure)) from failure
        return opened.start_offset

    def end(self) -> None:
        """Called when the partition is deleted: lifts the guard."""
        self._is_deleted = True
        self.hold(NOT_HELD)
