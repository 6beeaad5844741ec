"""EndTxn (API key 26), versions 0-5.

Card: 2 PRODUCER_FENCED instead of INVALID_PRODUCER_EPOCH; 5 transactions version 2 (KIP-890): the answer has the
producer id and epoch for the next transaction. Answered when the decision to commit or abort is durable; the markers
are written after that.
"""

from __future__ import annotations

from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import RequestContext
from odradek.handlers.transactions import code_for
from odradek.protocol.messages.end_txn import EndTxnRequest, EndTxnResponse

FENCED_SINCE = 2
VERSION_2_SINCE = 5


async def handle(request: EndTxnRequest, context: RequestContext) -> EndTxnResponse:
    """Commits or aborts the transaction."""
    version = 2 if context.api_version >= VERSION_2_SINCE else 0
    try:
        if not request.transactional_id:
            raise KafkaError(ErrorCode.INVALID_REQUEST)
        producer_id, epoch = await context.broker.transactions.end(
            request.transactional_id, request.producer_id, request.producer_epoch, request.committed, version
        )
    except KafkaError as error:
        code = code_for(error.code, context.api_version, FENCED_SINCE)
        return EndTxnResponse(error_code=code)
    return EndTxnResponse(producer_id=producer_id, producer_epoch=epoch)


def refused(request: EndTxnRequest, code: ErrorCode, version: int) -> EndTxnResponse:
    """The answer that refuses the whole request."""
    return EndTxnResponse(error_code=code)
