"""Responses of very many pieces: the same bytes as any other, what they share encoded once, in no long step."""

from __future__ import annotations

import random

import pytest

from odradek.protocol.encoding import encode, has_records
from odradek.protocol.fields import Message
from odradek.protocol.framing import encode_large_response, encode_response
from odradek.protocol.messages.describe_configs import (
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
    DescribeConfigsResult,
)
from odradek.protocol.messages.fetch import FetchResponse
from odradek.protocol.messages.metadata import MetadataResponse
from odradek.protocol.registry import APIS
from tests.protocol.random_messages import random_message


class Counted(str):
    """A text that counts how often it is encoded."""

    __slots__ = ("count",)

    def __new__(cls, text: str) -> Counted:
        made = super().__new__(cls, text)
        made.count = 0
        return made

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        self.count += 1
        return super().encode(encoding, errors)


def described(values: list[list[DescribeConfigsResourceResult]]) -> DescribeConfigsResponse:
    return DescribeConfigsResponse(results=[DescribeConfigsResult(configs=list(one)) for one in values])


@pytest.mark.parametrize("version", [1, 4])
def test_what_stands_in_several_places_is_encoded_once(version: int) -> None:
    values = [Counted(f"value {number}") for number in range(3)]
    one, two, three = [
        DescribeConfigsResourceResult(name=f"n{number}", value=value) for number, value in enumerate(values)
    ]
    sent = encode(described([[one, two], [two, one, one], [], [three]]), version)
    assert [value.count for value in values] == [1, 1, 1]

    def copy(of: DescribeConfigsResourceResult) -> DescribeConfigsResourceResult:
        return DescribeConfigsResourceResult(name=of.name, value=of.value)

    copies = [[copy(one), copy(two)], [copy(two), copy(one), copy(one)], [], [copy(three)]]
    assert sent == encode(described(copies), version)


@pytest.mark.parametrize(
    ("cls", "version"),
    [(api.response, version) for api in APIS for version in range(api.served.first, api.served.last + 1)],
)
def test_a_large_response_has_the_bytes_of_any_other(cls: type[Message], version: int) -> None:
    message = random_message(cls, version, random.Random(version))
    expected = b"".join(encode_response(message, version, 77))
    assert b"".join(encode_large_response(message, version, 77)) == expected


def test_a_large_response_is_no_list_of_pieces_except_for_records() -> None:
    assert len(encode_large_response(MetadataResponse(cluster_id="x" * 30_000), 12, 1)) == 1
    assert has_records(FetchResponse) and not has_records(MetadataResponse)
