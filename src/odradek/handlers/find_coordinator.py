"""FindCoordinator (API key 10), versions 0-6.

Card: 1 key types, 4 many keys in one request (KIP-699), 5 and 6 nothing on the wire (KIP-890, share groups).
- Groups (type 0): this broker. The offsets topic is made first; the answer comes when it serves, so that a client need
  not ask again (Kafka answers COORDINATOR_NOT_AVAILABLE meanwhile).
- Transactions (type 1) are not served yet: TRANSACTIONAL_ID_AUTHORIZATION_FAILED, the one error that every client takes
  for final, with a sentence that says why.
- Share groups (type 2) are not served, and other types unknown: INVALID_REQUEST.
"""

from __future__ import annotations

from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import RequestContext
from odradek.logs import get_logger
from odradek.protocol.messages.find_coordinator import (
    Coordinator,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
)

log = get_logger("odradek.groups")

GROUP = 0
TRANSACTION = 1
MANY_KEYS_SINCE = 4
NO_TRANSACTIONS = "transactions are not served yet: use the producer without a transactional.id"


async def handle(request: FindCoordinatorRequest, context: RequestContext) -> FindCoordinatorResponse:
    """Where the coordinators of the keys are."""
    many = context.api_version >= MANY_KEYS_SINCE
    keys = request.coordinator_keys if many else [request.key]
    code, message = ErrorCode.NONE, "" if many else "NONE"
    if request.key_type == GROUP:
        try:
            await context.broker.groups.ready()
        except KafkaError:
            code, message = ErrorCode.COORDINATOR_NOT_AVAILABLE, "" if many else "The coordinator is not available."
    elif request.key_type == TRANSACTION:
        code, message = ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, NO_TRANSACTIONS
        log.warning("a transactional client was refused: " + NO_TRANSACTIONS, keys=keys, peer=context.client_host)
    else:
        code, message = ErrorCode.INVALID_REQUEST, f"coordinators of key type {request.key_type} are not served"
    node_id, host, port = -1, "", -1
    if code == ErrorCode.NONE:
        node_id = context.broker.node_id
        host, port = context.broker.advertised[context.listener]
    if many:
        return FindCoordinatorResponse(
            coordinators=[
                Coordinator(key=key, node_id=node_id, host=host, port=port, error_code=code, error_message=message)
                for key in keys
            ]
        )
    return FindCoordinatorResponse(error_code=code, error_message=message, node_id=node_id, host=host, port=port)
