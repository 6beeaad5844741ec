"""DescribeTransactions (API key 65), version 0: what the coordinator knows of transactional ids (KIP-664)."""

from __future__ import annotations

from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import RequestContext
from odradek.protocol.messages.describe_transactions import (
    DescribeTransactionsRequest,
    DescribeTransactionsResponse,
    TopicData,
    TransactionState,
)


def handle(request: DescribeTransactionsRequest, context: RequestContext) -> DescribeTransactionsResponse:
    """Each id's transaction."""
    return DescribeTransactionsResponse(
        transaction_states=[_describe(transactional_id, context) for transactional_id in request.transactional_ids]
    )


def refused(request: DescribeTransactionsRequest, code: ErrorCode, version: int) -> DescribeTransactionsResponse:
    """The answer that refuses the whole request."""
    return DescribeTransactionsResponse(
        transaction_states=[
            TransactionState(transactional_id=transactional_id, error_code=code)
            for transactional_id in request.transactional_ids
        ]
    )


def _describe(transactional_id: str, context: RequestContext) -> TransactionState:
    answer = TransactionState(transactional_id=transactional_id)
    try:
        if not transactional_id:
            raise KafkaError(ErrorCode.INVALID_REQUEST)
        transaction = context.broker.transactions.transaction(transactional_id)
    except KafkaError as error:
        answer.error_code = error.code
        return answer
    if transaction is None:
        answer.error_code = ErrorCode.TRANSACTIONAL_ID_NOT_FOUND
        return answer
    answer.transaction_state = transaction.state.shown
    answer.transaction_timeout_ms = transaction.timeout_ms
    answer.transaction_start_time_ms = transaction.started_ms
    answer.producer_id, answer.producer_epoch = transaction.producer_id, transaction.epoch
    topics: dict[str, list[int]] = {}
    for topic, index in sorted(transaction.partitions):
        topics.setdefault(topic, []).append(index)
    answer.topics = [TopicData(topic=topic, partitions=indexes) for topic, indexes in topics.items()]
    return answer
