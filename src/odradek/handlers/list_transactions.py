"""ListTransactions (API key 66), versions 0-2: the transactional ids that the coordinator knows (KIP-664).

Card: 1 only those that have run for longer than so many ms (KIP-994); 2 a pattern for the ids (KIP-1152). One that
could take for ever (a repetition within a repetition, or of alternatives) is refused as one that is no pattern is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any

from odradek.coordination.transactions.records import State
from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import RequestContext
from odradek.protocol.messages.list_transactions import (
    ListTransactionsRequest,
    ListTransactionsResponse,
    TransactionState,
)

STATES = {state.shown: state for state in State}
_REPEATS = (_constants.MAX_REPEAT, _constants.MIN_REPEAT)


def handle(request: ListTransactionsRequest, context: RequestContext) -> ListTransactionsResponse:
    """Those that pass every filter."""
    unknown = [name for name in request.state_filters if name not in STATES]
    states = {STATES[name] for name in request.state_filters if name in STATES}
    try:
        pattern = _compile(request.transactional_id_pattern)
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
            and (pattern is None or pattern.fullmatch(transactional_id))
        ],
    )


def refused(request: ListTransactionsRequest, code: ErrorCode, version: int) -> ListTransactionsResponse:
    """The answer that refuses the whole request."""
    return ListTransactionsResponse(error_code=code)


def _compile(text: str | None) -> re.Pattern[str] | None:
    if not text:
        return None
    try:
        if _repeats_within(_parser.parse(text), False):
            raise KafkaError(ErrorCode.INVALID_REGULAR_EXPRESSION, "a repetition within a repetition")
        return re.compile(text)
    except re.error as error:
        raise KafkaError(ErrorCode.INVALID_REGULAR_EXPRESSION, str(error)) from error


def _repeats_within(items: Iterable[Any], inside: bool) -> bool:
    """Whether something is repeated, or a choice, within what is repeated."""
    for kind, argument in items:
        if kind in _REPEATS:
            if inside or _repeats_within(argument[2], True):
                return True
        elif kind is _constants.BRANCH:
            if inside or any(_repeats_within(branch, inside) for branch in argument[1]):
                return True
        elif kind is _constants.SUBPATTERN:
            if _repeats_within(argument[3], inside):
                return True
        elif kind in (_constants.ASSERT, _constants.ASSERT_NOT, _constants.GROUPREF):
            return True
    return False
