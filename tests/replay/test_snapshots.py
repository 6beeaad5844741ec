"""Snapshots: their bytes, which are on disks already, and which of a log's is taken."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

import pytest

from odradek.config import LogConfig
from odradek.engines.interface import LogIdentity
from odradek.engines.memory import MemoryEngine
from odradek.protocol.encoding import encode
from odradek.protocol.records.control import SnapshotHeaderRecord
from odradek.records.builder import (
    CONTROL_SNAPSHOT_HEADER,
    NewRecord,
    batch_bytes,
    build_batch,
    build_control_batch,
)
from odradek.replay.delays import MAX_DELAY_S, delays
from odradek.replay.snapshots import SnapshotDamaged, batches_of, beginning, ending, newest_sound

NOW_MS = 1_700_000_000_000
# As brokers have written it from the first release on.
EMPTY = bytes.fromhex(
    "000000000000000000000047ffffffff02c7ac78040020000000000000018bcfe568000000018bcfe56800ffffffffffffffffffffffffffff"
    "000000012a00000008000000031600000000018bcfe56800000000000000000000000000003fffffffff028f6608e60020000000000000018b"
    "cfe568000000018bcfe56800ffffffffffffffffffffffffffff000000011a00000008000000040600000000"
)
RECORDS = batch_bytes(build_batch([NewRecord(b"k", b"v", NOW_MS)]))


def version(number: int) -> bytes:
    header = encode(SnapshotHeaderRecord(version=number), 0)
    return batch_bytes(build_control_batch(CONTROL_SNAPSHOT_HEADER, header, NOW_MS)) + ending(NOW_MS)


def test_the_bytes_are_what_they_were() -> None:
    assert beginning(NOW_MS) + ending(NOW_MS) == EMPTY
    assert list(batches_of(EMPTY)) == []


def test_a_version_that_is_not_known_is_not_read() -> None:
    assert list(batches_of(version(0))) == []
    with pytest.raises(SnapshotDamaged, match="version 1 is unknown"):
        list(batches_of(version(1)))


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        beginning(NOW_MS),
        beginning(NOW_MS) + RECORDS,
        EMPTY[:-1],
        EMPTY + RECORDS,
        EMPTY + b"x",
        beginning(NOW_MS) + RECORDS[:-1] + b"\1" + ending(NOW_MS),
    ],
    ids=["empty", "begun", "without an end", "cut", "records behind it", "a byte behind it", "flipped"],
)
def test_what_is_not_whole_is_known(damaged: bytes) -> None:
    with pytest.raises(SnapshotDamaged):
        list(batches_of(damaged))


@pytest.mark.parametrize("in_thread", [False, True])
def test_the_newest_sound_one_is_taken_and_the_others_said(in_thread: bool, caplog: pytest.LogCaptureFixture) -> None:
    def read(offset: int, data: bytes) -> list[bytes]:
        return [bytes(piece) for _, piece in batches_of(data)]

    async def main() -> None:
        engine = MemoryEngine()
        await engine.start()
        opened = await engine.open(LogIdentity("t", b"t" * 16, 0), LogConfig())
        with ThreadPoolExecutor(1) as threads:
            executor = threads if in_thread else None
            assert await newest_sound(opened, "kind", 9, read, executor=executor) is None
            await opened.save_snapshot("kind", 3, beginning(NOW_MS) + RECORDS + ending(NOW_MS))
            await opened.save_snapshot("kind", 5, EMPTY[:-1])
            with caplog.at_level(logging.WARNING):
                assert await newest_sound(opened, "kind", 9, read, executor=executor) == (3, [RECORDS])
            assert "snapshot ignored" in caplog.text and "offset=5" in caplog.text
            assert await newest_sound(opened, "kind", 9, read, 4, executor) is None
            assert await newest_sound(opened, "other", 9, read, executor=executor) is None
        await engine.stop()

    asyncio.run(main())


def test_delays_grow_up_to_a_bound() -> None:
    waits = delays()
    found = [next(waits) for _ in range(20)]
    assert found[:3] == [0.05, 0.1, 0.2] and found[-1] == max(found) == MAX_DELAY_S
