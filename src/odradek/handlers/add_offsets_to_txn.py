"""AddOffsetsToTxn (API key 25), versions 0-4: adds a group's offsets to a transaction (KIP-98, KIP-447).

Card: 2 PRODUCER_FENCED instead of INVALID_PRODUCER_EPOCH. Producers of transactions version 2 do not send it: their
TxnOffsetCommit adds the group implicitly.
"""

from __future__ import annotations

from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import RequestContext
from odradek.handlers.transactions import code_for
from odradek.protocol.messages.add_offsets_to_txn import AddOffsetsToTxnRequest, AddOffsetsToTxnResponse

FENCED_SINCE = 2


async def handle(request: AddOffsetsToTxnRequest, context: RequestContext) -> AddOffsetsToTxnResponse:
    """Adds to the transaction the partition of `__consumer_offsets` that has the group."""
    transactions = context.broker.transactions
    try:
        if not request.transactional_id:
            raise KafkaError(ErrorCode.INVALID_REQUEST)
        await context.broker.groups.ready()
        place = transactions.offsets_partition(request.group_id)
        await transactions.add_partitions(
            request.transactional_id, request.producer_id, request.producer_epoch, frozenset({place}), 0
        )
    except KafkaError as error:
        code = code_for(error.code, context.api_version, FENCED_SINCE)
        return AddOffsetsToTxnResponse(error_code=code)
    return AddOffsetsToTxnResponse()


def refused(request: AddOffsetsToTxnRequest, code: ErrorCode, version: int) -> AddOffsetsToTxnResponse:
    """The answer that refuses the whole request."""
    return AddOffsetsToTxnResponse(error_code=code)
