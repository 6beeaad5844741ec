"""Every API's refusal of a whole request, byte for byte against Kafka's own error response, in every version."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from itertools import count
from typing import Any, NamedTuple

from odradek.errors import ErrorCode
from odradek.handlers.context import CLOSE_CONNECTION
from odradek.handlers.table import HANDLERS
from odradek.protocol.decoding import decode
from odradek.protocol.encoding import encode
from odradek.protocol.fields import Field, Message, Struct, resolve_fields
from odradek.protocol.messages.produce import ProduceRequest
from odradek.protocol.registry import APIS, Api
from odradek.records.builder import NewRecord, batch_bytes, build_batch
from tests.reference import broker_classpath, java_source, needs_java, run_java

CODES = (
    ErrorCode.UNKNOWN_SERVER_ERROR,
    ErrorCode.NOT_COORDINATOR,
    ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
    ErrorCode.UNSUPPORTED_VERSION,  # ApiVersions says more with it
    ErrorCode.THROTTLING_QUOTA_EXCEEDED,
)
# Kafka collects their parts in hash maps.
WITHOUT_ORDER = {"Produce", "WriteTxnMarkers"}
RECORDS = batch_bytes(build_batch([NewRecord(None, b"x", 1000)]))


class Filling(NamedTuple):
    """What a request is filled with: how many of each array, and whether null where a field may be."""

    each: int
    null: bool


FILLINGS = (Filling(2, False), Filling(2, True), Filling(0, False), Filling(0, True))


class Case(NamedTuple):
    api: Api
    version: int
    code: ErrorCode
    request: Any


def filled(cls: type[Struct], version: int, filling: Filling, numbers: Iterator[int]) -> Any:
    """A structure with a value of its own in every field of that version."""
    made = cls()
    for field in resolve_fields(cls):
        if version in field.versions:
            setattr(made, field.name, value_of(field, version, filling, numbers))
    return made


def value_of(field: Field, version: int, filling: Filling, numbers: Iterator[int]) -> Any:
    # An array is null only where it would be empty, so that nulls within are met, too; Kafka falls over null records.
    may_be_null = version in field.nullable and field.element != "records"
    if filling.null and may_be_null and not (field.is_array and filling.each):
        return None
    if field.is_array:
        return [element_of(field, version, filling, numbers) for _ in range(filling.each)]
    return element_of(field, version, filling, numbers)


def element_of(field: Field, version: int, filling: Filling, numbers: Iterator[int]) -> Any:
    if field.struct is not None:
        return filled(field.struct, version, filling, numbers)
    number = next(numbers)
    match field.element:
        case "string":
            return f"{field.name} {number}"
        case "bool":
            return bool(number % 2)
        case "uuid":
            return number.to_bytes(16, "big")
        case "records":
            return RECORDS
        case "bytes":
            return b"%d" % number
        case "int8":
            return 1 + number % 2
    return number


def cases() -> Iterator[Case]:
    for api in APIS:
        for version in range(api.served.first, api.served.last + 1):
            for filling in FILLINGS:
                request = filled(api.request, version, filling, count(1))
                for code in CODES:
                    yield Case(api, version, code, request)
                if api.request is ProduceRequest:
                    without_acks = filled(api.request, version, filling, count(1))
                    without_acks.acks = 0
                    yield Case(api, version, ErrorCode.NOT_COORDINATOR, without_acks)


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def in_our_words(message: Any, standing: str, ours: str) -> Any:
    """The message with the sentence that Kafka always has for an error replaced by ours."""
    if isinstance(message, list):
        return [in_our_words(item, standing, ours) for item in message]
    if isinstance(message, Struct):
        for field in message.__declared__:
            setattr(message, field.name, in_our_words(getattr(message, field.name), standing, ours))
    return ours if message == standing else message


def in_order(message: Any) -> Any:
    """The message with the items of its arrays sorted."""
    if isinstance(message, list):
        return sorted(map(in_order, message), key=repr)
    if isinstance(message, Struct):
        for field in message.__declared__:
            setattr(message, field.name, in_order(getattr(message, field.name)))
    return message


@needs_java
def test_every_refusal_is_kafkas_error_response() -> None:
    asked = list(cases())
    lines = [
        f"{api.key} {version} {code.value} {base64_of(encode(request, version))} {base64_of(code.meaning.encode())}"
        for api, version, code, request in asked
    ]
    done = run_java(broker_classpath(), java_source("ErrorResponses.java"), stdin="\n".join(lines) + "\n")
    assert done.returncode == 0, done.stderr
    answers = done.stdout.splitlines()
    assert len(answers) == len(asked)
    closed = 0
    for line, (api, version, code, request) in zip(answers, asked, strict=True):
        where = f"{api.name} version {version}, {code.name}: {request}"
        response = HANDLERS[api.key].refused(request, code, version)
        assert not line.startswith("error"), f"{where}\n{line}"
        if line == "null":
            assert response is CLOSE_CONNECTION, where
            closed += 1
            continue
        assert isinstance(response, Message), where
        encoded, _, standing = line.partition(" ")
        theirs, _ = decode(api.response, version, base64.b64decode(encoded))
        theirs = in_our_words(theirs, base64.b64decode(standing).decode(), code.meaning)
        if api.name in WITHOUT_ORDER:
            theirs, response = in_order(theirs), in_order(response)
        assert encode(response, version) == encode(theirs, version), f"{where}\n{response}\n{theirs}"
    assert closed == sum(isinstance(case.request, ProduceRequest) and case.request.acks == 0 for case in asked)
