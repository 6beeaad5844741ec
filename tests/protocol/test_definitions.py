"""Every declared field against the definitions in Kafka 4.4.0's jars: nothing more, nothing less, nothing else."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest

import odradek.protocol.messages
import odradek.protocol.records
from odradek.protocol.fields import MAX_VERSION, ZERO_UUID, Field, Message, Struct, Versions, default_of, resolve_fields
from odradek.protocol.framing import RequestHeader, ResponseHeader
from odradek.protocol.records.metadata import BY_TYPE
from odradek.protocol.registry import APIS, Api
from tests.protocol.definitions import definitions, java_classes, snake
from tests.reference import needs_java

pytestmark = needs_java


def declared_messages() -> Iterator[type[Message]]:
    """Every message class of the package."""
    yield from (RequestHeader, ResponseHeader)
    for package in (odradek.protocol.messages, odradek.protocol.records):
        for module in pkgutil.iter_modules(package.__path__):
            loaded = importlib.import_module(f"{package.__name__}.{module.name}")
            for value in vars(loaded).values():
                if isinstance(value, type) and issubclass(value, Message) and value.__module__ == loaded.__name__:
                    yield value


MESSAGES = list(declared_messages())


def expected_default(field: dict[str, Any]) -> object:
    """The value of a field that is not set, by Kafka's rules."""
    kind, default = field["type"], field.get("default")
    if default == "null":
        return None
    if kind.startswith("[]"):
        return []
    if kind == "bool":
        return str(default).lower() == "true"
    if kind == "string":
        return default if default is not None else ""
    if kind == "float64":
        return float(default or 0)
    if kind.startswith(("int", "uint")):
        return int(str(default), 0) if default is not None else 0
    return {"uuid": ZERO_UUID, "bytes": b"", "records": b""}[kind]


def compare(where: str, ours: Field, theirs: dict[str, Any], common: dict[str, Any], valid: Versions) -> None:
    where = f"{where}.{ours.name}"
    assert ours.name == snake(theirs["name"]), where
    # A tagged field may leave out its versions: they are those in which it is tagged.
    assert ours.versions == Versions.parse(theirs.get("versions") or theirs["taggedVersions"]), where
    # Kafka may declare a field nullable, or tagged, in versions that do not have it.
    assert ours.nullable == Versions.parse(theirs.get("nullableVersions", "none")), where
    assert ours.tag == theirs.get("tag"), where
    assert ours.tagged == Versions.parse(theirs.get("taggedVersions", "none")), where
    assert ours.flexible == (theirs.get("flexibleVersions", "") != "none"), where
    kind = theirs["type"]
    assert ours.is_array == kind.startswith("[]"), where
    element = kind.removeprefix("[]")
    if ours.struct is None:
        assert ours.element == element, where
        assert default_of(ours) == expected_default(theirs), where
        return
    assert ours.struct.__name__ == element, where
    inner = theirs.get("fields") or common[element]["fields"]
    if not ours.is_array:
        default = default_of(ours)
        if theirs.get("default") == "null":
            assert default is None, where
        else:
            assert default == ours.struct(), where
    compare_fields(where, ours.struct, inner, common, valid)


def compare_fields(
    where: str, cls: type[Struct], theirs: list[dict[str, Any]], common: dict[str, Any], valid: Versions
) -> None:
    ours = resolve_fields(cls)
    assert [f.name for f in ours] == [snake(f["name"]) for f in theirs], where
    for field, definition in zip(ours, theirs, strict=True):
        compare(where, field, definition, common, valid)


@pytest.mark.parametrize("cls", MESSAGES, ids=lambda cls: cls.__name__)
def test_a_declaration_is_kafkas_definition(cls: type[Message]) -> None:
    theirs = definitions()[cls.__name__]
    assert cls.valid_versions == Versions.parse(theirs["validVersions"])
    assert cls.flexible_versions == Versions.parse(theirs["flexibleVersions"])
    assert cls.api_key == theirs.get("apiKey", -1)
    common = {struct["name"]: struct for struct in theirs.get("commonStructs", [])}
    compare_fields(cls.__name__, cls, theirs["fields"], common, cls.valid_versions)


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
def test_the_topic_names_in_a_request_are_marked(api: Api) -> None:
    theirs = definitions()[f"{api.name}Request"]
    common = {struct["name"]: struct["fields"] for struct in theirs.get("commonStructs", [])}

    def marked_by_kafka(fields: list[dict[str, Any]], path: str) -> Iterator[str]:
        for field in fields:
            place = f"{path}.{snake(field['name'])}"
            if field.get("entityType") == "topicName":
                yield place
            element = field["type"].removeprefix("[]")
            yield from marked_by_kafka(field.get("fields") or common.get(element, []), place)

    def marked(cls: type[Struct], path: str) -> Iterator[str]:
        for field in resolve_fields(cls):
            place = f"{path}.{field.name}"
            if field.entity_type == "topicName":
                yield place
            if field.struct is not None:
                yield from marked(field.struct, place)

    assert list(marked(api.request, api.name)) == list(marked_by_kafka(theirs["fields"], api.name))


def test_every_kind_of_message_was_compared() -> None:
    names = {cls.__name__ for cls in MESSAGES}
    assert {f"{api.name}{side}" for api in APIS for side in ("Request", "Response")} <= names
    assert {cls.__name__ for cls in BY_TYPE.values()} <= names


def test_every_metadata_record_of_kafka_is_declared() -> None:
    theirs = {
        name: definitions()[name]["apiKey"]
        for name, java in java_classes().items()
        if java.startswith("org.apache.kafka.common.metadata.")
    }
    assert {cls.__name__: number for number, cls in BY_TYPE.items()} == theirs


def test_what_is_served_is_inside_what_kafka_defines_and_is_stable() -> None:
    for api in APIS:
        request = definitions()[f"{api.name}Request"]
        valid = Versions.parse(request["validVersions"])
        last = valid.last - 1 if request.get("latestVersionUnstable") else valid.last
        assert api.served == Versions(valid.first, last), api.name
        assert "broker" in request["listeners"]
        assert api.served.last < MAX_VERSION
