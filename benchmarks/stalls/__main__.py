"""`python -m benchmarks.stalls`: see the package."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

# Each enters its cases into the table, in this order.
from benchmarks.stalls import topics, groups, patterns, transactions, waiting, repeated, last  # isort: skip  # noqa: F401
from benchmarks.brokers import Broker, kafka, memory_mb, odradek
from benchmarks.report import ROOT, put
from benchmarks.stalls.bystander import Bystander
from benchmarks.stalls.cases import CASES, Case, Sent
from benchmarks.stalls.prepared import COUNT, TIMEOUT_S, Prepared
from benchmarks.stalls.profile import profiled
from odradek.errors import ErrorCode
from odradek.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from tests.raw_client import Closed, RawClient
from tests.reference import free_port

# How often a case is measured that can be, unless it has taken so long already. The shortest stall counts: what else
# the machine does only adds to it.
ROUNDS, ROUNDS_S = 3, 1.0
# What a request sets off may come after its answer.
AFTER_S = 0.1
# So many files for Kafka, which has one open for each partition.
KAFKA_FILES = 1 << 16
# Deleted logs go at once, or they would still hold their files when others are made.
KAFKA_SETTINGS = ("log.segment.delete.delay.ms=1000",)


class Row(NamedTuple):
    """What one case did to one broker."""

    stall_s: float
    took_s: float
    response_bytes: int
    grown_mb: float
    refused: str
    """The error that was the only answer; empty otherwise."""


def measure(prepared: Prepared, bystander: Bystander, sent: Sent) -> Row:
    pid = prepared.broker.pid
    # The peak begins anew.
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    before = memory_mb(pid)
    bystander.longest_wait_s()
    began = time.perf_counter()
    size = sent()
    took = time.perf_counter() - began
    sent.settle()
    time.sleep(AFTER_S)
    stall = bystander.longest_wait_s()
    grown = max(0.0, memory_mb(pid, "VmHWM") - before)
    return Row(stall, took, size, grown, _refusal(sent.codes()))


def _refusal(codes: Counter[int]) -> str:
    return "" if not codes or 0 in codes else ErrorCode(codes.most_common(1)[0][0]).name


def run_round(case: Case, prepared: Prepared, bystander: Bystander) -> Row:
    """The worst of what the case sends."""
    rows = [measure(prepared, bystander, sent) for sent in case.run(prepared, *case.scaled(prepared))]
    return Row(
        max(row.stall_s for row in rows),
        max(row.took_s for row in rows),
        sum(row.response_bytes for row in rows),
        max(row.grown_mb for row in rows),
        rows[0].refused if len({row.refused for row in rows}) == 1 else "",
    )


def run_case(case: Case, prepared: Prepared, bystander: Bystander, profile: bool) -> Row:
    rows: list[Row] = []
    while not rows or (not case.once and len(rows) < ROUNDS and sum(row.took_s for row in rows) < ROUNDS_S):
        with profiled(prepared.broker.pid, case.name) if profile else contextlib.nullcontext():
            rows.append(run_round(case, prepared, bystander))
    least = min(rows, key=lambda row: row.stall_s)
    return least._replace(took_s=min(row.took_s for row in rows), grown_mb=max(row.grown_mb for row in rows))


def run_cases(broker: Broker, cases: list[Case], count: int, http_port: int, profile: bool) -> dict[str, Row | str]:
    """For each case its row, or why there is none."""
    found: dict[str, Row | str] = {}
    prepared = Prepared(broker, count, http_port)
    with contextlib.closing(prepared), contextlib.ExitStack() as stack:
        bystander = stack.enter_context(Bystander(broker.port))
        for case in cases:
            if broker.name == "kafka" and case.not_kafka:
                found[case.name] = case.not_kafka
                continue
            began = time.perf_counter()
            try:
                row = found[case.name] = run_case(case, prepared, bystander, profile)
                told = f"stall {row.stall_s * 1000:.0f} ms, took {row.took_s * 1000:.0f} ms {row.refused}"
            except (Closed, ConnectionError, TimeoutError) as error:
                told = found[case.name] = (
                    "closes the connection"
                    if isinstance(error, Closed)
                    else f"does not answer within {TIMEOUT_S:.0f} s"
                )
                if not is_alive(broker):
                    break
                prepared.reconnect()
                bystander = stack.enter_context(Bystander(broker.port))
            spent = time.perf_counter() - began
            print(f"{broker.name}: {case.name}: {told} ({spent:.1f} s in all)", file=sys.stderr, flush=True)
    return {case.name: found.get(case.name, "has ended") for case in cases}


def is_alive(broker: Broker) -> bool:
    try:
        with RawClient(broker.port) as client:
            client.call(
                ApiVersionsRequest(client_software_name="a", client_software_version="1"), ApiVersionsResponse, 3
            )
    except (Closed, OSError):
        return False
    return True


# --- the table -------------------------------------------------------------------------------------------------------


def table(cases: list[Case], count: int, brokers: dict[str, dict[str, Row | str]]) -> str:
    """A Markdown table with a line for each case, and what its dashes mean."""
    columns = [f"{name}: {what}" for name in brokers for what in ("stall, ms", "took, ms", "response", "memory, MB")]
    lines = ["| case | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    notes: dict[str, list[str]] = {}
    for case in cases:
        cells = [case.title.format(*(max(1, size * count // COUNT) for size in case.sizes))]
        for name, found in brokers.items():
            row = found[case.name]
            if isinstance(row, str):
                cells += ["-"] * 4
                notes.setdefault(f"{name} {row}", []).append(cells[0])
                continue
            cells += [_number(row.stall_s * 1000), _number(row.took_s * 1000), _bytes(row.response_bytes)]
            cells.append(_number(row.grown_mb))
            if row.refused:
                cells[-3] += f" ({row.refused})"
        lines.append("| " + " | ".join(cells) + " |")
    lines += [f"\n{why}: {'; '.join(titles)}." for why, titles in notes.items()]
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _bytes(size: int) -> str:
    if size < 1000:
        return f"{size} B"
    return f"{_number(size / 1e3)} KB" if size < 1e6 else f"{_number(size / 1e6)} MB"


def described(text: str, seconds: float) -> str:
    machine = f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, Linux {platform.release()}"
    return f"Measured on {time.strftime('%Y-%m-%d')} ({machine}), in {seconds:.0f} s.\n\n{text}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stalls", description=sys.modules[__package__].__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("names", nargs="*", metavar="NAME", help="of cases; all where none is named")
    parser.add_argument("--list", action="store_true", help="names the cases")
    parser.add_argument("--no-kafka", action="store_true", help="Odradek alone")
    parser.add_argument("--no-odradek", action="store_true", help="Apache Kafka alone")
    parser.add_argument("--count", type=int, default=COUNT, help="of topics, groups and so on; the rest in proportion")
    parser.add_argument("--profile", action="store_true", help="tells what Odradek did in each case; needs py-spy")
    parser.add_argument("--write", action="store_true", help="into the documentation")
    given = parser.parse_args()
    if given.list:
        print("\n".join(f"{case.name}: {case.title.format(*case.sizes)}" for case in CASES.values()))
        return
    unknown = [name for name in given.names if name not in CASES]
    if unknown:
        parser.error(f"no such case: {', '.join(unknown)}")
    # What was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    cases = [case for case in CASES.values() if not given.names or case.name in given.names]
    began = time.perf_counter()
    brokers: dict[str, dict[str, Row | str]] = {}
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        if not given.no_odradek:
            http_port = free_port()
            settings = (f"odradek.http.listen=127.0.0.1:{http_port}",)
            with odradek(Path(folder) / "odradek", *settings) as (ours, _):
                brokers["Odradek"] = run_cases(ours, cases, given.count, http_port, given.profile)
        if not given.no_kafka:
            # Where that is not allowed, Kafka ends when it has no more, and the rest is dashes.
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (KAFKA_FILES, KAFKA_FILES))
            with kafka(Path(folder) / "kafka", *KAFKA_SETTINGS) as (theirs, _):
                brokers["Kafka"] = run_cases(theirs, cases, given.count, 0, False)
    text = described(table(cases, given.count, brokers), time.perf_counter() - began)
    print(text)
    if given.write:
        put(ROOT / "docs" / "stalls.md", "stalls", text)


if __name__ == "__main__":
    main()
