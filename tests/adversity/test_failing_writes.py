"""Writes, rolls and flushes that fail take nothing with them; and a disk that loses something is found out."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from odradek.records.batch import Buffer
from tests.adversity import failing_writes
from tests.adversity.failing_writes import FailingDisk, campaign

SEED = 1
COUNT = 150
FAULT_COUNT = 60


def test_nothing_acknowledged_is_lost() -> None:
    report = campaign(SEED, COUNT)
    assert report.losses == []
    assert report.done == COUNT


class Forgets(FailingDisk):
    """Some writes are done in its words only."""

    def write_at(self, fd: int, buffers: Sequence[Buffer], position: int) -> int:
        if self._open[fd][1].endswith(".log") and self.chance.random() < 0.02:
            return sum(map(len, buffers))
        return super().write_at(fd, buffers, position)


class Shortens(FailingDisk):
    """Cuts more than it is told."""

    def truncate(self, fd: int, size: int) -> None:
        super().truncate(fd, size // 2 if self._open[fd][1].endswith(".log") else size)


@pytest.mark.parametrize("disk_type", [Forgets, Shortens])
@pytest.mark.parametrize("mode", ["disk", "os"])
def test_a_disk_that_loses_what_it_took_is_found_out(
    disk_type: type[FailingDisk], mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failing_writes, "FailingDisk", disk_type)
    monkeypatch.setattr(failing_writes, "MODES", (mode,))
    assert campaign(SEED, FAULT_COUNT).losses
