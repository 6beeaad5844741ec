"""`python -m benchmarks.micro`: see the package."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from benchmarks.micro.steps import STEPS, place

ROUNDS = 15
ROUND_S = 0.02
# Under valgrind: so often, and twice as often. The difference is what the step costs, without what comes before it.
COUNTED = 300
COLLECTED = re.compile(r"Collected\s*:\s*(\d+)")


async def microseconds(names: list[str]) -> dict[str, dict[str, float]]:
    """Best and median of rounds, the steps taking turns."""
    with tempfile.TemporaryDirectory() as folder:
        async with place(Path(folder)) as at:
            steps = {name: await STEPS[name](at) for name in names}
            counts = {}
            for name, step in steps.items():
                began = perf_counter()
                step(20)
                counts[name] = max(10, int(20 * ROUND_S / (perf_counter() - began)))
            found: dict[str, list[float]] = {name: [] for name in names}
            gc.collect()
            gc.disable()
            for _ in range(ROUNDS):
                for name, step in steps.items():
                    began = perf_counter()
                    step(counts[name])
                    found[name].append((perf_counter() - began) / counts[name] * 1e6)
                    await asyncio.sleep(0)
            gc.enable()
    return {
        name: {"best": round(min(values), 3), "median": round(statistics.median(values), 3)}
        for name, values in found.items()
    }


async def only(name: str, count: int) -> None:
    """One step so often, and nothing else that could be left out: what valgrind looks at."""
    with tempfile.TemporaryDirectory() as folder:
        async with place(Path(folder)) as at:
            step = await STEPS[name](at)
            step(50)
            gc.collect()
            gc.disable()
            step(count)


def instructions(name: str) -> float:
    """Instructions of a step."""
    totals = []
    for count in (COUNTED, 2 * COUNTED):
        command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable]
        command += ["-m", "benchmarks.micro", name, "--only", str(count)]
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": "0"}, check=False
        )
        found = COLLECTED.search(done.stderr)
        if done.returncode or found is None:
            raise SystemExit(f"{name} under valgrind: {done.stderr[-2000:]}")
        totals.append(int(found[1]))
    return (totals[1] - totals[0]) / COUNTED


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.micro", description="What single steps cost.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(STEPS)}; all if none is named")
    parser.add_argument("--instructions", action="store_true", help="counted by valgrind, instead of microseconds")
    parser.add_argument("--json", type=Path, help="keeps the figures in a file")
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    for name in given.names:
        if name not in STEPS:
            parser.error(f"there is no step {name!r}")
    names = given.names or list(STEPS)
    if given.only:
        asyncio.run(only(names[0], given.only))
        return
    figures: dict[str, dict[str, float]] = {}
    if given.instructions:
        if shutil.which("valgrind") is None:
            raise SystemExit("valgrind counts the instructions, and is not installed")
        for name in names:
            figures[name] = {"instructions": round(instructions(name))}
            print(f"{name:45} {figures[name]['instructions']:12,.0f} instructions", flush=True)
    else:
        figures = asyncio.run(microseconds(names))
        for name, found in figures.items():
            print(f"{name:45} {found['best']:9.2f} us at best, {found['median']:9.2f} us median")
    if given.json is not None:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
