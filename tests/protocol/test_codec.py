"""Random messages of every version, byte for byte, against two independent codecs: kio, and Kafka's own classes."""

from __future__ import annotations

import base64
import importlib
import io
import json
import random
import re
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from kio.serial import entity_reader, entity_writer

from odradek.protocol.decoding import decode
from odradek.protocol.encoding import encode
from odradek.protocol.fields import Message, Struct
from odradek.protocol.framing import RequestHeader, ResponseHeader
from odradek.protocol.messages.metadata import MetadataRequest
from odradek.protocol.records import consumer_assignment, consumer_subscription, control, group, transaction, voters
from odradek.protocol.records.metadata import BY_TYPE
from odradek.protocol.registry import APIS
from tests.protocol.random_messages import random_message, with_views_as_bytes
from tests.reference import broker_classpath, java_source, needs_java, run_java

SAMPLES = 8
# kio turns these into objects with a smaller range than the wire has.
KIO_ERROR_CODES = 134
KIO_MISSING = {("ApiVersions", 5), ("DeleteGroups", 3), ("TxnOffsetCommit", 6)}


def served() -> Iterator[tuple[str, str, type[Message], int]]:
    """(module, side, class, version) of everything served."""
    for api in APIS:
        for version in range(api.served.first, api.served.last + 1):
            yield api.module, "request", api.request, version
            yield api.module, "response", api.response, version


def samples(cls: type[Message], version: int) -> Iterator[Any]:
    for seed in range(SAMPLES):
        yield random_message(cls, version, random.Random(f"{cls.__name__} {version} {seed}"))


def fit_for_kio(value: Any) -> None:
    """Moves values into kio's ranges."""
    if isinstance(value, list):
        for item in value:
            fit_for_kio(item)
    elif isinstance(value, Struct):
        for field in value.__declared__:
            inner = getattr(value, field.name)
            if field.name.endswith("error_code"):
                setattr(value, field.name, inner % KIO_ERROR_CODES)
            elif field.name in ("log_append_time_ms", "retention_time_ms", "transaction_start_time_ms"):
                setattr(value, field.name, inner if inner == -1 else inner % 10**12)
            else:
                fit_for_kio(inner)


def read_back(message: Any, version: int, data: bytes) -> None:
    """Our decoder gives the message back, and uses all its bytes."""
    again, end = decode(type(message), version, data)
    assert end == len(data)
    assert with_views_as_bytes(again) == message


@pytest.mark.parametrize(
    ("module", "side", "cls", "version"), list(served()), ids=lambda value: getattr(value, "__name__", value)
)
def test_the_same_bytes_as_kio(module: str, side: str, cls: type[Message], version: int) -> None:
    name = cls.__name__.removesuffix("Request").removesuffix("Response")
    if (name, version) in KIO_MISSING:
        with pytest.raises(ImportError):
            importlib.import_module(f"kio.schema.{module}.v{version}.{side}")
        return
    theirs = getattr(importlib.import_module(f"kio.schema.{module}.v{version}.{side}"), cls.__name__)
    read, write = entity_reader(theirs), entity_writer(theirs)
    for message in samples(cls, version):
        fit_for_kio(message)
        data = encode(message, version)
        read_back(message, version, data)
        entity, _ = read(data, 0)
        out = io.BytesIO()
        write(out, entity)
        assert out.getvalue() == data


def java_class(cls: type[Message]) -> str:
    if cls.__module__ == group.__name__:
        return f"org.apache.kafka.coordinator.group.generated.{cls.__name__}"
    if cls.__module__ == transaction.__name__:
        return f"org.apache.kafka.coordinator.transaction.generated.{cls.__name__}"
    package = "metadata" if cls in BY_TYPE.values() else "message"
    suffix = "Data" if re.search("(Request|Response|Header)$", cls.__name__) else ""
    return f"org.apache.kafka.common.{package}.{cls.__name__}{suffix}"


def everything() -> list[tuple[type[Message], int]]:
    """Every message and record class in every version that Kafka's classes can read."""
    internal = [
        value
        for module in (consumer_assignment, consumer_subscription, control, group, transaction, voters)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Message) and value is not Message
    ]
    found = [(cls, version) for _, _, cls, version in served()]
    for cls in (RequestHeader, ResponseHeader, *BY_TYPE.values(), *internal):
        found += [(cls, version) for version in range(cls.valid_versions.first, cls.valid_versions.last + 1)]
    return found


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def same(ours: Any, theirs: Any, where: str) -> None:
    """Compares a value with Kafka's JSON of it. Kafka leaves out tagged fields that hold their default."""
    if isinstance(ours, Struct):
        names = {re.sub("[^a-z0-9]", "", f.name): f.name for f in ours.__declared__}
        for key, value in theirs.items():
            name = names[key.lower()]
            if name == "records" and value == "":
                continue  # Kafka's JSON never has them; the encoded bytes do
            same(getattr(ours, name), value, f"{where}.{name}")
    elif isinstance(ours, list):
        assert isinstance(theirs, list) and len(ours) == len(theirs), where
        for index, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            same(a, b, f"{where}[{index}]")
    elif isinstance(ours, bytes) and len(ours) == 16 and isinstance(theirs, str) and len(theirs) == 22:
        assert base64.urlsafe_b64decode(theirs + "==") == ours, where
    elif isinstance(ours, bytes):
        assert base64.b64decode(theirs) == ours, where
    else:
        assert ours == theirs, where


@needs_java
def test_the_same_bytes_and_values_as_kafkas_own_classes() -> None:
    lines, expected = [], []
    for cls, version in everything():
        for message in samples(cls, version):
            data = encode(message, version)
            read_back(message, version, data)
            lines.append(f"{java_class(cls)} {version} {base64.b64encode(data).decode()}")
            expected.append((message, version, data))
    done = run_java(broker_classpath(), java_source("RoundTrip.java"), stdin="\n".join(lines) + "\n", timeout_s=300)
    assert done.returncode == 0, done.stderr
    answers = done.stdout.splitlines()
    assert len(answers) == len(lines)
    for answer, (message, version, data) in zip(answers, expected, strict=True):
        where = f"{type(message).__name__} version {version}"
        assert not answer.startswith("error"), f"{where}: {answer}\n{message}"
        encoded, _, text = answer.partition(" ")
        same(message, json.loads(text), where)
        assert base64.b64decode(encoded) == data, where


@needs_java
def test_what_is_not_utf8_is_replaced_as_in_kafka() -> None:
    choose = random.Random("not utf-8")
    lines, names = [], []
    for _ in range(300):
        pieces = [choose.choice((choose.randbytes(choose.randint(1, 4)), "aé日🧵".encode())) for _ in range(4)]
        text = b"".join(pieces)[: choose.randint(1, 20)]
        data = struct.pack(">ih", 1, len(text)) + text
        names.append(decode(MetadataRequest, 1, data)[0].topics[0].name)
        lines.append(f"{java_class(MetadataRequest)} 1 {base64.b64encode(data).decode()}")
    done = run_java(broker_classpath(), java_source("RoundTrip.java"), stdin="\n".join(lines) + "\n")
    assert done.returncode == 0, done.stderr
    assert any("\ufffd" in name for name in names)
    theirs = [json.loads(line.partition(" ")[2])["topics"][0]["name"] for line in done.stdout.splitlines()]
    assert theirs == names
