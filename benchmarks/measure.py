"""Two brokers side by side, in turns: the medians of the ratios of neighbouring runs, and how far they spread.

Role: run a load on one broker and on the other (A B A B), note what each run gave and what CPU it cost its broker, and
make a `Row` of it. These machines are shared and noisy: a ratio of neighbours means more than any figure of its own.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.brokers import Broker

# What a run of a load gave: named figures. `work` is how much of the unit of CPU (requests, GB) it did.
Run = dict[str, float]


@dataclass
class Ratio:
    """Odradek's figure as a share of Kafka's: the median over pairs, the lowest and the highest."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        return Ratio(round(statistics.median(ratios), 3), round(min(ratios), 3), round(max(ratios), 3))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


@dataclass
class Row:
    """One figure of one shape for both."""

    shape: int
    what: str
    unit: str
    odradek: float
    kafka: float
    ratio: Ratio
    aim: str = ""
    met: bool | None = None
    more: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Aim:
    """A ratio to reach: at least (rates), or at most (times, CPU, memory)."""

    value: float
    at_least: bool

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.value:g}"

    def met(self, ratio: Ratio) -> bool:
        return ratio.median >= self.value if self.at_least else ratio.median <= self.value


def at_least(value: float) -> Aim:
    return Aim(value, True)


def at_most(value: float) -> Aim:
    return Aim(value, False)


@dataclass
class Wanted:
    """A figure of a run that becomes a row."""

    name: str
    """In `Run`; `cpu_us` and `cpu_s` are made from the CPU time and `work`."""
    what: str
    unit: str
    aim: Aim | None = None


def row(shape: int, what: str, unit: str, ours: Sequence[float], theirs: Sequence[float], aim: Aim | None) -> Row:
    ratio = Ratio.of(ours, theirs)
    return Row(
        shape,
        what,
        unit,
        statistics.median(ours),
        statistics.median(theirs),
        ratio,
        str(aim) if aim else "",
        aim.met(ratio) if aim else None,
    )


def in_turns(
    shape: int,
    brokers: tuple[Broker, Broker],
    pairs: int,
    load: Callable[[Broker], Run],
    wanted: Sequence[Wanted],
) -> list[Row]:
    """Runs `load` on Kafka and on Odradek, `pairs` times each; a row for each figure that is wanted."""
    runs: dict[str, list[Run]] = {"odradek": [], "kafka": []}
    for _ in range(pairs):
        for broker in brokers:
            before = broker.cpu_s()
            run = load(broker)
            cpu = broker.cpu_s() - before
            # Shorter than a tick of the kernel's clock: say a tick.
            run["cpu_per_work"] = max(cpu, 0.01) / run.get("work", 1.0)
            runs[broker.name].append(run)
    return [
        row(
            shape,
            one.what,
            one.unit,
            [run[one.name] for run in runs["odradek"]],
            [run[one.name] for run in runs["kafka"]],
            one.aim,
        )
        for one in wanted
    ]
