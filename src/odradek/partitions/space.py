"""Room on the storage: decides when the broker stops accepting producers' batches, and when it accepts them again.

Role: decide whether a client's batch may be written, from the engine's free bytes, which are looked up periodically,
and from the bytes appended since the last look; and log changes of state. On a file system that is completely full not
even deletions work. So producers are refused while a reserve is left (`odradek.disk.readonly.free.bytes`), and accepted
again when there is more room (`odradek.disk.resume.free.bytes`). Reads, deletions, groups' commits and changes of the
metadata may use the reserve, and go on until nothing is left.

Invariants:
- Between two looks clients append no more than the bytes that the last look found above the reserve.
- When these bytes are used up before the next look, the disk need not be full: a look is requested, and batches are
  refused until it has been made.
- Within `LINE_EVERY_S` at most one line is logged that the disk is nearly full (and one that this is over), and one
  about batches that met a full disk. Omitted lines are counted; an omitted change of state is logged later.

Sans-IO: `Partitions` makes the looks.
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
# On a small file system the default reserve is the total bytes divided by this.
RESERVE_PART = 20


class StorageSpace:
    """The room of one broker; unlimited without `config`."""

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
        """Bytes that clients may still append before the next look. Each append subtracts its bytes."""
        self.read_only = False
        self.met_full = False
        """Whether a write has met a full disk since the last look."""
        self.refused_batches = 0
        """Clients' batches refused for want of room since the start."""
        self.usable_bytes = -1
        """Usable bytes of the file system at the last look; -1 while unknown."""
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
        """Has `look` called when a look is needed before the next periodic one. It must not block."""
        self._look = look

    # --- looking -------------------------------------------------------------------------------------------------

    def looking(self) -> None:
        """Called before the engine is asked for its free bytes."""
        self._left_before = self.left_bytes

    def looked(self, total_bytes: int, usable_bytes: int) -> None:
        """Updates the state from the engine's answer (-1 for unknown)."""
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
        # Refused batches that do not fit above the reserve make the broker read-only: without that it would refuse them
        # for ever, and never log it nor run retention early.
        bound = max(self.resume_bytes if self.read_only else 0, reserve + self._wanted_bytes)
        self._wanted_bytes = 0
        self.read_only = reserve > 0 and usable_bytes < bound
        if self.read_only:
            self.left_bytes = -1
        elif reserve == 0:
            self.left_bytes = LONG_MAX
        else:
            # The answer may or may not include bytes appended while the engine was asked: subtract them.
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
        """Refuses a batch of `size` bytes, more than `left_bytes`; returns why. Requests a look unless the broker is
        read-only already."""
        self.refused_batches += 1
        if not self.read_only:
            # Later batches are refused as well, even smaller ones, so that order is kept.
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
        """For operations that need room other than for batches: raises `KafkaError` with KAFKA_STORAGE_ERROR while the
        broker is read-only."""
        if self.read_only:
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, self._why())

    def full(self, identity: LogIdentity, failure: StorageFull) -> None:
        """Notes that a write has met a full disk: requests a look, and logs it."""
        self.met_full = True
        self._ask()
        now = self._now()
        if now - self._full_said_at < LINE_EVERY_S:
            self._full_lines_left_out += 1
            return
        left_out, self._full_lines_left_out = self._full_lines_left_out, 0
        self._full_said_at = now
        log.error("the disk is full", partition=str(identity), why=str(failure), lines_left_out_before=left_out)
