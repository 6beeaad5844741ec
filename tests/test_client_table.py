"""The table of results of the clients: complete, and compared with what a run found."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.clients import table
from tests.clients.every import CLIENTS
from tests.clients.table import CASES, Cell, TableOfResults, parse

ALL = {Cell(case, client.name): "passed" for case in CASES for client in CLIENTS}


def test_the_readme_has_a_cell_for_every_case_and_client() -> None:
    text = table.README.read_text()
    in_readme = parse(text[text.index(table.BEGIN) + len(table.BEGIN) : text.index(table.END)])
    assert set(in_readme) == set(ALL)
    assert set(in_readme.values()) <= {"passed", "failed", "-"}


def test_the_table_is_read_as_it_was_written() -> None:
    cells = ALL | {Cell(CASES[0], CLIENTS[0].name): "-", Cell(CASES[1], CLIENTS[1].name): "failed"}
    assert parse(table.table(cells)) == cells


@pytest.fixture
def readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A README that says that all passed."""
    path = tmp_path / "README.md"
    path.write_text(f"before\n{table.BEGIN}{table.table(ALL)}{table.END}after\n")
    monkeypatch.setattr(table, "README", path)
    monkeypatch.setattr(os, "environ", {**os.environ, "CI": "false"})
    return path


def finished(outcomes: dict[Cell, str], *, write: bool = False) -> tuple[int, str]:
    """The exit status and the message of a whole run with one test a cell."""
    config: Any = SimpleNamespace(getoption=lambda name, default: write)
    results = TableOfResults(config)
    results.items = {str(index): [cell] for index, cell in enumerate(outcomes)}
    results.outcomes = {str(index): outcome for index, outcome in enumerate(outcomes.values())}
    session: Any = SimpleNamespace(exitstatus=0)
    results.pytest_sessionfinish(session)
    return int(session.exitstatus), results.message


SOME = Cell(CASES[3], CLIENTS[2].name)


def test_a_run_as_the_readme_says(readme: Path) -> None:
    assert finished(ALL) == (0, "")


def test_a_run_that_differs_fails_and_says_how_to_renew(readme: Path) -> None:
    status, message = finished(ALL | {SOME: "failed"})
    assert status == 1
    assert f"{SOME.client}, {SOME.case}: failed (README: passed)" in message
    assert table.RENEW in message


def test_a_feature_gone_is_a_difference(readme: Path) -> None:
    status, message = finished({cell: "passed" for cell in ALL if cell != SOME})
    assert status == 1
    assert f"{SOME.client}, {SOME.case}: - (README: passed)" in message


def test_a_client_not_installed_is_not_compared_but_with_ci(readme: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert finished(ALL | {SOME: "skipped"}) == (0, "")
    monkeypatch.setitem(os.environ, "CI", "true")
    status, message = finished(ALL | {SOME: "skipped"})
    assert status == 1
    assert "no test of a client may be skipped" in message


def test_the_table_is_renewed(readme: Path) -> None:
    assert finished(ALL | {SOME: "failed"}, write=True) == (0, "")
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("after\n")
    assert finished(ALL | {SOME: "failed"}) == (0, "")
    # Never with holes: a client that was not there keeps its results.
    status, message = finished(ALL | {SOME: "skipped"}, write=True)
    assert status == 1
    assert SOME.client in message
    assert readme.read_text() == text
