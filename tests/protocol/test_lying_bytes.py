"""Bytes that are not the message they were said to be: one error, inside bounds, at little cost."""

from __future__ import annotations

import random
import struct
import tracemalloc

import pytest

from odradek.protocol.decoding import decode, decoder
from odradek.protocol.encoding import encode
from odradek.protocol.errors import DecodeError, MessageError
from odradek.protocol.fields import (
    Message,
    Struct,
    byte_string,
    field,
    float64,
    int8,
    int32,
    string,
    uint16,
    uuid,
)
from odradek.protocol.framing import (
    JOIN_BYTES,
    RequestHeader,
    encode_request,
    encode_response,
    peek_api,
    read_request_header,
)
from odradek.protocol.messages.api_versions import ApiVersionsResponse
from odradek.protocol.messages.fetch import FetchableTopicResponse, FetchResponse, PartitionData
from odradek.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from odradek.protocol.messages.produce import ProduceRequest
from odradek.protocol.registry import APIS
from odradek.protocol.varints import encode_uvarint, read_uvarint
from tests.protocol.random_messages import random_message, with_views_as_bytes

EVERY_REQUEST = [(api.request, version) for api in APIS for version in range(api.served.first, api.served.last + 1)]


def small(cls: type[Message], version: int) -> bytes:
    """A message of some size, not too long to try every byte of."""
    for seed in range(100):
        data = encode(random_message(cls, version, random.Random(seed)), version)
        if len(data) < 600:
            return data
    raise AssertionError(f"no small {cls.__name__}")


@pytest.mark.parametrize(("cls", "version"), EVERY_REQUEST, ids=str)
def test_a_cut_at_every_byte_is_an_error(cls: type[Message], version: int) -> None:
    data = small(cls, version)
    for cut in range(len(data)):
        with pytest.raises(DecodeError):
            decode(cls, version, data[:cut])


@pytest.mark.parametrize(("cls", "version"), EVERY_REQUEST, ids=str)
def test_changed_bytes_are_a_message_or_an_error(cls: type[Message], version: int) -> None:
    choose = random.Random(f"{cls.__name__}{version}")
    data = small(cls, version)
    for _ in range(200):
        changed = bytearray(data or b"\0")
        for _ in range(choose.randint(1, 4)):
            changed[choose.randrange(len(changed))] = choose.choice((0, 1, 0x7F, 0x80, 0xFF, choose.randrange(256)))
        try:
            message, end = decode(cls, version, bytes(changed))
        except DecodeError:
            continue
        assert end <= len(changed)
        # Whatever was read can be written, and read again as the same.
        again, _ = decode(cls, version, encode(message, version))
        assert with_views_as_bytes(again) == with_views_as_bytes(message)


@pytest.mark.parametrize("length", [-2, -(2**31), 2**31 - 1, 1_000_001, 3])
def test_an_array_length_that_lies_costs_nothing(length: int) -> None:
    data = struct.pack(">i", length) + b"\0\0"
    tracemalloc.start()
    with pytest.raises(DecodeError):
        decode(MetadataRequest, 1, data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200_000


def test_the_number_of_elements_is_bounded_over_nested_arrays() -> None:
    class Inner(Struct):
        numbers: list[int8] = field("0+")

    class Outer(Message, versions="0", flexible="none"):
        inner: list[Inner] = field("0+")

    Outer.__module__ = Inner.__module__ = __name__
    globals().update(Inner=Inner, Outer=Outer)
    # A hundred arrays of a thousand numbers each: each fits, together they are too many.
    data = struct.pack(">i", 100) + (struct.pack(">i", 1000) + bytes(1000)) * 100
    read = decoder(Outer, 0)
    assert len(read(data, 0, 100_100)[0].inner) == 100
    with pytest.raises(DecodeError):
        read(data, 0, 100_099)


class Leaf(Struct):
    number: int32 = field("0+", default=7)


class Everything(Message, versions="0-1", flexible="1"):
    leaf: Leaf | None = field("0+", default=None, nullable="0+")
    leaves: list[Leaf] | None = field("0+", nullable="0+")
    names: list[string] = field("0+")
    blobs: list[byte_string] = field("0+")
    ids: list[uuid] = field("0+")
    port: uint16 = field("0+")
    ratio: float64 = field("0+")
    maybe: byte_string | None = field("0+", nullable="0+")
    tagged_names: list[string] | None = field("1+", default=None, nullable="1+", tag=3)
    tagged_leaf: Leaf = field("1+", tag=1)
    tagged_either: Leaf | None = field("1+", nullable="1+", tag=90)
    tagged_text: string | None = field("1+", default=None, nullable="1+", tag=200)


class Numbers(Message, versions="0-1", flexible="1"):
    numbers: list[int32] = field("0+")


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("seed", range(40))
def test_every_kind_of_field_survives(version: int, seed: int) -> None:
    message = random_message(Everything, version, random.Random(seed))
    data = encode(message, version)
    again, end = decode(Everything, version, data)
    assert end == len(data) and with_views_as_bytes(again) == message
    for cut in range(0, len(data), max(1, len(data) // 50)):
        with pytest.raises(DecodeError):
            decode(Everything, version, data[:cut])


def test_defaults_and_constructor() -> None:
    made = Everything()
    assert (made.leaf, made.leaves, made.names, made.tagged_names, made.tagged_leaf) == (None, [], [], None, Leaf())
    assert made.names is not Everything().names and Leaf().number == 7
    with pytest.raises(TypeError):
        Everything(nothing=1)  # type: ignore[call-arg]
    assert made != Leaf() and "tagged_leaf=Leaf(number=7)" in repr(made)


def test_tags_that_are_unknown_are_skipped_wherever_they_stand() -> None:
    known = encode(Everything(tagged_leaf=Leaf(number=5)), 1)
    # tags: count 1, tag 1, size 5 (an int32 and no tags of its own)
    assert known.endswith(b"\x01\x01\x05\x00\x00\x00\x05\x00")
    body = known[:-8]
    tags = b"\x04" + b"\x00\x02ab" + b"\x01\x05\x00\x00\x00\x05\x00" + b"\x07\x00" + b"\xff\x7f\x01z"
    message, end = decode(Everything, 1, body + tags)
    assert message.tagged_leaf == Leaf(number=5) and end == len(body + tags)
    for size in (b"\x04", b"\x06", b"\x7f"):
        with pytest.raises(DecodeError):
            decode(Everything, 1, body + b"\x01\x01" + size + b"\x00\x00\x00\x05\x00")


@pytest.mark.parametrize("tagged", [None, Leaf(), Leaf(number=3)])
def test_a_tagged_structure_may_be_null_or_hold_its_defaults(tagged: Leaf | None) -> None:
    data = encode(Everything(tagged_either=tagged), 1)
    assert decode(Everything, 1, data)[0].tagged_either == tagged
    assert (b"\x5a" in data) == (tagged != Leaf())


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 10, 127, 128, 20_000])
def test_arrays_of_numbers_of_every_length(count: int) -> None:
    for version in (0, 1):
        data = encode(Numbers(numbers=list(range(count))), version)
        assert decode(Numbers, version, data) == (Numbers(numbers=list(range(count))), len(data))


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**14, 2**21 - 1, 2**28, 2**31 - 1, 2**32 - 1])
def test_varints(value: int) -> None:
    data = encode_uvarint(value)
    assert read_uvarint(data, 0) == (value, len(data))


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff\x1f", b"\xff\xff\xff\xff\xff\x01", b"\x80" * 5])
def test_varints_that_are_too_long(data: bytes) -> None:
    with pytest.raises(DecodeError):
        read_uvarint(data, 0)


def test_a_version_that_does_not_exist_is_our_own_mistake() -> None:
    with pytest.raises(MessageError):
        decode(ProduceRequest, 2, b"")
    with pytest.raises(MessageError):
        encode(ProduceRequest(), 99)


# --- frames ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client_id", [None, "", "me", "grün"])
@pytest.mark.parametrize(("cls", "version"), [(MetadataRequest, 8), (MetadataRequest, 12)])
def test_request_headers(cls: type[Message], version: int, client_id: str | None) -> None:
    frame = encode_request(cls(), version, 77, client_id)
    assert struct.unpack(">i", frame[:4])[0] == len(frame) - 4
    assert peek_api(frame[4:]) == (3, version, 77)
    header = read_request_header(frame[4:], version in cls.flexible_versions)
    assert (header.correlation_id, header.client_id) == (77, client_id)
    assert decode(cls, version, frame[4:], header.body_position)[0] == cls()


def test_request_headers_with_tags_are_read_past() -> None:
    header = RequestHeader(request_api_key=3, request_api_version=12, correlation_id=1, client_id="c")
    data = encode(header, 2)[:-1] + b"\x02\x00\x03abc\x09\x00" + b"rest"
    assert data[read_request_header(data, True).body_position :] == b"rest"


@pytest.mark.parametrize("text", [b"\xff\xfe", b"gr\xfcn", b"\xed\xa0\x80", b"ok\xe2\x28", b"\xf0\x9f"])
def test_strings_that_are_not_utf8_are_read_with_replacements(text: bytes) -> None:
    header = read_request_header(struct.pack(">hhih", 3, 1, 1, len(text)) + text, False)
    data = struct.pack(">ih", 1, len(text)) + text
    (topic,) = decode(MetadataRequest, 1, data)[0].topics
    assert header.client_id == topic.name == text.decode("utf-8", "replace")


@pytest.mark.parametrize("version", [8, 9])
def test_a_string_longer_than_an_int16_can_say_is_refused_in_every_version(version: int) -> None:
    longest = MetadataRequest(topics=[MetadataRequestTopic(name="x" * 32_767)])
    data = encode(longest, version)
    assert decode(MetadataRequest, version, data) == (longest, len(data))
    longest.topics[0].name += "x"
    with pytest.raises(struct.error):
        encode(longest, version)
    if version == 9:
        name = encode_uvarint(32_769) + b"x" * 32_768
        with pytest.raises(DecodeError, match="32768"):
            decode(MetadataRequest, version, b"\x02" + name + bytes(10))


@pytest.mark.parametrize("length", [-2, 100, 2**15 - 1])
def test_a_client_id_that_lies(length: int) -> None:
    with pytest.raises(DecodeError):
        read_request_header(struct.pack(">hhih", 3, 1, 1, length) + b"abc", False)
    for cut in range(8):
        with pytest.raises(DecodeError):
            peek_api(bytes(cut))


def test_large_records_are_sent_as_they_are_and_small_pieces_joined() -> None:
    large, small_one = bytes(JOIN_BYTES), b"x" * 10
    answers = [PartitionData(records=[large, small_one]), PartitionData(records=small_one)]
    response = FetchResponse(responses=[FetchableTopicResponse(topic="t", partitions=answers)])
    pieces = encode_response(response, 12, 5)
    assert any(piece is large for piece in pieces) and len(pieces) == 3
    whole = b"".join(pieces)
    assert struct.unpack(">ii", whole[:8]) == (len(whole) - 4, 5)
    again, end = decode(FetchResponse, 12, whole, 9)
    assert end == len(whole)
    assert [bytes(p.records) for p in again.responses[0].partitions] == [large + small_one, small_one]


def test_the_response_to_api_versions_has_an_old_header_always() -> None:
    (frame,) = encode_response(ApiVersionsResponse(), 4, 9)
    message, end = decode(ApiVersionsResponse, 4, frame, 8)
    assert end == len(frame) and message == ApiVersionsResponse()
