"""DeleteTopics (API key 20), versions 1-6.

Card: 3 clients know TOPIC_DELETION_DISABLED, 5 error messages, 6 by topic id (KIP-516). Answered when the deletion is
durable, so that a crash does not bring the topic back; its files are removed in the background.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import RequestContext
from odradek.metadata.changes import TopicOutcome, delete_topics
from odradek.protocol.messages.delete_topics import (
    DeletableTopicResult,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    DeleteTopicState,
)

BY_ID_SINCE = 6
DISABLED_KNOWN_SINCE = 3


async def handle(request: DeleteTopicsRequest, context: RequestContext) -> DeleteTopicsResponse:
    """Deletes the topics."""
    broker = context.broker
    asked = _asked(request, context.api_version)
    old_client = context.api_version < DISABLED_KNOWN_SINCE
    try:
        outcomes = await broker.metadata.change(
            lambda image: delete_topics(image, asked, broker.metadata.policy, old_client)
        )
    except KafkaError as error:
        outcomes = [TopicOutcome(state.name, error.code, error.message, state.topic_id) for state in asked]
    return await broker.turns.run(_answer(outcomes))


def _answer(outcomes: Sequence[TopicOutcome]) -> Generator[None, None, DeleteTopicsResponse]:
    response = DeleteTopicsResponse()
    for outcome in outcomes:
        yield
        response.responses.append(
            DeletableTopicResult(
                name=outcome.name, topic_id=outcome.topic_id, error_code=outcome.error, error_message=outcome.message
            )
        )
    return response


def refused(request: DeleteTopicsRequest, code: ErrorCode, version: int) -> DeleteTopicsResponse:
    """The answer that refuses the whole request."""
    return DeleteTopicsResponse(
        responses=[
            DeletableTopicResult(name=state.name, topic_id=state.topic_id, error_code=code)
            for state in _asked(request, version)
        ]
    )


def _asked(request: DeleteTopicsRequest, version: int) -> list[DeleteTopicState]:
    if version >= BY_ID_SINCE:
        return request.topics
    return [DeleteTopicState(name=name) for name in request.topic_names]
