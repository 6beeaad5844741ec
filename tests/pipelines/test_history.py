"""Every anomaly that the checker of transactional histories is for is found."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.pipelines.history import History, Seen, Transaction, Written, check

Told = tuple[History, list[Written]]


def told() -> Told:
    """Three transactions: one committed, one aborted, one of unknown end that was committed; all is well."""
    history = History("p", {0: ["0", "2"], 1: ["1", "3"]})
    for line in (
        {"event": "committing", "tag": "1-1", "records": [[0, "0"], [1, "1"]], "at_ns": 100},
        {"event": "committed", "tag": "1-1"},
        {"event": "aborting", "tag": "1-2", "records": [[0, "2"]], "at_ns": 200},
        {"event": "aborted", "tag": "1-2"},
        {"event": "committing", "tag": "2-1", "records": [[0, "2"], [1, "3"]], "at_ns": 300},
    ):
        history.told(line)
    final = [Written(0, 0, "1-1:0"), Written(1, 0, "1-1:1"), Written(0, 4, "2-1:2"), Written(1, 2, "2-1:3")]
    history.seen = [Seen(record, 150 + 100 * number) for number, record in enumerate(final)]
    history.committed_offsets = [(0, 1), (1, 1), (0, 2), (1, 2)]
    return history, final


def test_a_history_where_all_is_well() -> None:
    history, final = told()
    assert check(history, final) == []
    assert history.transactions["1-2"] == Transaction([(0, "2")], None, "aborted")
    # Of unknown end, and nothing of it there: the next one has done it.
    history.told({"event": "committing", "tag": "1-3", "records": [[0, "2"]], "at_ns": 250})
    assert check(history, final) == []


def _lost(history: History, final: list[Written]) -> None:
    del final[0], history.seen[0]


def _twice(history: History, final: list[Written]) -> None:
    final.append(Written(0, 7, "2-1:2"))


def _stranger(history: History, final: list[Written]) -> None:
    final.append(Written(0, 7, "2-1:99"))


def _other_partition(history: History, final: list[Written]) -> None:
    final.append(Written(5, 7, "2-1:99"))


def _out_of_order(history: History, final: list[Written]) -> None:
    final[0], final[2] = final[0]._replace(offset=4), final[2]._replace(offset=0)


def _aborted(history: History, final: list[Written]) -> None:
    history.transactions["2-1"].end = "aborted"


def _open(history: History, final: list[Written]) -> None:
    history.transactions["2-1"].committing_ns = None


def _unheard_of(history: History, final: list[Written]) -> None:
    del history.transactions["2-1"]


def _torn(history: History, final: list[Written]) -> None:
    del final[3], history.seen[3]


def _committed_in_part(history: History, final: list[Written]) -> None:
    history.transactions["2-1"].end = "committed"
    del final[3], history.seen[3]


def _taken_back(history: History, final: list[Written]) -> None:
    history.seen.append(Seen(Written(1, 5, "3-1:5"), 900))


def _read_elsewhere(history: History, final: list[Written]) -> None:
    history.seen[2] = Seen(Written(0, 3, "1-2:2"), 350)


def _too_early(history: History, final: list[Written]) -> None:
    history.seen[2] = Seen(final[2], 299)


def _offset_back(history: History, final: list[Written]) -> None:
    history.committed_offsets.append((1, 1))


@pytest.mark.parametrize(
    ("anomaly", "said"),
    [
        (_lost, "input 0 of partition 0 is not in the output"),
        (_twice, "input 2 of partition 0 is in the output 2 times"),
        (_stranger, "99 in partition 0 of the output is no input"),
        (_other_partition, "there are records in partition 5"),
        (_out_of_order, "partition 0 of the output is out of order"),
        (_aborted, "transaction 2-1 was aborted, and 2 of its 2 records can be read"),
        (_open, "transaction 2-1 can be read, and was never to be committed"),
        (_unheard_of, "transaction 2-1 can be read, and was never to be committed"),
        (_torn, "transaction 2-1 is torn: 1 of its 2 records can be read"),
        (_committed_in_part, "transaction 2-1 was committed, and 1 of its 2 records can be read"),
        (_taken_back, "3 records were read of partition 1, and 2 are there"),
        (_read_elsewhere, "was read where in the end there is"),
        (_too_early, "1 ns before its transaction was to be committed"),
        (_offset_back, "the group's offset of partition 1 went from 2 back to 1"),
    ],
)
def test_an_anomaly_is_found(anomaly: Callable[[History, list[Written]], None], said: str) -> None:
    history, final = told()
    anomaly(history, final)
    assert any(said in loss for loss in check(history, final)), check(history, final)
