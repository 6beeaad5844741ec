"""DeleteTopics (API key 20), versions 1-6.

Card: 3 TOPIC_DELETION_DISABLED is known to clients, 5 error messages, 6 by topic id (KIP-516). Answered when the
deletion is durable: the topic does not come back, also after a crash; its files go in the background.
"""

from __future__ import annotations

from odradek.errors import KafkaError
from odradek.handlers.context import RequestContext
from odradek.handlers.topics import policy
from odradek.metadata.changes import Outcome, delete_topics
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
    asked = request.topics
    if context.api_version < BY_ID_SINCE:
        asked = [DeleteTopicState(name=name) for name in request.topic_names]
    old_client = context.api_version < DISABLED_KNOWN_SINCE
    try:
        outcomes = await broker.metadata.change(lambda image: delete_topics(image, asked, policy(broker), old_client))
    except KafkaError as error:
        outcomes = [Outcome(state.name, error.code, error.message, state.topic_id) for state in asked]
    return DeleteTopicsResponse(
        responses=[
            DeletableTopicResult(
                name=outcome.name, topic_id=outcome.topic_id, error_code=outcome.error, error_message=outcome.message
            )
            for outcome in outcomes
        ]
    )
