"""A page for each command of `odradek`, in the shape of a manual page, from the tree of commands.

Role: the text is that of `--help` (cyclopts writes it as Markdown); here it is cut into pages and gets the manual's
headings, exit codes and neighbours. Nothing about a command stands here.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from odradek.cli.failures import RUN_TIME, WRONG_USE
from odradek.cli.main import app

_HEADING = re.compile(r"^#{1,6} (odradek(?: [a-z-]+)*)$", re.MULTILINE)
_EXIT_CODES = f"""\
0
:   Success.

{RUN_TIME}
:   It could not be done: nobody answers, a refusal, a lost connection. One sentence on standard error says what.

{WRONG_USE}
:   Wrong use: an option, a file or a setting that cannot be meant.

"""
_INTERRUPTED = """\
130
:   Ctrl-C.
"""
_ENVIRONMENT = """\
ODRADEK_BOOTSTRAP_SERVER
:   Where to connect without `--bootstrap-server`: HOST:PORT of a broker, or a profile. Without both it is the
    profile in use (see [odradek profile](odradek-profile.md)), else 127.0.0.1:9092.
"""


class Command(NamedTuple):
    """One command of the tree: its words, and what `--help` says of it, as Markdown without its heading."""

    name: str
    help: str

    @property
    def file(self) -> str:
        return "index.md" if self.name == "odradek" else self.name.replace(" ", "-") + ".md"


def commands() -> list[Command]:
    """Every command there is, in the order of the tree."""
    parts = _HEADING.split(app.generate_docs(heading_level=1))
    found = [Command(name, text) for name, text in zip(parts[1::2], parts[2::2], strict=True)]
    assert found and found[0].name == "odradek"
    return found


def _items(text: str) -> str:
    """A Markdown list of options as a list of definitions."""
    out = []
    for line in text.strip().splitlines():
        match = re.fullmatch(r"\* (`.+?`(?:, `.+?`)*): ?(.*)", line)
        if match is not None:
            out.append(f"{match[1]}\n:   {match[2] or '&nbsp;'}\n")
        elif line.strip():
            out[-1] = f"{out[-1].rstrip()} {line.strip()}\n"
    return "\n".join(out)


def _page(command: Command, everything: list[Command]) -> str:
    synopsis, description, sections = "", [], {}
    text = re.sub(r"## Table of Contents\n.*?(?=\n\*\*|\Z)", "", command.help, flags=re.DOTALL)
    body, *rest = re.split(r"^\*\*([A-Z][a-z]+)\*\*:$", text, flags=re.MULTILINE)
    for heading, content in zip(rest[::2], rest[1::2], strict=True):
        sections[heading] = content
    fence = re.search(r"```console\n(.*?)\n```", body, re.DOTALL)
    synopsis = fence[1] if fence else f"{command.name} COMMAND"
    description = [part for part in re.sub(r"```.*?```", "", body, flags=re.DOTALL).strip().split("\n\n") if part]
    arguments = re.findall(r"^\* `(.+?)`", sections.get("Arguments", ""), re.MULTILINE)
    synopsis = synopsis.replace("[ARGS...]", " ".join(f"[{name}...]" for name in arguments))
    out = [f"# {command.name}", "## Name", f"{command.name} — {description[0]}"]
    out += ["## Synopsis", f"```\n{synopsis}\n```"]
    if description[1:]:
        out += ["## Description", *description[1:]]
    for heading, title in (("Arguments", "Arguments"), ("Parameters", "Options")):
        if heading in sections:
            out += [f"## {title}", _items(sections[heading])]
    below = [other for other in everything if other.name.rpartition(" ")[0] == command.name]
    if below:
        lines = [f"[{other.name}]({other.file})\n:   {_first_line(other)}\n" for other in below]
        out += ["## Commands", "\n".join(lines)]
    else:
        out += ["## Exit codes", _EXIT_CODES + ("" if command.name == "odradek serve" else _INTERRUPTED)]
    if "--bootstrap-server" in sections.get("Parameters", ""):
        out += ["## Environment", _ENVIRONMENT]
    above = command.name.rpartition(" ")[0]
    near = [other for other in everything if other is not command and other.name.rpartition(" ")[0] == above and above]
    if above:
        near.insert(0, next(other for other in everything if other.name == above))
        out += ["## See also", ", ".join(f"[{other.name}]({other.file})" for other in near)]
    return "\n\n".join(out) + "\n"


def _first_line(command: Command) -> str:
    text = re.sub(r"```.*?```", "", command.help, flags=re.DOTALL).strip()
    return text.split("\n\n")[0]


def pages() -> dict[str, str]:
    """The pages' texts by their file names, the overview first."""
    everything = commands()
    return {command.file: _page(command, everything) for command in everything}
