"""Odradek beside Apache Kafka 4.4.0 in one run, shape by shape: the table of the README and of docs/performance.md.

    python -m benchmarks.bench [--full | --shapes 1,5] [--pairs 5] [--slow-flush-ms 2] [--write]

Both brokers are up; both are warmed, Kafka with the 200,000 requests that its compiler needs; they take turns. Prints a
table, and the figures as JSON. `--write` keeps them in benchmarks/results/, draws them, and puts the table into the
documents. `--slow-flush-ms` makes every flush so much longer, for both, by a library that is loaded before libc.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks import load
from benchmarks.brokers import Broker, kafka, odradek
from benchmarks.many_clients import allow_files
from benchmarks.report import keep, table
from benchmarks.shapes import QUICK, SHAPES, SMALL, Bench
from tests.raw_client import batch

WARM_UP_REQUESTS = 200_000
FLUSHES = 200
FLOOR_BATCH_BYTES, FLOOR_BATCHES, FLOOR_FETCHED_BYTES = 128_000, 1_000, 2 << 30


def flush_latency_ms(folder: Path) -> dict[str, float]:
    """What an `fdatasync` of 4 KiB takes on this disk."""
    times = []
    with open(folder / "flushed", "wb", buffering=0) as file:
        for _ in range(FLUSHES):
            file.write(bytes(4096))
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - began) * 1e3)
    times.sort()
    return {"p50_ms": round(statistics.median(times), 3), "p99_ms": round(times[FLUSHES * 99 // 100], 3)}


def floor_figures(folder: Path) -> dict[str, float]:
    """What no broker can beat: requests/s and MB/s of a process that only moves the bytes."""
    figures = {}
    with load.floor("floor", folder / "floor") as (port, _):
        run = load.produce(port, "floor", acks=1, **SMALL)
        figures["1 record a request, requests/s"] = round(run["requests"] / run["seconds"])
        run = load.produce(
            port, "floor", connections=4, in_flight=5, requests=4000, acks=1, records=128, value_bytes=1000
        )
        figures["128 records of 1 KB a batch, MB/s"] = round(run["bytes"] / run["seconds"] / 1e6)
    stored = folder / "stored"
    stored.write_bytes(batch(b"v" * FLOOR_BATCH_BYTES) * FLOOR_BATCHES)
    for size in (1 << 20, 128 << 10):
        with load.floor("floor", stored, size) as (port, _):
            for connections in (1, 4):
                run = load.fetch(
                    port,
                    "floor",
                    connections=connections,
                    requests=FLOOR_FETCHED_BYTES // size,
                    max_bytes=size,
                    end_offset=1 << 40,
                )
                what = f"fetch of {size >> 10} KB, {connections} connection{'s' * (connections > 1)}, MB/s"
                figures[what] = round(run["bytes"] / run["seconds"] / 1e6)
    return figures


@contextmanager
def slow_flushes(ms: float) -> Iterator[None]:
    """Processes started meanwhile have flushes that take longer."""
    if not ms:
        yield
        return
    library = load.BUILD / "slow_flush.so"
    source = load.SOURCE.with_name("slow_flush.c")
    library.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    os.environ.update(LD_PRELOAD=str(library), SLOW_FLUSH_US=str(int(ms * 1000)))
    try:
        yield
    finally:
        del os.environ["LD_PRELOAD"], os.environ["SLOW_FLUSH_US"]


def idle_cpu(brokers: tuple[Broker, ...]) -> dict[str, float]:
    """Share of a core that each takes with nothing to do, in percent."""
    before = [broker.cpu_s() for broker in brokers]
    time.sleep(5)
    return {
        broker.name: round((broker.cpu_s() - cpu) / 5 * 100, 1) for broker, cpu in zip(brokers, before, strict=True)
    }


def run(shapes: list[int], pairs: int, slow_flush_ms: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as name, ExitStack() as stack:
        folder = Path(name)
        figures: dict[str, Any] = {
            "date": time.strftime("%Y-%m-%d"),
            "machine": f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, Linux {platform.release()}",
            "pairs": pairs,
            "fdatasync": flush_latency_ms(folder),
            "added to each flush, ms": slow_flush_ms,
            "floor": floor_figures(folder),
        }
        load.program()
        with slow_flushes(slow_flush_ms):
            theirs, _ = stack.enter_context(kafka(folder / "kafka"))
            ours, _ = stack.enter_context(odradek(folder / "odradek"))
        bench = Bench(theirs, ours, pairs, folder)
        for broker, requests in ((theirs, WARM_UP_REQUESTS), (ours, WARM_UP_REQUESTS // 20)):
            broker.make_topic("warm")
            load.produce(broker.port, "warm", acks=1, **{**SMALL, "requests": requests})
        figures["idle CPU, % of a core"] = idle_cpu(bench.both)
        rows = []
        for number in shapes:
            began = time.perf_counter()
            rows += SHAPES[number](bench)
            print(f"shape {number}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
        figures["rows"] = [row.as_json() for row in rows]
        return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="all shapes")
    parser.add_argument("--shapes", help="their numbers, with commas")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--slow-flush-ms", type=float, default=0.0)
    parser.add_argument(
        "--write", action="store_true", help="into benchmarks/results, the README and the documentation"
    )
    arguments = parser.parse_args()
    shapes = list(SHAPES) if arguments.full else list(QUICK)
    if arguments.shapes:
        shapes = [int(word) for word in arguments.shapes.split(",")]
    allow_files()
    figures = run(shapes, arguments.pairs, arguments.slow_flush_ms)
    print(json.dumps(figures, indent=1))
    print(table(figures))
    if arguments.write:
        keep(figures, QUICK)


if __name__ == "__main__":
    main()
