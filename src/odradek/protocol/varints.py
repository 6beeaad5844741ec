"""Variable-length integers, as Kafka writes lengths, counts and tags in flexible versions (KIP-482).

Role: read and write one number, for the compiled codecs and for code that reads a few fields by hand.

Invariants: a number that is read has at most 5 bytes and 32 bits, and a string's length fits in an int16; anything else
raises `DecodeError`. Input that ends in the middle of a number raises `IndexError`.
"""

from __future__ import annotations

import struct

from odradek.protocol.errors import DecodeError

# In bytes. Other versions of a message have int16 lengths, and must be able to carry the same string.
LONGEST_STRING = 32_767


def read_uvarint(raw: bytes, position: int) -> tuple[int, int]:
    """Reads an unsigned varint of at most 5 bytes, 32 bits; returns (value, position after it)."""
    value = 0
    for shift in (0, 7, 14, 21, 28):
        byte = raw[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value > 0xFFFFFFFF:
                break
            return value, position
    raise DecodeError(f"a variable-length number before byte {position} is longer than 32 bits")


def encode_uvarint(value: int) -> bytes:
    """The bytes of an unsigned varint."""
    if value < 0x80:
        return UVARINTS[value]
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_string_length(raw: bytes, position: int) -> tuple[int, int]:
    """Reads the length plus one of a string in a flexible version; the length must fit in an int16, as in Kafka."""
    value, position = read_uvarint(raw, position)
    if value > LONGEST_STRING + 1:
        raise DecodeError(
            f"a string of length {value - 1} before byte {position} is longer than {LONGEST_STRING} bytes"
        )
    return value, position


def encode_string_length(value: int) -> bytes:
    """The bytes of a string's length plus one in a flexible version."""
    if value > LONGEST_STRING + 1:
        raise struct.error(f"a string of {value - 1} bytes is longer than {LONGEST_STRING}")
    return encode_uvarint(value)


UVARINTS = [bytes((value,)) for value in range(0x80)]
