"""InitProducerId (API key 22), versions 0-5 (6 is not stable in Kafka 4.4).

Card: a new producer id, epoch 0, for an idempotent producer (KIP-98). With a transactional id: transactions are not
served yet, which the producer is told by TRANSACTIONAL_ID_AUTHORIZATION_FAILED, the one error that every client takes
for final, and the log says why. An empty transactional id, or one of producer id and epoch without the other (3,
KIP-360), is INVALID_REQUEST, as in Kafka. An idempotent producer that names its old id gets a new one all the same.
"""

from __future__ import annotations

from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import RequestContext
from odradek.logs import get_logger
from odradek.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse

log = get_logger("odradek.producers")

NO_PRODUCER_ID = -1
NO_EPOCH = -1


async def handle(request: InitProducerIdRequest, context: RequestContext) -> InitProducerIdResponse:
    """Gives a producer id."""
    if (request.producer_id == NO_PRODUCER_ID) != (request.producer_epoch == NO_EPOCH):
        return _refused(ErrorCode.INVALID_REQUEST)
    if request.transactional_id is not None:
        if not request.transactional_id:
            return _refused(ErrorCode.INVALID_REQUEST)
        log.warning(
            "a transactional producer was refused: transactions are not served yet",
            transactional_id=request.transactional_id,
            client_id=context.client_id,
            peer=context.client_host,
        )
        return _refused(ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
    try:
        producer_id = await context.broker.metadata.next_producer_id()
    except KafkaError as error:
        return _refused(error.code)
    return InitProducerIdResponse(producer_id=producer_id, producer_epoch=0)


def _refused(code: ErrorCode) -> InitProducerIdResponse:
    return InitProducerIdResponse(error_code=code, producer_id=NO_PRODUCER_ID, producer_epoch=NO_EPOCH)
