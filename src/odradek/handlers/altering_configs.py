"""Shared by AlterConfigs and IncrementalAlterConfigs: changes settings, and makes an answer for each resource.

Role: apply the change, and turn the result for each resource into the API's own class of answers. The two APIs differ
in their requests, which `metadata/config_changes.py` turns into records, and in the classes of their answers.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Protocol, TypeVar

from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import RequestContext
from odradek.handlers.refusals import sentence
from odradek.metadata.changes import Policy
from odradek.metadata.config_changes import Change, R, Resource, ResourceOutcome
from odradek.metadata.image import MetadataImage

A = TypeVar("A")


class Request(Protocol[R]):
    """The fields that both requests have."""

    resources: list[R]
    validate_only: bool


async def change_settings(
    request: Request[R],
    context: RequestContext,
    alter: Callable[[MetadataImage, Sequence[R], Policy], Change],
    answer: Callable[..., A],
) -> list[A]:
    """Changes the settings; returns an answer for each resource when the change is durable and in force."""
    metadata = context.broker.metadata

    def change(image: MetadataImage) -> Change:
        records, outcomes = yield from alter(image, request.resources, metadata.policy)
        return ([] if request.validate_only else records), outcomes

    try:
        outcomes = await metadata.change(change)
    except KafkaError as error:
        outcomes = _alike(request.resources, error.code, error.message)
    return await context.broker.turns.run(_answers(outcomes, answer))


def refuse_all(resources: Sequence[Resource], code: ErrorCode, answer: Callable[..., A]) -> list[A]:
    """The answers that refuse the whole request."""
    return [_answer(outcome, answer) for outcome in _alike(resources, code, sentence(code))]


def _alike(resources: Sequence[Resource], code: ErrorCode, message: str | None) -> list[ResourceOutcome]:
    return [ResourceOutcome(resource.resource_type, resource.resource_name, code, message) for resource in resources]


def _answers(outcomes: Sequence[ResourceOutcome], answer: Callable[..., A]) -> Generator[None, None, list[A]]:
    answers = []
    for outcome in outcomes:
        yield
        answers.append(_answer(outcome, answer))
    return answers


def _answer(outcome: ResourceOutcome, answer: Callable[..., A]) -> A:
    return answer(
        error_code=outcome.error,
        error_message=outcome.message,
        resource_type=outcome.resource_type,
        resource_name=outcome.resource_name,
    )
