"""Repairs damaged batches in which a single bit has flipped, and finds the next sound batch after damage.

Sans-IO. A CRC detects damage; if one bit has flipped, it also tells which one: in batches of up to 2^31 bits each
single flipped bit changes CRC-32C in a different way, and an even number of flipped bits in none of these ways. Length
and magic, which the CRC does not cover, are repaired by trial: with the true length the CRC matches. Three or more
flipped bits look like a single one in about one of 2^32 / (bits of the batch) cases: less than one in a hundred
thousand for batches of a few kB.

Only bytes in memory are repaired, so that a replay of a log, or of a snapshot of deleted records, can go on with the
original data; the file is not changed.
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

# Larger batches are not repaired: the search for the bit (0.2 us a byte) would take too long.
MENDED_MAX_BYTES = 4_194_304
_MAGIC_POSITION = 16
_CRC_POSITION = 17
_CRC_START = 21
_POLYNOMIAL = 0x82F63B78  # CRC-32C, reflected


def _step(register: int) -> int:
    for _ in range(8):
        register = register >> 1 ^ (_POLYNOMIAL if register & 1 else 0)
    return register


# How each byte value changes the CRC register; and each byte value by the highest byte of that change, which is unique.
_STEPS = [_step(byte) for byte in range(256)]
_BYTES_BY_TOP = {step >> 24: byte for byte, step in enumerate(_STEPS)}
# Each single flipped bit of a byte, by the change of the register that it makes.
_FLIPS = {_STEPS[1 << bit]: 1 << bit for bit in range(8)}


def mended(data: memoryview) -> tuple[BatchHeader, bytes] | None:
    """The batch at the beginning of `data`, with its one flipped bit corrected; more bytes may follow it. None where
    more than one bit is wrong, or the bit is in the base offset or the leader epoch, which no checksum covers."""
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
    """The batch with this header, if its CRC matches; else None."""
    if not HEADER_BYTES <= header.size <= len(data):
        return None
    try:
        check_stored(header, data[: header.size])
    except CorruptBatch:
        return None
    return header, HEADER.pack(*header) + bytes(data[HEADER_BYTES : header.size])


def _flipped_back(header: BatchHeader, data: memoryview) -> tuple[BatchHeader, bytes] | None:
    """A batch of correct length, with the flipped bit corrected that explains its CRC; None where no single bit
    does."""
    found = flipped_back(data[_CRC_START:], header.crc)
    if found is None:
        return None
    crc, body = found
    whole = b"".join((data[:_CRC_POSITION], crc.to_bytes(4, "big"), body))
    return read_header(whole), whole


def flipped_back(data: memoryview, crc: int) -> tuple[int, bytes] | None:
    """(checksum, bytes) after correcting one flipped bit in either; None where no single bit explains the
    difference."""
    difference = crc32c(data) ^ crc
    if difference.bit_count() == 1:
        return crc ^ difference, bytes(data)
    # Run the CRC backwards from the end: compute the difference before each byte, until a single bit explains it.
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
    """The position of the first sound batch at or after `position` in `data` with offsets from `from_offset` to below
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
