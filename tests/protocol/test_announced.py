"""What is announced, beside what a running Apache Kafka 4.4 announces; and Kafka's error codes beside its jar's."""

from __future__ import annotations

from odradek import errors
from odradek.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from odradek.protocol.registry import APIS
from tests.raw_client import RawClient
from tests.reference import broker_classpath, java_source, needs_java, run_java


@needs_java
def test_the_ranges_are_kafkas(kafka_port: int) -> None:
    request = ApiVersionsRequest(client_software_name="odradek", client_software_version="1")
    with RawClient(kafka_port) as client:
        theirs = client.call(request, ApiVersionsResponse, 4)
    ranges = {api.api_key: (api.min_version, api.max_version) for api in theirs.api_keys}
    for api in APIS:
        assert (api.announced.first, api.announced.last) == ranges[api.key], api.name


@needs_java
def test_the_error_codes_are_kafkas() -> None:
    done = run_java(broker_classpath(), java_source("ErrorCodes.java"))
    assert done.returncode == 0, done.stderr
    theirs = {}
    for line in done.stdout.splitlines():
        code, name, retriable = line.split()
        theirs[int(code)] = (name, retriable == "true")
    ours = {code.value: (code.name, code.retriable) for code in errors.ErrorCode}
    assert ours == theirs
