"""Random messages, by seed: every field of a version filled, with the values at which codecs break."""

from __future__ import annotations

import random
from typing import Any

from odradek.errors import ErrorCode
from odradek.protocol.fields import FORMATS, Field, Message, Struct, default_of, resolve_fields
from odradek.records.builder import NewRecord, batch_bytes, build_batch

BOUNDS = {
    "int8": (-(2**7), 2**7 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint16": (0, 2**16 - 1),
    "uint32": (0, 2**32 - 1),
}
STRINGS = ("", "a", "topic", "grün", "日本語", "🧵", "x" * 126, "y" * 127, "z" * 300, "t" * 17_000)
ERROR_CODES = [code.value for code in ErrorCode]


def random_message(cls: type[Message], version: int, choose: random.Random) -> Any:
    """A message with every field that `version` has filled at random; the others hold their defaults."""
    return _structure(cls, version, choose, 0)


def _structure(cls: type[Struct], version: int, choose: random.Random, depth: int) -> Any:
    made = cls()
    for field in resolve_fields(cls):
        if version in field.versions and not (choose.random() < 0.2 and field.tag is not None):
            setattr(made, field.name, _value(field, version, choose, depth))
    return made


def _value(field: Field, version: int, choose: random.Random, depth: int) -> Any:
    if version in field.nullable and choose.random() < 0.25:
        return None
    if not field.is_array:
        return _element(field, version, choose, depth)
    most = 4 if depth < 2 else 2
    count = choose.choice((0, 1, 2, most))
    if field.struct is None and choose.random() < 0.03:
        count = 200  # a length of two bytes
    return [_element(field, version, choose, depth + 1) for _ in range(count)]


def _element(field: Field, version: int, choose: random.Random, depth: int) -> Any:
    kind = field.element
    if field.struct is not None:
        return _structure(field.struct, version, choose, depth)
    if field.name.endswith("error_code"):
        return choose.choice(ERROR_CODES)
    if kind in BOUNDS:
        low, high = BOUNDS[kind]
        return choose.choice((0, 1, -1 if low else 2, low, high, choose.randint(low, high), choose.randint(0, 100)))
    if kind == "bool":
        return choose.random() < 0.5
    if kind == "float64":
        return choose.choice((0.0, -1.5, 1e300, choose.random()))
    if kind == "string":
        return choose.choice(STRINGS)
    if kind == "uuid":
        return choose.choice((bytes(16), choose.randbytes(16)))
    if kind == "records":
        # Kafka's classes look into them: they must be whole batches.
        sizes = choose.choice(((), (1,), (100, 3), (20_000,)))
        return b"".join(batch_bytes(build_batch([NewRecord(None, choose.randbytes(size), 1000)])) for size in sizes)
    assert kind == "bytes" and kind not in FORMATS
    return choose.choice((b"", b"\0", choose.randbytes(100), choose.randbytes(20_000)))


def with_views_as_bytes(value: Any) -> Any:
    """A message with the views in it replaced by bytes, so that two can be compared, and printed."""
    if isinstance(value, memoryview):
        return bytes(value)
    if isinstance(value, list):
        return [with_views_as_bytes(item) for item in value]
    if isinstance(value, Struct):
        for field in value.__declared__:
            setattr(value, field.name, with_views_as_bytes(getattr(value, field.name)))
    return value


def has_only_defaults(message: Struct) -> bool:
    return all(getattr(message, field.name) == default_of(field) for field in resolve_fields(type(message)))
