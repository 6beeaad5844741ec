"""CreatePartitions (API key 37), versions 0-3.

Card: 2 flexible, 3 throttling. Adds partitions to topics; their number cannot be reduced. Answered when the change is
durable and the partitions are open.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

from odradek.errors import ErrorCode
from odradek.handlers.context import RequestContext
from odradek.handlers.refusals import sentence
from odradek.handlers.topics import add_partitions
from odradek.metadata.changes import Change, TopicOutcome, create_partitions
from odradek.metadata.image import MetadataImage
from odradek.protocol.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopicResult,
)


async def handle(request: CreatePartitionsRequest, context: RequestContext) -> CreatePartitionsResponse:
    """Adds partitions, or with `validate_only` checks whether they could be added."""
    broker = context.broker

    def create(image: MetadataImage) -> Change:
        return create_partitions(image, request.topics, broker.metadata.policy)

    outcomes = await add_partitions(broker, request.topics, create, request.validate_only)
    return await broker.turns.run(_answer(outcomes))


def _answer(outcomes: Sequence[TopicOutcome]) -> Generator[None, None, CreatePartitionsResponse]:
    response = CreatePartitionsResponse()
    for outcome in outcomes:
        yield
        response.results.append(
            CreatePartitionsTopicResult(
                name=outcome.name or "", error_code=outcome.error, error_message=outcome.message
            )
        )
    return response


def refused(request: CreatePartitionsRequest, code: ErrorCode, version: int) -> CreatePartitionsResponse:
    """The answer that refuses the whole request."""
    return CreatePartitionsResponse(
        results=[
            CreatePartitionsTopicResult(name=topic.name, error_code=code, error_message=sentence(code))
            for topic in request.topics
        ]
    )
