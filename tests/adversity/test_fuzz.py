"""A short run of the fuzzer; the long ones are by hand, by seed."""

from __future__ import annotations

import pytest

from fuzz.broker_input import run


@pytest.mark.parametrize("seed", [11, 12])
def test_nothing_that_arrives_makes_a_handler_fail(seed: int) -> None:
    counts = run(seed, 1500)
    assert counts["answered"] > 300 and counts["closed"] > 100
