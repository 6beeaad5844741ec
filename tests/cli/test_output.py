"""Tables on a terminal: whole values, or a paragraph for each row."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest

from odradek.cli import output

ROWS: list[dict[str, Any]] = [
    {"id": 1, "address": "broker-1.example.com:9092", "is_controller": True, "racks": ["a", "b"], "none": None},
    {"id": 22, "address": "127.0.0.1:9092", "is_controller": False, "racks": [], "none": None},
]
COLUMNS = ("id", "address", "is_controller", "racks", "none")


def shown(width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setitem(os.environ, "COLUMNS", str(width))
    monkeypatch.setitem(os.environ, "TERM", "xterm")
    output.print_rows(COLUMNS, ROWS, "What there is")
    return re.sub(r"\x1b\[\d*m", "", capsys.readouterr().out)


@pytest.mark.parametrize("width", [30, 40, 50, 57, 58, 59, 60, 61, 62, 65, 80, 200])
def test_values_are_never_broken(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shown(width, monkeypatch, capsys)
    assert "What there is" in out and "broker-1.example.com:9092" in out and "127.0.0.1:9092" in out
    if width >= 80:
        assert max(map(len, out.splitlines())) <= width and len(out.splitlines()) <= 9


def test_a_narrow_terminal_gets_paragraphs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(40, monkeypatch, capsys).splitlines()[:8] == [
        "What there is",
        "",
        "id             1",
        "address        broker-1.example.com:9092",
        "is controller  yes",
        "racks          a,b",
        "none",
        "",
    ]


def test_numbers_are_right_aligned_and_words_are_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = shown(200, monkeypatch, capsys).splitlines()
    (heading,) = (line for line in lines if "controller" in line)
    (first,) = (line for line in lines if "broker-1" in line)
    assert first.index("1") == heading.index("id") + 1
    assert first.index("yes") == heading.index("is controller")
