"""The stories in `testdata/transactions`, each run against a shard; and again with a restart at every step."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.coordination.transaction_stories import Story

STORIES = sorted((Path(__file__).parent / "testdata" / "transactions").glob("*.txt"))
INDENT = "  "


def retell(text: str) -> str:
    """The story with what happens now. A line of dashes begins a new one."""
    story = Story()
    out = []
    for line in text.splitlines():
        if line.startswith(INDENT):
            continue
        out.append(line)
        if line.startswith("---"):
            story = Story()
        elif line and not line.startswith("#"):
            out += [INDENT + told for told in story.run(line)]
    return "\n".join(out) + "\n"


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_story(path: Path, request: pytest.FixtureRequest) -> None:
    text = path.read_text()
    told = retell(text)
    if request.config.getoption("--rewrite", False):
        path.write_text(told)
    assert told == text


@pytest.mark.parametrize("snapshot", ["restart", "restart snapshot"])
@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_a_restart_at_every_step(path: Path, snapshot: str) -> None:
    """The state is the same, and what was prepared is found to be completed."""
    for chapter in path.read_text().split("---\n"):
        story = Story()
        for line in chapter.splitlines():
            if line and not line.startswith((INDENT, "#")):
                story.run(line)
                before = dict(story.shard.transactions)
                story.run(snapshot)
                assert story.shard.transactions == before
                assert story.prepared == [name for name, one in before.items() if one.state.is_prepared]
