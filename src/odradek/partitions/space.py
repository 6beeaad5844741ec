"""Room on the storage: when the broker stops taking data, and when it takes it again.

Role: from what the engine says of its file system now and then, and from what was appended since, decide whether a
client's batch may be written; say so in the log, bounded. A file system that is really full cannot even forget: so
writing for clients stops while there is a reserve (`odradek.disk.readonly.free.bytes`), and begins again by itself
when there is more (`odradek.disk.resume.free.bytes`). Reads, deletions, groups' commits and changes of the metadata
use the reserve, and go on until nothing is left.

Invariants:
- Between two looks no more is taken than the last one left above the reserve, whoever else writes there.
- What is used up before the next look is not taken for a full disk: a look is asked for, and batches are refused until
  it has been made.
- Every `LINE_EVERY_S` at most one line that it begins (and one that it is over), and one about batches that met a full
  disk; those left out are counted, and a state that was not said is said later.

Sans-IO: who looks, and when, is `Partitions`' business.
"""

from __future__ import annotations

from collections.abc import Callable

from odradek.config.bounds import LONG_MAX
from odradek.config.layers import BrokerConfig
from odradek.engines.interface import LogIdentity, StorageFull
from odradek.errors import ErrorCode, KafkaError
from odradek.logs import get_logger

log = get_logger("odradek.storage")

LINE_EVERY_S = 10.0
RESERVE_BYTES = 67_108_864
# On a small file system the reserve is this part of it.
RESERVE_PART = 20


class StorageSpace:
    """The room of one broker. Without settings it never ends."""

    __slots__ = (
        "_asked",
        "_config",
        "_full_lines_left_out",
        "_full_said_at",
        "_left_before",
        "_look",
        "_now",
        "_said",
        "_said_at",
        "_wanted_bytes",
        "left_bytes",
        "met_full",
        "read_only",
        "refused_batches",
        "reserve_bytes",
        "resume_bytes",
        "usable_bytes",
    )

    def __init__(self, config: BrokerConfig | None = None, now: Callable[[], float] = float) -> None:
        """`now` gives monotonic seconds."""
        self._config = config
        self._now = now
        self._look: Callable[[], None] = lambda: None
        self.left_bytes = LONG_MAX
        """What clients may still append. Whoever appends takes off what it was."""
        self.read_only = False
        self.met_full = False
        """Whether a write has met a full disk since the last look."""
        self.refused_batches = 0
        """Of clients, for want of room, since the start."""
        self.usable_bytes = -1
        """Of the file system at the last look; -1 while unknown."""
        self.reserve_bytes = 0
        self.resume_bytes = 0
        self._asked = False
        self._left_before = LONG_MAX
        self._wanted_bytes = 0
        self._said = False
        self._said_at = -LINE_EVERY_S
        self._full_said_at = -LINE_EVERY_S
        self._full_lines_left_out = 0

    def when_used_up(self, look: Callable[[], None]) -> None:
        """Calls `look` when a look is due before its time. It must not wait."""
        self._look = look

    # --- looking -------------------------------------------------------------------------------------------------

    def looking(self) -> None:
        """The engine is being asked."""
        self._left_before = self.left_bytes

    def looked(self, total_bytes: int, usable_bytes: int) -> None:
        """Takes what the engine said, -1 for unknown."""
        taken = self._left_before - self.left_bytes
        self._asked = self.met_full = False
        if self._config is None or usable_bytes < 0:
            if not self.read_only:
                self.left_bytes = LONG_MAX
            return
        self.usable_bytes = usable_bytes
        reserve = self._config.integer("odradek.disk.readonly.free.bytes")
        if reserve < 0:
            reserve = min(RESERVE_BYTES, total_bytes // RESERVE_PART)
        resume = self._config.integer("odradek.disk.resume.free.bytes")
        if resume < 0:
            resume = 2 * reserve
        self.reserve_bytes, self.resume_bytes = reserve, max(resume, reserve)
        # A batch that does not fit above the reserve would be refused for ever if that were not a turn.
        bound = max(self.resume_bytes if self.read_only else 0, reserve + self._wanted_bytes)
        self._wanted_bytes = 0
        self.read_only = reserve > 0 and usable_bytes < bound
        if self.read_only:
            self.left_bytes = -1
        elif reserve == 0:
            self.left_bytes = LONG_MAX
        else:
            # What was appended while the engine was asked may be in its answer, or not.
            self.left_bytes = usable_bytes - reserve - taken
        self._say_state()

    def _say_state(self) -> None:
        now = self._now()
        if self.read_only == self._said or (self.read_only and now - self._said_at < LINE_EVERY_S):
            return
        self._said = self.read_only
        if self.read_only:
            self._said_at = now
            log.error(
                "the disk is nearly full: producers are refused; reads, deletions and commits go on",
                free_bytes=self.usable_bytes,
                readonly_below=self.reserve_bytes,
                resume_at=self.resume_bytes,
            )
        else:
            log.warning(
                "the disk has room again: producers are served",
                free_bytes=self.usable_bytes,
                readonly_below=self.reserve_bytes,
            )

    # --- appending -----------------------------------------------------------------------------------------------

    def refuse(self, size: int) -> str:
        """Why a batch of `size` bytes, more than `left_bytes`, is not taken; asks for a look where the state is not
        known."""
        self.refused_batches += 1
        if not self.read_only:
            # The next one is refused as well, also if it is smaller: order is kept.
            self._wanted_bytes = max(self._wanted_bytes, size)
            self._left_before -= self.left_bytes + 1
            self.left_bytes = -1
            self._ask()
        return self._why()

    def _why(self) -> str:
        return (
            f"the disk is nearly full: {self.usable_bytes} bytes were free when last looked at, "
            f"{self.reserve_bytes} are kept (odradek.disk.readonly.free.bytes)"
        )

    def _ask(self) -> None:
        if not self._asked:
            self._asked = True
            self._look()

    def check(self) -> None:
        """For what needs room beside batches: raises `KafkaError` with KAFKA_STORAGE_ERROR while there is none."""
        if self.read_only:
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, self._why())

    def full(self, identity: LogIdentity, failure: StorageFull) -> None:
        """A write has met a full disk."""
        self.met_full = True
        self._ask()
        now = self._now()
        if now - self._full_said_at < LINE_EVERY_S:
            self._full_lines_left_out += 1
            return
        left_out, self._full_lines_left_out = self._full_lines_left_out, 0
        self._full_said_at = now
        log.error("the disk is full", partition=str(identity), why=str(failure), lines_left_out_before=left_out)
