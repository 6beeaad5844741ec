"""AddPartitionsToTxn (API key 24), versions 0-5.

Card: 0-3 are a producer's (2: PRODUCER_FENCED where it was INVALID_PRODUCER_EPOCH); 4 and 5 a broker's, for several
transactions, and to verify only (KIP-890); 5 a producer of transactions version 2 never sends: its writes say it.
One partition that does not exist, or a producer's of an internal topic (TOPIC_AUTHORIZATION_FAILED), keeps all others
of the request out: OPERATION_NOT_ATTEMPTED.
"""

from __future__ import annotations

from collections.abc import Sequence

from odradek.errors import ErrorCode, KafkaError
from odradek.handlers.context import RequestContext
from odradek.handlers.transactions import code_for
from odradek.internal_topics import check_add_to_transaction
from odradek.protocol.messages.add_partitions_to_txn import (
    AddPartitionsToTxnPartitionResult,
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse,
    AddPartitionsToTxnResult,
    AddPartitionsToTxnTopic,
    AddPartitionsToTxnTopicResult,
)

SEVERAL_SINCE = 4
FENCED_SINCE = 2


async def handle(request: AddPartitionsToTxnRequest, context: RequestContext) -> AddPartitionsToTxnResponse:
    """Adds the partitions, or says whether they are there."""
    if context.api_version < SEVERAL_SINCE:
        results = await _add(
            context,
            request.v3_and_below_transactional_id,
            request.v3_and_below_producer_id,
            request.v3_and_below_producer_epoch,
            request.v3_and_below_topics,
            verify_only=False,
            of_producer=True,
        )
        return AddPartitionsToTxnResponse(results_by_topic_v3_and_below=results)
    return AddPartitionsToTxnResponse(
        results_by_transaction=[
            AddPartitionsToTxnResult(
                transactional_id=one.transactional_id,
                topic_results=await _add(
                    context,
                    one.transactional_id,
                    one.producer_id,
                    one.producer_epoch,
                    one.topics,
                    one.verify_only,
                    of_producer=False,
                ),
            )
            for one in request.transactions
        ]
    )


def refused(request: AddPartitionsToTxnRequest, code: ErrorCode, version: int) -> AddPartitionsToTxnResponse:
    """The answer that refuses the whole request."""
    if version >= SEVERAL_SINCE:
        return AddPartitionsToTxnResponse(error_code=code)
    return AddPartitionsToTxnResponse(
        results_by_topic_v3_and_below=[
            AddPartitionsToTxnTopicResult(
                name=topic.name,
                results_by_partition=[
                    AddPartitionsToTxnPartitionResult(partition_index=index, partition_error_code=code)
                    for index in topic.partitions
                ],
            )
            for topic in request.v3_and_below_topics
        ]
    )


async def _add(
    context: RequestContext,
    transactional_id: str,
    producer_id: int,
    epoch: int,
    topics: Sequence[AddPartitionsToTxnTopic],
    verify_only: bool,
    of_producer: bool,
) -> list[AddPartitionsToTxnTopicResult]:
    broker = context.broker
    places = [(topic.name, index) for topic in topics for index in topic.partitions]
    refused: dict[tuple[str, int], ErrorCode] = {}
    for place in places:
        code = check_add_to_transaction(place[0]) if of_producer else ErrorCode.NONE
        if code == ErrorCode.NONE and broker.partitions.get(*place) is None:
            code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        if code != ErrorCode.NONE:
            refused[place] = code
    codes = dict.fromkeys(places, ErrorCode.OPERATION_NOT_ATTEMPTED if refused else ErrorCode.NONE) | refused
    if not refused:
        try:
            if not transactional_id:
                raise KafkaError(ErrorCode.INVALID_REQUEST)
            if verify_only:
                missing = ErrorCode.TRANSACTION_ABORTABLE
                found = broker.transactions.verify(transactional_id, producer_id, epoch, places)
                codes = {
                    place: ErrorCode.NONE if there else missing for place, there in zip(places, found, strict=True)
                }
            else:
                await broker.transactions.add_partitions(transactional_id, producer_id, epoch, frozenset(places), 0)
        except KafkaError as error:
            code = code_for(error.code, context.api_version, FENCED_SINCE)
            codes = dict.fromkeys(places, code)
    return [
        AddPartitionsToTxnTopicResult(
            name=topic.name,
            results_by_partition=[
                AddPartitionsToTxnPartitionResult(partition_index=index, partition_error_code=codes[topic.name, index])
                for index in topic.partitions
            ],
        )
        for topic in topics
    ]
