"""InitProducerId (API key 22), versions 0-5 (6 is not stable in Kafka 4.4).

Card: without a transactional id, returns a new producer id with epoch 0, for an idempotent producer (KIP-98), even if
the request names an old id. With a transactional id, returns its producer id and the next epoch, and aborts its open
transaction; producers with an earlier epoch are fenced. 3 a producer that recovers sends its producer id and epoch
(KIP-360); 4 PRODUCER_FENCED instead of INVALID_PRODUCER_EPOCH; 5 no change of the format (KIP-890). An empty
transactional id, or a producer id without an epoch or the reverse, is refused with INVALID_REQUEST.
"""

from __future__ import annotations

from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import RequestContext
from odradek.handlers.transactions import code_for
from odradek.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse

NO_PRODUCER_ID = -1
NO_EPOCH = -1
FENCED_SINCE = 4


async def handle(request: InitProducerIdRequest, context: RequestContext) -> InitProducerIdResponse:
    """Returns a producer id and epoch."""
    if (request.producer_id == NO_PRODUCER_ID) != (request.producer_epoch == NO_EPOCH):
        return refused(request, ErrorCode.INVALID_REQUEST, context.api_version)
    try:
        if request.transactional_id is None:
            return InitProducerIdResponse(
                producer_id=await context.broker.metadata.next_producer_id(), producer_epoch=0
            )
        if not request.transactional_id:
            return refused(request, ErrorCode.INVALID_REQUEST, context.api_version)
        expected = None if request.producer_id == NO_PRODUCER_ID else (request.producer_id, request.producer_epoch)
        producer_id, epoch = await context.broker.transactions.init(
            request.transactional_id, request.transaction_timeout_ms, expected
        )
    except KafkaError as error:
        code = code_for(error.code, context.api_version, FENCED_SINCE)
        return refused(request, code, context.api_version)
    return InitProducerIdResponse(producer_id=producer_id, producer_epoch=epoch)


def refused(request: InitProducerIdRequest, code: ErrorCode, version: int) -> InitProducerIdResponse:
    """The answer that refuses the whole request."""
    return InitProducerIdResponse(error_code=code, producer_id=NO_PRODUCER_ID, producer_epoch=NO_EPOCH)
