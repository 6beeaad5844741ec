"""Bits flipped where they matter: in a value that some state is made of, found by what it is, in a broker's files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from odradek.records.batch import HEADER_BYTES, BatchHeader, read_header


def flip(file: Path, position: int, bit: int = 0) -> None:
    """Flips one bit of a file."""
    data = bytearray(file.read_bytes())
    data[position] ^= 1 << bit
    file.write_bytes(data)


def overwrite(file: Path, position: int, noise: bytes) -> None:
    """Puts other bytes into a file, which stays as long as it is."""
    data = bytearray(file.read_bytes())
    data[position : position + len(noise)] = noise
    file.write_bytes(data)


def position_of(file: Path, value: bytes, last: bool = False) -> int:
    """Where a value is in a file: the first such place, or the last."""
    data = file.read_bytes()
    position = data.rfind(value) if last else data.find(value)
    assert position >= 0, (file, value)
    return position


def batches_of(file: Path) -> Iterator[tuple[int, BatchHeader]]:
    """Where each batch of an undamaged log's file begins, and its header."""
    data = file.read_bytes()
    position = 0
    while position + HEADER_BYTES <= len(data):
        header = read_header(data, position)
        yield position, header
        position += header.size


def batch_at(file: Path, inside: int) -> tuple[int, BatchHeader]:
    """The batch that has the byte at `inside`: where it begins, and its header."""
    return next((at, header) for at, header in batches_of(file) if at <= inside < at + header.size)
