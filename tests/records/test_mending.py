"""One flipped bit is found by the checksum and turned back; more than one are not taken for one."""

from __future__ import annotations

import random

import pytest

from odradek.records.batch import HEADER_BYTES, CorruptBatch, checked_batches, read_header
from odradek.records.builder import batch_bytes
from odradek.records.mending import MENDED_MAX_BYTES, mended, next_sound
from tests.batches import make_batch

WHOLE = batch_bytes(make_batch(5))
# What the checksum leaves out and nothing else tells: the batch's offset, the leader epoch.
UNKNOWN = {*range(8), *range(12, 16)}


def flipped(data: bytes, *bits: int) -> memoryview:
    out = bytearray(data)
    for bit in bits:
        out[bit // 8] ^= 1 << bit % 8
    return memoryview(out)


@pytest.mark.parametrize("behind", [b"", WHOLE, b"\xff" * 3000], ids=["nothing", "a batch", "no batch"])
def test_every_single_bit_is_turned_back(behind: bytes) -> None:
    for bit in range(8 * len(WHOLE)):
        found = mended(flipped(WHOLE + behind, bit))
        if bit // 8 in UNKNOWN:
            assert found is None
        else:
            assert found == (read_header(WHOLE), WHOLE), bit


def test_more_than_a_bit_is_not_taken_for_one() -> None:
    chance = random.Random(1)
    bits = [bit for bit in range(8 * len(WHOLE)) if bit // 8 not in UNKNOWN]
    for _ in range(2000):
        several = chance.sample(bits, chance.randrange(2, 40))
        assert mended(flipped(WHOLE, *several)) is None, several
    for cut in range(len(WHOLE)):
        assert mended(memoryview(WHOLE)[:cut]) is None


def test_a_batch_that_is_too_large_is_left() -> None:
    large = batch_bytes(make_batch(1, value=bytes(MENDED_MAX_BYTES)))
    assert mended(flipped(large, 8 * (len(large) - 100))) is None


def test_a_batch_with_damage_ends_the_reading_of_checked_ones() -> None:
    assert [header for header, _ in checked_batches(WHOLE + WHOLE)] == [read_header(WHOLE)] * 2
    for bit in range(8 * 16, 8 * len(WHOLE)):
        with pytest.raises(CorruptBatch):
            list(checked_batches(flipped(WHOLE, bit)))


def test_a_compacted_batch_is_sound() -> None:
    """Its count is below what its offsets span."""
    batch = make_batch(2)
    kept = batch.with_header(batch.header._replace(last_offset_delta=40))
    assert [header.last_offset_delta for header, _ in checked_batches(batch_bytes(kept))] == [40]


def test_the_next_sound_batch_is_found_behind_anything() -> None:
    chance = random.Random(2)
    at = {offset: b"".join(make_batch(3).placed_at(offset, 0)) for offset in (0, 3, 6)}
    for _ in range(200):
        noise = chance.randbytes(chance.randrange(1, 400)).replace(b"\x00", b"\x02")
        data = memoryview(noise + at[3] + at[6])
        assert next_sound(data, 0, 0, 9) == len(noise)
        assert next_sound(data, len(noise) + 1, 0, 9) == len(noise) + len(at[3])
        assert next_sound(data, 0, 4, 9) == len(noise) + len(at[3])
        assert next_sound(data, 0, 0, 6) == len(noise)
    assert next_sound(memoryview(at[0][:-1]), 0, 0, 9) is None
    assert next_sound(memoryview(b"\x02" * HEADER_BYTES), 0, 0, 9) is None
