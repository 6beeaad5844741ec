"""Prints results: as a table on a terminal, as tab-separated lines into a pipe, or as JSON on request.

Rows are dictionaries with the same keys; outside JSON, lists are joined by commas. `note` prints remarks to stderr.
`main` prints errors.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Literal

Output = Literal["auto", "json"]


def note(text: str) -> None:
    """Prints a remark to stderr."""
    print(f"odradek: {text}", file=sys.stderr)


def print_json(value: object) -> None:
    """Prints one JSON document, indented on a terminal."""
    import msgspec

    text = msgspec.json.encode(value)
    if sys.stdout.isatty():
        text = msgspec.json.format(text, indent=2)
    print(text.decode())


def print_rows(columns: Sequence[str], rows: Sequence[dict[str, Any]], title: str | None = None) -> None:
    """Prints the rows' values in these columns. On a terminal it prints a table, or a paragraph for each row if the
    terminal is too narrow, so that no value is broken across lines; elsewhere tab-separated lines, the first with the
    columns' names."""
    if not sys.stdout.isatty():
        print("\t".join(columns))
        for row in rows:
            print("\t".join(_text(row[column]) for column in columns))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    needed = 0
    for column in columns:
        numeric = any(isinstance(row[column], int) and not isinstance(row[column], bool) for row in rows)
        # A heading may be broken between its words; a value is never broken.
        width = max(map(len, [*column.split("_"), *(_text(row[column]) for row in rows)]))
        needed += width + 3  # including its borders
        table.add_column(column.replace("_", " "), justify="right" if numeric else "left", min_width=width)
    for row in rows:
        table.add_row(*(_text(row[column]) for column in columns))
    console = Console()
    if needed < console.width:
        console.print(table, markup=False)
        return
    if title:
        print(f"{title}\n")
    longest = max(map(len, columns))
    for row in rows:
        for column in columns:
            print(f"{column.replace('_', ' '):{longest}}  {_text(row[column])}".rstrip())
        print()


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value)
