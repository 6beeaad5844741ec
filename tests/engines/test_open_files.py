"""Which segment files are open: how many, which are closed for others, and how much it takes to find those."""

from __future__ import annotations

import errno
import random
from typing import cast

import pytest

from odradek.descriptors import with_surplus
from odradek.engines.local.disk import Disk
from odradek.engines.local.files import LogFile, OpenFiles
from tests.work_counted import counted


class Descriptors:
    """A disk that has descriptors and nothing else."""

    def __init__(self) -> None:
        self.open_now: dict[int, str] = {}
        self.most = 1_000_000
        self.synced: list[int] = []
        self.broken = False
        self._newest = 2

    def open(self, path: str, create: bool = False, writable: bool = True) -> int:
        if len(self.open_now) >= self.most:
            raise OSError(errno.EMFILE, "no descriptor")
        self._newest += 1
        self.open_now[self._newest] = path
        return self._newest

    def close(self, fd: int) -> None:
        del self.open_now[fd]

    def sync_data(self, fd: int) -> None:
        self.synced.append(fd)
        if self.broken:
            raise OSError(errno.EIO, "broken")


class Kept:
    """Open files on such a disk, and what they have asked for."""

    def __init__(self, limit: int) -> None:
        self.disk = Descriptors()
        self.asked: list[LogFile] = []
        self.lost: list[LogFile] = []
        self.files = OpenFiles(
            cast(Disk, self.disk), limit, self.asked.append, lambda file, error: self.lost.append(file)
        )

    def opened(self, count: int, dirty: bool = False, pinned: bool = False) -> list[LogFile]:
        """So many files, each opened, and then written to or read."""
        files = [LogFile(f"{number}.log") for number in range(count)]
        for file in files:
            self.files.fd(file)
            file.dirty = dirty
            if pinned:
                self.files.pin(file)
        return files

    def flush(self, files: list[LogFile]) -> None:
        """As a round does it."""
        for file in files:
            file.dirty = False
            self.files.pin(file)
        for file in files:
            self.files.unpin(file)


def open_of(files: list[LogFile]) -> list[bool]:
    return [file.fd >= 0 for file in files]


# --- how much it takes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dirty", "pinned"), [(False, False), (True, False), (False, True), (True, True)])
def test_what_an_opening_costs_does_not_grow_with_the_files_that_are_open(dirty: bool, pinned: bool) -> None:
    def work_of(limit: int) -> int:
        kept = Kept(limit)
        kept.opened(with_surplus(limit), dirty, pinned)
        with counted() as work:
            kept.opened(with_surplus(limit), dirty, pinned)
        return work.lines

    few, many = work_of(32), work_of(256)
    assert many <= 9 * few, "eight times as many are opened"


def test_one_clean_file_is_found_among_many_that_are_dirty() -> None:
    def work_of(limit: int) -> int:
        kept = Kept(limit)
        count = with_surplus(limit)
        kept.opened(count - 1, dirty=True)
        kept.opened(1)
        with counted() as work:
            for _ in range(50):
                kept.opened(1)
        assert len(kept.files) == count and not kept.disk.synced
        return work.lines

    few, many = work_of(64), work_of(512)
    assert many - few < 8 * 512, "each of the dirty ones is looked at once, not for each opening"


# --- which --------------------------------------------------------------------------------------------------------


def test_the_least_recently_used_are_closed() -> None:
    kept = Kept(4)
    files = kept.opened(4)
    kept.files.fd(files[0])
    kept.opened(2)
    assert open_of(files) == [True, False, False, True]


def test_dirty_files_are_flushed_first_and_closed_then() -> None:
    kept = Kept(8)
    files = kept.opened(8, dirty=True)
    more = kept.opened(1, dirty=True)
    assert all(open_of(files + more)) and kept.asked == files
    kept.flush(files)
    assert len(kept.files) == 8 and open_of(files)[0] is False and not kept.disk.synced


def test_a_dirty_file_is_synced_before_it_is_closed_and_its_failure_told() -> None:
    kept = Kept(8)
    files = kept.opened(9, dirty=True)
    fd = files[0].fd
    kept.opened(1, dirty=True)
    assert kept.disk.synced == [fd] and open_of(files) == [False] + [True] * 8 and files[0].dirty
    kept.disk.broken = True
    kept.opened(1, dirty=True)
    assert kept.lost == [files[1]]


def test_what_is_pinned_stays_open_until_the_last_pin_goes() -> None:
    kept = Kept(4)
    files = kept.opened(6, pinned=True)
    assert all(open_of(files)) and len(kept.files) == 6, "as many as it takes"
    kept.files.pin(files[0])
    kept.files.unpin(files[0])
    kept.files.discard(files[1])
    assert all(open_of(files))
    kept.files.unpin(files[1])
    assert open_of(files) == [True, False, True, True, True, True], "nobody may use it again"
    for file in files[2:]:
        kept.files.unpin(file)
    assert len(kept.files) == 4 and files[0].fd >= 0
    kept.disk.most = 4
    kept.opened(3)
    kept.disk.most = 1
    for file in files:
        file.dirty = False
    with pytest.raises(OSError, match="no descriptor"):
        kept.opened(2, pinned=True)
    assert files[0].fd >= 0


@pytest.mark.parametrize("seed", range(20))
def test_invariants(seed: int) -> None:
    chance = random.Random(seed)
    limit = chance.randrange(8, 24)
    kept = Kept(limit)
    files = [LogFile(f"{number}.log") for number in range(60)]
    pins: list[LogFile] = []
    for _ in range(3000):
        file = chance.choice(files)
        held, dirty = [one for one in files if one.pins and one.fd >= 0], [one for one in files if one.dirty]
        was_open = {one: one.fd for one in dirty if one.fd >= 0}
        synced = len(kept.disk.synced)
        match chance.randrange(6):
            case 0 | 1 if not file.doomed:
                was_closed = file.fd < 0
                kept.files.fd(file)
                if was_closed and len(kept.files) > kept.files.most:
                    assert all(one.pins for one in files if one.fd >= 0 and one is not file)
                file.dirty = file.dirty or chance.random() < 0.7
            case 2:
                kept.files.pin(file)
                pins.append(file)
            case 3 if pins:
                kept.files.unpin(pins.pop(chance.randrange(len(pins))))
            case 4 if dirty:
                kept.flush(chance.sample(dirty, chance.randrange(1, len(dirty) + 1)))
            case 5 if chance.random() < 0.05:
                kept.files.discard(file)
            case _:
                continue
        assert all(one.fd >= 0 for one in held if one.pins), "what is pinned is not closed"
        for one, fd in was_open.items():
            assert one.fd >= 0 or not one.dirty or one.doomed or fd in kept.disk.synced[synced:]
        now_open = [one for one in files if one.fd >= 0]
        assert len(now_open) == len(kept.files) == len(kept.disk.open_now)
    while pins:
        kept.files.unpin(pins.pop())
    kept.flush([one for one in files if one.dirty])
    kept.files.trim()
    assert len(kept.files) <= limit
    for file in files:
        kept.files.discard(file)
    assert not kept.disk.open_now and len(kept.files) == 0
