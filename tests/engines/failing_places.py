"""Places that fail when they are told to: what the contract's tests of failures put under every engine."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from abc import ABC, abstractmethod
from pathlib import Path

from odradek.config import BrokerConfig
from odradek.engines.interface import Engine, StorageFull, Unknown
from odradek.engines.local import LocalEngine
from odradek.loop_scheduler import LoopScheduler
from tests.engines.disks import WatchedDisk
from tests.engines.held import HeldEngine

WAIT_S = 30


class FailingPlace(ABC):
    """A place that works until it is told otherwise."""

    @abstractmethod
    def __call__(self) -> Engine:
        """An engine there."""

    @abstractmethod
    def hold_flushes(self) -> None:
        """From now on nothing becomes durable, and nothing is lost."""

    @abstractmethod
    async def until_held(self) -> None:
        """Returns when what was appended is on its way, and held."""

    @abstractmethod
    def fail_flushes(self) -> None:
        """What is held is lost, and so is what is appended from now on."""

    @abstractmethod
    def fail_writes(self) -> None:
        """From now on nothing can be written; what is held goes on to be."""

    @abstractmethod
    def fill(self) -> None:
        """From now on there is no room."""

    @abstractmethod
    def heal(self) -> None:
        """All works again, and what is held becomes durable."""


class FailingMemory(FailingPlace):
    def __init__(self, _: Path) -> None:
        self._engine = HeldEngine()
        self._engine.hold = False

    def __call__(self) -> Engine:
        return self._engine

    def hold_flushes(self) -> None:
        self._engine.hold = True

    async def until_held(self) -> None:
        pass

    def fail_flushes(self) -> None:
        self._engine.fail()

    def fail_writes(self) -> None:
        self._engine.refuse = Unknown("the write failed")

    def fill(self) -> None:
        self._engine.refuse = StorageFull("no room")

    def heal(self) -> None:
        self._engine.hold, self._engine.refuse = False, None
        self._engine.flush()


class FailingDisk(FailingPlace):
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._disk = WatchedDisk()
        self._disk.refuse = self._refuse
        self._reached = threading.Event()
        self._go_on = threading.Event()
        self._go_on.set()
        self._refused: dict[str, int] = {}
        """Error numbers, by operation."""

    def _refuse(self, operation: str, path: str) -> None:
        if not path.endswith(".log"):
            return
        if operation == "sync":
            self._reached.set()
            assert self._go_on.wait(WAIT_S)
        if (code := self._refused.get(operation)) is not None:
            raise OSError(code, os.strerror(code))

    def __call__(self) -> Engine:
        return LocalEngine(self._folder / "data", BrokerConfig(), LoopScheduler(), self._disk)

    def hold_flushes(self) -> None:
        self._reached.clear()
        self._go_on.clear()

    async def until_held(self) -> None:
        assert await asyncio.get_running_loop().run_in_executor(None, self._reached.wait, WAIT_S)

    def fail_flushes(self) -> None:
        self._refused["sync"] = errno.EIO
        self._go_on.set()

    def fail_writes(self) -> None:
        self._refused["write"] = errno.EIO

    def fill(self) -> None:
        self._refused["write"] = errno.ENOSPC

    def heal(self) -> None:
        self._refused.clear()
        self._go_on.set()


FAILING_PLACES = {"memory": FailingMemory, "local": FailingDisk}
