"""DescribeConfigs of many resources: in turns, what is the same for several looked up once, the response bounded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from odradek.errors import ErrorCode
from odradek.handlers import describe_configs
from odradek.handlers.context import RequestContext
from odradek.handlers.turns import LATER
from odradek.protocol.encoding import encode
from odradek.protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from odradek.protocol.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResponse,
    DescribeConfigsResult,
)
from tests.raw_client import RawClient
from tests.serving import Serving

TOPIC, BROKER = 2, 4
LIMIT = 1_048_576


@pytest.fixture(scope="module")
def broker() -> Iterator[Serving]:
    """With topics "plain-0" to "plain-19" and "own-0" to "own-19", which have settings of their own."""
    with Serving(odradek__response__max__bytes=str(LIMIT)) as serving, RawClient(serving.port) as client:
        names = [f"plain-{number}" for number in range(20)]
        topics = [CreatableTopic(name=name, num_partitions=1, replication_factor=1) for name in names]
        topics += [
            CreatableTopic(
                name=f"own-{number}",
                num_partitions=1,
                replication_factor=1,
                configs=[
                    CreatableTopicConfig(name="retention.ms", value=str(1000 + number)),
                    CreatableTopicConfig(name="cleanup.policy", value="compact"),
                ],
            )
            for number in range(20)
        ]
        made = client.call(CreateTopicsRequest(topics=topics, timeout_ms=10_000), CreateTopicsResponse, 7)
        assert not any(topic.error_code for topic in made.topics)
        yield serving


def ask(*resources: tuple[int, str, list[str] | None], documentation: bool = True) -> DescribeConfigsRequest:
    return DescribeConfigsRequest(
        resources=[
            DescribeConfigsResource(resource_type=kind, resource_name=name, configuration_keys=keys)
            for kind, name, keys in resources
        ],
        include_synonyms=True,
        include_documentation=documentation,
    )


def handled(broker: Serving, request: DescribeConfigsRequest) -> DescribeConfigsResponse:
    """The handler's own answer, before it is encoded."""

    def work() -> DescribeConfigsResponse:
        context = RequestContext(broker.shared.dispatch.broker, "PLAINTEXT", "127.0.0.1", "c", 4)
        steps = describe_configs.handle(request, context)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]

    return broker.look(work)


MANY = [
    *((TOPIC, f"plain-{number}", None) for number in range(20)),
    *((TOPIC, f"own-{number}", None) for number in range(20)),
    *((TOPIC, f"own-{number}", ["retention.ms", "segment.ms", "no.such"]) for number in range(20)),
    (TOPIC, "no-such", None),
    (BROKER, "1", ["log.retention.ms", "node.id"]),
    (BROKER, "01", ["log.retention.ms", "node.id"]),
    (BROKER, "", None),
    (BROKER, "2", None),
    (16, "x", None),
    (TOPIC, "plain-1", []),
]


def test_each_of_many_is_answered_as_if_it_were_alone(broker: Serving) -> None:
    def alone(resource: tuple[int, str, list[str] | None]) -> DescribeConfigsResult:
        return handled(broker, ask(resource)).results[0]

    assert handled(broker, ask(*MANY)).results == [alone(resource) for resource in MANY]
    values = {
        result.resource_name: {config.name: config.value for config in result.configs}["retention.ms"]
        for result in handled(broker, ask(*MANY[:40], documentation=False)).results
    }
    assert values["plain-7"] == "604800000" and values["own-7"] == "1007"


def test_what_is_the_same_is_looked_up_once(broker: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[str] = []
    make = describe_configs._result

    def noting(setting: Any, *arguments: Any) -> Any:
        looked_up.append(setting.name)
        return make(setting, *arguments)

    monkeypatch.setattr(describe_configs, "_result", noting)
    (one,) = handled(broker, ask((TOPIC, "plain-0", None))).results
    settings, looked_up[:] = len(looked_up), []
    assert len(one.configs) == settings
    results = handled(broker, ask(*((TOPIC, f"plain-{number}", None) for number in range(20)))).results
    assert len(looked_up) == settings
    assert all(result.configs is results[0].configs for result in results)
    looked_up.clear()
    handled(broker, ask(*((TOPIC, f"own-{number}", None) for number in range(20))))
    # Beside those of all topics, 20 of retention.ms, and the one value that all have of cleanup.policy.
    assert len(looked_up) == settings + 21
    looked_up.clear()
    handled(broker, ask(*[(BROKER, "1", ["log.dirs"])] * 20, (BROKER, "1", ["node.id"])))
    assert len(looked_up) == len(set(looked_up))


def test_others_have_their_turn_after_each_resource_and_setting(
    broker: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = 0
    make, named = describe_configs._result, describe_configs.DescribeConfigsResult

    def count(function: Any) -> Any:
        def counting(*arguments: Any, **keywords: Any) -> Any:
            nonlocal work
            work += 1
            return function(*arguments, **keywords)

        return counting

    monkeypatch.setattr(describe_configs, "_result", count(make))
    monkeypatch.setattr(describe_configs, "DescribeConfigsResult", count(named))

    def most() -> int:
        nonlocal work
        context = RequestContext(broker.shared.dispatch.broker, "PLAINTEXT", "127.0.0.1", "c", 4)
        found = 0
        for _ in describe_configs.handle(ask(*MANY, (BROKER, "1", None)), context):
            found, work = max(found, work), 0
        return found

    assert broker.look(most) <= 3


def test_a_long_answer_is_not_encoded_at_once(broker: Serving) -> None:
    def yields(*resources: tuple[int, str, list[str] | None]) -> list[object]:
        context = RequestContext(broker.shared.dispatch.broker, "PLAINTEXT", "127.0.0.1", "c", 4)
        return broker.look(lambda: list(describe_configs.handle(ask(*resources), context)))

    assert yields(*[(BROKER, "1", None)] * 10)[-1] == LATER
    assert LATER not in yields((TOPIC, "plain-0", None))


def test_a_response_is_bounded(broker: Serving) -> None:
    resources = [(BROKER, "1", None)] * 60 + [(TOPIC, "plain-0", None), (TOPIC, "no-such", None), (BROKER, "9", None)]
    with RawClient(broker.port) as client:
        client.send(ask(*resources), 4)
        assert len(client.receive_frame()) < LIMIT * 1.1
        answer = client.call(ask(*resources), DescribeConfigsResponse, 4)
        again = client.call(ask((TOPIC, "plain-0", None)), DescribeConfigsResponse, 4)
    codes = [result.error_code for result in answer.results]
    served = codes.index(ErrorCode.INVALID_REQUEST)
    # As many as there is room for; what comes behind is refused, also what would be short. Other errors stay.
    assert served >= 10
    assert codes == [0] * served + [ErrorCode.INVALID_REQUEST] * (61 - served) + [3, ErrorCode.INVALID_REQUEST]
    assert [result.resource_name for result in answer.results] == [name for _, name, _ in resources]
    refused = answer.results[served]
    assert refused.configs == [] and "odradek.response.max.bytes" in (refused.error_message or "")
    assert len(encode(DescribeConfigsResponse(results=answer.results[: served + 1]), 4)) > LIMIT * 0.8
    assert "broker id" in (answer.results[-1].error_message or "")
    # The next request has all of it again.
    assert again.results[0].error_code == 0 and again.results[0].configs
