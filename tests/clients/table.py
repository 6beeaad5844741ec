"""The table of results, client by case, in the project's README: made by the tests, compared with every whole run.

A test says its case with `@case("plain producer")`; a name may hold the test's parameters ("codec {codec}"). The
clients of a test are those among its parameters. A cell is `passed` when all its tests passed, `failed` when one did
not (also one that is expected to fail), `-` when no test of the case runs with the client: it, or its command line, has
no such feature. Where a client is not installed its cells are not compared; with CI=true a skipped test fails the run.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.clients.every import CLIENTS

FOLDER = Path(__file__).parent
README = FOLDER.parent.parent / "README.md"
BEGIN, END = "<!-- results -->\n", "<!-- /results -->"
RENEW = "python -m pytest tests/clients --write-client-table"

# The rows, in their order.
CASES = (
    "topics created, enlarged, deleted",
    "configs described, altered",
    "one config altered, the others left",
    "topics, cluster described",
    "records deleted",
    "offsets listed by the admin",
    "log directories described",
    "producers described",
    "plain producer, read whole by all others",
    "any bytes, headers, nulls; large records",
    "idempotent producer",
    "codec none",
    "codec gzip",
    "codec snappy",
    "codec lz4",
    "codec zstd",
    "beginning, end, seek by offset and time",
    "producing over a restart of the broker",
    "consuming over a restart of the broker",
    "producing while the disk is full",
    "producing while a retention guard blocks",
    "group: rebalance in the middle",
    "group: a member killed",
    "group: resumes after a restart of the broker",
    "group: static members",
    "group: mixed with another library",
    "groups listed, described",
    "group offsets read",
    "group offsets altered",
    "group offsets deleted",
    "groups deleted",
    "transactions committed and aborted",
)


class Cell(NamedTuple):
    case: str
    client: str


def cells_of(item: pytest.Item) -> list[Cell]:
    """The cells a test counts for."""
    mark = item.get_closest_marker("case")
    assert mark is not None, f"{item.nodeid} says no case"
    callspec = getattr(item, "callspec", None)
    parameters = dict(callspec.params) if callspec is not None else {}
    name = mark.args[0].format(**parameters)
    assert name in CASES, f"{item.nodeid}: {name!r} is no case of the table"
    given = [str(one) for value in parameters.values() for one in (value if isinstance(value, tuple) else (value,))]
    return [Cell(name, client.name) for client in CLIENTS if client.name in given]


def passed_skipped_or_failed(report: pytest.TestReport) -> str:
    return "failed" if hasattr(report, "wasxfail") else report.outcome


class TableOfResults:
    """Collects the outcomes; at the end of a whole run, writes the table or compares it."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.items: dict[str, list[Cell]] = {}
        self.outcomes: dict[str, str] = {}
        self.whole = True
        self.message = ""

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        self.whole = self.whole and not any(FOLDER in item.path.parents for item in items)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        ours = [item for item in items if FOLDER in item.path.parents]
        self.items = {item.nodeid: cells_of(item) for item in ours}
        missing = {path.name for path in FOLDER.glob("test_*.py")} - {item.path.name for item in ours}
        if missing or any("::" in argument for argument in self.config.args):
            self.whole = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.nodeid not in self.items:
            return
        # Three reports a test: its outcome is the worst of them.
        worst = ("passed", "skipped", "failed")
        self.outcomes[report.nodeid] = max(
            self.outcomes.get(report.nodeid, "passed"), passed_skipped_or_failed(report), key=worst.index
        )

    def cells(self) -> dict[Cell, str]:
        """What the run says of each cell; nothing of a cell with a skipped test."""
        told: dict[Cell, set[str]] = {}
        for nodeid, cells in self.items.items():
            for cell in cells:
                told.setdefault(cell, set()).add(self.outcomes[nodeid])
        return {
            Cell(case, client.name): _cell(told.get(Cell(case, client.name), set()))
            for case in CASES
            for client in CLIENTS
        }

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        skipped = [nodeid for nodeid, outcome in self.outcomes.items() if outcome == "skipped"]
        if skipped and os.environ.get("CI") == "true":
            self._fail(session, f"with CI=true no test of a client may be skipped: {', '.join(skipped)}")
        if not self.items or not self.whole or len(self.outcomes) < len(self.items):
            return
        found = self.cells()
        before, written, after = _parts(README.read_text())
        if self.config.getoption("--write-client-table", default=False):
            not_run = sorted({cell.client for cell, told in found.items() if told == "?"})
            if not_run:
                self._fail(session, f"the table is not written: there were no results of {', '.join(not_run)}")
            else:
                README.write_text(before + table(found) + after)
            return
        in_readme = parse(written)
        different = [
            f"{cell.client}, {cell.case}: {found.get(cell, 'gone')} (README: {in_readme.get(cell, 'nothing')})"
            for cell in {**found, **in_readme}
            if found.get(cell) != "?" and found.get(cell) != in_readme.get(cell)
        ]
        if different:
            listed = "\n  ".join(different)
            self._fail(session, f"the table in tests/clients/README.md differs; renew it by `{RENEW}`:\n  {listed}")

    def _fail(self, session: pytest.Session, message: str) -> None:
        self.message += message + "\n"
        session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.message:
            terminalreporter.section("the clients' table of results", red=True)
            terminalreporter.write(self.message)


def _cell(outcomes: set[str]) -> str:
    if not outcomes:
        return "-"
    for outcome in ("failed", "skipped"):
        if outcome in outcomes:
            return "?" if outcome == "skipped" else outcome
    return "passed"


def _parts(text: str) -> tuple[str, str, str]:
    """What stands before the table, the table, and what stands after it."""
    begin = text.index(BEGIN) + len(BEGIN)
    end = text.index(END)
    return text[:begin], text[begin:end], text[end:]


def table(cells: dict[Cell, str]) -> str:
    names = [client.name for client in CLIENTS]
    lines = [f"| case | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    lines += [f"| {case} | {' | '.join(cells[Cell(case, name)] for name in names)} |" for case in CASES]
    return "\n".join(lines) + "\n"


def parse(text: str) -> dict[Cell, str]:
    rows = [[field.strip() for field in line.strip("| ").split(" | ")] for line in text.splitlines()]
    if not rows:
        return {}
    names = rows[0][1:]
    return {Cell(row[0], name): told for row in rows[2:] for name, told in zip(names, row[1:], strict=False)}
