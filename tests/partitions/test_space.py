"""The room on the storage: what is refused, when it is served again, and what the log says."""

from __future__ import annotations

import logging

import pytest

from odradek.config import BrokerConfig
from odradek.config.bounds import LONG_MAX
from odradek.engines.interface import LogIdentity, StorageFull
from odradek.errors import ErrorCode, KafkaError
from odradek.partitions.space import LINE_EVERY_S, RESERVE_BYTES, StorageSpace

MB = 1_000_000
GB = 1000 * MB
IDENTITY = LogIdentity("t", b"t" * 16, 0)


class Watched:
    """A space with 100 MB of reserve that resumes at 200 MB, on a clock that the test moves."""

    def __init__(self, **settings: str) -> None:
        given = {
            "odradek.disk.readonly.free.bytes": str(100 * MB),
            "odradek.disk.resume.free.bytes": str(200 * MB),
            **{name.replace("__", "."): value for name, value in settings.items()},
        }
        self.now = 1000.0
        self.looks = 0
        self.space = StorageSpace(BrokerConfig(given), lambda: self.now)
        self.space.when_used_up(self._look)

    def _look(self) -> None:
        self.looks += 1

    def looked(self, usable_bytes: int, total_bytes: int = 100 * GB) -> StorageSpace:
        self.space.looking()
        self.space.looked(total_bytes, usable_bytes)
        return self.space


def test_it_stops_below_one_bound_and_resumes_at_the_other() -> None:
    watched = Watched()
    states = [watched.looked(usable * MB).read_only for usable in (300, 150, 100, 99, 150, 199, 200, 150, 99)]
    assert states == [False, False, False, True, True, True, False, False, True]
    assert watched.space.left_bytes == -1
    with pytest.raises(KafkaError) as refused:
        watched.space.check()
    assert refused.value.code is ErrorCode.KAFKA_STORAGE_ERROR and "99000000" in str(refused.value.message)
    assert watched.looked(200 * MB).left_bytes == 100 * MB
    watched.space.check()


def test_what_is_appended_between_two_looks_counts() -> None:
    watched = Watched()
    space = watched.looked(300 * MB)
    assert space.left_bytes == 200 * MB
    space.left_bytes -= 150 * MB
    # While the engine is asked, more is appended, which its answer may know of or not.
    space.looking()
    space.left_bytes -= 10 * MB
    space.looked(100 * GB, 150 * MB)
    assert space.left_bytes == 40 * MB


@pytest.mark.parametrize("during_a_look", [False, True])
def test_what_is_used_up_before_a_look_is_refused_until_it_was_made(during_a_look: bool) -> None:
    watched = Watched()
    space = watched.looked(300 * MB)
    space.left_bytes -= 199 * MB
    if during_a_look:
        space.looking()
    space.refuse(MB)
    space.refuse(MB)
    assert (space.left_bytes, space.read_only, watched.looks, space.refused_batches) == (-1, False, 1, 2)
    if not during_a_look:
        space.looking()
    space.looked(100 * GB, 250 * MB)
    assert (space.left_bytes, space.read_only) == (150 * MB, False)
    space.refuse(MB)
    assert watched.looks == 2


def test_a_batch_that_does_not_fit_above_the_reserve_is_a_turn() -> None:
    """Else it would be refused for ever, and nobody would make room."""
    watched = Watched()
    space = watched.looked(300 * MB)
    space.left_bytes -= 199 * MB
    space.refuse(MB + 1)
    assert watched.looked(101 * MB).read_only
    # Where the others' batches fit again, so does this one.
    assert not watched.looked(200 * MB).read_only and space.left_bytes == 100 * MB


def test_the_reserve_of_a_small_file_system_is_a_part_of_it() -> None:
    settings = {"odradek.disk.readonly.free.bytes": "-1", "odradek.disk.resume.free.bytes": "-1"}
    for total_bytes, reserve_bytes in ((100 * GB, RESERVE_BYTES), (100 * MB, 5 * MB)):
        space = Watched(**settings).looked(GB, total_bytes)
        assert (space.reserve_bytes, space.resume_bytes) == (reserve_bytes, 2 * reserve_bytes)
    # What somebody sets holds, whatever the size.
    space = Watched().looked(GB, 100 * MB)
    assert (space.reserve_bytes, space.resume_bytes) == (100 * MB, 200 * MB)


def test_a_resume_below_the_reserve_means_the_reserve() -> None:
    space = Watched(odradek__disk__resume__free__bytes="5").looked(GB)
    assert space.resume_bytes == space.reserve_bytes == 100 * MB


@pytest.mark.parametrize("usable_bytes", [0, -1])
def test_it_never_ends_where_it_is_switched_off_or_unknown(usable_bytes: int) -> None:
    off = Watched(odradek__disk__readonly__free__bytes="0")
    assert (off.looked(usable_bytes).read_only, off.space.left_bytes) == (False, LONG_MAX)
    if usable_bytes < 0:
        watched = Watched()
        assert (watched.looked(usable_bytes).read_only, watched.space.left_bytes) == (False, LONG_MAX)
        assert StorageSpace().left_bytes == LONG_MAX


def test_an_engine_that_cannot_say_changes_nothing_while_it_is_read_only() -> None:
    watched = Watched()
    watched.looked(99 * MB)
    assert watched.looked(-1).read_only and watched.space.left_bytes == -1


def test_one_line_a_turn_and_no_flood(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched()
    with caplog.at_level(logging.WARNING, "odradek"):
        watched.looked(99 * MB)
        watched.looked(98 * MB)
        (line,) = caplog.records
        assert line.levelname == "ERROR" and "free_bytes=99000000" in line.getMessage()
        caplog.clear()
        for _ in range(10):  # back and forth, quickly
            watched.looked(200 * MB)
            watched.looked(99 * MB)
        (line,) = caplog.records
        assert line.levelname == "WARNING" and "has room again" in line.getMessage()
        caplog.clear()
        watched.now += LINE_EVERY_S
        watched.looked(199 * MB)
        watched.looked(199 * MB)
        (line,) = caplog.records
        assert line.levelname == "ERROR" and "free_bytes=199000000" in line.getMessage()


def test_a_disk_that_is_really_full_is_said_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched()
    space = watched.looked(300 * MB)
    with caplog.at_level(logging.WARNING, "odradek"):
        for _ in range(5):
            space.full(IDENTITY, StorageFull("no room for t-0"))
        assert [record.getMessage().split(" lines")[0] for record in caplog.records] == [
            "the disk is full partition=t-0 why=no room for t-0"
        ]
        assert watched.looks == 1 and space.met_full
        watched.now += LINE_EVERY_S
        space.full(IDENTITY, StorageFull("no room for t-0"))
    assert caplog.records[-1].getMessage().endswith("lines_left_out_before=4")
    assert not watched.looked(300 * MB).met_full
