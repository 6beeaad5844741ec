"""The bound on a response: what it counts, and that nothing comes behind what was refused."""

from __future__ import annotations

import pytest

from odradek.config import BrokerConfig
from odradek.errors import ErrorCode
from odradek.handlers.response_budget import SETTING, ResponseBudget, estimated_bytes
from odradek.protocol.encoding import encode
from odradek.protocol.messages.describe_configs import (
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
    DescribeConfigsResult,
    DescribeConfigsSynonym,
)

LIMIT = 2_000_000


def budget() -> ResponseBudget:
    return ResponseBudget(BrokerConfig({SETTING: str(LIMIT)}))


def test_what_fits_is_counted() -> None:
    one = budget()
    assert one.take(LIMIT - 10) and one.take(10)
    assert one.used_bytes == LIMIT and not one.is_over


def test_nothing_comes_behind_what_was_refused() -> None:
    one = budget()
    assert one.take(LIMIT - 10)
    assert not one.take(11)
    assert one.is_over and one.used_bytes == LIMIT - 10
    assert not one.take(1)
    refusal = one.refusal()
    assert refusal.code == ErrorCode.INVALID_REQUEST
    assert SETTING in refusal.message and str(LIMIT) in refusal.message


@pytest.mark.parametrize("text", ["a" * 50, "\u00fc" * 50, ""])
@pytest.mark.parametrize("version", [1, 4])
def test_estimates_are_near_what_is_sent(text: str, version: int) -> None:
    synonym = DescribeConfigsSynonym(name="log.retention.hours", value=text, source=5)
    config = DescribeConfigsResourceResult(name="retention.ms", value=text, synonyms=[synonym] * 3, documentation=None)
    response = DescribeConfigsResponse(results=[DescribeConfigsResult(resource_name=text, configs=[config] * 100)])
    sent = len(encode(response, version))
    assert sent * 0.9 <= estimated_bytes(response) <= sent * 1.3 + 100
