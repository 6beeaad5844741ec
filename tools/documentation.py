"""Makes those pages of the documentation's site that say what the code says; mkdocs calls it while it builds.

Role: hooks of mkdocs (`hooks:` in mkdocs.yml). Nothing that is made here is committed, so that it cannot be old:

- configuration.md from `odradek.config`, commands/ from the tree of commands, internals.md from ARCHITECTURE.md;
- in pages written by hand, a line `<!-- made: NAME -->` becomes what `PARTS` makes of it;
- the navigation gets the commands, the decisions, and pages that mkdocs.yml does not name.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
# mkdocs loads this file by its path.
sys.path[:0] = [path for path in (str(ROOT), str(ROOT / "src")) if path not in sys.path]

from tools import api_table, command_pages, metric_table, setting_pages  # noqa: E402

COMMANDS = "commands"


def _internals() -> str:
    """ARCHITECTURE.md, which links as a file of the source tree does."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    text = text.replace("(docs/decisions)", "(decisions/README.md)")
    return re.sub(r"\]\(docs/", "](", text).replace("# Architecture\n", "# Internals\n", 1)


def _clients() -> str:
    """The table of clients, which the tests write into README.md."""
    return (ROOT / "README.md").read_text().partition("<!-- results -->\n")[2].partition("<!-- /results -->")[0]


PARTS: dict[str, Callable[[], str]] = {"apis": api_table.table, "clients": _clients, "metrics": metric_table.table}


def pages() -> dict[str, str]:
    """The whole pages that are made, by their paths in the site."""
    made = {"configuration.md": setting_pages.page(), "internals.md": _internals()}
    return made | {f"{COMMANDS}/{name}": text for name, text in command_pages.pages().items()}


def _decisions() -> list[str]:
    return ["decisions/README.md", *(f"decisions/{path.name}" for path in sorted((ROOT / "docs/decisions").glob("0*")))]


def _named(nav: list[Any]) -> set[str]:
    """The pages that a navigation names."""
    found: set[str] = set()
    for item in nav:
        if isinstance(item, str):
            found.add(item)
        else:
            for value in item.values():
                found |= {value} if isinstance(value, str) else _named(value)
    return found


# --- hooks -----------------------------------------------------------------------------------------------------------


def on_config(config: MkDocsConfig) -> None:
    nav: list[Any] = config["nav"]
    for section in nav:
        if "Commands" in section:
            section["Commands"] = [f"{COMMANDS}/{name}" for name in command_pages.pages()]
        if "Decisions" in section:
            section["Decisions"] = _decisions()
    written = {path.name for path in Path(config["docs_dir"]).glob("*.md")}
    nav[nav_index(nav, "Commands") : 0] = sorted(written - _named(nav))


def nav_index(nav: list[Any], title: str) -> int:
    return next(index for index, section in enumerate(nav) if title in section)


def on_files(files: Files, config: MkDocsConfig) -> None:
    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    def made(match: re.Match[str]) -> str:
        return PARTS[match[1]]()

    return re.sub(r"<!-- made: ([a-z]+) -->", made, markdown)
