"""A short run of the fuzzer of messages, and what longer ones must never find again."""

from __future__ import annotations

import pytest

from fuzz.protocol_messages import MESSAGES, check, check_header, one_input, run


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_mutated_messages_are_messages_or_refused(seed: int) -> None:
    counts = run(seed, 4000)
    assert counts["messages"] > 500 and counts["refused"] > 500


def test_nothing_and_noise_reach_every_decoder() -> None:
    for cls, version in MESSAGES:
        for noise in (b"", b"\0", b"\xff" * 40, b"\x7f" * 40, b"\x80" * 40):
            check(cls, version, noise)


def test_a_cost_in_proportion_to_the_bytes_received() -> None:
    # 300,000 topics of the fewest bytes possible, and a length that promises more than there are.
    for cls, version in MESSAGES:
        if cls.__name__ == "ListOffsetsRequest" and version == 11:
            head = b"\xff\xff\xff\xff\0"
            assert check(cls, version, head + b"\xe1\xa7\x12" + b"\x01\x01\0" * 300_000 + b"\0\0\0\0\0")
            assert not check(cls, version, head + b"\xff\xff\xff\x7f" + b"\x01\x01\0" * 300_000)


def test_the_entry_for_a_guided_fuzzer_takes_anything() -> None:
    assert not check_header(b"")
    for index in range(len(MESSAGES)):
        one_input(index.to_bytes(2, "big") + bytes(64))
    one_input(b"\0")
