"""Bytes to frames, however they arrive, without a socket."""

from __future__ import annotations

import random
import struct

import pytest

from odradek.network.frames import DIRECT_BYTES, FRAME_FIRST_BYTES, FRAME_STEP_BYTES, RECEIVE_BYTES, Frames

LIMIT_BYTES = 1_000_000


def frame(size: int, chance: random.Random) -> bytes:
    return struct.pack(">i", size) + chance.randbytes(size)


def receive(frames: Frames, data: bytes, pieces: random.Random, most: int) -> list[bytes]:
    """What is cut out of `data`, which comes in pieces of up to `most` bytes."""
    cut: list[bytes] = []
    position = 0
    while position < len(data):
        view = frames.buffer()
        count = min(pieces.randint(1, most), len(view), len(data) - position)
        view[:count] = data[position : position + count]
        del view
        position += count
        cut += map(bytes, frames.received(count))
        if frames.unfinished is not None:
            # What was announced costs nothing.
            assert len(frames.unfinished) <= max(FRAME_FIRST_BYTES, 2 * frames.held_bytes)
    return cut


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("most", [1, 3, 5, 1000, DIRECT_BYTES + 1, RECEIVE_BYTES])
def test_frames_are_cut_where_they_end(seed: int, most: int) -> None:
    chance = random.Random(seed)
    sizes = [chance.choice((0, 1, 3, 100, 5000)) for _ in range(30)]
    if most >= 1000:
        sizes += [FRAME_FIRST_BYTES, 300_000, LIMIT_BYTES]
        chance.shuffle(sizes)
    sent = [frame(size, chance) for size in sizes]
    frames = Frames(memoryview(bytearray(RECEIVE_BYTES)), LIMIT_BYTES)
    assert receive(frames, b"".join(sent), chance, most) == sent
    assert frames.held_bytes == 0 and frames.unfinished is None and frames.impossible_length is None


@pytest.mark.parametrize("length", [-1, LIMIT_BYTES + 1, struct.unpack(">i", b"GET ")[0]])
@pytest.mark.parametrize("most", [1, 3, 1000])
def test_what_is_before_an_impossible_length_is_cut_and_nothing_behind_it(length: int, most: int) -> None:
    chance = random.Random(1)
    sent = [frame(10, chance), frame(0, chance)]
    frames = Frames(memoryview(bytearray(RECEIVE_BYTES)), LIMIT_BYTES)
    cut = receive(frames, b"".join(sent) + struct.pack(">i", length), chance, most)
    assert cut == sent and frames.impossible_length == length and frames.held_bytes == 0


def test_what_is_abandoned_is_told() -> None:
    frames = Frames(memoryview(bytearray(RECEIVE_BYTES)), LIMIT_BYTES)
    assert receive(frames, frame(100, random.Random(2))[:50], random.Random(2), 7) == []
    assert frames.held_bytes == 50
    assert frames.abandon() == 50 and frames.held_bytes == 0


def test_a_large_frame_grows_by_a_bounded_step() -> None:
    """Each step stops the event loop: twice as much as is here took 25 ms at 64 MB."""
    size = 10 * FRAME_STEP_BYTES
    receive = memoryview(bytearray(RECEIVE_BYTES))
    frames = Frames(receive, size)
    frames.buffer()[:4] = struct.pack(">i", size)
    assert frames.received(4) == []
    grown, requests, rest = 0, [], size
    while rest:
        count = min(len(frames.buffer()), RECEIVE_BYTES, rest)
        requests = frames.received(count)
        rest -= count
        if frames.unfinished is not None:
            assert len(frames.unfinished) - grown <= FRAME_STEP_BYTES
            grown = len(frames.unfinished)
    assert [len(request) for request in requests] == [size + 4]
