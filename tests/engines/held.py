"""The engine in memory, slowed down and failing: nothing is durable until the test says so, or says that it is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from odradek.config import LogConfig
from odradek.engines.interface import Appended, LogFailure, LogIdentity, StorageFull, Unknown
from odradek.engines.memory.engine import MemoryEngine, MemoryLog, _Kept
from odradek.records.batch import RecordBatch


class HeldLog(MemoryLog):
    """A log of `HeldEngine`."""

    _engine: HeldEngine

    def append(self, batches: Sequence[RecordBatch], epoch: int, expected_end: int | None = None) -> Appended:
        if self.failed is not None:
            raise self.failed
        engine = self._engine
        if engine.refuse is not None:
            if isinstance(engine.refuse, LogFailure) and not isinstance(engine.refuse, StorageFull):
                self.fail(engine.refuse)
            raise engine.refuse
        before = self.durable_end
        appended = super().append(batches, epoch, expected_end)
        if not engine.hold:
            return appended
        self.durable_end = before
        held = engine.held
        if held and held[-1][0] is self and not held[-1][2].done():
            durable = held[-1][2]
            held[-1] = (self, appended.end_offset, durable)
        else:
            durable = asyncio.get_running_loop().create_future()
            held.append((self, appended.end_offset, durable))
        return appended._replace(durable=durable)

    async def flush(self) -> None:
        if self.failed is not None:
            raise self.failed
        await super().flush()

    async def close(self) -> None:
        if self._open:
            self._engine.flush(self)
        await super().close()

    def fail(self, failure: LogFailure) -> None:
        """What is held is lost, and the log's opening over."""
        if self.failed is not None:
            return
        self.failed = failure
        for opened, _, durable in self._engine.take(self):
            assert opened is self
            durable.set_exception(failure)
            durable.exception()  # whoever cares awaits it
        kept = self._kept
        while kept.headers and kept.headers[-1].base_offset >= self.durable_end:
            header = kept.headers.pop()
            kept.batches.pop()
            kept.ends.pop()
            kept.size -= header.size
            kept.appended -= header.size
            kept.appended_ms.pop(header.base_offset, None)
        while kept.epochs and kept.epochs[-1][1] >= self.durable_end:
            kept.epochs.pop()
        kept.end_offset = self.durable_end


class HeldEngine(MemoryEngine):
    """Memory, but nothing is durable until the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[tuple[HeldLog, int, asyncio.Future[None]]] = []
        self.hold = True
        self.refuse: Exception | None = None
        """What every append meets."""

    async def open(self, identity: LogIdentity, config: LogConfig) -> HeldLog:
        before = self._logs.get(identity)
        if before is not None and before.failed is not None:
            await before.close()
        assert identity not in self._logs, f"{identity} is open"
        opened = self._logs[identity] = HeldLog(self, identity, config, self._kept.setdefault(identity, _Kept()))
        return opened

    def take(self, log: HeldLog | None) -> list[tuple[HeldLog, int, asyncio.Future[None]]]:
        """What is held of a log, or of all; it is held no more."""
        taken = [one for one in self.held if log is None or one[0] is log]
        self.held = [one for one in self.held if one not in taken]
        return taken

    def flush(self, log: HeldLog | None = None) -> None:
        """What is held is durable."""
        for opened, end, durable in self.take(log):
            opened.durable_end = end
            durable.set_result(None)

    def fail(self) -> None:
        """What is held is lost, as after a failed flush."""
        for log in {id(opened): opened for opened, _, _ in self.held}.values():
            log.fail(Unknown("the flush failed"))
