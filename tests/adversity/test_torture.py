"""The table of campaigns and its command line: numbers, seeds, losses and the way to see them again."""

from __future__ import annotations

import pytest

from tests.adversity.torture import CAMPAIGNS, Entry, Report, main

HERE = "tests.adversity.test_torture"


def quiet(seed: int, count: int) -> Report:
    return Report(count, "tries", notes=[f"with {seed}"])


def losing(seed: int, count: int) -> Report:
    return Report(count, "tries", losses=[f"record {seed} is gone"])


TABLE = {"quiet": Entry(f"{HERE}:quiet", 3, "nothing"), "losing": Entry(f"{HERE}:losing", 5, "something")}


def test_a_quiet_campaign_prints_a_line_and_ends_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quiet", "--seed", "9"], TABLE) == 0
    first, note = capsys.readouterr().out.splitlines()
    assert first.startswith("quiet: 3 tries, seed 9,") and first.endswith("0 losses")
    assert note.strip() == "with 9"


def test_a_loss_ends_with_1_and_says_how_to_see_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "4"], TABLE) == 1
    shown = capsys.readouterr().out
    assert "LOSS: record 4 is gone" in shown
    assert "again: python -m tests.adversity.torture losing --count 5 --seed 4" in shown


def test_what_is_not_run_by_default_is_run_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    table = {**TABLE, "losing": Entry(f"{HERE}:losing", 5, "something", by_default=False)}
    assert main([], table) == 0
    assert main(["losing"], table) == 1
    assert capsys.readouterr().out.count("losing: 5 tries") == 1


def test_an_unknown_campaign_is_refused() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["nothing-like-it"], TABLE)
    assert ended.value.code == 2


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_every_campaign_is_there(name: str) -> None:
    assert callable(CAMPAIGNS[name].load())
