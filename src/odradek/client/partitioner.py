"""The hash by which Kafka's Java clients choose a key's partition, so that equal keys of all clients go to the same."""

from __future__ import annotations

_MASK = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """The 32-bit MurmurHash2, unsigned, with the seed of Kafka's Java clients."""
    length = len(data)
    h = 0x9747B28C ^ length
    whole = length & ~3
    for position in range(0, whole, 4):
        k = int.from_bytes(data[position : position + 4], "little") * 0x5BD1E995 & _MASK
        h = (h * 0x5BD1E995 & _MASK) ^ ((k ^ k >> 24) * 0x5BD1E995 & _MASK)
    if whole < length:
        h = (h ^ int.from_bytes(data[whole:], "little")) * 0x5BD1E995 & _MASK
    h = (h ^ h >> 13) * 0x5BD1E995 & _MASK
    return h ^ h >> 15
