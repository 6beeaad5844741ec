"""No state that a power cut could leave loses what was acknowledged; and a broker that syncs too little is found out.

`make torture` tries ten times as many.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from odradek.engines.local import data_directory, flush_state, log, recovery
from odradek.engines.local.disk import Disk
from odradek.engines.local.flusher import Job
from odradek.engines.local.segment import DELETED, Segment
from tests.adversity.recorded_cuts import campaign
from tests.adversity.recorded_disk import RecordedDisk

SEED = 1
COUNT = 2_500
# Most faults show within 200.
FAULT_COUNT = 2_000


def test_what_was_acknowledged_survives_every_power_cut() -> None:
    report = campaign(SEED, COUNT)
    assert report.done == COUNT
    assert report.losses == []


class FilesUnsynced(RecordedDisk):
    def sync_data(self, fd: int) -> None:
        pass


class FoldersUnsynced(RecordedDisk):
    def sync_folder(self, path: str) -> None:
        pass


@pytest.mark.parametrize("disk_type", [FilesUnsynced, FoldersUnsynced])
def test_a_disk_that_does_not_sync_is_found_out(disk_type: type[RecordedDisk]) -> None:
    assert campaign(SEED, FAULT_COUNT, disk_type).losses


def without_names_above(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(data_directory.DataDirectory, "_sync_names_above", lambda self: None)


def without_the_batches(patch: pytest.MonkeyPatch) -> None:
    begin = log.LocalLog.begin_flush

    def begin_flush(self: log.LocalLog) -> Job | None:
        job = begin(self)
        if job is not None:
            del job.fds[:]
        return job

    patch.setattr(log.LocalLog, "begin_flush", begin_flush)


def without_failed_truncations(patch: pytest.MonkeyPatch) -> None:
    note = flush_state.FlushState.note_dirty
    failed = log.LocalLog._write_failed

    def _write_failed(self: log.LocalLog, *args: Any) -> Any:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(flush_state.FlushState, "note_dirty", lambda self, file: None)
            failed(self, *args)

    patch.setattr(log.LocalLog, "_write_failed", _write_failed)
    assert flush_state.FlushState.note_dirty is note


def deleting_out_of_order(patch: pytest.MonkeyPatch) -> None:
    def _rename_deleted(disk: Disk, folder: str, segments: list[Segment]) -> list[str]:
        paths = [path for segment in segments for path in segment.paths() if disk_has(disk, path)]
        for path in paths:
            disk.rename(path, path + DELETED)
        disk.sync_folder(folder)
        return [path + DELETED for path in paths]

    def disk_has(disk: Disk, path: str) -> bool:
        folder, _, name = path.rpartition("/")
        return name in disk.list_folder(folder)

    patch.setattr(log, "rename_deleted", _rename_deleted)


def trusting_crcs_of_nothing(patch: pytest.MonkeyPatch) -> None:
    scan = recovery.scan
    patch.setattr(
        recovery,
        "scan",
        lambda read, segment, end, interval, next_offset, check_from, *more: scan(
            read, segment, end, interval, next_offset, 1 << 62, *more
        ),
    )


RARE = {without_failed_truncations: 53}
"""The seed of a history in which it matters."""


@pytest.mark.parametrize(
    "fault",
    [
        without_names_above,
        without_the_batches,
        without_failed_truncations,
        deleting_out_of_order,
        trusting_crcs_of_nothing,
    ],
)
def test_an_engine_that_is_careless_is_found_out(
    fault: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fault(monkeypatch)
    assert campaign(RARE.get(fault, SEED), FAULT_COUNT).losses
