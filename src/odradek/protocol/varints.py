"""Variable-length integers, as Kafka writes lengths, counts and tags in flexible versions (KIP-482).

Role: reading and writing one number, for the compiled codecs and for those who read a few fields by hand.

Invariants: a number that is read is at most 5 bytes and 32 bits long, and the length of a string is one that an int16
can hold; anything else raises `DecodeError`. Input that ends in the middle of a number raises `IndexError`.
"""

from __future__ import annotations

import struct

from odradek.protocol.errors import DecodeError

# In bytes; what is read in one version is written in others, whose lengths are int16.
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
    """Reads the length plus one of a string in a flexible version; like Kafka, within what an int16 can say."""
    value, position = read_uvarint(raw, position)
    if value > LONGEST_STRING + 1:
        raise DecodeError(
            f"a string of length {value - 1} before byte {position} is longer than {LONGEST_STRING} bytes"
        )
    return value, position


def encode_string_length(value: int) -> bytes:
    """The bytes of such a length plus one."""
    if value > LONGEST_STRING + 1:
        raise struct.error(f"a string of {value - 1} bytes is longer than {LONGEST_STRING}")
    return encode_uvarint(value)


UVARINTS = [bytes((value,)) for value in range(0x80)]
