"""What the network counts, and that it counts no more and no less than what happened."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from odradek.errors import ErrorCode
from odradek.network.counters import ApiCounters, error_counter
from odradek.protocol.fields import Message, Struct, resolve_fields
from odradek.protocol.framing import encode_request
from odradek.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from odradek.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from odradek.protocol.registry import APIS, BY_NAME
from tests.network.test_connection import fetch_request, until
from tests.raw_client import RawClient, batch, produce_request
from tests.serving import Serving


@pytest.fixture
def broker() -> Iterator[Serving]:
    with Serving(max__connections__per__ip="3") as serving:
        yield serving


def counted(broker: Serving, api: str) -> ApiCounters:
    return broker.look(lambda: broker.shared.dispatch.counters[BY_NAME[api].key])


def make(client: RawClient, topic: str) -> None:
    answer = client.call(MetadataRequest(topics=[MetadataRequestTopic(name=topic)]), MetadataResponse, 9)
    assert answer.topics[0].error_code == 0


def filled(struct: type[Struct], code: int) -> Any:
    """An instance with every error code set to `code`, and two elements in every array of structures."""
    value = struct()
    for field in resolve_fields(struct):
        if field.name == "error_code":
            setattr(value, field.name, code)
        elif field.struct is not None:
            inner: Any = field.struct
            many = [filled(inner, code), filled(inner, code)]
            setattr(value, field.name, many if field.is_array else many[0])
    return value


def codes(value: Any) -> list[int]:
    """All error codes in a structure, found in the slow and plain way."""
    out = []
    for field in resolve_fields(type(value)):
        here = getattr(value, field.name)
        if field.name == "error_code":
            out.append(int(here))
        elif isinstance(here, Struct):
            out += codes(here)
        elif isinstance(here, list):
            for one in here:
                out += codes(one) if isinstance(one, Struct) else []
    return out


@pytest.mark.parametrize("response", [api.response for api in APIS], ids=lambda response: response.__name__)
def test_every_error_in_a_response_is_counted(response: type[Message]) -> None:
    value = filled(response, 7)
    errors: dict[int, int] = {}
    error_counter(response)(value, errors)
    assert errors == {7: len(codes(value))} and errors[7] >= 1
    errors.clear()
    error_counter(response)(filled(response, 0), errors)
    error_counter(response)(response(), errors)
    assert errors == {}


def test_requests_errors_and_durations_by_api(broker: Serving) -> None:
    with RawClient(broker.port) as client:
        make(client, "t")
        for _ in range(5):
            assert client.produce("t", batch(b"x")).error_code == 0
        assert client.produce("nowhere", batch(b"x")).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        client.fetch("t", 0)
        produce, fetch = counted(broker, "Produce"), counted(broker, "Fetch")
        assert (produce.requests, produce.errors) == (6, {3: 1})
        assert produce.durations.count == 6 and 0 < produce.durations.sum_s < 10
        assert (fetch.requests, fetch.errors, fetch.durations.count) == (1, {}, 1)


def test_what_is_not_answered_is_a_request_with_a_duration(broker: Serving) -> None:
    with RawClient(broker.port) as client:
        make(client, "t")
        client.send(produce_request("t", batch(b"x"), acks=0), 9)
        client.fetch("t", 0)
        produce = counted(broker, "Produce")
        assert (produce.requests, produce.durations.count, produce.errors) == (1, 1, {})


def test_a_fetch_takes_as_long_as_it_waits(broker: Serving) -> None:
    with RawClient(broker.port) as client:
        make(client, "t")
        client.fetch("t", 0, max_wait_ms=120)
        durations = counted(broker, "Fetch").durations
        assert durations.sum_s >= 0.119 and sum(durations.buckets[:6]) == 0


def test_an_unknown_version_of_api_versions_is_an_error_of_it(broker: Serving) -> None:
    with RawClient(broker.port) as client:
        frame = bytearray(encode_request(ApiVersionsRequest(), 3, 1, "c"))
        frame[6:8] = (99).to_bytes(2, "big")
        client.send_bytes(bytes(frame))
        assert client.receive(ApiVersionsResponse, 0).error_code == ErrorCode.UNSUPPORTED_VERSION
        counters = counted(broker, "ApiVersions")
        assert (counters.requests, counters.errors) == (1, {35: 1})


def test_connections(broker: Serving) -> None:
    counters = broker.shared.counters
    clients = [RawClient(broker.port) for _ in range(3)]
    for client in clients:
        make(client, "t")
    with RawClient(broker.port) as above:
        assert above.is_closed()
    until(lambda: len(broker.shared.connections) == 3, "the one above the maximum is gone")
    assert (counters.opened, counters.refused_above_maximum_per_ip, counters.refused_above_maximum) == (4, 1, 0)
    assert counters.malformed == 0
    clients[0].send_bytes(b"GET / HTTP/1.1\r\n\r\n")
    assert clients[0].is_closed() and counters.malformed == 1
    for client in clients:
        client.socket.close()
    until(lambda: not broker.shared.connections, "all are gone")


def test_one_that_goes_while_it_waits_is_not_timed(broker: Serving) -> None:
    with RawClient(broker.port) as client, RawClient(broker.port) as other:
        make(client, "t")
        partition = broker.server.partitions.get("t", 0)
        assert partition is not None
        counters = broker.server.partitions.counters
        client.send(fetch_request("t", 600_000), 12)
        until(lambda: counters.parked_fetches == 1, "the fetch is parked")
        client.socket.close()
        until(lambda: counters.parked_fetches == 0, "the fetch is given up")
        fetch = counted(broker, "Fetch")
        assert (fetch.requests, fetch.durations.count) == (1, 0)
        other.send(fetch_request("t", 600_000), 12)
        until(lambda: counters.parked_fetches == 1, "the fetch is parked")
        with RawClient(broker.port) as third:
            third.produce("t", batch(b"wake"))
        other.receive_frame()
        assert counters.parked_fetches == 0 and fetch.durations.count == 1
