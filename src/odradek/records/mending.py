"""Damaged batches: the one whose single bit has flipped is made whole again, behind others the next sound one is found.

Sans-IO. A CRC finds damage; it also says which bit it was, if it was one: for batches of up to 2^31 bits each bit that
may flip changes CRC-32C in a way of its own, and an even number of flipped bits in none of these ways. Fields that the
CRC leaves out are tried: with the true length the checksum is right. What three bits or more did is taken for one
flipped bit once in some 2^32 divided by the batch's bits: less than once in a hundred thousand for batches of a few kB.

Only bytes in memory are mended. Whoever replays a log, or reads a snapshot of what is no longer in one, goes on with
what was written; the file is left as it is.
"""

from __future__ import annotations

from crc32c import crc32c

from odradek.records.batch import (
    HEADER,
    HEADER_BYTES,
    LENGTH_OVERHEAD,
    BatchHeader,
    CorruptBatch,
    check_stored,
    read_header,
)

# Beyond this, finding the bit (0.2 us a byte) takes too long.
MENDED_MAX_BYTES = 4_194_304
_MAGIC_POSITION = 16
_CRC_POSITION = 17
_CRC_START = 21
_POLYNOMIAL = 0x82F63B78  # CRC-32C, reflected


def _step(register: int) -> int:
    for _ in range(8):
        register = register >> 1 ^ (_POLYNOMIAL if register & 1 else 0)
    return register


# What a byte adds to the register, and which byte it was by the register's highest byte, which differs for each.
_STEPS = [_step(byte) for byte in range(256)]
_BYTES_BY_TOP = {step >> 24: byte for byte, step in enumerate(_STEPS)}
# The register after a byte in which one bit has flipped.
_FLIPS = {_STEPS[1 << bit]: 1 << bit for bit in range(8)}


def mended(data: memoryview) -> tuple[BatchHeader, bytes] | None:
    """The batch that `data` begins with, one flipped bit turned back; None where it is not one bit that is wrong, or
    where it is one of the offset or the leader epoch, of which no checksum knows. Bytes may follow."""
    if len(data) < HEADER_BYTES:
        return None
    header = read_header(data)
    if header.magic != 2:
        if (header.magic ^ 2).bit_count() == 1:
            return _checked(header._replace(magic=2), data)
        return None
    for bit in range(32):
        length = (header.batch_length & 0xFFFFFFFF) ^ 1 << bit
        if HEADER_BYTES <= length + LENGTH_OVERHEAD <= len(data):
            found = _checked(header._replace(batch_length=length), data)
            if found is not None:
                return found
    if not HEADER_BYTES <= header.size <= min(len(data), MENDED_MAX_BYTES):
        return None
    return _flipped_back(header, data[: header.size])


def _checked(header: BatchHeader, data: memoryview) -> tuple[BatchHeader, bytes] | None:
    """The batch under this header, if its checksum is right."""
    if not HEADER_BYTES <= header.size <= len(data):
        return None
    try:
        check_stored(header, data[: header.size])
    except CorruptBatch:
        return None
    return header, HEADER.pack(*header) + bytes(data[HEADER_BYTES : header.size])


def _flipped_back(header: BatchHeader, data: memoryview) -> tuple[BatchHeader, bytes] | None:
    """A batch whose length is right with the bit turned back that explains its checksum."""
    found = flipped_back(data[_CRC_START:], header.crc)
    if found is None:
        return None
    crc, body = found
    whole = b"".join((data[:_CRC_POSITION], crc.to_bytes(4, "big"), body))
    return read_header(whole), whole


def flipped_back(data: memoryview, crc: int) -> tuple[int, bytes] | None:
    """A checksum, and the bytes that it is of, one flipped bit of both turned back; None where it is not one."""
    difference = crc32c(data) ^ crc
    if difference.bit_count() == 1:
        return crc ^ difference, bytes(data)
    # Backwards from the end: what the difference was before each byte, until it is that of one bit.
    by_top, steps, flips = _BYTES_BY_TOP, _STEPS, _FLIPS
    for position in range(len(data) - 1, -1, -1):
        flipped = flips.get(difference)
        if flipped is not None:
            whole = bytearray(data)
            whole[position] ^= flipped
            return crc, bytes(whole)
        byte = by_top[difference >> 24]
        difference = (difference ^ steps[byte]) << 8 & 0xFFFFFFFF | byte
    return None


def next_sound(data: memoryview, position: int, from_offset: int, upto: int) -> int | None:
    """Where the first sound batch begins at or behind `position` in `data` whose offsets lie between `from_offset` and
    `upto`; None where there is none."""
    raw = bytes(data)
    at = raw.find(b"\x02", position + _MAGIC_POSITION)
    while at >= 0:
        begin = at - _MAGIC_POSITION
        if begin + HEADER_BYTES > len(raw):
            return None
        header = read_header(raw, begin)
        if (
            HEADER_BYTES <= header.size <= len(raw) - begin
            and from_offset <= header.base_offset <= header.last_offset < upto
            and _is_sound(header, data[begin : begin + header.size])
        ):
            return begin
        at = raw.find(b"\x02", at + 1)
    return None


def _is_sound(header: BatchHeader, data: memoryview) -> bool:
    try:
        check_stored(header, data)
    except CorruptBatch:
        return False
    return True
