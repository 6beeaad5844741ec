"""The stories in `testdata`, each run against a shard; and again with the coordinator restarted at every step."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.coordination.stories import Story, listed

TESTDATA = Path(__file__).parent / "testdata"
STORIES = sorted(TESTDATA.glob("*.txt"))
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


@pytest.mark.parametrize("snapshot", [False, True], ids=["log", "snapshot"])
@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_a_restart_at_every_step(path: Path, snapshot: bool) -> None:
    """Whatever the step before which the coordinator is restarted: what was durable is what it was, everyone who waited
    is answered, and the group can be joined and comes to rest."""
    chapters = path.read_text().split("---\n")
    for chapter in chapters:
        commands = [line for line in chapter.splitlines() if line and not line.startswith((INDENT, "#", "---"))]
        for step in range(1, len(commands) + 1):
            story = Story()
            for command in commands[:step]:
                story.run(command)
            durable = dict(story.shard.records()())
            story.run("restart snapshot" if snapshot else "restart")
            assert dict(story.shard.records()()) == durable
            assert story.shard.waiting() == []
            # Everyone who was there has gone away: their sessions end, and somebody new has the group.
            story.run("wait 40m")
            for group_id in {one.group_id for one in listed(story.shard)} | {"g"}:
                live = story.classic.group(group_id)
                static = [] if live is None else list(live.static_members)
                assert live is None or not live.members, (step, group_id, static)
                newcomer = f"newcomer@{group_id}"
                story.run(f"{newcomer} joins")
                # A first rebalance may wait for others.
                told = story.run(f"{newcomer} joins") + story.run("wait 4s")
                assert "joined" in " ".join(told), (step, group_id)
                assert "synced" in " ".join(story.run(f"{newcomer} syncs newcomer=t-0")), (step, group_id)
