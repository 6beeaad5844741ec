"""ListTransactions (API key 66), versions 0-2: the transactional ids that the coordinator knows (KIP-664).

Card: 1 filter by the time for which a transaction has been running (KIP-994); 2 by a pattern of ids (KIP-1152).
"""

from __future__ import annotations

from odradek.coordination.transactions.records import State
from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import RequestContext, Steps
from odradek.handlers.turns import LATER
from odradek.patterns import compile_pattern
from odradek.protocol.messages.list_transactions import (
    ListTransactionsRequest,
    ListTransactionsResponse,
    TransactionState,
)

# An answer with this many ids is not encoded on the event loop.
LONG_ANSWER_IDS = 2000
STATES = {state.shown: state for state in State}


def handle(request: ListTransactionsRequest, context: RequestContext) -> Steps:
    """Lists the transactional ids that pass every filter."""
    response = ListTransactionsResponse()
    response.unknown_state_filters = list(dict.fromkeys(name for name in request.state_filters if name not in STATES))
    states = {STATES[name] for name in request.state_filters if name in STATES}
    producer_ids = frozenset(request.producer_id_filters)
    try:
        text = request.transactional_id_pattern
        matches = compile_pattern(text) if text else None
        # The transactions as they are now, even if they change while the filters are applied.
        known = context.broker.transactions.all()
    except KafkaError as error:
        return ListTransactionsResponse(error_code=error.code)
    now_ms = context.broker.clock.now_ms()
    for transactional_id, transaction in known:
        yield
        if (
            (not request.state_filters or transaction.state in states)
            and (not producer_ids or transaction.producer_id in producer_ids)
            and (request.duration_filter < 0 or now_ms - transaction.started_ms > request.duration_filter)
            and (matches is None or matches(transactional_id))
        ):
            response.transaction_states.append(
                TransactionState(
                    transactional_id=transactional_id,
                    producer_id=transaction.producer_id,
                    transaction_state=transaction.state.shown,
                )
            )
    if len(response.transaction_states) > LONG_ANSWER_IDS:
        yield LATER
    return response


def refused(request: ListTransactionsRequest, code: ErrorCode, version: int) -> ListTransactionsResponse:
    """The answer that refuses the whole request."""
    return ListTransactionsResponse(error_code=code)
