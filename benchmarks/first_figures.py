"""The README's figures: start to first message, memory at rest, and produce rates beside a warm Apache Kafka.

    python -m benchmarks.first_figures [--pairs 5]

Starts Odradek and Apache Kafka 4.4.0 (from Maven Central; 1 GiB heap, default settings, KRaft) on free ports, both up
at the same time. Kafka is warmed with 200,000 requests; then both take turns (A B A B ...), and the ratios are of
neighbouring runs. The machine is shared by the load, both brokers and whatever else runs: ratios mean more than rates.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.raw_produce import run
from odradek.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from tests.raw_client import RawClient, batch, records_of
from tests.reference import apache_kafka

WARM_UP_REQUESTS = 200_000
SHAPES: dict[str, dict[str, int]] = {
    "1 record of 100 B a request, 16 connections x 5, acks=1": {
        "connections": 16, "in_flight": 5, "acks": 1, "requests": 60_000, "records": 1, "value_bytes": 100,
    },
    "the same, acks=all (Odradek: on disk; Kafka: in the page cache)": {
        "connections": 16, "in_flight": 5, "acks": -1, "requests": 60_000, "records": 1, "value_bytes": 100,
    },
    "128 records of 1 KB a batch, 4 connections x 5, acks=1": {
        "connections": 4, "in_flight": 5, "acks": 1, "requests": 5_000, "records": 128, "value_bytes": 1000,
    },
}  # fmt: skip


@contextmanager
def odradek(folder: Path) -> Iterator[tuple[int, subprocess.Popen[str], float]]:
    """A broker as `odradek serve` runs it: its port, its process, and when the process was started."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / "odradek"), "serve", "--listen", "127.0.0.1:0", "--data-dir", str(folder)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        select.select([process.stdout], [], [], 60)
        line = process.stdout.readline()
        yield int(line.split(" ready on ")[1].split()[0].rpartition(":")[2]), process, started
    finally:
        process.terminate()
        process.wait(30)


def first_message(port: int) -> None:
    """A topic made, a record acknowledged on disk, and read back."""
    with RawClient(port) as client:
        make_topic(client, "first")
        written = client.produce("first", batch(b"hello", timestamp_ms=time.time_ns() // 1_000_000))
        assert written.error_code == 0, written
        (record,) = records_of(client.fetch("first", 0).records)
        assert record.value == b"hello"


def make_topic(client: RawClient, name: str, partitions: int = 1) -> None:
    request = CreateTopicsRequest(
        topics=[CreatableTopic(name=name, num_partitions=partitions, replication_factor=1)], timeout_ms=30_000
    )
    (result,) = client.call(request, CreateTopicsResponse, 5).topics
    assert result.error_code in (0, 36), result


def resident_mb(pid: int) -> float:
    """Memory of a process, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1000
    raise AssertionError(pid)


def cpu_s(pid: int) -> float:
    """CPU time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def listening_pid(port: int) -> int:
    """The process that listens on a port."""
    inode = next(
        line.split()[9]
        for name in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(name).read_text().splitlines()[1:]
        if line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"
    )
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                links = [os.readlink(link) for link in (entry / "fd").iterdir()]
            except OSError:
                continue
            if f"socket:[{inode}]" in links:
                return int(entry.name)
    raise AssertionError(port)


def measure_start(times: int) -> tuple[float, float]:
    """Medians: seconds from process start to a first message read back, and MB at rest after it."""
    seconds, memory = [], []
    for _ in range(times):
        with tempfile.TemporaryDirectory() as folder, odradek(Path(folder) / "data") as (port, process, started):
            first_message(port)
            seconds.append(time.perf_counter() - started)
            memory.append(resident_mb(process.pid))
    return statistics.median(seconds), statistics.median(memory)


def compare(pairs: int) -> dict[str, Any]:
    """Both brokers side by side, in turns."""
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        kafka_folder = Path(folder) / "kafka"
        kafka_folder.mkdir()
        with apache_kafka(kafka_folder, heap="1g") as kafka, odradek(Path(folder) / "data") as (ours, process, _):
            pids = {"kafka": listening_pid(kafka), "odradek": process.pid}
            for port in (kafka, ours):
                with RawClient(port) as client:
                    make_topic(client, "load")
            wait_until_usable(kafka)
            small = next(iter(SHAPES.values()))
            run(kafka, "load", partitions=1, **{**small, "requests": WARM_UP_REQUESTS})
            run(ours, "load", partitions=1, **{**small, "requests": 5_000})
            for name, shape in SHAPES.items():
                rows: dict[str, list[float]] = {"kafka": [], "odradek": [], "kafka cpu": [], "odradek cpu": []}
                for _ in range(pairs):
                    for broker, port in (("kafka", kafka), ("odradek", ours)):
                        before = cpu_s(pids[broker])
                        rate = run(port, "load", partitions=1, **shape)["requests_per_s"]
                        rows[broker].append(rate)
                        rows[f"{broker} cpu"].append((cpu_s(pids[broker]) - before) / shape["requests"] * 1e6)
                ratios = [a / b for a, b in zip(rows["odradek"], rows["kafka"], strict=True)]
                cpu = [a / b for a, b in zip(rows["odradek cpu"], rows["kafka cpu"], strict=True)]
                results[name] = {
                    "kafka requests/s": round(statistics.median(rows["kafka"])),
                    "odradek requests/s": round(statistics.median(rows["odradek"])),
                    "ratio": [round(statistics.median(ratios), 2), round(min(ratios), 2), round(max(ratios), 2)],
                    "kafka CPU us/request": round(statistics.median(rows["kafka cpu"]), 1),
                    "odradek CPU us/request": round(statistics.median(rows["odradek cpu"]), 1),
                    "CPU ratio": round(statistics.median(cpu), 2),
                }
            results["memory after the load, MB"] = {name: round(resident_mb(pid)) for name, pid in pids.items()}
    return results


def wait_until_usable(port: int) -> None:
    """Kafka answers CreateTopics before a produce to the topic works."""
    with RawClient(port) as client:
        while client.produce("load", batch(b"x", timestamp_ms=time.time_ns() // 1_000_000), acks=1).error_code:
            time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    pairs = parser.parse_args().pairs
    seconds, memory = measure_start(max(3, pairs))
    figures: dict[str, Any] = {
        "machine": f"{os.cpu_count()} cores, Python {sys.version.split()[0]}",
        "start to first message read back, s": round(seconds, 3),
        "memory at rest, MB": round(memory, 1),
        **compare(pairs),
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
