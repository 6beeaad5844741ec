"""Figures as people read them: a table, bars, and both put into the documents.

Role: words and pictures for what `bench` measured. The documents keep the last figures between two marks; pictures need
matplotlib, the table nothing.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PICTURE = ROOT / "docs" / "performance.svg"
DOCUMENT = ROOT / "docs" / "performance.md"


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def table(figures: dict[str, Any]) -> str:
    """A Markdown table of all rows."""
    lines = [
        "| # | shape | Kafka | Odradek | unit | Odradek / Kafka | aim | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in figures["rows"]:
        ratio = row["ratio"]
        met = {True: "met", False: "missed", None: ""}[row["met"]]
        lines.append(
            f"| {row['shape']} | {row['what']} | {_number(row['kafka'])} | {_number(row['odradek'])} | {row['unit']} "
            f"| {ratio['median']:.2f} ({ratio['low']:.2f}-{ratio['high']:.2f}) | {row['aim']} | {met} |"
        )
    return "\n".join(lines)


def described(figures: dict[str, Any]) -> str:
    """The table with what has to be known of the run."""
    flush, idle = figures["fdatasync"], figures["idle CPU, % of a core"]
    head = (
        f"Measured on {figures['date']} ({figures['machine']}), {figures['pairs']} pairs of runs in turns, the load on "
        f"the same cores. An `fdatasync` of this disk: p50 {flush['p50_ms']} ms, p99 {flush['p99_ms']} ms. Idle, Kafka "
        f"took {idle['kafka']} % of a core and Odradek {idle['odradek']} %. Ratios are medians over pairs, with the "
        "lowest and the highest."
    )
    for run in figures.get("others", []):
        shapes = ", ".join(map(str, run["shapes"]))
        head += f" A run of its own, of {run['pairs']} pairs, on {run['date']}: shapes {shapes}."
    floor = ", ".join(
        f"{what.rpartition(', ')[0]} {_number(value)} {what.rpartition(', ')[2]}"
        for what, value in figures["floor"].items()
    )
    return f"{head}\n\n{table(figures)}\n\nThe floor, a process in C that only moves the same bytes: {floor}."


def put(document: Path, name: str, text: str) -> None:
    """Replaces what stands between the marks of that name."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, _, rest = document.read_text().partition(begin)
    _, _, after = rest.partition(end)
    assert rest and after, f"{document} has no {begin}"
    document.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def draw(figures: dict[str, Any], path: Path) -> None:
    """A bar for each ratio, on a scale on which twice and half are as far from 1."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    rows = list(reversed(figures["rows"]))
    middles = [row["ratio"]["median"] for row in rows]
    figure, axes = pyplot.subplots(figsize=(9, 0.32 * len(rows) + 1.2), layout="constrained")
    lower = [middle - row["ratio"]["low"] for middle, row in zip(middles, rows, strict=True)]
    upper = [row["ratio"]["high"] - middle for middle, row in zip(middles, rows, strict=True)]
    colors = ["#888888" if row["met"] is None else "#2a7f62" if row["met"] else "#c0562b" for row in rows]
    axes.barh(range(len(rows)), [middle - 1 for middle in middles], left=1, color=colors)
    axes.errorbar(middles, range(len(rows)), xerr=[lower, upper], fmt="none", ecolor="black", elinewidth=0.8)
    axes.set_yticks(range(len(rows)), [f"{row['shape']}: {row['what']} [{row['unit']}]" for row in rows], fontsize=7)
    axes.set_xscale("log", base=2)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("Odradek / Kafka (green: the aim is met)")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _with_rows_before(figures: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """The rows of both, the newer ones where there are two. What is said of the run is the greater one's; of the other,
    its shapes."""
    shapes = {row["shape"] for row in figures["rows"]}
    kept = [row for row in before["rows"] if row["shape"] not in shapes]
    rows = sorted([*figures["rows"], *kept], key=lambda row: row["shape"])
    greater, less, apart = figures, before, {row["shape"] for row in kept}
    if len(kept) > len(figures["rows"]):
        greater, less, apart = before, figures, shapes
    others = [run for run in greater.get("others", []) if not shapes & set(run["shapes"])] if greater is before else []
    if apart:
        others.append({"shapes": sorted(apart), "date": less["date"], "pairs": less["pairs"]})
    return {**greater, "rows": rows, "others": others}


def keep(figures: dict[str, Any], quick: Collection[int]) -> None:
    """Keeps the figures, draws them, and puts them into the documents: the `quick` shapes into the README. Shapes that
    this run left out keep the rows of the run before."""
    RESULTS.mkdir(exist_ok=True)
    slow = figures["added to each flush, ms"]
    path = RESULTS / (f"slow-flush-{slow:g}ms.json" if slow else "last.json")
    if not slow and path.exists():
        figures = _with_rows_before(figures, json.loads(path.read_text()))
    path.write_text(json.dumps(figures, indent=1) + "\n")
    if slow:
        put(DOCUMENT, "slow", described(figures))
        return
    put(DOCUMENT, "bench", described(figures))
    rows = [row for row in figures["rows"] if row["shape"] in quick]
    others = [run for run in figures.get("others", []) if set(run["shapes"]) & set(quick)]
    put(ROOT / "README.md", "bench", described({**figures, "rows": rows, "others": others}))
    draw(figures, PICTURE)
