"""`python -m benchmarks.micro`: see the package."""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

from benchmarks.micro.compare import print_ratios
from benchmarks.micro.serving import Factory, run_beside
from benchmarks.micro.steps import SETTINGS, STEPS, Step, place

Figures = dict[str, dict[str, float]]


class StepFailed(Exception):
    """A step that could not be counted, with what it said."""


KEPT = Path(__file__).with_name("figures.json")
ROUNDS = 15
ROUND_S = 0.02
# Before anything is measured: Python has specialised its instructions, a connection knows what to expect, and offsets
# are beyond the numbers of which Python keeps one each (up to 256).
WARM = 300
# Under valgrind: so many intervals of so many steps in a process, and so many processes. The median interval has no
# segment's roll and no dictionary's growth in it.
INTERVALS = 5
COUNTED = 100
PROCESSES = 3
# A function of the C library that nothing else calls: valgrind writes down what it has counted before each call.
MARK = "getpriority"
# The command of valgrind's that tells a process under it to begin to count.
VGDB, VGDB_S = "vgdb", 60
TOTALS = re.compile(rb"^totals: (\d+)", re.MULTILINE)


def microseconds(names: list[str]) -> Figures:
    """Best and median of rounds, the steps taking turns. What cannot be made is left out, and says why on stderr."""
    found: dict[str, list[float]] = {name: [] for name in names}

    async def work(factory: Factory) -> None:
        async with place(Path(folder), factory) as at:
            steps: dict[str, Step] = {}
            for name in names:
                try:
                    steps[name] = await STEPS[name](at)
                except Exception as error:  # noqa: BLE001 - the others can be measured: it is the run that has failed
                    print(f"{name}: {error!r}", file=sys.stderr, flush=True)
            counts = {}
            for name, step in steps.items():
                step.prepare(WARM)
                began = perf_counter()
                await step.run(WARM)
                counts[name] = max(10, int(WARM * ROUND_S / (perf_counter() - began)))
            gc.collect()
            gc.disable()
            for _ in range(ROUNDS):
                for name, step in steps.items():
                    step.prepare(counts[name])
                    began = perf_counter()
                    await step.run(counts[name])
                    found[name].append((perf_counter() - began) / counts[name] * 1e6)
                    await step.check()
            gc.enable()

    with tempfile.TemporaryDirectory() as folder:
        run_beside(work, Path(folder) / "server", SETTINGS)
    return {
        name: {"best": round(min(values), 3), "median": round(statistics.median(values), 3)}
        for name, values in found.items()
        if values
    }


def only(name: str) -> None:
    """One step, and nothing else that could be left out: what valgrind looks at, between marks."""

    async def work(factory: Factory) -> None:
        async with place(Path(folder), factory) as at:
            step = await STEPS[name](at)
            step.prepare(WARM)
            await step.run(WARM)
            gc.collect()
            gc.disable()
            # From here on valgrind counts, which makes it slow: not while a broker starts.
            count = [VGDB, f"--pid={os.getpid()}", "instrumentation", "on"]
            subprocess.run(count, check=True, stdout=subprocess.DEVNULL, timeout=VGDB_S)  # noqa: ASYNC221
            for _ in range(INTERVALS):
                step.prepare(COUNTED)
                os.getpriority(os.PRIO_PROCESS, 0)
                await step.run(COUNTED)
                os.getpriority(os.PRIO_PROCESS, 0)
                await step.check()

    with tempfile.TemporaryDirectory() as folder:
        run_beside(work, Path(folder) / "server", SETTINGS)


def intervals(name: str, compiled: Path) -> list[float]:
    """Instructions of a step, of each interval of one process; `compiled` is for what Python has compiled."""
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPYCACHEPREFIX": str(compiled)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    step = [sys.executable, "-m", "benchmarks.micro", name, "--only"]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = [
            "valgrind",
            "--tool=callgrind",
            f"--callgrind-out-file={out}",
            f"--dump-before={MARK}",
            "--instr-atstart=no",
        ]
        done = subprocess.run([*command, *step], capture_output=True, text=True, env=environment, check=False)
        dumps = [Path(f"{out}.{number}") for number in range(1, 2 * INTERVALS + 1)]
        if done.returncode or not all(dump.exists() for dump in dumps):
            raise StepFailed(f"{name} under valgrind: {done.stderr[-4000:]}")
        # What was counted before a mark: the preparation, then the step, then its check and the next preparation.
        totals = [TOTALS.search(dump.read_bytes()) for dump in dumps[1::2]]
    return [int(found[1]) / COUNTED for found in totals if found is not None]


def instructions(name: str, compiled: Path, jobs: ThreadPoolExecutor) -> dict[str, float]:
    """Instructions of a step: the median of processes, each of which gives the median of its intervals."""
    counts = jobs.map(intervals, [name] * PROCESSES, [compiled] * PROCESSES)
    medians = [statistics.median(found) for found in counts]
    return {
        "instructions": round(statistics.median(medians)),
        "lowest": round(min(medians)),
        "highest": round(max(medians)),
    }


def keep(path: Path, kind: str, figures: Figures) -> None:
    """Puts figures into a file, beside what it has of other steps and of the other kind."""
    kept = json.loads(path.read_text()) if path.exists() else {"made": {}, "steps": {}}
    kept["made"][kind] = {
        "command": shlex.join(["python", "-m", "benchmarks.micro", *sys.argv[1:]]),
        "src": _commit(),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
    }
    for name, found in figures.items():
        kept["steps"][name] = {**kept["steps"].get(name, {}), **found}
    path.write_text(json.dumps(kept, indent=1) + "\n")


def _commit() -> str:
    """The last that changed `src`, and whether that is as it was then."""
    if shutil.which("git") is None:
        return ""
    log = ["git", "log", "-1", "--format=%h", "--", "src"]
    commit = subprocess.run(log, capture_output=True, text=True, check=False).stdout.strip()
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", "src"], check=False).returncode
    return f"{commit}, changed" if commit and changed else commit


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.micro", description="What single steps cost.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(STEPS)}; all if none is named")
    parser.add_argument("--instructions", action="store_true", help="counted by valgrind, instead of microseconds")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time that count instructions")
    parser.add_argument("--json", type=Path, help="keeps the figures in a file, beside those that it has of others")
    parser.add_argument(
        "--compare", type=Path, nargs="?", const=KEPT, metavar="FILE", help=f"with kept figures; else with {KEPT.name}"
    )
    parser.add_argument("--only", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    for name in given.names:
        if name not in STEPS:
            parser.error(f"there is no step {name!r}")
    names = given.names or list(STEPS)
    if given.only:
        only(names[0])
        return
    # Read first: it may be the file that is written.
    kept = json.loads(given.compare.read_text())["steps"] if given.compare is not None else None
    figures: Figures = {}
    failed = False
    if given.instructions:
        if shutil.which("valgrind") is None or shutil.which(VGDB) is None:
            raise SystemExit("valgrind counts the instructions, and is not installed (apt-get install valgrind)")
        with tempfile.TemporaryDirectory() as compiled, ThreadPoolExecutor(given.jobs) as jobs:
            for name in names:
                try:
                    figures[name] = found = instructions(name, Path(compiled), jobs)
                except StepFailed as error:
                    # The others can be counted: its part of the inside has changed, say.
                    failed = True
                    print(error, file=sys.stderr, flush=True)
                    continue
                spread = found["highest"] / found["lowest"] - 1
                print(f"{name:45} {found['instructions']:12,.0f} instructions, {spread:.1%} between counts", flush=True)
                if given.json is not None:
                    keep(given.json, "instructions", {name: found})
    else:
        figures = microseconds(names)
        failed = len(figures) < len(names)
        for name, found in figures.items():
            print(f"{name:45} {found['best']:9.2f} us at best, {found['median']:9.2f} us median")
        if given.json is not None:
            keep(given.json, "microseconds", figures)
    lost = print_ratios(kept, figures) if kept is not None else 0
    if lost or failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
