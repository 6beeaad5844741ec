"""How answers are printed: a table on a terminal, tab-separated lines into a pipe, JSON when asked for.

Rows are dictionaries with the same keys; lists are joined by commas outside JSON. Remarks beside an answer go to
stderr (`note`). Errors never come here.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Literal

Output = Literal["auto", "json"]


def note(text: str) -> None:
    """A remark beside the output."""
    print(f"odradek: {text}", file=sys.stderr)


def print_json(value: object) -> None:
    """One JSON document, indented on a terminal."""
    import msgspec

    text = msgspec.json.encode(value)
    if sys.stdout.isatty():
        text = msgspec.json.format(text, indent=2)
    print(text.decode())


def print_rows(columns: Sequence[str], rows: Sequence[dict[str, Any]], title: str | None = None) -> None:
    """A table of these columns on a terminal, or where it is too narrow for one a paragraph for each row, so that no
    address and no name is broken in the middle; elsewhere lines with tabs, the columns' names first."""
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
        numeric = any(isinstance(row[column], int) for row in rows)
        # A heading may be broken between its words, a value nowhere.
        width = max(map(len, [*column.split("_"), *(_text(row[column]) for row in rows)]))
        needed += width + 3  # with its borders
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
