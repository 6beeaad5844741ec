"""Values that rot are said, or served as they were; and what is handed out wrongly, or goes unsaid, is found out."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from odradek.records.batch import split_batches
from tests.adversity.rot import DAMAGES, ONE, Copy, Damage, campaign, directories, trial
from tests.raw_client import batch

SEED = 1
COUNT = 2 * len(DAMAGES)  # each after a stop and after a kill


def test_nothing_is_served_wrongly_and_nothing_goes_unsaid() -> None:
    report = campaign(SEED, COUNT)
    assert report.losses == []
    assert report.done == COUNT


@pytest.fixture(scope="module")
def stopped() -> Iterator[Path]:
    with directories() as made:
        yield made["stopped"]


def _forged(copy: Copy) -> Damage:
    """Another record, whole in itself."""
    (segment,) = copy.segments(ONE)
    data = bytearray(segment.read_bytes())
    for header, piece in split_batches(bytes(data)):
        if header.base_offset == 20:
            at = bytes(data).index(bytes(piece))
            forged = bytearray(batch(b"forged".ljust(100, b".")))
            forged[:8], forged[12:16] = data[at : at + 8], data[at + 12 : at + 16]
            data[at : at + len(piece)] = forged
    segment.write_bytes(data)
    return Damage("a forged record")


def _cut(copy: Copy) -> Damage:
    """The end of a log is gone, and nobody expects that."""
    (segment,) = copy.segments(ONE)
    segment.write_bytes(segment.read_bytes()[:5000])
    return Damage("the end is gone")


def _nothing(copy: Copy) -> Damage:
    return Damage("nothing")


@pytest.mark.parametrize(
    ("damage", "told"),
    [(_nothing, ""), (_forged, "at offset 20 is b'forged"), (_cut, "which is not damaged")],
)
def test_what_is_not_as_it_was_is_found_out(stopped: Path, damage: Callable[[Copy], Damage], told: str) -> None:
    _, losses = trial(stopped, random.Random(SEED), damage)
    assert any(told in loss for loss in losses) if told else losses == [], losses
