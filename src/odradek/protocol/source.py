"""Collects the lines of a generated Python function and the constants that it uses, and compiles it.

Role: shared by the constructors, decoders and encoders that `fields.py`, `decoding.py` and `encoding.py` generate from
declarations.

Invariant: a constant has one name in a function, and no two constants share one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache
from typing import Any

# Arrays of fewer numbers than this have a prepared struct.
SHORT = 9
_STRUCTS: dict[str, struct.Struct] = {}


class FunctionSource:
    """A function being generated: its lines, and the constants that it uses, by name."""

    def __init__(self, names: dict[str, Any]) -> None:
        self.lines: list[str] = []
        self.names = dict(names)
        self.depth = 1
        self.serial = 0

    def add(self, line: str) -> None:
        self.lines.append("    " * self.depth + line)

    def name(self, stem: str, value: Any) -> str:
        """The name under which the function finds this constant."""
        for known, other in self.names.items():
            if other is value:
                return known
        self.serial += 1
        name = f"{stem}_{self.serial}"
        self.names[name] = value
        return name

    def variable(self, stem: str) -> str:
        self.serial += 1
        return f"{stem}{self.serial}"

    def build(self, name: str, signature: str) -> Any:
        text = f"def {name}({signature}):\n" + "\n".join(self.lines) + "\n"
        exec(compile(text, f"<{name}>", "exec"), self.names)
        return self.names[name]


def struct_of(fmt: str) -> struct.Struct:
    """The `Struct` of a format; each is made once."""
    cached = _STRUCTS.get(fmt)
    if cached is None:
        cached = _STRUCTS[fmt] = struct.Struct(fmt)
    return cached


@cache
def short_arrays(letter: str) -> tuple[tuple[Callable[..., Any], ...], tuple[Callable[..., Any], ...]]:
    """(unpack_from, pack) functions for arrays of fewer than SHORT numbers, by their count. Lists of replicas are
    short, and finding a struct by its format costs as much as using it."""
    structs = [struct_of(f">{count}{letter}") for count in range(SHORT)]
    return tuple(s.unpack_from for s in structs), tuple(s.pack for s in structs)
