"""What the pages show at a terminal is what happens there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs import sessions

DOCS = Path(__file__).parent.parent.parent / "docs"


@pytest.mark.parametrize(("page", "at_least"), [("getting-started.md", 12), ("operations.md", 15)])
def test_a_page_happens_as_it_is_told(page: str, at_least: int, tmp_path: Path) -> None:
    assert sessions.play(DOCS / page, tmp_path) >= at_least


def test_a_page_that_is_wrong_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```console\n$ odradek serve --memory\n...\n$ odradek topic create t\nTopic u created.\n```\n")
    with pytest.raises(AssertionError, match="Topic u created"):
        sessions.play(page, tmp_path)


def test_what_is_compared() -> None:
    def plain(text: str) -> list[str]:
        return sessions.plain(text, Path("/tmp/x"), 40257)

    shown = plain("name   id\n  ────\n t  U5hJ6K50ReWut7imZmn4Pw\n")
    assert sessions.agrees(shown, plain("\r\n name id\r\n t aec2RRpTQOOpXpyn4kQMEg\r\n"))
    assert not sessions.agrees(shown, plain("name id\nu aec2RRpTQOOpXpyn4kQMEg\n"))
    assert plain("at 127.0.0.1:40257, in /tmp/x/data") == ["at 127.0.0.1:9092, in /home/you/data"]
    assert sessions.agrees(["a", "...", "d"], ["a", "b", "c", "d"]) and not sessions.agrees(["...", "d"], ["a"])
