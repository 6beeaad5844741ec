"""Writes the table of served APIs into README.md, from the registry.

python tools/api_table.py            writes it
python tools/api_table.py --check    exits with 1 where the README is not up to date
"""

from __future__ import annotations

import sys
from pathlib import Path

from odradek.protocol.registry import APIS

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- apis -->\n", "<!-- /apis -->\n"


def table() -> str:
    """The table in Markdown."""
    lines = ["| API | key | versions |", "|---|---|---|"]
    for api in APIS:
        note = f" (announced {api.announced}, as in Kafka)" if api.announced != api.served else ""
        lines.append(f"| {api.name} | {api.key} | {api.served}{note} |")
    return "\n".join(lines) + "\n"


def with_table(text: str) -> str:
    """The README's text with the present table in it."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + table() + END + after


def main() -> None:
    text = README.read_text()
    if "--check" in sys.argv:
        sys.exit(0 if with_table(text) == text else "README.md: the table of APIs is not up to date")
    README.write_text(with_table(text))


if __name__ == "__main__":
    main()
