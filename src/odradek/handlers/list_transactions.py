"""ListTransactions (API key 66), versions 0-2: the transactional ids that the coordinator knows (KIP-664).

Card: 1 filter by the time for which a transaction has been running (KIP-994); 2 by a pattern of ids (KIP-1152).
"""

from __future__ import annotations

from odradek.coordination.transactions.records import State
from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import RequestContext
from odradek.patterns import compile_pattern
from odradek.protocol.messages.list_transactions import (
    ListTransactionsRequest,
    ListTransactionsResponse,
    TransactionState,
)

STATES = {state.shown: state for state in State}


def handle(request: ListTransactionsRequest, context: RequestContext) -> ListTransactionsResponse:
    """Those that pass every filter."""
    unknown = [name for name in request.state_filters if name not in STATES]
    states = {STATES[name] for name in request.state_filters if name in STATES}
    try:
        text = request.transactional_id_pattern
        matches = compile_pattern(text) if text else None
        found = context.broker.transactions.all()
    except KafkaError as error:
        return ListTransactionsResponse(error_code=error.code)
    now_ms = context.broker.clock.now_ms()
    return ListTransactionsResponse(
        unknown_state_filters=unknown,
        transaction_states=[
            TransactionState(
                transactional_id=transactional_id,
                producer_id=transaction.producer_id,
                transaction_state=transaction.state.shown,
            )
            for transactional_id, transaction in found
            if (not request.state_filters or transaction.state in states)
            and (not request.producer_id_filters or transaction.producer_id in request.producer_id_filters)
            and (request.duration_filter < 0 or now_ms - transaction.started_ms > request.duration_filter)
            and (matches is None or matches(transactional_id))
        ],
    )


def refused(request: ListTransactionsRequest, code: ErrorCode, version: int) -> ListTransactionsResponse:
    """The answer that refuses the whole request."""
    return ListTransactionsResponse(error_code=code)
