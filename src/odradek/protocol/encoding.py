"""Compiles encoders from message declarations: one straight-line function for each (message, version).

Role: turn the declarations of `fields.py` into the source of an encode function, once, on first use, and keep the
function in the message's class. Fixed-width neighbours, and the length prefix that follows them, share one `struct`
call; nested structures are inlined as loops.

Invariants: encoders write the pieces of the message in order; the buffers of a `records` value are separate pieces, not
copied. A value that does not fit its field raises `struct.error` or `TypeError`: that is a defect of the broker, never
caused by a peer.

`framing` does frames and headers; `registry` lists the versions that are served.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache
from typing import Any

from odradek.protocol.fields import FORMATS, NONE, Field, Message, Struct, check_version, default_of, resolve_fields
from odradek.protocol.source import SHORT, FunctionSource, short_arrays, struct_of
from odradek.protocol.varints import UVARINTS, encode_string_length, encode_uvarint


def _add_records(w: Callable[[Any], None], value: Any) -> None:
    if isinstance(value, bytes | bytearray | memoryview):
        w(value)
    else:
        for piece in value:
            w(piece)


def _length_of_records(value: Any) -> int:
    return len(value) if isinstance(value, bytes | bytearray | memoryview) else sum(map(len, value))


# Names that the generated code uses.
_NAMES: dict[str, Any] = {
    "uvarint": encode_uvarint,
    "string_length": encode_string_length,
    "uvarints": UVARINTS,
    "add_records": _add_records,
    "length_of_records": _length_of_records,
    "pack": struct.pack,
}


class _Encoder:
    """Generates the body of one encode function, which passes every piece to the callable that `w` names. Its methods
    add code that writes something."""

    def __init__(self, version: int, flexible: bool) -> None:
        self.version = version
        self.flexible = flexible
        self.source = FunctionSource(_NAMES)
        self.pending: list[tuple[str, str]] = []
        self.w = "w"

    def flush(self) -> None:
        if not self.pending:
            return
        fmt = ">" + "".join(letter for letter, _ in self.pending)
        values = [value for _, value in self.pending if value]
        if values:
            pack = self.source.name("pack", struct_of(fmt).pack)
            self.source.add(f"{self.w}({pack}({', '.join(values)}))")
        else:
            self.source.add(f"{self.w}({bytes(len(self.pending))!r})")
        self.pending = []

    def fixed(self, kind: str, value: str) -> None:
        self.pending.append((FORMATS[kind], value))

    def length(self, prefix: str, value: str, flexible: bool) -> None:
        """Writes a length; `value` is an expression."""
        if flexible:
            self.uvarint(f"{value} + 1", "string_length" if prefix == "int16" else "uvarint")
        else:
            self.fixed(prefix, value)

    def uvarint(self, value: str, encode: str = "uvarint") -> None:
        self.flush()
        n = self.source.variable("n")
        self.source.add(f"{n} = {value}")
        self.source.add(f"{self.w}(uvarints[{n}] if {n} < 128 else {encode}({n}))")

    def zero(self) -> None:
        """Writes a zero byte; with the fixed-width values before it, if there are any."""
        self.pending.append(("x", ""))

    def null(self, prefix: str, flexible: bool) -> None:
        """Writes the length -1."""
        if flexible:
            self.zero()
        else:
            self.fixed(prefix, "-1")

    def structure(self, cls: type[Struct], value: str) -> None:
        tagged = []
        for f in resolve_fields(cls):
            if self.version not in f.versions:
                continue
            if f.tag is not None and self.version in f.tagged:
                tagged.append(f)
            else:
                self.value(f, f"{value}.{f.name}")
        if self.flexible:
            self.tags(sorted(tagged, key=lambda f: f.tag or 0), value)

    def tags(self, tagged: list[Field], value: str) -> None:
        s = self.source
        if not tagged:
            self.zero()
            return
        self.flush()
        count, pieces = s.variable("count"), s.variable("pieces")
        s.add(f"{count} = 0")
        s.add(f"{pieces} = []")
        outer = self.w
        for f in tagged:
            # A tagged field that holds its default is left out.
            s.add(f"if {differs(f, f'{value}.{f.name}')}:")
            s.depth += 1
            out, w = s.variable("out"), s.variable("w")
            s.add(f"{out} = []")
            s.add(f"{w} = {out}.append")
            self.w = w
            self.value(f, f"{value}.{f.name}")
            self.flush()
            s.add(f"{out} = b''.join({out})")
            s.add(f"{pieces} += ({encode_uvarint(f.tag or 0)!r}, uvarint(len({out})), {out})")
            s.add(f"{count} += 1")
            s.depth -= 1
        self.w = outer
        s.add(f"{self.w}(uvarint({count}))")
        s.add(f"if {count}: {self.w}(b''.join({pieces}))")

    def value(self, f: Field, value: str) -> None:
        nullable = self.version in f.nullable
        flexible = self.flexible and f.flexible
        s = self.source
        if f.element in FORMATS and not f.is_array:
            self.fixed(f.element, value)
            return
        self_value = s.variable("x")
        if nullable:
            s.add(f"{self_value} = {value}")
            self.flush()
            s.add(f"if {self_value} is None:")
            s.depth += 1
            if f.struct is not None and not f.is_array:
                self.fixed("int8", "-1")
            else:
                self.null("int16" if f.element == "string" and not f.is_array else "int32", flexible)
            self.flush()
            s.depth -= 1
            s.add("else:")
            s.depth += 1
            if f.struct is not None and not f.is_array:
                self.fixed("int8", "1")
            self.present(f, self_value, flexible)
            self.flush()
            s.depth -= 1
        else:
            s.add(f"{self_value} = {value}")
            self.present(f, self_value, flexible)

    def present(self, f: Field, value: str, flexible: bool) -> None:
        if f.is_array:
            self.array(f, value, flexible)
        elif f.struct is not None:
            self.structure(f.struct, value)
        else:
            self.sized(f.element, value, flexible)

    def sized(self, kind: str, value: str, flexible: bool) -> None:
        s = self.source
        if kind == "string":
            encoded = s.variable("b")
            s.add(f"{encoded} = {value}.encode()")
            self.length("int16", f"len({encoded})", flexible)
            self.flush()
            s.add(f"{self.w}({encoded})")
        elif kind == "records":
            self.length("int32", f"length_of_records({value})", flexible)
            self.flush()
            s.add(f"add_records({self.w}, {value})")
        else:
            self.length("int32", f"len({value})", flexible)
            self.flush()
            s.add(f"{self.w}({value})")

    def array(self, f: Field, value: str, flexible: bool) -> None:
        s = self.source
        self.length("int32", f"len({value})", flexible)
        self.flush()
        if f.struct is None and f.element in FORMATS and f.element != "uuid":
            letter = FORMATS[f.element]
            short = s.name(f"pack_{f.element}", short_arrays(letter)[1])
            n = s.variable("n")
            s.add(f"{n} = len({value})")
            s.add(f"{self.w}({short}[{n}](*{value}) if {n} < {SHORT} else pack(f'>{{{n}}}{letter}', *{value}))")
            return
        item = s.variable("m")
        if f.shared:
            self.shared_array(f, item, value)
            return
        s.add(f"for {item} in {value}:")
        s.depth += 1
        if f.struct is not None:
            self.structure(f.struct, item)
        elif f.element in FORMATS:
            self.fixed(f.element, item)
        else:
            self.sized(f.element, item, flexible)
        self.flush()
        s.add("pass")
        s.depth -= 1

    def shared_array(self, f: Field, item: str, value: str) -> None:
        """Encodes each structure when it is first met, and an array that is met again for the last time: as long as the
        message is there, they are known by their ids. (Arrays that are met once are most, and not kept.)"""
        assert f.struct is not None
        s = self.source
        encoded, met, found = s.variable("encoded"), s.variable("met"), s.variable("found")
        array, one = s.variable("out"), s.variable("out")
        outer = self.w
        s.lines.insert(0, f"    {encoded} = {{}}; {met} = set()")
        s.add(f"{found} = {encoded}.get(id({value}))")
        s.add(f"if {found} is None:")
        s.depth += 1
        s.add(f"{array} = []")
        s.add(f"for {item} in {value}:")
        s.depth += 1
        s.add(f"if id({item}) not in {encoded}:")
        s.depth += 1
        s.add(f"{one} = []")
        self.w = f"{one}.append"
        self.structure(f.struct, item)
        self.flush()
        self.w = outer
        s.add(f"{encoded}[id({item})] = b''.join({one})")
        s.depth -= 1
        s.add(f"{array}.append({encoded}[id({item})])")
        s.depth -= 1
        s.add(f"{found} = b''.join({array})")
        s.add(f"if id({value}) in {met}: {encoded}[id({value})] = {found}")
        s.add(f"{met}.add(id({value}))")
        s.depth -= 1
        s.add(f"{self.w}({found})")


def differs(f: Field, value: str) -> str:
    """The source of an expression: whether the value of a tagged field differs from its default. A structure's fields
    are compared one by one: making a default to compare with costs twenty times as much."""
    default = default_of(f)
    if default is None:
        return f"{value} is not None"
    if isinstance(default, Struct):
        parts = [differs(g, f"{value}.{g.name}") for g in resolve_fields(type(default))]
        return " or ".join([f"{value} is None", *parts] if f.nullable != NONE else parts) or "False"
    return f"{value} != {default!r}"


@cache
def has_records(cls: type[Struct]) -> bool:
    """Whether there are record batches among the pieces of such a structure."""
    return any(f.element == "records" or (f.struct is not None and has_records(f.struct)) for f in resolve_fields(cls))


def encoder(cls: type[Message], version: int) -> Callable[[Any, Callable[[Any], None]], None]:
    """The compiled function `encode(message, w)`: calls `w` with each piece of the message, in order."""
    found = cls.encoders.get(version)
    if found is not None:
        return found
    check_version(cls, version)
    e = _Encoder(version, version in cls.flexible_versions)
    e.structure(cls, "m")
    e.flush()
    e.source.add("pass")
    function = e.source.build(f"encode_{cls.__name__}_v{version}", "m, w")
    cls.encoders[version] = function
    return function  # type: ignore[no-any-return]


def encode(message: Message, version: int) -> bytes:
    """The whole message as one piece of bytes."""
    pieces: list[Any] = []
    cls = type(message)
    (cls.encoders.get(version) or encoder(cls, version))(message, pieces.append)
    return b"".join(pieces)
