"""The table of all metrics, from `odradek.insight.metrics`; `docs/metrics.md` shows it."""

from __future__ import annotations

from odradek.insight.metrics import METRICS


def table() -> str:
    """One row a metric, in the order in which a scrape shows them."""
    rows = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        rows.append(f"| `{metric.shown_name}` | {metric.kind.value} | {labels} | {metric.help} |")
    return "\n".join(rows) + "\n"
