"""At the usual soft limit of descriptors, and with no more than that, clients and partitions are served."""

from __future__ import annotations

import pytest

from tests.adversity.descriptors import campaign

SEED = 1
COUNT = 2  # one with room above the soft limit, one without


def test_more_partitions_and_clients_than_descriptors() -> None:
    report = campaign(SEED, COUNT)
    assert report.losses == []
    if report.notes:
        pytest.skip(report.notes[0])
    assert report.done == COUNT
