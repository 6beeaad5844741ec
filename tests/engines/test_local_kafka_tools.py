"""Kafka's own DumpLogSegments reads the local engine's files and finds nothing to complain about."""

from __future__ import annotations

import dataclasses
import random
import re
import shutil
from pathlib import Path

import pytest

from odradek.config import LogConfig
from tests.batches import make_batch
from tests.engines.test_local_recovery import LOG, engine_at
from tests.reference import dump_log_segments, needs_java

COMPLAINTS = re.compile(r"Mismatches in|Found timestamp mismatch|Found out of order|exception|CORRUPT|invalid", re.I)
CONFIG = dataclasses.replace(LogConfig(), segment_bytes=60_000)


async def write_log(folder: Path, stop: str) -> tuple[Path, int, int]:
    """A log of several segments, times going up and down, some batches without a time, two epochs; returns its folder,
    its batches and its records."""
    chance = random.Random(11)
    batches = records = 0
    for _ in range(2):
        async with engine_at(folder / "running") as engine:
            log = await engine.open(LOG, CONFIG)
            for index in range(150):
                count = chance.randint(1, 30)
                timestamp = -1 if chance.random() < 0.02 else 1_700_000_000_000 + index * 50 + chance.randint(-90, 90)
                batch = make_batch(count, timestamp=timestamp, size=chance.choice((0, 10, 200)))
                log.append([batch], log.epoch)
                batches += 1
                records += count
                if chance.random() < 0.1:
                    await log.flush()
            await log.flush()
            shutil.rmtree(folder / "crashed", ignore_errors=True)
            shutil.copytree(folder / "running", folder / "crashed")
    if stop == "recovered":
        async with engine_at(folder / "crashed") as engine:
            assert (await engine.open(LOG, CONFIG)).end_offset == records
        return folder / "crashed" / "orders-0", batches, records
    return folder / "running" / "orders-0", batches, records


@needs_java
@pytest.mark.parametrize("stop", ["clean", "recovered"])
async def test_dump_log_segments(tmp_path: Path, stop: str) -> None:
    folder, batches, records = await write_log(tmp_path, stop)
    logs = sorted(folder.glob("*.log"))
    assert len(logs) > 3
    files = ",".join(str(path) for path in logs)
    printed = dump_log_segments("--deep-iteration", "--files", files)
    assert not COMPLAINTS.search(printed.replace("isvalid: true", "")), printed[:2_000]
    assert "isvalid: false" not in printed
    assert printed.count("baseOffset:") == batches
    assert len(re.findall(r"^\| offset:", printed, re.M)) == records
    indexes = sorted([*folder.glob("*.index"), *folder.glob("*.timeindex")])
    assert len(indexes) == 2 * len(logs)
    files = ",".join(str(path) for path in indexes)
    for check in ("--index-sanity-check", "--verify-index-only"):
        printed = dump_log_segments(check, "--files", files)
        assert not COMPLAINTS.search(printed), printed[:2_000]
        assert printed.count("passed sanity check") == (len(indexes) if check == "--index-sanity-check" else 0)
    printed = dump_log_segments("--files", files)
    assert printed.count("offset: ") >= sum(path.stat().st_size // 8 for path in folder.glob("*.index")) > 10
