"""The most frequent keys of a stream, in bounded memory: the Space-Saving sketch.

Role: count keys; when there is no room, a new key replaces the rarest one and takes over its count (Metwally, Agrawal,
El Abbadi: "Efficient computation of frequent and top-k elements in data streams", 2005). Pure.

Invariants: there are at most `KEYS_MAX` keys of `KEY_MAX_BYTES` each. A key's count is never too low, and too high by
at most its error, which is at most the total divided by `KEYS_MAX`: every key with a greater share is present. Older
records weigh less: counts are halved when the total reaches `FORGET_AT`.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

KEYS_MAX = 64
KEY_MAX_BYTES = 128
_DIGEST_BYTES = 16
FORGET_AT = 100_000

RecordKey = bytes | None


class TopKey(NamedTuple):
    """A key, and the bounds of its share of all records."""

    key: RecordKey
    """None stands for records without a key. Keys above `KEY_MAX_BYTES` are cut, and end with a digest of the whole."""
    share_at_least: float
    share_at_most: float


class TopKeys:
    """The keys of one stream of records."""

    __slots__ = ("_counts", "total")

    def __init__(self) -> None:
        # By key: its count, and how much of that may belong to replaced keys (the error).
        self._counts: dict[RecordKey, tuple[int, int]] = {}
        self.total = 0

    def add(self, key: RecordKey) -> None:
        """Counts one record."""
        if key is not None and len(key) > KEY_MAX_BYTES:
            key = key[: KEY_MAX_BYTES - _DIGEST_BYTES] + blake2b(key, digest_size=_DIGEST_BYTES).digest()
        counts = self._counts
        found = counts.get(key)
        if found is not None:
            counts[key] = found[0] + 1, found[1]
        elif len(counts) < KEYS_MAX:
            counts[key] = 1, 0
        else:
            rarest = min(counts, key=lambda one: counts[one][0])
            count, _ = counts.pop(rarest)
            counts[key] = count + 1, count
        self.total += 1
        if self.total >= FORGET_AT:
            self._forget()

    def _forget(self) -> None:
        self._counts = {key: (count // 2, error // 2) for key, (count, error) in self._counts.items() if count > 1}
        self.total //= 2

    def top(self, number: int) -> list[TopKey]:
        """The most frequent keys, the most frequent first."""
        total = self.total
        if not total:
            return []
        found = [TopKey(key, (count - error) / total, count / total) for key, (count, error) in self._counts.items()]
        found.sort(key=lambda one: (-one.share_at_least, -one.share_at_most, one.key or b""))
        return found[:number]
