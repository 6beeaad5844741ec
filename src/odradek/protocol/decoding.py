"""Compiles decoders from message declarations: one straight-line function for each (message, version).

Role: turn the declarations of `fields.py` into the source of a decode function, once, on first use (about 1 ms with
its encoder), and keep the function in the message's class. Fixed-width neighbours, and the length prefix that follows
them, share one `struct` call; nested structures are inlined as loops. Decoded `records` and `bytes` are views of the
input, never copies.

Invariants: `decode` reads within its input and raises only `DecodeError`. It makes at most `MAX_ELEMENTS` array
elements, so that a few received bytes cannot demand much memory. Bytes may follow the message, as in Kafka.

`framing` does frames and headers; `registry` lists the versions that are served.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from odradek.protocol.errors import DecodeError, TooManyElements
from odradek.protocol.fields import FORMATS, Field, Message, Struct, check_version, default_source, resolve_fields
from odradek.protocol.source import SHORT, FunctionSource, short_arrays, struct_of
from odradek.protocol.varints import read_string_length, read_uvarint

# Bytes of a string that are not UTF-8 become U+FFFD, as in Kafka: a client id in Latin-1 must not close the connection.
STRINGS = "'utf-8', 'replace'"
# The most array elements in one decoded message; a caller may pass another bound.
MAX_ELEMENTS = 1_000_000


def _skip_tags(raw: bytes, position: int, end: int) -> int:
    """Skips a section of tagged fields, none of which is declared; returns the position after it."""
    count, position = read_uvarint(raw, position)
    for _ in range(count):
        _, position = read_uvarint(raw, position)
        size, position = read_uvarint(raw, position)
        position += size
        if position > end:
            raise DecodeError("a tagged field is longer than the message")
    return position


def _lies(what: str, length: int, position: int, budget: int = 0) -> DecodeError:
    if budget < 0:
        return TooManyElements(f"{what} of length {length} at byte {position} has too many elements")
    return DecodeError(f"{what} of length {length} at byte {position} does not fit in the message")


# Names that the generated code uses.
_NAMES: dict[str, Any] = {
    "DecodeError": DecodeError,
    "new": object.__new__,
    "read_uvarint": read_uvarint,
    "read_string_length": read_string_length,
    "skip_tags": _skip_tags,
    "lies": _lies,
    "unpack_from": struct.unpack_from,
}


class _Decoder:
    """Generates the body of one decode function. Its methods add code that reads something."""

    def __init__(self, version: int, flexible: bool) -> None:
        self.version = version
        self.flexible = flexible
        self.source = FunctionSource(_NAMES)
        # Fixed-width values waiting to share a struct call: (format, target expression).
        self.pending: list[tuple[str, str]] = []

    def flush(self) -> None:
        if not self.pending:
            return
        fmt = ">" + "".join(letter for letter, _ in self.pending)
        targets = ", ".join(target for _, target in self.pending)
        unpack = self.source.name("unpack", struct_of(fmt).unpack_from)
        self.source.add(f"{targets}{',' if len(self.pending) == 1 else ''} = {unpack}(raw, p)")
        self.source.add(f"p += {struct.calcsize(fmt)}")
        self.pending = []

    def fixed(self, kind: str, target: str) -> None:
        self.pending.append((FORMATS[kind], target))

    def byte(self, target: str) -> None:
        """Reads a byte; with the fixed-width values before it, if there are any."""
        if self.pending:
            self.pending.append(("B", target))
            self.flush()
        else:
            self.source.add(f"{target} = raw[p]")
            self.source.add("p += 1")

    def uvarint(self, target: str, read: str = "read_uvarint") -> None:
        s = self.source
        self.byte(target)
        s.add(f"if {target} > 127:")
        s.add(f"    {target}, p = {read}(raw, p - 1)")

    def length(self, prefix: str, flexible: bool) -> str:
        """Reads a length prefix into a variable: -1 is null."""
        n = self.source.variable("n")
        if flexible:
            self.uvarint(n, "read_string_length" if prefix == "int16" else "read_uvarint")
            self.source.add(f"{n} -= 1")
        else:
            self.fixed(prefix, n)
            self.flush()
        return n

    def structure(self, cls: type[Struct], target: str) -> None:
        """Reads a structure into the variable `target`."""
        s = self.source
        self.flush()
        name = s.name("cls_" + cls.__name__, cls)
        s.add(f"{target} = new({name})")
        fields = resolve_fields(cls)
        tagged = []
        for f in fields:
            if self.version not in f.versions:
                s.add(f"{target}.{f.name} = {default_source(f, s)}")
            elif f.tag is not None and self.version in f.tagged:
                s.add(f"{target}.{f.name} = {default_source(f, s)}")
                tagged.append(f)
            else:
                self.value(f, f"{target}.{f.name}")
        if self.flexible:
            self.tags(tagged, target)
        else:
            self.flush()

    def tags(self, tagged: list[Field], target: str) -> None:
        s = self.source
        count = s.variable("tags")
        if not tagged:
            self.byte(count)
            s.add(f"if {count}:")
            s.add("    p = skip_tags(raw, p - 1, end)")
            return
        self.uvarint(count)
        tag, size, stop = s.variable("tag"), s.variable("size"), s.variable("stop")
        s.add(f"for _ in range({count}):")
        s.depth += 1
        self.uvarint(tag)
        self.uvarint(size)
        s.add(f"{stop} = p + {size}")
        s.add(f"if {stop} > end: raise lies('a tagged field', {size}, p)")
        for index, f in enumerate(sorted(tagged, key=lambda f: f.tag or 0)):
            s.add(f"{'elif' if index else 'if'} {tag} == {f.tag}:")
            s.depth += 1
            self.value(f, f"{target}.{f.name}")
            self.flush()
            s.add(f"if p != {stop}: raise lies('tag {f.tag} ({f.name})', {size}, {stop})")
            s.depth -= 1
        s.add("else:")
        s.add(f"    p = {stop}")
        s.depth -= 1

    def value(self, f: Field, target: str) -> None:
        nullable = self.version in f.nullable
        flexible = self.flexible and f.flexible
        if f.is_array:
            self.array(f, target, nullable, flexible)
        elif f.struct is not None:
            if nullable:
                # A nullable structure is preceded by a byte: -1 is null.
                s, n, item = self.source, self.source.variable("n"), self.source.variable("m")
                self.fixed("int8", n)
                self.flush()
                s.add(f"if {n} < 0:")
                s.add(f"    {target} = None")
                s.add("else:")
                s.depth += 1
                self.structure(f.struct, item)
                s.add(f"{target} = {item}")
                s.depth -= 1
            else:
                item = self.source.variable("m")
                self.structure(f.struct, item)
                self.source.add(f"{target} = {item}")
        elif f.element in FORMATS:
            self.fixed(f.element, target)
        else:
            n = self.length("int16" if f.element == "string" else "int32", flexible)
            self.sized(f.element, f.name, n, target, nullable)

    def sized(self, kind: str, name: str, n: str, target: str, nullable: bool) -> None:
        s = self.source
        q = s.variable("q")
        s.add(f"if {n} < 0:")
        if nullable:
            s.add(f"    if {n} != -1: raise lies({name!r}, {n}, p)")
            s.add(f"    {target} = None")
        else:
            s.add(f"    raise lies({name!r}, {n}, p)")
        s.add("else:")
        s.add(f"    {q} = p + {n}")
        s.add(f"    if {q} > end: raise lies({name!r}, {n}, p)")
        s.add(f"    {target} = " + (f"raw[p:{q}].decode({STRINGS})" if kind == "string" else f"view[p:{q}]"))
        s.add(f"    p = {q}")

    def array(self, f: Field, target: str, nullable: bool, flexible: bool) -> None:
        s = self.source
        n = self.length("int32", flexible)
        s.add(f"if {n} < 0:")
        if nullable:
            s.add(f"    if {n} != -1: raise lies({f.name!r}, {n}, p)")
            s.add(f"    {target} = None")
        else:
            s.add(f"    raise lies({f.name!r}, {n}, p)")
        s.add("else:")
        s.depth += 1
        # The announced number must fit in the received bytes and in the message's budget, before elements are made.
        s.add(f"budget -= {n}")
        least = least_size(f, self.version, flexible)
        s.add(f"if {n} * {least} > end - p: raise lies({f.name!r}, {n}, p)")
        s.add(f"if budget < 0: raise lies({f.name!r}, {n}, p, budget)")
        if f.struct is None and f.element in FORMATS and f.element != "uuid":
            letter = FORMATS[f.element]
            size = struct.calcsize(letter)
            short = s.name(f"unpack_{f.element}", short_arrays(letter)[0])
            s.add(f"if {n} < {SHORT}: {target} = list({short}[{n}](raw, p))")
            s.add(f"else: {target} = list(unpack_from(f'>{{{n}}}{letter}', raw, p))")
            s.add(f"p += {n} * {size}")
        else:
            items, add, item = s.variable("items"), s.variable("add"), s.variable("m")
            s.add(f"{items} = []")
            s.add(f"{add} = {items}.append")
            s.add(f"for _ in range({n}):")
            s.depth += 1
            if f.struct is not None:
                self.structure(f.struct, item)
            elif f.element in FORMATS:
                self.fixed(f.element, item)
                self.flush()
            else:
                inner = self.length("int16" if f.element == "string" else "int32", flexible)
                self.sized(f.element, f.name, inner, item, False)
            s.add(f"{add}({item})")
            s.depth -= 1
            s.add(f"{target} = {items}")
        s.depth -= 1


def least_size(f: Field, version: int, flexible: bool) -> int:
    """The fewest bytes that one element of an array can take; at least 1, so that the input always bounds the
    length."""
    if f.struct is None:
        if f.element in FORMATS:
            return struct.calcsize(FORMATS[f.element])
        return 1 if flexible else (2 if f.element == "string" else 4)
    total = 1 if flexible else 0
    for g in resolve_fields(f.struct):
        if version not in g.versions or (g.tag is not None and version in g.tagged):
            continue
        if g.is_array:
            total += 1 if flexible else 4
        elif g.struct is not None:
            total += 1 if version in g.nullable else least_size(g, version, flexible)
        elif g.element in FORMATS:
            total += struct.calcsize(FORMATS[g.element])
        else:
            total += 1 if flexible else (2 if g.element == "string" else 4)
    return max(total, 1)


def decoder(cls: type[Message], version: int) -> Callable[..., tuple[Any, int]]:
    """The compiled function `decode(raw, position=0, budget=MAX_ELEMENTS) -> (message, position after it)`.

    It raises IndexError, struct.error or DecodeError; `decode` turns all of them into `DecodeError`."""
    found = cls.decoders.get(version)
    if found is not None:
        return found
    check_version(cls, version)
    d = _Decoder(version, version in cls.flexible_versions)
    d.structure(cls, "m")
    d.source.add("return m, p")
    prologue = ["    end = len(raw)"]
    if any("view[" in line for line in d.source.lines):
        prologue.append("    view = memoryview(raw)")
    d.source.lines[:0] = prologue
    function = d.source.build(f"decode_{cls.__name__}_v{version}", f"raw, p=0, budget={MAX_ELEMENTS}")
    cls.decoders[version] = function
    return function  # type: ignore[no-any-return]


def decode(cls: type[Message], version: int, raw: bytes | bytearray, position: int = 0) -> tuple[Any, int]:
    """Decodes a message; returns it with the position after it. Raises `DecodeError` on any malformed input."""
    function = cls.decoders.get(version) or decoder(cls, version)
    try:
        return function(raw, position)
    except (IndexError, struct.error) as error:
        raise DecodeError(f"{cls.__name__} version {version}: {error}") from None
