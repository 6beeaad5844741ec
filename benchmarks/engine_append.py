"""What the local engine costs: appends, group commits, large batches, reads, opening.

    python benchmarks/engine_append.py [--dir DIR] [--loop uvloop|asyncio] [--switch-us N]

Prints one line a measurement. `loop CPU` is processor time of the event loop's thread alone; the flush thread's is the
rest. The directory should be on the disk that matters (tmpfs has no fdatasync worth measuring).
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import shutil
import sys
import tempfile
import threading
import uuid
from pathlib import Path
from time import perf_counter, process_time, thread_time

from odradek.config import BrokerConfig, LogConfig
from odradek.engines.interface import LogIdentity
from odradek.engines.local import LocalEngine
from odradek.loop_scheduler import LoopScheduler
from odradek.records.batch import RecordBatch, check_batch
from odradek.records.builder import NewRecord, batch_bytes, build_batch

TOPIC_ID = uuid.UUID(int=1).bytes
CONFIG = LogConfig()
OS = dataclasses.replace(CONFIG, flush="os")


def batch_of(size: int, records: int = 1) -> RecordBatch:
    value = b"v" * max(0, size // records - 70 // records - 8)
    return check_batch(batch_bytes(build_batch(NewRecord(None, value, 1_000) for _ in range(records))))


def identity(name: str, partition: int = 0) -> LogIdentity:
    return LogIdentity(name, TOPIC_ID, partition)


async def append_cost(engine: LocalEngine, flush: str) -> None:
    log = await engine.open(identity(f"append-{flush}"), dataclasses.replace(CONFIG, flush=flush))
    batch = batch_of(200)
    await log.append([batch], log.epoch).durable
    count, rounds = 200, 100
    cpu = 0.0
    for _ in range(rounds):
        start = thread_time()
        for _ in range(count):
            appended = log.append([batch], log.epoch)
        cpu += thread_time() - start
        await appended.durable
    print(f"append of one 200-byte batch, flush={flush}: {cpu / rounds / count * 1e6:.2f} us of loop CPU")


async def group_commit(engine: LocalEngine, clients: int, partitions: int, seconds: float = 2.0) -> None:
    """Clients that each wait for their append before the next, as idle producers with acks=all do."""
    logs = [await engine.open(identity(f"commit-{clients}-{partitions}", index), CONFIG) for index in range(partitions)]
    batch = batch_of(200)
    done = 0
    waits: list[float] = []
    stop = perf_counter() + seconds

    async def client(number: int) -> None:
        nonlocal done
        log = logs[number % partitions]
        while perf_counter() < stop:
            start = perf_counter()
            await log.append([batch], log.epoch).durable
            waits.append(perf_counter() - start)
            done += 1

    rounds, cpu, loop_cpu = engine._shared.flusher.rounds, process_time(), thread_time()
    await asyncio.gather(*(client(number) for number in range(clients)))
    rounds = engine._shared.flusher.rounds - rounds
    waits.sort()
    print(
        f"group commit, {clients} clients on {partitions} partitions: {done / seconds:.0f} appends/s, "
        f"{rounds / seconds:.0f} flushes/s, p50 {waits[len(waits) // 2] * 1e3:.2f} ms, "
        f"p99 {waits[len(waits) * 99 // 100] * 1e3:.2f} ms, "
        f"loop CPU {(thread_time() - loop_cpu) / done * 1e6:.1f} us, "
        f"all CPU {(process_time() - cpu) / done * 1e6:.1f} us"
    )


async def busy_loop_commit(engine: LocalEngine, seconds: float = 2.0) -> None:
    """Group commits while the loop is busy with Python: what the interpreter lock costs the flush thread."""
    log = await engine.open(identity("busy"), CONFIG)
    batch = batch_of(200)
    stop = perf_counter() + seconds
    spins = 0
    waits: list[float] = []

    async def spin() -> None:
        nonlocal spins
        while perf_counter() < stop:
            for _ in range(300):
                spins += 1
            await asyncio.sleep(0)

    async def client() -> None:
        while perf_counter() < stop:
            start = perf_counter()
            await log.append([batch], log.epoch).durable
            waits.append(perf_counter() - start)

    await asyncio.gather(client(), spin())
    waits.sort()
    print(
        f"group commit beside a busy loop: p50 {waits[len(waits) // 2] * 1e3:.2f} ms, "
        f"p99 {waits[len(waits) * 99 // 100] * 1e3:.2f} ms, {spins / seconds / 1e6:.1f} M spins/s"
    )


async def large_batches(engine: LocalEngine, flush: str, total: int = 1 << 30) -> None:
    log = await engine.open(identity(f"large-{flush}"), dataclasses.replace(CONFIG, flush=flush))
    batch = batch_of(128 * 1024)
    count = total // batch.size
    start, cpu = perf_counter(), process_time()
    appended = None
    for _ in range(count):
        await engine.room()
        appended = log.append([batch], log.epoch)
        if flush == "os":
            await asyncio.sleep(0)
    assert appended is not None
    await appended.durable
    elapsed, cpu = perf_counter() - start, process_time() - cpu
    print(f"128 KB batches, flush={flush}: {total / elapsed / 1e9:.2f} GB/s, {cpu / total * 1e9:.2f} CPU-s/GB")
    for max_bytes in (1 << 20, 1 << 17):
        offset, got, start, cpu = 0, 0, perf_counter(), process_time()
        waited = 0
        while offset < log.durable_end:
            found = log.read(offset, max_bytes + 1000, log.durable_end)
            if not isinstance(found, list):
                waited += 1
                found = await found
            size = sum(len(piece) for piece in found)
            got += size
            offset += max(1, size // batch.size)
        elapsed, cpu = perf_counter() - start, process_time() - cpu
        print(
            f"reads of {max_bytes >> 10} KB: {got / elapsed / 1e9:.2f} GB/s, {cpu / got * 1e9:.2f} CPU-s/GB, "
            f"{waited} through a thread"
        )


async def small_reads(engine: LocalEngine) -> None:
    log = await engine.open(identity("small"), OS)
    batch = batch_of(200)
    await log.append([batch], log.epoch).durable
    for _ in range(100_000):
        log.append([batch], log.epoch)
    end, count = log.durable_end, 20_000
    found = log.read(5, 1000, end)
    if not isinstance(found, list):
        await found
    for what, offsets in (("anywhere", range(0, 100_000, 5)), ("at the end", [end - 1] * count)):
        start = thread_time()
        for offset in offsets:
            found = log.read(offset, 1000, end)
            assert isinstance(found, list)
        print(f"read of 1000 bytes {what}: {(thread_time() - start) / len(offsets) * 1e6:.1f} us")
    start = thread_time()
    for _ in range(count):
        offset = log.durable_end
        log.append([batch], log.epoch)
        log.read(offset, 1 << 20, log.durable_end)
    print(f"append, then read it (a consumer that keeps up): {(thread_time() - start) / count * 1e6:.1f} us")


async def main(folder: Path) -> None:
    start = perf_counter()
    engine = LocalEngine(folder / "data", BrokerConfig(), LoopScheduler())
    await engine.start()
    print(f"start on an empty directory: {(perf_counter() - start) * 1e3:.1f} ms")
    for flush in ("disk", "os"):
        await append_cost(engine, flush)
    await small_reads(engine)
    for clients, partitions in ((1, 1), (16, 1), (64, 1), (64, 16), (256, 64)):
        await group_commit(engine, clients, partitions)
    await busy_loop_commit(engine)
    for flush in ("disk", "os"):
        await large_batches(engine, flush)
    await engine.stop()
    start = perf_counter()
    engine = LocalEngine(folder / "data", BrokerConfig(), LoopScheduler())
    await engine.start()
    found = engine.identities()
    await asyncio.gather(*(engine.open(one, CONFIG) for one in found))
    print(f"start and open {len(found)} logs after a clean stop: {(perf_counter() - start) * 1e3:.1f} ms")
    await engine.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    parser.add_argument("--switch-us", type=float)
    options = parser.parse_args()
    if options.switch_us:
        sys.setswitchinterval(options.switch_us / 1e6)
    place = Path(tempfile.mkdtemp(dir=options.dir, prefix="odradek-benchmark-"))
    try:
        if options.loop == "uvloop":
            import uvloop

            uvloop.run(main(place))
        else:
            asyncio.run(main(place))
        assert threading.active_count() == 1
    finally:
        shutil.rmtree(place)
