"""The pages that are made from the code say all of it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from mkdocs.config.defaults import MkDocsConfig

from odradek.config import BROKER_SETTINGS, TOPIC_SETTINGS
from odradek.protocol.registry import APIS
from tools import command_pages, documentation, setting_pages

COMMANDS = command_pages.commands()


def test_every_setting_has_its_row_and_only_one() -> None:
    page = setting_pages.page()
    named = re.findall(r'<code id="(broker|topic)-([^"]+)">', page)
    settings = {("broker", name) for name in BROKER_SETTINGS} | {("topic", name) for name in TOPIC_SETTINGS}
    assert len(named) == len(set(named)) and set(named) == settings
    for row in (line for line in page.splitlines() if line.startswith("| <code")):
        cells = re.split(r"(?<!\\)\|", row)
        assert len(cells) == 7 and all(cell.strip() for cell in cells[1:-1]), row


def test_a_row_says_what_the_code_says() -> None:
    page = setting_pages.page()
    effective, without = page.split("## Without effect")
    assert re.search(r'"broker-log\.retention\.hours">.*\| int \| `168` \| at a start \| The same in hours', effective)
    assert re.search(r'"topic-retention\.ms">.*at least -1 \| `604800000` \| \[`log\.retention\.ms`', effective)
    assert re.search(r'"broker-message\.max\.bytes">.*\| while it runs \|', effective)
    for name, setting in BROKER_SETTINGS.items():
        assert (f'"broker-{name}"' in effective) is setting.effect
        assert (f'"broker-{name}"' in without) is not setting.effect


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_has_a_page_with_its_options(command: command_pages.Command) -> None:
    """Compared with what the command itself prints."""
    words = command.name.split()[1:]
    done = subprocess.run(
        [sys.executable, "-m", "odradek.cli.main", *words, "--help"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    page = command_pages.pages()[command.file]
    body = done.stdout.partition("Parameters ─")[2]
    options = {name for line in re.findall(r"^│ \*? *((?:--[a-z-]+ )+)", body, re.MULTILINE) for name in line.split()}
    shown = set(re.findall(r"(--[a-z-]+)", " ".join(re.findall(r"^`(.*)`$", page, re.MULTILINE))))
    assert shown == options and bool(options) is bool(body)
    first = done.stdout.split("\n\n")[1].replace("\n", " ")
    assert " ".join(first.split()) in " ".join(page.split())
    assert f"# {command.name}\n" in page and f"```\n{command.name}" in page


def test_the_tree_of_commands_is_whole() -> None:
    names = {command.name for command in COMMANDS}
    assert {"odradek", "odradek serve", "odradek topic create", "odradek consume"} <= names
    for command in COMMANDS[1:]:
        assert command.name.rpartition(" ")[0] in names


def test_parts_of_pages() -> None:
    apis = documentation.PARTS["apis"]()
    assert all(f"| {api.name} | {api.key} |" in apis for api in APIS)
    assert "| case | confluent-kafka |" in documentation.PARTS["clients"]()
    internals = documentation.pages()["internals.md"]
    assert internals.startswith("# Internals\n") and "(decisions/README.md)" in internals
    made = {
        name
        for path in documentation.ROOT.glob("docs/*.md")
        for name in re.findall("<!-- made: (.*?) -->", path.read_text())
    }
    assert made == set(documentation.PARTS)


def test_a_page_that_nobody_named_is_in_the_navigation(tmp_path: Path) -> None:
    for name in ("index.md", "metrics.md"):
        (tmp_path / name).write_text("# A page\n")
    config = MkDocsConfig()
    config["docs_dir"] = str(tmp_path)
    config["nav"] = [{"Odradek": "index.md"}, {"Commands": []}, {"Decisions": []}]
    documentation.on_config(config)
    first, added, commands, decisions = config["nav"]
    assert (first, added) == ({"Odradek": "index.md"}, "metrics.md")
    assert len(commands["Commands"]) == len(COMMANDS) and "decisions/README.md" in decisions["Decisions"]
