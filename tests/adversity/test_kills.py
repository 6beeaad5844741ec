"""kill -9 under load: nothing acknowledged is lost. And every anomaly that the check is for is found."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.adversity.kills import Commits, History, campaign, check, check_commits

KILLS = 6


def test_nothing_acknowledged_is_lost() -> None:
    report = campaign(seed=11, count=KILLS)
    assert (report.done, report.losses) == (KILLS, [])


def history() -> tuple[History, dict[int, bytes]]:
    final = {offset: b"%09d" % offset for offset in range(10)}
    return History("t", True, acknowledged=dict(final), read=dict(final)), final


def test_a_history_where_all_is_well() -> None:
    told, final = history()
    assert check(told, final) == []


def _lost(told: History, final: dict[int, bytes]) -> None:
    del final[9]
    del told.read[9]


def _other_value(told: History, final: dict[int, bytes]) -> None:
    final[9] = b"%09d" % 77
    told.read[9] = final[9]


def _read_and_gone(told: History, final: dict[int, bytes]) -> None:
    told.read[10] = b"%09d" % 10


def _twice(told: History, final: dict[int, bytes]) -> None:
    final[10] = final[9]


def _out_of_order(told: History, final: dict[int, bytes]) -> None:
    told.acknowledged.clear()
    told.read.clear()
    final[3], final[4] = final[4], final[3]


def _hole(told: History, final: dict[int, bytes]) -> None:
    told.acknowledged.clear()
    told.read.clear()
    del final[5]


@pytest.mark.parametrize(
    ("anomaly", "said"),
    [
        (_lost, "acknowledged at offset 9, and not there"),
        (_other_value, "acknowledged at offset 9 was b'000000009', there is b'000000077'"),
        (_read_and_gone, "read at offset 10, and not there"),
        (_twice, "record 9 stands behind 9"),
        (_out_of_order, "record 3 stands behind 4"),
        (_hole, "there are holes in 9 offsets"),
    ],
)
def test_an_anomaly_is_found(anomaly: Callable[[History, dict[int, bytes]], None], said: str) -> None:
    told, final = history()
    anomaly(told, final)
    assert any(said in loss for loss in check(told, final)), check(told, final)


def test_a_commit_that_goes_back_is_found() -> None:
    assert check_commits(Commits(5, 6, [(-1, -1), (3, 3), (3, 4), (5, 6)])) == []
    assert check_commits(Commits(5, 6, [(5, 4)])) == ["group: 5 was committed, and 4 came back"]
    assert check_commits(Commits(5, 6, [(5, 7)])) == ["group: 5 was committed, and 7 came back"]
