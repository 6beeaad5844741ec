"""Logs in files with damage in them are replayed: what is sound, and what one flipped bit leaves known."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from odradek.config import LogConfig
from odradek.engines.interface import LogIdentity, PartitionLog, Unknown
from odradek.engines.memory import MemoryEngine
from odradek.partitions.counters import PartitionsCounters
from odradek.records.batch import HEADER_BYTES, BatchHeader, Buffer
from odradek.records.iteration import iterate
from odradek.replay.batches import Replay
from tests.adversity.bit_flips import batches_of, flip, overwrite
from tests.batches import make_batch
from tests.engines.test_local_recovery import engine_at

IDENTITY = LogIdentity("ledger", b"l" * 16, 0)
CONFIG = LogConfig(segment_bytes=2000, index_interval_bytes=400, file_delete_delay_ms=0)
COUNT = 45
VALUES = [b"value %02d" % number for number in range(COUNT)]
PER_BATCH = 2


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of several segments, cleanly closed."""
    folder = tmp_path_factory.mktemp("written")

    async def write() -> None:
        async with engine_at(folder) as engine:
            opened = await engine.open(IDENTITY, CONFIG)
            for value in VALUES:
                await opened.append([make_batch(PER_BATCH, value=value)], opened.epoch).durable

    asyncio.run(write())
    assert len(segments(folder)) >= 3
    return folder


def segments(folder: Path) -> list[Path]:
    return sorted((folder / "ledger-0").glob("*.log"))


class Taken:
    """What a replay gave."""

    def __init__(self) -> None:
        self.values: list[bytes] = []
        self.counters = PartitionsCounters()
        self.passed: list[BatchHeader] = []
        self.offsets: list[int] = []

    def take(self, header: BatchHeader, batch: Buffer) -> None:
        values = {record.value or b"" for record in iterate(header, batch)}
        assert len(values) == 1
        self.values += values
        self.offsets.append(header.base_offset)

    def counted(self) -> tuple[int, int]:
        return self.counters.batches_mended, self.counters.batches_passed_over


async def replayed(opened: PartitionLog, read_bytes: int) -> Taken:
    taken = Taken()
    with ThreadPoolExecutor(1) as executor:
        replay = Replay(opened, "test", executor, taken.counters, read_bytes, taken.take, taken.passed.append)
        async with asyncio.timeout(30):
            await replay.run(0, opened.end_offset)
    return taken


def replay_of(written: Path, copy: Path, damage: Callable[[list[Path]], object], read_bytes: int = 1_000_000) -> Taken:
    shutil.copytree(written, copy, dirs_exist_ok=True)
    damage(segments(copy))

    async def work() -> Taken:
        async with engine_at(copy) as engine:
            return await replayed(await engine.open(IDENTITY, CONFIG), read_bytes)

    return asyncio.run(work())


def number_of(header: BatchHeader) -> int:
    return header.base_offset // PER_BATCH


@pytest.mark.parametrize("read_bytes", [1, 300, 1_000_000])
def test_what_is_sound_is_all_taken(written: Path, tmp_path: Path, read_bytes: int) -> None:
    taken = replay_of(written, tmp_path, lambda files: None, read_bytes)
    assert taken.values == VALUES
    assert taken.counted() == (0, 0)


@pytest.mark.parametrize("read_bytes", [300, 1_000_000])
def test_no_flipped_bit_takes_anything_away(written: Path, tmp_path: Path, read_bytes: int) -> None:
    """In a batch amid the second segment: of every field some."""
    at, header = list(batches_of(segments(written)[1]))[4]
    for bit in (*range(0, 8 * HEADER_BYTES, 11), *range(8 * HEADER_BYTES, 8 * header.size, 67)):
        change = partial(flip, position=at + bit // 8, bit=bit % 8)
        taken = replay_of(written, tmp_path, lambda files, change=change: change(files[1]), read_bytes)
        missing = [value for value in VALUES if value not in taken.values]
        extra = [value for value in taken.values if value not in VALUES]
        assert not extra, (bit, extra)
        if bit // 8 < 8 and read_bytes > 300:
            assert taken.offsets == [PER_BATCH * number for number in range(COUNT)], bit
        if missing:
            # Cut from the batch before it by the bounds of a read, it cannot be told from where nothing stands.
            assert read_bytes == 300 and 8 * 8 <= bit < 12 * 8, (bit, missing)
            assert taken.counted()[1] >= 1
        else:
            assert taken.values == VALUES or 0 <= bit < 64, bit
        if not 12 * 8 <= bit < 16 * 8:
            assert sum(taken.counted()) >= 1, bit


def test_noise_takes_its_batch_and_no_other(written: Path, tmp_path: Path) -> None:
    places = [(number, *place) for number, file in enumerate(segments(written)) for place in batches_of(file)]
    for number, at, header in places[:-1:9]:
        file = segments(written)[number]
        for begin, noise in ((HEADER_BYTES + 3, b"\x99\x55\xaa"), (17, b"\x13\x57\x9b\xdf\x13\x57"), (0, b"\x77" * 60)):
            change = partial(overwrite, position=at + begin, noise=noise)
            taken = replay_of(written, tmp_path, lambda files, number=number, change=change: change(files[number]))
            lost = [value for value in VALUES if value not in taken.values]
            assert lost[0] == VALUES[number_of(header)], file
            # At the beginning of a file the log itself gives nothing before the next entry of its index.
            assert len(lost) == 1 or (at == 0 and begin == 0 and len(lost) < 8), lost
            assert taken.values == [value for value in VALUES if value not in lost]
            assert taken.counters.batches_passed_over == 1


def test_a_segment_of_nothing_but_noise_costs_that_segment(written: Path, tmp_path: Path) -> None:
    inside = [number_of(header) for _, header in batches_of(segments(written)[1])]

    def damage(files: list[Path]) -> None:
        files[1].write_bytes(b"\x01" * files[1].stat().st_size)

    taken = replay_of(written, tmp_path, damage)
    assert taken.values == [value for number, value in enumerate(VALUES) if number not in inside]
    assert taken.counters.batches_passed_over == 1


def test_headers_of_what_is_passed_over_are_told(written: Path, tmp_path: Path) -> None:
    at, header = list(batches_of(segments(written)[0]))[2]
    taken = replay_of(written, tmp_path, lambda files: overwrite(files[0], at + HEADER_BYTES + 3, b"\x99\x55\xaa"))
    assert taken.passed == [header]


def test_a_batch_whose_inside_lies_is_passed_over(tmp_path: Path) -> None:
    """Its checksum is right: somebody wrote it so."""

    async def work() -> None:
        engine = MemoryEngine()
        await engine.start()
        opened = await engine.open(IDENTITY, CONFIG)
        liar = make_batch(2)
        opened.append([make_batch(value=b"a")], opened.epoch)
        opened.append([liar.with_header(liar.header._replace(record_count=1))], opened.epoch)
        opened.append([make_batch(value=b"b")], opened.epoch)
        taken = await replayed(opened, 1_000_000)
        assert taken.values == [b"a", b"b"]
        assert taken.counted() == (0, 1)

    asyncio.run(work())


def test_a_storage_that_fails_is_not_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        engine = MemoryEngine()
        await engine.start()
        opened = await engine.open(IDENTITY, CONFIG)
        opened.append([make_batch()], opened.epoch)

        def failing(*_: Any) -> list[Buffer] | Awaitable[list[Buffer]]:
            raise Unknown("reading failed") from OSError(5, "Input/output error")

        monkeypatch.setattr(opened, "read", failing)
        with pytest.raises(Unknown):
            await replayed(opened, 1_000_000)

    asyncio.run(work())
