"""Where `odradek consume` begins and ends: --from and --to, as words, offsets, distances from the end, or times.

Role: turn an option's text into a function of (client, topic, current end offsets) that returns offsets by partition.
The record at --from is the first one printed; the record at --to is not printed.

Invariants: an offset of --to is moved between a partition's first offset and its end. If a partition has no record at
or after a time, its end is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from odradek.cli.failures import CommandFailed, WrongUse
from odradek.cli.times import read_time

if TYPE_CHECKING:
    from odradek.client.cluster import Client

ResolveOffsets = Callable[["Client", str, dict[int, int]], dict[int, int]]

_FIRST = ("beginning", "earliest")
_LAST = ("end", "latest")


def read_begin(text: str, now_ms: int) -> ResolveOffsets:
    """The function that finds the offsets of --from. Raises `WrongUse`."""
    return _read("--from", text, now_ms, strict=True)


def read_end(text: str, now_ms: int) -> ResolveOffsets:
    """The function that finds the offsets of --to. Raises `WrongUse`."""
    return _read("--to", text, now_ms, strict=False)


def check_order(begin: str, end: str) -> None:
    """Raises `WrongUse` if both are offsets and --from is greater than --to."""
    if begin.isdecimal() and end.isdecimal() and int(begin) > int(end):
        raise WrongUse(f"--from {begin} is behind --to {end}.")


def _read(option: str, text: str, now_ms: int, strict: bool) -> ResolveOffsets:
    if text in _LAST:
        return lambda client, topic, ends: dict(ends)
    if text in _FIRST:
        return _firsts
    if text.startswith("@"):
        return _at_time(read_time(text, now_ms, option))
    if text.removeprefix("-").isdecimal() and text.isascii():
        return _at_offset(int(text), strict, text.startswith("-"))
    raise WrongUse(
        f"{option} {text!r} is none of earliest, latest, an offset, -10 (ten before the end), or a time such as @-1h."
    )


def _firsts(client: Client, topic: str, ends: dict[int, int]) -> dict[int, int]:
    from odradek.client.cluster import EARLIEST

    return client.offsets(topic, dict.fromkeys(ends, EARLIEST))


def _at_offset(offset: int, strict: bool, from_end: bool) -> ResolveOffsets:
    def find(client: Client, topic: str, ends: dict[int, int]) -> dict[int, int]:
        firsts = _firsts(client, topic, ends)
        if from_end:
            return {p: max(firsts[p], ends[p] + offset) for p in ends}
        for p in ends:
            if strict and not firsts[p] <= offset <= ends[p]:
                raise CommandFailed(f"{topic}-{p} has offsets from {firsts[p]} to {ends[p]} (its end), not {offset}.")
        return {p: min(max(firsts[p], offset), ends[p]) for p in ends}

    return find


def _at_time(timestamp_ms: int) -> ResolveOffsets:
    def find(client: Client, topic: str, ends: dict[int, int]) -> dict[int, int]:
        found = client.offsets(topic, dict.fromkeys(ends, timestamp_ms))
        return {p: ends[p] if offset < 0 else min(offset, ends[p]) for p, offset in found.items()}

    return find
