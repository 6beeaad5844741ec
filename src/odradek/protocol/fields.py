"""The language in which messages are declared: types, versions, and the base classes `Struct` and `Message`.

A structure is one class for all its versions:

    class FetchPartition(Struct):
        partition: int32 = field("0+")
        current_leader_epoch: int32 = field("9+", default=-1)

Names are Kafka's, in snake case; versions are written in Kafka's notation ("0+", "3-12", "none"). A class's constructor
is compiled from its declaration on first use, and its codecs by `decoding.py` and `encoding.py`, so that importing a
message costs almost nothing. Nothing here reads or writes bytes.

Invariants: a structure's instances have exactly the declared fields (slots); a field that a version lacks holds its
default after decoding; arrays are lists, uuids are 16 bytes, `records` are views of the received bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, TypeAlias, dataclass_transform, get_args

from odradek.protocol.errors import MessageError
from odradek.protocol.source import FunctionSource

MAX_VERSION = 32767

boolean = Annotated[bool, "bool"]
int8 = Annotated[int, "int8"]
int16 = Annotated[int, "int16"]
int32 = Annotated[int, "int32"]
int64 = Annotated[int, "int64"]
uint16 = Annotated[int, "uint16"]
uint32 = Annotated[int, "uint32"]
float64 = Annotated[float, "float64"]
string = Annotated[str, "string"]
uuid = Annotated[bytes, "uuid"]

Buffer: TypeAlias = bytes | bytearray | memoryview
byte_string = Annotated[Buffer, "bytes"]
# Record batches: one view when decoded; for encoding also a sequence of buffers, which are sent without being joined.
Records: TypeAlias = Buffer | Sequence[Buffer]
record_buffers = Annotated[Records, "records"]

ZERO_UUID = bytes(16)
# FORMATS: the letter of `struct` for each fixed-width type. ZEROS: default values by type; other types default to 0.
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


class Versions(NamedTuple):
    """An inclusive range of versions; empty when `first > last`."""

    first: int
    last: int

    def __contains__(self, version: object) -> bool:
        return isinstance(version, int) and self.first <= version <= self.last

    @classmethod
    def parse(cls, text: str) -> Versions:
        """Reads Kafka's notation: "3", "0-12", "9+" or "none"."""
        if text == "none":
            return cls(1, 0)
        if text.endswith("+"):
            return cls(int(text[:-1]), MAX_VERSION)
        first, _, last = text.partition("-")
        return cls(int(first), int(last or first))

    def __str__(self) -> str:
        if self.first > self.last:
            return "none"
        if self.last == MAX_VERSION:
            return f"{self.first}+"
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


NONE = Versions(1, 0)


class _Unset:
    """Stands for the default of a field that declares none: zero or empty, by its type."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET = _Unset()

# What a string is the name of, in the words of Kafka's definitions. They know other types, and mark responses, too:
# declared is what somebody asks for.
EntityType: TypeAlias = Literal["topicName"]


class Field:
    """One declared field. `resolve_fields` sets `is_array`, `element` and `struct` on first use of the class."""

    __slots__ = (
        "default",
        "element",
        "entity_type",
        "flexible",
        "is_array",
        "name",
        "nullable",
        "shared",
        "struct",
        "tag",
        "tagged",
        "versions",
    )

    def __init__(
        self,
        versions: Versions,
        default: object,
        nullable: Versions,
        tag: int | None,
        tagged: Versions,
        flexible: bool,
        entity_type: EntityType | None,
        shared: bool,
    ) -> None:
        self.name = ""
        self.versions = versions
        self.default = default
        self.nullable = nullable
        self.tag = tag
        self.tagged = tagged
        self.flexible = flexible
        self.entity_type = entity_type
        self.shared = shared
        self.is_array = False
        self.element = ""  # Kafka's name of a primitive type, or "" for a structure
        self.struct: type[Struct] | None = None


def field(
    versions: str,
    *,
    default: object = UNSET,
    nullable: str = "none",
    tag: int | None = None,
    tagged: str | None = None,
    flexible: bool = True,
    entity_type: EntityType | None = None,
    shared: bool = False,
) -> Any:
    """Declares a field: the versions that carry it, its default, the versions in which it may be null, its tag and
    (if not all of `versions`) the versions in which it is tagged. `flexible=False` keeps the old encoding in flexible
    versions (only the request header's client id needs it). `entity_type` (in requests): what the string is the name
    of. `shared` (of an array of structures, in responses): one structure may be in several arrays of a message, or
    one array in several places, and is not encoded each time."""
    own = Versions.parse(versions)
    tagged_versions = NONE if tag is None else Versions.parse(tagged or versions)
    return Field(own, default, Versions.parse(nullable), tag, tagged_versions, flexible, entity_type, shared)


class StructType(type):
    """The metaclass that turns field declarations into slots. An import costs a dictionary per class; everything else
    is done on first use."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **keywords: Any) -> StructType:
        declared = {key: value for key, value in namespace.items() if isinstance(value, Field)}
        for key, value in declared.items():
            value.name = key
            del namespace[key]
        namespace["__slots__"] = tuple(declared)
        namespace["__declared__"] = tuple(declared.values())
        return super().__new__(mcs, name, bases, namespace, **keywords)


@dataclass_transform(kw_only_default=True)
class Struct(metaclass=StructType):
    """A structure of the protocol. Every field is an optional keyword of the constructor."""

    __slots__ = ()
    __declared__: ClassVar[tuple[Field, ...]] = ()

    def __init__(self, **values: Any) -> None:
        # The first instance compiles the class's real constructor, which replaces this one.
        _compile_constructor(type(self))
        self.__init__(**values)  # type: ignore[misc]

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, f.name) == getattr(other, f.name) for f in self.__declared__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        inside = ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in self.__declared__)
        return f"{type(self).__name__}({inside})"


class Message(Struct):
    """A top-level structure: a request, a response, a header, or an internal record.

    `api_key` is -1 for headers; for an internal record it is the type's number (metadata records) or -1.
    """

    __slots__ = ()
    api_key: ClassVar[int] = -1
    valid_versions: ClassVar[Versions] = NONE
    flexible_versions: ClassVar[Versions] = NONE
    decoders: ClassVar[dict[int, Callable[..., Any]]]
    encoders: ClassVar[dict[int, Callable[..., Any]]]

    def __init_subclass__(cls, *, versions: str, flexible: str, api_key: int = -1) -> None:
        super().__init_subclass__()
        cls.api_key = api_key
        cls.valid_versions = Versions.parse(versions)
        cls.flexible_versions = Versions.parse(flexible)
        cls.decoders = {}
        cls.encoders = {}


def check_version(cls: type[Message], version: int) -> None:
    """Raises `MessageError` for a version that the message does not have."""
    if version not in cls.valid_versions:
        raise MessageError(f"{cls.__name__} has versions {cls.valid_versions}, not {version}")


def resolve_fields(cls: type[Struct]) -> tuple[Field, ...]:
    """Fills in the types of a class's fields from its annotations, once."""
    declared = cls.__declared__
    if declared and not declared[0].element and declared[0].struct is None:
        module = vars(sys.modules[cls.__module__])
        for f in declared:
            # Only the module's names are used: a field may have the name of a type.
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


def default_source(f: Field, source: FunctionSource) -> str:
    """The source of an expression for the field's default; it makes a new object where that is mutable."""
    value = default_of(f)
    if value == [] and f.is_array:
        return "[]"
    if isinstance(value, Struct):
        return f"{source.name('cls_' + type(value).__name__, type(value))}()"
    return repr(value)


def _compile_constructor(cls: type[Struct]) -> None:
    """Gives the class a constructor with a keyword for each field."""
    source = FunctionSource({"UNSET": UNSET})
    parameters = ["self"]
    for f in resolve_fields(cls):
        fresh = f.default is UNSET and (f.is_array or f.struct is not None)
        default = default_source(f, source)
        parameters.append(f"{f.name}={'UNSET' if fresh else default}")
        source.add(f"self.{f.name} = {f'{default} if {f.name} is UNSET else {f.name}' if fresh else f.name}")
    source.add("pass")
    if len(parameters) > 1:
        parameters.insert(1, "*")
    cls.__init__ = source.build(f"init_{cls.__name__}", ", ".join(parameters))  # type: ignore[method-assign]
