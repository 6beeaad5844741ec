"""Mutated bytes against the decoder of every message, version by version; no broker, no sockets.

    python -m fuzz.protocol_messages [--seed 1] [--inputs 200000]
    python -m fuzz.protocol_messages --atheris [libFuzzer options]      (needs `pip install atheris`)

Invariant: bytes are a message or a `DecodeError`, at a cost in proportion to their number. What was read can be
written; and what was written is read as the same message and written as the same bytes. The same holds for request
headers. An input that breaks it is named with the message, its version and the bytes.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator
from time import perf_counter

from fuzz.broker_input import mutate
from odradek.protocol.decoding import decode
from odradek.protocol.encoding import encode
from odradek.protocol.errors import DecodeError
from odradek.protocol.fields import Message
from odradek.protocol.framing import RequestHeader, peek_api, read_request_header
from odradek.protocol.records.metadata import BY_TYPE
from odradek.protocol.registry import APIS
from tests.protocol.random_messages import random_message, with_views_as_bytes

# Messages with long strings teach nothing here and take long.
LONGEST = 4096
# A received byte may cost this long at most, and an input this long whatever its size: what is slower does not scale.
SECONDS_PER_BYTE = 20e-6
SECONDS_AT_LEAST = 0.1


def every_message() -> Iterator[tuple[type[Message], int]]:
    """What is received: requests by the broker, responses by the command, records from the metadata log."""
    for api in APIS:
        for version in range(api.served.first, api.served.last + 1):
            yield api.request, version
            yield api.response, version
    for cls in BY_TYPE.values():
        for version in range(cls.valid_versions.first, cls.valid_versions.last + 1):
            yield cls, version


MESSAGES = list(every_message())


def check(cls: type[Message], version: int, data: bytes) -> bool:
    """Holds one input against the invariant; returns whether it was a message. Raises AssertionError."""
    start = perf_counter()
    try:
        message, end = decode(cls, version, data)
    except DecodeError:
        message, end = None, 0
    except Exception as error:
        raise AssertionError(f"{type(error).__name__} instead of DecodeError: {error}") from error
    took = perf_counter() - start
    assert took < SECONDS_AT_LEAST + SECONDS_PER_BYTE * len(data), f"{len(data)} bytes took {took:.3f} s"
    if message is None:
        return False
    assert 0 <= end <= len(data)
    with_views_as_bytes(message)
    written = encode(message, version)
    again, again_end = decode(cls, version, written)
    assert again_end == len(written)
    # Compared as text: a float that is not a number does not equal itself.
    assert repr(with_views_as_bytes(again)) == repr(message)
    assert encode(again, version) == written
    return True


def check_header(data: bytes) -> bool:
    """The same for the header in front of a request."""
    try:
        key, version, _ = peek_api(data)
        for flexible in (False, True):
            header = read_request_header(data, flexible)
            assert (header.api_key, header.api_version) == (key, version)
            assert 10 <= header.body_position <= len(data)
    except DecodeError:
        return False
    return True


def run(seed: int, inputs: int) -> dict[str, int]:
    """Checks so many inputs; returns how many were messages, and how many were refused."""
    choose = random.Random(seed)
    counts = {"messages": 0, "refused": 0}
    for number in range(inputs):
        header = number % 50 == 0
        cls, version = (RequestHeader, 2) if header else choose.choice(MESSAGES)
        data = encode(random_message(cls, version, choose), version)
        if len(data) > LONGEST:
            data = data[: choose.randrange(LONGEST)]
        data = mutate(data, choose)
        try:
            fine = check_header(data) if header else check(cls, version, data)
        except AssertionError as error:
            error.add_note(f"{cls.__name__} version {version}: {data.hex()}")
            raise
        counts["messages" if fine else "refused"] += 1
    return counts


def one_input(data: bytes) -> None:
    """For a fuzzer that is led by coverage: two bytes choose the message."""
    if len(data) < 2:
        return
    check_header(data)
    cls, version = MESSAGES[int.from_bytes(data[:2], "big") % len(MESSAGES)]
    check(cls, version, data[2:])


def main() -> None:
    if "--atheris" in sys.argv:
        import atheris

        # Compiled codecs are made by exec: each is instrumented once it exists.
        sys.argv.remove("--atheris")
        for cls, version in MESSAGES:
            check(cls, version, b"")
            cls.decoders[version] = atheris.instrument_func(cls.decoders[version])
        atheris.Setup(sys.argv, one_input)
        atheris.Fuzz()
        return
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--inputs", type=int, default=200_000)
    chosen = arguments.parse_args()
    sys.stdout.write(f"{run(chosen.seed, chosen.inputs)}\n")


if __name__ == "__main__":
    main()
