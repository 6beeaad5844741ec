"""DescribeTransactions (API key 65), version 0: the coordinator's state of transactional ids (KIP-664).

Card: an id that is named twice is answered twice. An id for which the response has no room gets INVALID_REQUEST.
"""

from __future__ import annotations

from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import RequestContext, Steps
from odradek.handlers.response_budget import LENGTH_BYTES, ResponseBudget
from odradek.handlers.turns import LATER, LONG_ANSWER_BYTES
from odradek.handlers.turns import Steps as StepsTo
from odradek.protocol.messages.describe_transactions import (
    DescribeTransactionsRequest,
    DescribeTransactionsResponse,
    TopicData,
    TransactionState,
)

# Partitions of a transaction that are answered between two yields.
AT_ONCE = 1000
# Estimated bytes of an id without its name, and of a partition.
ID_BYTES = 48
INDEX_BYTES = 4


def handle(request: DescribeTransactionsRequest, context: RequestContext) -> Steps:
    """Each id's transaction."""
    budget = ResponseBudget(context.broker.config)
    response = DescribeTransactionsResponse()
    described: dict[str, tuple[TransactionState, int]] = {}
    for transactional_id in request.transactional_ids:
        if transactional_id not in described:
            described[transactional_id] = yield from _describe(transactional_id, context)
        answer, size = described[transactional_id]
        if not budget.take(size):
            answer = TransactionState(transactional_id=transactional_id, error_code=ErrorCode.INVALID_REQUEST)
        response.transaction_states.append(answer)
        yield
    if budget.used_bytes > LONG_ANSWER_BYTES:
        yield LATER
    return response


def refused(request: DescribeTransactionsRequest, code: ErrorCode, version: int) -> DescribeTransactionsResponse:
    """The answer that refuses the whole request."""
    return DescribeTransactionsResponse(
        transaction_states=[
            TransactionState(transactional_id=transactional_id, error_code=code)
            for transactional_id in request.transactional_ids
        ]
    )


def _describe(transactional_id: str, context: RequestContext) -> StepsTo[tuple[TransactionState, int]]:
    """The state of an id's transaction, and its estimated bytes in a response."""
    answer = TransactionState(transactional_id=transactional_id)
    size = ID_BYTES + len(transactional_id)
    try:
        if not transactional_id:
            raise KafkaError(ErrorCode.INVALID_REQUEST)
        transaction = context.broker.transactions.transaction(transactional_id)
    except KafkaError as error:
        answer.error_code = error.code
        return answer, size
    if transaction is None:
        answer.error_code = ErrorCode.TRANSACTIONAL_ID_NOT_FOUND
        return answer, size
    answer.transaction_state = transaction.state.shown
    answer.transaction_timeout_ms = transaction.timeout_ms
    answer.transaction_start_time_ms = transaction.started_ms
    answer.producer_id, answer.producer_epoch = transaction.producer_id, transaction.epoch
    topics: dict[str, list[int]] = {}
    for number, (topic, index) in enumerate(transaction.partitions, 1):
        topics.setdefault(topic, []).append(index)
        if number % AT_ONCE == 0:
            yield
    for topic in sorted(topics):
        indexes = topics[topic]
        indexes.sort()
        answer.topics.append(TopicData(topic=topic, partitions=indexes))
        size += LENGTH_BYTES + len(topic) + INDEX_BYTES * len(indexes)
    return answer, size
