"""Compiles codecs from declared messages: one straight-line decode and encode function a (message, version).

Role: turn `fields.py` declarations into Python source, once, on first use (about 1 ms), and keep the result in the
class. Fixed-width neighbours, and the length prefix that follows them, share one `struct` call; nested structures
are inlined as loops. Decoded `records` and `bytes` are views of the input, never copies.

Invariants: a decoder reads inside its input or raises `DecodeError`, nothing else, and makes at most `max_elements`
array elements, so that a few received bytes cannot ask for much memory. It does not insist that the input ends
where the message ends (Kafka does not either). Encoders return the pieces of the message in order; a `records`
value's buffers are pieces of their own, not copied. An encoder given a value that does not fit its field raises
(`struct.error`, `TypeError`): that is our own mistake, never a peer's.

Framing, headers and which versions are served are not decided here.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, get_args

from odradek.protocol.fields import NONE, UNSET, ZERO_UUID, Field, Message, Struct

FORMATS = {
    "bool": "?",
    "int8": "b",
    "int16": "h",
    "int32": "i",
    "int64": "q",
    "uint16": "H",
    "uint32": "I",
    "float64": "d",
    "uuid": "16s",
}
ZEROS: dict[str, object] = {
    "bool": False,
    "float64": 0.0,
    "string": "",
    "uuid": ZERO_UUID,
    "bytes": b"",
    "records": b"",
}
# Bytes of a string that are not UTF-8 become U+FFFD, as in Kafka: a client id in Latin-1 is no reason to close.
STRINGS = "'utf-8', 'replace'"
# In bytes; what is read in one version is written in others, whose lengths are int16.
LONGEST_STRING = 32_767
# Arrays of fewer numbers than this have a struct at hand.
SHORT = 9
# Bound of one decoded message's array elements; a caller may pass another.
MAX_ELEMENTS = 1_000_000


class DecodeError(ValueError):
    """The input is not the message it was said to be."""


class MessageError(AssertionError):
    """A declaration contradicts itself, or a message is asked for in a version that it does not have."""


# --- what the generated code calls -----------------------------------------------------------------------------------


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


def _skip_tags(raw: bytes, position: int, end: int) -> int:
    """Skips a section of tagged fields of which the version knows none."""
    count, position = read_uvarint(raw, position)
    for _ in range(count):
        _, position = read_uvarint(raw, position)
        size, position = read_uvarint(raw, position)
        position += size
        if position > end:
            raise DecodeError("a tagged field is longer than the message")
    return position


def _lies(what: str, length: int, position: int) -> DecodeError:
    return DecodeError(f"{what} of length {length} at byte {position} does not fit in the message")


def _add_records(w: Callable[[Any], None], value: Any) -> None:
    if isinstance(value, bytes | bytearray | memoryview):
        w(value)
    else:
        for piece in value:
            w(piece)


def _arrays_of(letter: str) -> tuple[tuple[Callable[..., Any], ...], tuple[Callable[..., Any], ...]]:
    """(unpack_from, pack) for arrays of up to SHORT numbers, by their count: the lists of replicas are short, and
    finding a struct by its format costs as much as using it."""
    structs = [_struct(f">{count}{letter}") for count in range(SHORT)]
    return tuple(s.unpack_from for s in structs), tuple(s.pack for s in structs)


def _length_of_records(value: Any) -> int:
    return len(value) if isinstance(value, bytes | bytearray | memoryview) else sum(map(len, value))


# --- resolving a class's declarations --------------------------------------------------------------------------------


def resolve_fields(cls: type[Struct]) -> tuple[Field, ...]:
    """Fills in the types of a class's fields from its annotations, once."""
    declared = cls.__declared__
    if declared and not declared[0].element and declared[0].struct is None:
        module = vars(sys.modules[cls.__module__])
        for f in declared:
            # Only the module's names: a field may be called like a type.
            _resolve(f, eval(cls.__annotations__[f.name], module, {}))
    return declared


def _resolve(f: Field, hint: Any) -> None:
    for candidate in get_args(hint) if type(None) in get_args(hint) else (hint,):
        if candidate is not type(None):
            hint = candidate
    if getattr(hint, "__origin__", None) is list:
        f.is_array = True
        (hint,) = get_args(hint)
    if isinstance(hint, type) and issubclass(hint, Struct):
        f.struct = hint
        return
    f.element = hint.__metadata__[0]
    if f.element not in FORMATS and f.element not in ZEROS:
        raise MessageError(f"{f.name}: unknown type {f.element}")


def default_of(f: Field) -> object:
    """A field's default; a new object where that is an array or a structure."""
    if f.default is not UNSET:
        return f.default
    if f.is_array:
        return []
    if f.struct is not None:
        return f.struct()
    return ZEROS.get(f.element, 0)


class _Source:
    """Lines of a function being written, with the constants it closes over."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names: dict[str, Any] = {
            "DecodeError": DecodeError,
            "read_uvarint": read_uvarint,
            "read_string_length": read_string_length,
            "uvarint": encode_uvarint,
            "string_length": encode_string_length,
            "uvarints": UVARINTS,
            "skip_tags": _skip_tags,
            "lies": _lies,
            "add_records": _add_records,
            "length_of_records": _length_of_records,
            "unpack_from": struct.unpack_from,
            "pack": struct.pack,
        }
        self.depth = 1
        self.serial = 0

    def add(self, line: str) -> None:
        self.lines.append("    " * self.depth + line)

    def name(self, stem: str, value: Any) -> str:
        """The name of a constant."""
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

    def default(self, f: Field) -> str:
        """An expression that gives the field's default, afresh where it can change."""
        value = default_of(f)
        if value == [] and f.is_array:
            return "[]"
        if isinstance(value, Struct):
            return f"{self.name('cls_' + type(value).__name__, type(value))}()"
        return repr(value)


def compile_constructor(cls: type[Struct]) -> None:
    """Gives the class a constructor with a keyword for each field."""
    source = _Source()
    parameters = ["self"]
    for f in resolve_fields(cls):
        fresh = f.default is UNSET and (f.is_array or f.struct is not None)
        default = source.default(f)
        parameters.append(f"{f.name}={'UNSET' if fresh else default}")
        source.add(f"self.{f.name} = {f'{default} if {f.name} is UNSET else {f.name}' if fresh else f.name}")
    source.add("pass")
    if len(parameters) > 1:
        parameters.insert(1, "*")
    source.names["UNSET"] = UNSET
    cls.__init__ = source.build(f"init_{cls.__name__}", ", ".join(parameters))  # type: ignore[method-assign]


# --- decoding --------------------------------------------------------------------------------------------------------


class _Decoder:
    """Writes the body of one decode function."""

    def __init__(self, version: int, flexible: bool) -> None:
        self.version = version
        self.flexible = flexible
        self.source = _Source()
        # Fixed-width values waiting to share a struct call: (format, target expression).
        self.pending: list[tuple[str, str]] = []

    def flush(self) -> None:
        if not self.pending:
            return
        fmt = ">" + "".join(letter for letter, _ in self.pending)
        targets = ", ".join(target for _, target in self.pending)
        unpack = self.source.name("unpack", _struct(fmt).unpack_from)
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
                s.add(f"{target}.{f.name} = {s.default(f)}")
            elif f.tag is not None and self.version in f.tagged:
                s.add(f"{target}.{f.name} = {s.default(f)}")
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
        # The announced number must fit in what was received, and in the message's budget, before anything is made.
        s.add(f"budget -= {n}")
        least = least_size(f, self.version, flexible)
        s.add(f"if {n} * {least} > end - p or budget < 0: raise lies({f.name!r}, {n}, p)")
        if f.struct is None and f.element in FORMATS and f.element != "uuid":
            letter = FORMATS[f.element]
            size = struct.calcsize(letter)
            short = s.name(f"unpack_{f.element}", _short_arrays(letter)[0])
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
    """The fewest bytes that one element of an array can take; at least 1, so that no length is free."""
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


def _struct(fmt: str) -> struct.Struct:
    cached = _STRUCTS.get(fmt)
    if cached is None:
        cached = _STRUCTS[fmt] = struct.Struct(fmt)
    return cached


_STRUCTS: dict[str, struct.Struct] = {}
_short_arrays = cache(_arrays_of)


def _check_version(cls: type[Message], version: int) -> None:
    if version not in cls.valid_versions:
        raise MessageError(f"{cls.__name__} has versions {cls.valid_versions}, not {version}")


def decoder(cls: type[Message], version: int) -> Callable[..., tuple[Any, int]]:
    """The compiled function `decode(raw, position=0, budget=MAX_ELEMENTS) -> (message, position after it)`.

    It raises IndexError, struct.error or DecodeError; `decode` folds them into the last."""
    found = cls.decoders.get(version)
    if found is not None:
        return found
    _check_version(cls, version)
    d = _Decoder(version, version in cls.flexible_versions)
    d.source.names["new"] = object.__new__
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


# --- encoding --------------------------------------------------------------------------------------------------------


class _Encoder:
    """Writes the body of one encode function: every piece goes to the callable that `w` names."""

    def __init__(self, version: int, flexible: bool) -> None:
        self.version = version
        self.flexible = flexible
        self.source = _Source()
        self.pending: list[tuple[str, str]] = []
        self.w = "w"

    def flush(self) -> None:
        if not self.pending:
            return
        fmt = ">" + "".join(letter for letter, _ in self.pending)
        values = [value for _, value in self.pending if value]
        if values:
            pack = self.source.name("pack", _struct(fmt).pack)
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
            short = s.name(f"pack_{f.element}", _short_arrays(letter)[1])
            n = s.variable("n")
            s.add(f"{n} = len({value})")
            s.add(f"{self.w}({short}[{n}](*{value}) if {n} < {SHORT} else pack(f'>{{{n}}}{letter}', *{value}))")
            return
        item = s.variable("m")
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


def differs(f: Field, value: str) -> str:
    """An expression: does the value of a tagged field differ from its default? A structure's fields are compared one
    by one: making a default to compare with costs twenty times as much."""
    default = default_of(f)
    if default is None:
        return f"{value} is not None"
    if isinstance(default, Struct):
        parts = [differs(g, f"{value}.{g.name}") for g in resolve_fields(type(default))]
        return " or ".join([f"{value} is None", *parts] if f.nullable != NONE else parts) or "False"
    return f"{value} != {default!r}"


def encoder(cls: type[Message], version: int) -> Callable[[Any, Callable[[Any], None]], None]:
    """The compiled function `encode(message, w)`: calls `w` with each piece of the message, in order."""
    found = cls.encoders.get(version)
    if found is not None:
        return found
    _check_version(cls, version)
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
