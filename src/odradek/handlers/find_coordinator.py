"""FindCoordinator (API key 10), versions 0-6.

Card: 1 key types, 4 many keys in one request (KIP-699), 5 and 6 nothing on the wire (KIP-890, share groups).
- Groups (type 0): this broker. `__consumer_offsets` is created first; the answer waits until its groups are served, so
  that a client need not retry (Kafka answers COORDINATOR_NOT_AVAILABLE meanwhile).
- Transactions (type 1): the same, with `__transaction_state`.
- Share groups (type 2), which are not served, and unknown types: INVALID_REQUEST.
"""

from __future__ import annotations

from collections.abc import Sequence

from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import RequestContext
from odradek.handlers.turns import Steps as StepsTo
from odradek.protocol.messages.find_coordinator import (
    Coordinator,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
)

GROUP = 0
TRANSACTION = 1
MANY_KEYS_SINCE = 4
# Keys that are answered before others may have their turn.
AT_ONCE = 200


async def handle(request: FindCoordinatorRequest, context: RequestContext) -> FindCoordinatorResponse:
    """Returns the coordinators of the keys, once they serve."""
    many = context.api_version >= MANY_KEYS_SINCE
    keys = request.coordinator_keys if many else [request.key]
    code, message = ErrorCode.NONE, "" if many else "NONE"
    if request.key_type in (GROUP, TRANSACTION):
        coordinator = context.broker.groups if request.key_type == GROUP else context.broker.transactions
        try:
            await coordinator.ready()
        except KafkaError:
            code, message = ErrorCode.COORDINATOR_NOT_AVAILABLE, "" if many else "The coordinator is not available."
    else:
        code, message = ErrorCode.INVALID_REQUEST, f"coordinators of key type {request.key_type} are not served"
    node_id, host, port = -1, "", -1
    if code == ErrorCode.NONE:
        node_id = context.broker.node_id
        host, port = context.broker.advertised[context.listener]
    if many:
        found = Coordinator(node_id=node_id, host=host, port=port, error_code=code, error_message=message)
        return await context.broker.turns.run(_for_each(keys, found))
    return FindCoordinatorResponse(error_code=code, error_message=message, node_id=node_id, host=host, port=port)


def _for_each(keys: Sequence[str], found: Coordinator) -> StepsTo[FindCoordinatorResponse]:
    """The same for each key; one that is named twice is answered twice."""
    response = FindCoordinatorResponse()
    for first in range(0, len(keys), AT_ONCE):
        response.coordinators += [
            Coordinator(
                key=key,
                node_id=found.node_id,
                host=found.host,
                port=found.port,
                error_code=found.error_code,
                error_message=found.error_message,
            )
            for key in keys[first : first + AT_ONCE]
        ]
        yield
    return response


def refused(request: FindCoordinatorRequest, code: ErrorCode, version: int) -> FindCoordinatorResponse:
    """The answer that refuses the whole request."""
    if version < MANY_KEYS_SINCE:
        return FindCoordinatorResponse(error_code=code, error_message=code.meaning, node_id=-1, host="", port=-1)
    return FindCoordinatorResponse(
        coordinators=[
            Coordinator(key=key, node_id=-1, host="", port=-1, error_code=code, error_message=code.meaning)
            for key in request.coordinator_keys
        ]
    )
