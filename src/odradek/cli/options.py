"""Options that several commands share: the name, help and completion of each.

Role: types for the signatures of commands, from which cyclopts makes the options. Options of only one command, and help
that differs between commands, are in the commands' modules.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from cyclopts import Parameter

from odradek.cli import completers
from odradek.cli.failures import WrongUse
from odradek.cli.output import Output

# A flag without the --no-... form.
Flag = Annotated[bool, Parameter(negative="")]
# May be repeated.
Texts = Annotated[list[str] | None, Parameter(negative="")]
Numbers = Annotated[list[int] | None, Parameter(negative="")]

TopicArgument = Annotated[str, Parameter(completer=completers.topics)]
GroupArgument = Annotated[str, Parameter(completer=completers.groups)]
TOPIC_PARTITIONS = Parameter(
    negative="", completer=completers.topics, help="TOPIC, or TOPIC:PARTITION,...; may be repeated."
)

Every = Annotated[float, Parameter(help="Seconds between, with --watch.")]
Http = Annotated[str | None, Parameter(help="HOST:PORT of the broker's HTTP port, where its settings do not say it.")]

# One type for each kind of output: rows of one table, one row, several tables, a line for each thing done, one line.
OutputRows = Annotated[Output, Parameter(help="auto: a table on a terminal, else lines with tabs. json: one array.")]
OutputRow = Annotated[Output, Parameter(help="auto: a table on a terminal, else lines with tabs. json: one object.")]
OutputTables = Annotated[Output, Parameter(help="auto: tables on a terminal, else lines with tabs. json: one object.")]
OutputLines = Annotated[Output, Parameter(help="auto: a line each. json: one array.")]
OutputLine = Annotated[Output, Parameter(help="auto: a line. json: one object.")]

# The default of --timeout.
TIMEOUT_S = 30.0
Timeout = Annotated[float, Parameter(help="Seconds to wait for an answer.")]
Bootstrap = Annotated[
    str | None,
    Parameter(
        name="--bootstrap-server",
        completer=completers.profiles,
        help="HOST:PORT of a broker, or a profile; see `odradek profile --help`.",
    ),
]


def read_topics(options: Iterable[str]) -> dict[str, list[int] | None]:
    """The topics of --topic NAME[:PARTITION,...] options, each with its partitions (None: all). Raises `WrongUse`."""
    found: dict[str, list[int] | None] = {}
    for option in options:
        name, colon, text = option.partition(":")
        parts = text.split(",") if colon else []
        if not name or not all(part.isascii() and part.isdigit() and int(part) < 2**31 for part in parts):
            raise WrongUse(f"--topic {option!r} is not TOPIC or TOPIC:PARTITION,...")
        if not colon or (name in found and found[name] is None):
            found[name] = None
        else:
            found[name] = sorted({*(found.get(name) or ()), *map(int, parts)})
    return found
